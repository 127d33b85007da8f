"""What a worker is sent of a script, and when again: both sides in one process, the worker's in a module of its own."""

from __future__ import annotations

import gc
import logging
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from ordered_executor import changed
from ordered_executor._base import slow
from ordered_executor._channel.frames import split
from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.picklers import Large
from ordered_executor._pickling.reducers import names_of
from ordered_executor._processes.sent_batches import PackedCall
from ordered_executor._script import home as worker_home
from ordered_executor._script import large_callables
from ordered_executor._script import plan as plan_module
from ordered_executor._script.definitions import Table
from ordered_executor._script.packing import Packing
from ordered_executor._script.records import SMALL_BYTES, Needs

HOME = "a_script_of_these_tests"


@pytest.fixture
def script() -> Iterator[Any]:
    """A module that goes by value; what a worker makes of it is not looked at."""
    module = sys.modules[HOME] = ModuleType(HOME)
    cloudpickle.register_pickle_by_value(module)
    yield module
    cloudpickle.unregister_pickle_by_value(module)
    del sys.modules[HOME]
    plan_module.let_go_of_all()


def define(script: Any, code: str) -> None:
    """Run code in the script."""
    exec(code, vars(script))


def needs_of(*objects: Any) -> Needs:
    """What pickles of these need."""
    needs = Needs()
    for obj in objects:
        assert needs.refer(obj) is not None
    return needs


def sent(table: Table, *objects: Any) -> list[tuple[str, Any]]:
    """What goes to a worker for these: kinds of orders and entries, and their names or keys."""
    body = table.update(needs_of(*objects))
    if not body:
        return []
    (orders, entries), _ = split(b"".join(body))
    found = [(order[0], order[2] if len(order) > 2 else order[1]) for order in orders]
    found += [(kind, where[1] if len(where) > 1 else where[0]) for kind, where, _ in entries]
    return [each for each in found if each[0] not in ("home", "preset", "shell", "source")]


def test_what_does_not_change_is_sent_once(script: Any) -> None:
    """And again, with all it needs, to another worker only."""
    define(script, "x, y, z = 1, 2, 3\ndef g(): return y\ndef f(): return g() + x")
    for table in Table(), Table():
        names = {name for kind, name in sent(table, script.f) if kind == "bind"}
        assert names == {"g", "x", "y"}
        assert sent(table, script.f) == []


def test_what_has_changed_is_sent_alone(script: Any) -> None:
    """Another object, or another content of a small one."""
    define(script, "x, small, other = 1, [1], 5\ndef f(): return x, small, other")
    table = Table()
    sent(table, script.f)
    script.x = 2
    assert sent(table, script.f) == [("bind", "x")]
    script.small.append(2)
    assert sent(table, script.f) == [("bind", "small")]
    del script.x
    assert sent(table, script.f) == [("delete", "x")]
    script.x = 2
    assert sent(table, script.f) == [("bind", "x")]


def test_a_change_in_place_of_a_large_object_is_not_looked_for(script: Any) -> None:
    """Only setting the name again says that it has changed."""
    script.large = [0] * SMALL_BYTES
    define(script, "def f(): return large")
    table = Table()
    sent(table, script.f)
    script.large[0] = 1
    assert sent(table, script.f) == []
    script.large = script.large.copy()
    assert sent(table, script.f) == [("bind", "large")]


def test_a_program_may_say_that_it_has_changed_a_large_object(script: Any) -> None:
    """It goes again, once to each worker, whatever it is to the script; nothing else does."""
    script.large = [0] * SMALL_BYTES
    script.same, script.other = script.large, [1] * SMALL_BYTES
    define(script, "class C: table = other\ndef g(t=large): return t\ndef f(): return large, same, other, C, g")
    tables = Table(), Table()
    for table in tables:
        sent(table, script.f)
    script.large[0] = 1
    changed(script.large)
    for table in tables:
        assert sorted(sent(table, script.f)) == [("bind", "large"), ("bind", "same")]
        assert sent(table, script.f) == []
    changed(script.other)
    changed(script.g)
    for table in tables:
        found = sorted(sent(table, script.f))
        assert found == [("bind", "other"), ("set", "__defaults__"), ("set", "__kwdefaults__"), ("set", "table")]
        assert sent(table, script.f) == []
    changed(script.C)
    assert sent(tables[0], script.f) == [("set", "table")]


