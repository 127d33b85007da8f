# mypy: ignore-errors
# Written as users write their scripts: without annotations, with globals.
"""What must hold in any script, one function a row: `test_script` runs this file as a `__main__` of each kind.

A row gets the way to make executors and says by an assertion what did not hold.  `GUARDED`: the top level can be run.
"""

import contextvars
import enum
import functools
import inspect
import json
import os
import sys
import threading
import traceback
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ordered_executor import OrderedProcessPoolExecutor, changed, end_idle_workers
from ordered_executor.parallel_queue import ParallelQueue

GUARDED = True  # this line is edited
HAS_SOURCE = True  # this one, too

state: Any = None
table: dict[str, Any] = {}
loads: list[int] = []
model = None
word = "first"
names = ["first"]
own = 0


class Config:
    level = 0
    settings: dict[str, int] = {}

    class Inner:
        depth = 1


class Colour(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)

    def moved(self, by):
        return Point(self.x + by)


class Pair(NamedTuple):
    one: int
    other: int


class OwnError(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Base:
    def name(self):
        return "base"


class Derived(Base):
    def name(self):
        return "derived of " + super().name()


ORIGIN = Point(0)
RED_THINGS = {Colour.RED: ORIGIN}


class Single:
    def __reduce__(self):
        return "THE_ONE"


THE_ONE = Single()


def begin(value):
    global state
    state = value
    table["key"] = value
    Config.level = 5
    Config.Inner.depth = 6


def see(_=None):
    return state, table.get("key"), Config.level, Config.Inner.depth


def row_initializer():
    with make(2, initializer=begin, initargs=("ready",)) as executor:
        assert list(executor.map(see, range(4))) == [("ready", "ready", 5, 6)] * 4
        assert executor.submit(lambda: see()).result() == ("ready", "ready", 5, 6)
    with make(2, initializer=lambda: begin(Point(3))) as executor:
        assert executor.submit(see).result()[0] == Point(3)
        assert executor.submit(lambda: type(state) is Point).result()
    assert state is None and table == {} and Config.level == 0


def row_queue():
    queue = ParallelQueue(num_workers=2, worker_init_f=lambda: begin("queue"))
    queue.put(see)
    assert queue.get() == ("queue", "queue", 5, 6)
    queue.stop()
    queue.join()


def increase(by):
    global own
    own += by
    return own


def load():
    global model
    if model is None:
        loads.append(1)
        model = os.urandom(4)
    return model


def load_too():
    return load()


def row_functions_share():
    with make(1) as executor:
        assert [executor.submit(increase, 1).result() for _ in range(3)] == [1, 2, 3]
        assert executor.submit(lambda: own).result() == 3
        assert len({executor.submit(fn).result() for fn in (load, load_too, lambda: load(), load)}) == 1
        assert executor.submit(lambda: len(loads)).result() == 1
    with make(1) as executor:  # a warm worker
        assert executor.submit(increase, 1).result() == 4
    assert own == 0 and model is None


def row_parent_changes():
    global word, own
    with make(1) as executor:
        look = lambda: (word, tuple(names), own, Config.settings.get("a"))  # noqa: E731
        assert executor.submit(look).result() == ("first", ("first",), 0, None)
        executor.submit(increase, 7).result()
        word = "second"
        names.append("second")
        Config.settings["a"] = 1
        assert executor.submit(look).result() == ("second", ("first", "second"), 7, 1)
        own = 3
        assert executor.submit(look).result()[2] == 3
        executor.submit(increase, 1).result()
        assert executor.submit(look).result()[2] == 4
    word = "third"
    with make(1) as executor:
        assert executor.submit(look).result()[0] == "third"
        del globals()["word"]
        assert "word" in str(executor.submit(look).exception())
        word = "first"
        assert executor.submit(look).result()[0] == "first"
    names[:], own = ["first"], 0
    Config.settings.clear()


lock, variable = threading.Lock(), contextvars.ContextVar("variable", default=1)


class Locked:
    lock = threading.Lock()

    def use(self):
        with self.lock:
            return isinstance(self, Locked)


def use_lock(number):
    with lock:
        return number + variable.get()


def row_unpicklable():
    with make(1) as executor:
        assert executor.submit(increase, 1).result() == 1  # a worker that has something already
        point = executor.submit(Point, 4).result()
        if GUARDED:
            assert list(executor.map(use_lock, range(3))) == [1, 2, 3]
            assert executor.submit(Locked().use).result()
        else:
            error = executor.submit(use_lock, 1).exception()
            assert "lock" in str(error) and "initializer" in str(error), repr(error)
            error = executor.submit(Locked().use).exception()
            assert "Locked" in str(error) and "initializer" in str(error), repr(error)
        assert executor.submit(increase, 1).result() == 2  # what it has stays
        assert executor.submit(lambda: isinstance(point, Point)).result()


def raise_own(code):
    raise OwnError(code, "text")


def catch():
    try:
        raise_own(3)
    except OwnError as error:
        return error.code


def same(colour, point, pair, inner):
    return (
        colour is Colour.RED,
        type(point) is Point,
        type(pair) is Pair,
        type(inner) is Config.Inner,
        type(ORIGIN) is Point,
        next(iter(RED_THINGS)) is Colour.RED,
    )


kept = []


def keep(thing):
    kept.append(thing)


def all_kept_are(cls):
    return [isinstance(thing, cls) for thing in kept]


def row_identities():
    with make(1, initializer=keep, initargs=(Point(1),)) as executor:
        things = Colour.RED, Point(2), Pair(1, 2), Config.Inner()
        assert all(executor.submit(same, *things).result())
        executor.submit(keep, Point(2)).result()
        assert executor.submit(all_kept_are, Point).result() == [True, True]
        colour, point, pair, inner = executor.submit(
            lambda: (Colour.RED, Point(3), Pair(3, 4), Config.Inner())
        ).result()
        assert all(same(colour, point, pair, inner))
        error = executor.submit(raise_own, 7).exception()
        assert type(error) is OwnError and error.code == 7
        assert executor.submit(catch).result() == 3
        assert executor.submit(Point(1).moved, 2).result() == Point(3)
        assert executor.submit(Point.moved, Point(1), 2).result() == Point(3)
        assert executor.submit(Derived().name).result() == "derived of base"
        assert executor.submit(lambda: Point).result() is Point
        assert executor.submit(lambda: see).result() is see


class Counted:
    """Counts in the parent how often it is pickled."""

    times = 0

    def __init__(self, size):
        self.data = bytes(size)

    def __getstate__(self):
        Counted.times += 1
        return self.__dict__

    def __call__(self, number):
        return len(self.data) + number

    def method(self, number):
        return len(self.data) + number


class Bare:
    """The same, without weak references."""

    __slots__ = ("data",)
    __init__, __call__, method = Counted.__init__, Counted.__call__, Counted.method

    def __getstate__(self):
        Counted.times += 1
        return None, {"data": self.data}


large = Counted(1 << 20)


def look_up(number):
    return large.data[number]


def times(what):
    """How often a large thing is pickled while many tasks use it, when it is known already."""
    what(1)
    before = Counted.times
    for number in range(20):
        what(number)
    return Counted.times - before


def size_of(payload, number):
    return len(payload.data) + number


def row_travels_once():
    with make(1) as executor:
        assert times(lambda number: executor.submit(look_up, number).result()) == 0
        callables = [functools.partial(size_of, Counted(1 << 20)), Counted(1 << 20).method, Counted(1 << 20)]
        for fn in [*callables, Bare(1 << 20).method, Bare(1 << 20)]:
            assert executor.submit(fn, 5).result() == (1 << 20) + 5
            assert times(lambda number, fn=fn: executor.submit(fn, number).result()) == 0
            assert times(lambda number, fn=fn: list(executor.map(fn, [number]))) == 0


ledger = list(range(40_000))
lookup = dict.fromkeys(range(20_000), "old")


def ledger_at(place):
    return ledger[place]


def row_changed_in_place():
    with make(1) as executor:
        ask = lambda place: set(executor.map(ledger_at, [place] * 8))  # noqa: E731
        assert ask(0) == {0}
        ledger[0] = "new"
        assert ask(0) == {0}  # as the page says
        changed(ledger)
        assert ask(0) == {"new"}
        assert set(executor.map(lookup.get, range(8))) == {"old"}
        lookup.update(dict.fromkeys(range(20_000), "new"))
        changed(lookup.get)
        assert set(executor.map(lookup.get, range(8))) == {"new"}
    ledger[0] = 0


def boom():
    raise ValueError("x")  # this very line


def row_traceback():
    with make(1) as executor:
        text = str(executor.submit(boom).exception().__cause__)
        assert "in boom" in text and "dynamic-code" not in text, text
        if HAS_SOURCE:
            assert "# this very line" in text, text
            assert executor.submit(lambda: inspect.getsource(boom)).result() == inspect.getsource(boom)


def by_name(reference, *args):
    module, name = reference.split(":")
    return getattr(sys.modules[module], name)(*args)


def by_globals(name):
    return globals()[name](2)


def row_names_of_main():
    with make(1) as executor:
        assert executor.submit(by_name, "__main__:see").result()[0] is None
        assert executor.submit(by_name, "__main__:load_too").result()
        assert executor.submit(lambda one: one is THE_ONE, THE_ONE).result() is True
        assert executor.submit(lambda: THE_ONE).result() is THE_ONE
        assert executor.submit(by_globals, "increase").result() == 2
        assert executor.submit(eval, "__import__('__main__').Point(3)").result() == Point(3)


def row_redefined():
    global answer, Thing
    with make(1) as executor:
        for number in range(3):
            exec(f"def answer(): return {number}, type(Thing()) is Thing\nclass Thing: n = {number}", globals())
            assert executor.submit(answer).result() == (number, True)
            assert executor.submit(lambda: Thing.n).result() == number
            assert type(executor.submit(lambda: Thing()).result()) is Thing
            assert executor.submit(by_name, "__main__:answer").result() == (number, True)


MISSING = object()
holder = {"missing": MISSING, "names": names}
ring = [[]]
ring[0].append(ring)
link = ring[0]
memory = {}


class Asked:
    none = MISSING

    def ask(self, one=MISSING, *, other=MISSING):
        return [one is MISSING, other is MISSING, self.none is MISSING]


def inside(seen):
    def ask(one=seen):
        return [one is MISSING, seen is MISSING]

    return ask


ask_inside = inside(MISSING)


def ask(one=MISSING):
    return [one is MISSING, *Asked().ask(), *ask_inside()]


def ask_containers():
    return [holder["missing"] is MISSING, holder["names"] is names, ring[0] is link, link[0] is ring]


def remember(key, memory=memory):
    memory[key] = key
    return len(memory)


def remembered():
    return len(memory)


def row_one_object():
    with make(1) as executor:
        assert executor.submit(remember, 1).result() == 1
        for fn in ask, ask_containers, Asked().ask, ask_inside:
            assert all(executor.submit(fn).result()), (fn, executor.submit(fn).result())
        assert [executor.submit(remember, key).result() for key in (2, 3)] == [2, 3]
        assert executor.submit(remembered).result() == 3
        holder["more"] = names
        assert all(executor.submit(ask_containers).result())
        assert executor.submit(lambda: holder["more"] is names).result()


def counting(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        wrapper.calls += 1
        return fn(*args), wrapper.calls

    wrapper.calls = 0
    return wrapper


@counting
def counted(n):
    return n + len(word)


@functools.lru_cache
def cached(n):
    loads.append(n)
    return n


def make_counter():
    count = 0

    def up():
        nonlocal count
        count += 1
        return count

    def now():
        return count

    return up, now


up, now = make_counter()


def row_decorated():
    with make(1) as executor:
        assert executor.submit(counted, 1).result() == (6, 1)
        assert executor.submit(counted, 1).result() == (6, 2)
        assert [executor.submit(cached, 2).result() for _ in range(3)] == [2, 2, 2]
        assert executor.submit(lambda: (cached(2), loads)).result() == (2, [2])
        assert executor.submit(up).result() == 1
        assert executor.submit(up).result() == 2
        assert executor.submit(now).result() == 2


def row_classes_change():
    with make(1) as executor:
        executor.submit(setattr, Config, "level", 8).result()
        assert executor.submit(lambda: Config.level).result() == 8
        Config.added = "by the parent"
        assert executor.submit(lambda: (Config.level, Config.added)).result() == (8, "by the parent")
        Config.level = 1
        assert executor.submit(lambda: Config.level).result() == 1
        Point.moved = lambda self, by: "other"
        assert executor.submit(Point(1).moved, 1).result() == "other"
    Config.level = 0


def row_contexts():
    if not GUARDED:
        return
    import multiprocessing

    for method in "spawn", "forkserver":
        with make(1, multiprocessing.get_context(method), initializer=begin, initargs=(method,)) as executor:
            assert executor.submit(see).result() == (method, method, 5, 6)
            assert executor.submit(use_lock, 1).result() == 2
            assert all(executor.submit(same, Colour.RED, Point(2), Pair(1, 2), Config.Inner()).result())
            assert type(executor.submit(lambda: Point(3)).result()) is Point
            assert executor.submit(increase, 2).result() == 2
            assert executor.submit(lambda: own).result() == 2
            assert executor.submit(by_name, "__main__:load_too").result()


def row_replaced_worker():
    with make(1) as executor:
        executor.submit(increase, 5).result()
        Config.level = 2
        assert executor.submit(os._exit, 1).exception() is not None
        assert executor.submit(lambda: (own, Config.level)).result() == (0, 2)
    Config.level = 0


def make(*args, **options):
    return OrderedProcessPoolExecutor(*args, **options)


def play():
    found = {}
    for name, row in [(name, row) for name, row in globals().items() if name.startswith("row_")]:
        end_idle_workers()
        try:
            row()
            found[name] = "ok"
        except BaseException:
            found[name] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    play()
