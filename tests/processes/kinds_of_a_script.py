# mypy: ignore-errors
# Written as users write their scripts: all that a script may define, and what must become of it.
"""All kinds of things that a script may define: `test_script` runs this file with a guard and without."""

import abc, enum, functools, contextlib, dataclasses, typing, threading, asyncio, collections, logging, re, os, sys, types, weakref, random
from dataclasses import dataclass, field
from ordered_executor import OrderedProcessPoolExecutor

GUARDED = True  # this line is edited
T = typing.TypeVar("T")


@dataclass(slots=True, frozen=True)
class S:
    a: int
    b: list = field(default_factory=list)


class G(typing.Generic[T]):
    def __init__(self, v):
        self.v = v


class Abs(abc.ABC):
    @abc.abstractmethod
    def f(self): ...


class Impl(Abs):
    def f(self):
        return helper(3)


Abs.register(int)


class F(enum.Flag):
    A = 1
    B = 2


class IE(enum.IntEnum):
    X = 1

    def next(self):
        return helper(self)


class TD(typing.TypedDict):
    k: int


class Sub:
    subs = []

    def __init_subclass__(cls, **k):
        super().__init_subclass__(**k)
        Sub.subs.append(cls.__name__)


class Sub1(Sub):
    pass


class Prop:
    __slots__ = ("_x",)

    def __init__(self):
        self._x = 1

    @property
    def x(self):
        return helper(self._x)

    @x.setter
    def x(self, v):
        self._x = v

    @classmethod
    def make(cls):
        return cls()

    @staticmethod
    def st():
        return helper(1)

    @functools.singledispatchmethod
    def sd(self, a):
        return "any"

    @sd.register
    def _(self, a: int):
        return "int"


class Desc:
    def __set_name__(self, o, n):
        self.n = n

    def __get__(self, o, t=None):
        return self.n if o is None else helper(5)


class HasDesc:
    d = Desc()


def helper(x):
    return x + OFFSET


OFFSET = 10


@contextlib.contextmanager
def cm():
    yield helper(1)


def use_cm():
    with cm() as v:
        return v


async def co(x):
    await asyncio.sleep(0)
    return helper(x)


def run_co():
    return asyncio.run(co(1))


def gen():
    for i in range(3):
        yield helper(i)


def use_gen():
    return list(gen())


class Exc(Exception):
    def __init__(self, a, *, b):
        super().__init__(f"{a}{b}")
        self.a, self.b = a, b


def raises():
    raise Exc(1, b=2)


class Big:
    """With reduce."""

    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        return Big, (self.n + 0,)


big = Big(3)
default = S(1)


def with_default(x, s=default, *, g=Big):
    return isinstance(s, S), isinstance(x, g)


registry = {}


def register(fn):
    registry[fn.__name__] = fn
    return fn


@register
def one():
    return helper(1)


@register
def two():
    return registry["one"]() + 1


PAT = re.compile("a")
dd = collections.defaultdict(list, {"a": [1]})


def look():
    return dd["a"], PAT.match("a") is not None, logging.getLogger("x").name


local = threading.local()


def uselocal():
    local.x = getattr(local, "x", 0) + 1
    return local.x


ws = weakref.WeakSet()
square = lambda x: helper(x)
partial_ = functools.partial(helper, 2)


def callpartial():
    return partial_(), square(1)


import xml.dom.minidom
import xml


def submod():
    return xml.dom.minidom.__name__


def rec(n):
    return 1 if n == 0 else n * rec(n - 1)


def nested(x):
    class Loc:
        v = OFFSET

    def inner():
        return Loc.v + helper(x)

    return inner()


def annotated(a: "S", b: S | None = None) -> G[int]:
    return G(a)


class Meth:
    count = 0

    def inc(self):
        type(self).count += 1
        return type(self).count

    def other(self):
        return Meth.count


def main():
    with OrderedProcessPoolExecutor(1) as ex:
        r = lambda f, *a, **k: ex.submit(f, *a, **k).result()
        s = r(lambda: S(4))
        assert type(s) is S and s == S(4) and r(lambda x: isinstance(x, S), s)
        assert type(r(G, 1)) is G and type(r(annotated, s)) is G
        assert r(Impl().f) == 13 and r(lambda: isinstance(Impl(), Abs)) and r(lambda: isinstance(1, Abs))
        assert r(lambda: F.A | F.B) is F.A | F.B and r(lambda x: x is F.A, F.A)
        assert r(IE.X.next) == 11 and r(lambda: IE.X) is IE.X
        assert r(lambda: TD(k=1)) == {"k": 1}
        assert r(lambda: Sub.subs) == ["Sub1"], r(lambda: Sub.subs)
        p = Prop()
        assert r(lambda o: o.x, p) == 11 and type(r(Prop.make)) is Prop and r(Prop.st) == 11
        assert r(lambda: Prop().sd(1)) == "int", r(lambda: Prop().sd(1))
        assert r(lambda: (HasDesc.d, HasDesc().d)) == ("d", 15)
        assert r(use_cm) == 11 and r(run_co) == 11 and r(use_gen) == [10, 11, 12]
        e = ex.submit(raises).exception()
        assert type(e) is Exc and (e.a, e.b) == (1, 2)
        assert r(lambda: type(big) is Big and big.n == 3) and type(r(lambda: big)) is Big
        assert r(with_default, Big(1)) == (True, True)
        assert r(one) == 11 and r(two) == 12 and r(lambda: registry["two"] is two)
        assert r(look) == ([1], True, "x")
        assert r(callpartial) == (12, 11) and r(submod) == "xml.dom.minidom" and r(rec, 5) == 120 and r(nested, 1) == 21
        m = Meth()
        assert r(m.inc) == 1 and r(m.inc) == 2 and r(Meth.inc, m) == 3 and r(m.other) == 3
        assert r(lambda: len(ws)) == 0
        if GUARDED:
            assert (r(uselocal), r(uselocal)) == (1, 2)
        else:
            assert "local" in str(ex.submit(uselocal).exception())
        assert r(m.other) == 3
        global OFFSET
        OFFSET = 20
        assert (
            r(one) == 21
            and r(use_cm) == 21
            and r(IE.X.next) == 21
            and r(lambda: HasDesc().d) == 25
            and r(callpartial) == (22, 21)
        )
        assert r(sorted, [3, 1], key=square) == [1, 3]
        assert list(ex.map(square, range(3))) == [20, 21, 22]
        assert r(map_in, square, [1, 2]) == [21, 22]
    print("ok")


def map_in(f, xs):
    return [f(x) for x in xs]


if __name__ == "__main__":
    main()