def test_a_change_that_is_said_while_it_is_packed_is_not_lost(script: Any) -> None:
    """The object travels once more: nobody knows which part of it was pickled before the change."""

    class Large:
        def __getstate__(self) -> dict[str, Any]:
            if meanwhile:
                meanwhile.pop()(self)
            return {"text": "x" * SMALL_BYTES}

    meanwhile: list[Callable[[Any], None]] = []
    script.large = Large()
    define(script, "def f(): return large")
    table = Table()
    sent(table, script.f)
    changed(script.large)
    meanwhile.append(changed)
    assert sent(table, script.f) == [("bind", "large")]
    assert sent(table, script.f) == [("bind", "large")]
    assert sent(table, script.f) == []


def test_a_change_of_what_no_worker_would_hear_of_is_refused(script: Any) -> None:
    """A part of a global is not known by itself; what no task has needed yet is."""
    script.large = {"part": [0] * SMALL_BYTES}
    define(script, "class C: table = [1]\nclass Outer:\n    class Inner: table = [2]")
    for obj in script.large, script.C.table, script.Outer.Inner.table, partial(len, "x"):
        changed(obj)
    with pytest.raises(ValueError, match=r"\[0, 0.*not with a part"):
        changed(script.large["part"])


def test_of_many_small_objects_the_smallest_are_looked_at(script: Any) -> None:
    """All of them together may not cost a batch too much."""
    count = 12
    for number in range(count):
        setattr(script, f"list_{number}", ["x" * (SMALL_BYTES - 1000 - number)])
    define(script, f"def f(): return {', '.join(f'list_{n}' for n in range(count))}, tiny\ntiny = [1]")
    table = Table()
    sent(table, script.f)
    script.tiny.append(2)
    assert sent(table, script.f) == [("bind", "tiny")]


def test_attributes_of_a_class_are_sent_by_themselves(script: Any) -> None:
    """So that those which the worker has set stay."""
    define(script, "class C:\n    one, many = 1, []\n    def m(self): return 1")
    table = Table()
    assert ("thing", key_table.key_of(script.C)) in sent(table, script.C)
    script.C.one = 2
    assert sent(table, script.C) == [("set", "one")]
    script.C.many.append(1)
    script.C.m = lambda self: 2
    assert sorted(sent(table, script.C)) == [("set", "m"), ("set", "many")]
    del script.C.one
    assert sent(table, script.C) == [("unset", "one")]


def test_a_name_that_cannot_be_pickled_costs_itself_only(script: Any) -> None:
    """The worker is told why it is not there."""
    script.lock = threading.Lock()
    define(script, "x = 1\ndef f(): return x, lock")
    found = sent(Table(), script.f)
    assert ("bind", "x") in found
    assert ("lack", "lock") in found


def test_what_shows_to_be_unpicklable_late_costs_itself_only(script: Any) -> None:
    """Where the pickle is large, nobody has looked at its end before."""
    script.large = ["x" * SMALL_BYTES, threading.Lock()]
    define(script, "x = 1\ndef f(): return x, large")
    found = sent(Table(), script.f)
    assert ("bind", "x") in found
    assert ("lack", "large") in found


def test_what_only_large_objects_need_is_sent_too(script: Any) -> None:
    """A class that stands behind the limit up to which one looks."""
    define(script, "class C:\n    def m(self): return late\nlate = 5\ndef f(): return large")
    script.large = ["x" * SMALL_BYTES, script.C()]
    found = sent(Table(), script.f)
    assert ("bind", "late") in found


def test_a_large_array_is_not_copied(script: Any) -> None:
    """Its bytes are written from where they are."""
    script.large = bytearray(4 << 20)
    define(script, "def f(): return view.obj\nimport pickle")
    script.view = pickle.PickleBuffer(script.large)
    table = Table()
    define(script, "def f(): return view")
    body = table.update(needs_of(script.f))
    assert any(type(part) is memoryview and part.obj is script.large for part in body)


def test_other_names_go_along_unopened(script: Any) -> None:
    """Functions that come later, too; a variable that has changed is dropped."""
    define(script, "def f(): pass\ndef g(): return h()\ndef h(): return number\nnumber, loop = 1, 0")
    table = Table()
    assert {name for kind, name in sent(table, script.f) if kind == "unopened"} >= {"g", "h", "number", "loop"}
    script.loop = 1
    assert sent(table, script.f) == [("drop", "loop")]
    define(script, "def later(): pass")
    assert sent(table, script.f) == [("unopened", "later")]
    define(script, "def g(): return 2")
    assert sent(table, script.f) == [("unopened", "g"), ("drop", "g")] or sent(table, script.f) == []


def test_workers_are_told_to_forget_what_is_gone(script: Any) -> None:
    """A function that was defined again, when nobody has the old one any more."""
    define(script, "def f(): return 1\ndef g(): pass")
    table = Table()
    key = key_table.key_of(script.f)
    sent(table, script.f, script.g)
    define(script, "def f(): return 2")
    sent(table, script.f)
    assert key_table.find(key) is None
    assert ("forget", key) in sent(table, script.g)


def test_large_callables_have_a_key(script: Any) -> None:
    """The same object travels once; its calls are small, and hold it."""
    payload = "x" * SMALL_BYTES
    for fn in partial(len, payload), lambda: payload:
        call = PackedCall.of(fn, (), {}, shared=False)
        assert call.needs is not None
        assert (call.packed.size if type(call.packed) is Large else len(call.packed)) < 1000
        assert large_callables.stand_in(fn, Needs()) is not None
    small = partial(len, "x")
    assert PackedCall.of(small, (), {}, shared=False).needs is None
    assert large_callables.stand_in(small, Needs()) is None


class Slotted(list[int]):
    """Allows no weak reference."""

    __slots__ = ()

    def look(self, number: int) -> int:
        """One of them."""
        return self[number]


def calls_of_a_large_object() -> list[tuple[Any, Callable[[], Any]]]:
    """Objects that allow no weak reference, and callables that are made anew of them."""
    table, numbers, slotted = dict.fromkeys(range(20_000)), tuple(range(30_000)), Slotted(range(30_000))
    return [(table, lambda: table.get), (numbers, lambda: numbers.__getitem__), (slotted, lambda: slotted.look)]


@pytest.mark.parametrize("index", range(3))
def test_large_callables_that_allow_no_weak_reference_have_a_key(index: int) -> None:
    """For as long as they are among the last that were used, or their calls are under way."""
    obj, make = calls_of_a_large_object()[index]
    with pytest.raises(TypeError):
        weakref.ref(obj)
    sizes = [size_of(PackedCall.of(make(), (1,), {}, shared=False)) for _ in range(3)]
    assert max(sizes) < 1000
    key = key_table.known_key(obj)
    assert key is not None
    call = PackedCall.of(make(), (1,), {}, shared=False)
    large_callables.let_go()
    assert key_table.known_key(obj) == key
    del call
    assert key_table.known_key(obj) is None
    assert key in key_table.gone


def size_of(call: PackedCall) -> int:
    """Of what goes with each batch."""
    return call.packed.size if type(call.packed) is Large else len(call.packed)


def test_what_is_held_for_later_calls_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones stay; one that is larger than the bound lives as long as its calls."""
    tables = [{number: "x" * SMALL_BYTES} for number in range(4)]
    large = {0: "x" * 8 * SMALL_BYTES}
    monkeypatch.setattr(large_callables, "MOST_HELD_BYTES", 3 * SMALL_BYTES)
    for table in tables:
        PackedCall.of(table.get, (1,), {}, shared=False)
    PackedCall.of(tables[2].get, (1,), {}, shared=False)
    call = PackedCall.of(large.get, (1,), {}, shared=False)
    assert size_of(call) < 1000
    assert [key_table.known_key(table) is not None for table in [*tables, large]] == [False, False, True, True, True]
    del call
    assert key_table.known_key(large) is None


def test_a_large_callable_that_has_changed_goes_again(script: Any) -> None:
    """It takes the place of the other one in the worker, under the same key."""
    table = dict.fromkeys(range(20_000), "old")
    fn = partial(table.__getitem__, 1)
    for call in table.__getitem__, fn:
        lane = Table()
        needs = PackedCall.of(call, (1,), {}, shared=False).needs
        assert needs is not None
        (first,) = [each for each in entries(lane, needs) if each[0] == "thing"]
        assert entries(lane, needs) == []
        changed(call)
        assert [each for each in entries(lane, needs) if each[0] == "thing"] == [first]
        assert entries(lane, needs) == []
    old, new = ["old"], ["new"]
    key_table.keep(-1, old)
    key_table.keep(-1, new)
    assert (key_table.thing(-1), key_table.known_key(new), key_table.known_key(old)) == (new, -1, None)
    key_table.forget(-1)


def entries(table: Table, needs: Needs) -> list[tuple[str, Any]]:
    """What goes to a worker that needs these: kinds, and where it belongs."""
    body = table.update(needs)
    return [(kind, where) for kind, where, _ in split(b"".join(body))[0][1]] if body else []


def test_what_is_sent_again_and_again_is_said_once(
    script: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name, its size, and what to do."""
    monkeypatch.setattr(slow, "_costs", {})
    monkeypatch.setattr(slow, "_said", set())
    define(script, "def f(): return table")
    table = Table()
    with caplog.at_level(logging.WARNING, "ordered_executor"):
        for number in range(2 * slow.NOTICED_TIMES):
            script.table = bytes([number]) * (8 << 20)
            assert ("bind", "table") in sent(table, script.f)
    (record,) = caplog.records
    assert "'table' of the script, of 8 MiB" in record.message
    assert "set it once" in record.message


def test_names_that_code_uses() -> None:
    """Globals, not attributes; of functions inside, and of classes in functions, too."""
    space: dict[str, Any] = {}
    exec("def f(a):\n    global g\n    g = a.attribute\n    def inner(): return h\n    class C: x = k", space)
    assert {"g", "h", "k"} <= set(names_of(space["f"].__code__))
    assert not {"attribute", "a", "inner"} & set(names_of(space["f"].__code__))


def test_keys_go_by_identity() -> None:
    """Whatever a class says of its equality."""

    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    one, other = Equal(), Equal()
    assert key_table.key_of(one) == key_table.key_of(one) != key_table.key_of(other)
    key = key_table.key_of(one)
    assert key_table.thing(key) is one
    del one
    assert key_table.find(key) is None
    with pytest.raises(pickle.UnpicklingError, match="gone"):
        key_table.thing(key)
    assert key in key_table.gone


def test_what_fails_in_a_worker_is_tried_again_behind_the_others(script: Any) -> None:
    """Code that runs while a class is made may use what comes later in the frame."""
    define(
        script,
        "class Meta(type):\n    def __init__(cls, *a):\n        super().__init__(*a)\n        made.append((tag, cls))\n"
        "made, tag = [], {'a': 1}\nclass C(metaclass=Meta): pass\ndef f(): return made, C",
    )
    body = b"".join(Table().update(needs_of(script.f, script.C)))
    key = key_table.key_of(script.C)
    worker = sys.modules[HOME] = worker_home.Home(HOME)
    try:
        key_table.forget(key)
        worker_home.apply(body)
        assert key_table.thing(key) is worker.C
        assert worker.f()[1] is worker.C
        assert worker.made == [({"a": 1}, worker.C)]
    finally:
        sys.modules[HOME] = script


def test_packing_says_what_it_has_packed(script: Any) -> None:
    """An entry for each name, with the sizes of its parts."""
    define(script, "x = 'text'\ndef f(): return x")
    plan = plan_module.plan_for(needs_of(script.f))
    packing = Packing({}, plan)
    assert {need[0] for need in packing.sent} == {"thing", "name"}
    assert sum(sum(sizes) for _, _, sizes in packing.entries) == sum(map(len, packing.parts))
    assert packing.more is None


def test_a_pickler_does_not_keep_what_it_has_pickled(script: Any) -> None:
    """Nor does anything else, once the name stands for another object: a large one would be kept twice."""

    class Large:
        payload = "x" * SMALL_BYTES

        def __getstate__(self) -> dict[str, Any]:
            return {"text": self.payload}

    script.large = Large()
    gone = weakref.ref(script.large)
    define(script, "def f(): return large")
    table = Table()
    gc.collect()
    gc.disable()
    try:
        assert ("bind", "large") in sent(table, script.f)
        script.large = None
        sent(table, script.f)
        assert gone() is None
    finally:
        gc.enable()
