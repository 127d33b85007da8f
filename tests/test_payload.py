"""Objects to bytes and back: each under its own `try`, whatever it is, and errors arrive as themselves or described."""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import builtins
import copyreg
import itertools
import pickle
import subprocess
import traceback
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial, wraps
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor import RemoteError
from ordered_executor._base.error_tools import add_note, copy_error
from ordered_executor._base.tasks import Failure
from ordered_executor._pickling.outcomes import pack_error, pack_value, unpack, without_frames
from ordered_executor._pickling.picklers import BASIC, LARGE_BYTES, Large, dumps, dumps_whole, loads
from ordered_executor._pickling.texts import call_name


def note() -> str:
    """What the parent says of the task."""
    return "ticket 3: f(…)"


def travel(value: Any) -> Any:
    """Pack a result, and unpack it on the other side."""
    result, error = unpack(moved(pack_value(value)), note)
    assert error is None, error
    return result


def travel_as_error(error: BaseException) -> BaseException:
    """Raise it in a worker, and catch it in the parent."""
    try:
        raise error
    except BaseException as raised:
        packed = pack_error(raised)
    value, arrived = unpack(moved(packed), note)
    assert value is None
    assert arrived is not None
    return arrived


def moved(packed: Any) -> Any:
    """What a pipe or lane memory makes of it: other objects with the same content."""
    if type(packed) is Large:
        return Large(bytes(packed.head), [bytearray(buffer) for buffer in packed.buffers])
    return bytes(bytearray(packed))


# --------------------------------------------------------------------------------------------------------------- values

basic = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    basic | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values)
def test_values_arrive_as_they_were(value: Any) -> None:
    """Equal, and of the same type."""
    arrived = travel(value)
    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "size", [0, 1, LARGE_BYTES - 2, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES]
)
@pytest.mark.parametrize("make", [bytes, bytearray, lambda size: "x" * size, lambda size: list(range(size))])
def test_sizes_around_the_limit_arrive(size: int, make: Callable[[int], Any]) -> None:
    """Small and large, bytes and others: each way of packing is undone."""
    value = make(size)
    arrived = travel(value)
    assert arrived == value
    assert type(arrived) is type(value)


def test_what_is_large_is_handed_over_in_buffers() -> None:
    """Large bytes and arrays are not copied into a pickle."""
    array = np.arange(LARGE_BYTES)
    packed = pack_value(array)
    assert type(packed) is Large
    assert packed.size >= array.nbytes
    assert len(packed.head) < 1000
    packed = pack_value(b"x" * LARGE_BYTES)
    assert type(packed) is Large
    assert len(packed.head) == 1


@pytest.mark.parametrize("count", [0, 1, 5, 100_000])
def test_arrays_arrive_writable(count: int) -> None:
    """An array is the reader's own, as if it had been made here."""
    arrived = travel(np.arange(count))
    assert (arrived == np.arange(count)).all()
    arrived[:] = 7


def test_many_buffers_arrive_in_their_places() -> None:
    """Several arrays in one result, empty ones and views among them."""
    value = {
        "a": np.arange(50_000),
        "b": np.empty(0),
        "c": np.arange(20_000).reshape(100, 200)[::2, ::3],
        "d": b"x" * 100_000,
    }
    arrived = travel(value)
    assert all((arrived[name] == value[name]).all() for name in "abc")
    assert arrived["d"] == value["d"]


def test_basic_values_need_no_packing() -> None:
    """What is of a basic type is its own outcome."""
    for value in (1, 1.5, True, None, "text"):
        assert type(value) in BASIC
        assert unpack(value, note) == (value, None)


class Subclassed(int):
    """Looks like a basic type, and is none."""


def test_a_subclass_of_a_basic_type_keeps_its_class() -> None:
    """Only exact basic types go unpacked."""
    arrived = travel(Subclassed(5))
    assert (arrived, type(arrived)) == (5, Subclassed)


def test_lambdas_and_closures_travel() -> None:
    """What plain pickle refuses goes by cloudpickle; so do classes made in a function."""
    step = 3

    class Local:
        value = step

    assert loads(dumps(lambda x: x + step))(4) == 7
    assert travel(Local)().value == 3
    assert loads(dumps((Local(), np.arange(100_000))))[0].value == 3


@cache
def cached(n: int) -> int:
    """One that a module has."""
    return n + 1


def test_cached_functions_travel() -> None:
    """By name if that leads to them; else as another one around the same function, that knows nothing yet."""
    assert travel(cached) is cached

    @lru_cache(maxsize=5, typed=True)
    def local(n: int) -> int:
        return n + 1 if n else local(5)

    local.of_the_user = "own"  # type: ignore[attr-defined]
    local(3)
    arrived = travel(local)
    assert (arrived(3), arrived(0), arrived.of_the_user) == (4, 6, "own")
    assert arrived.cache_info()[1:] == (3, 5, 3)
    assert arrived.cache_parameters() == local.cache_parameters()
    assert travel(lru_cache(partial(int, base=2)))("101") == 5


def test_a_cached_function_that_says_it_wraps_another_does_not_travel() -> None:
    """What it calls cannot be known, and must not be guessed."""

    @wraps(len)
    @cache
    def more(x: Any) -> int:
        return len(x) + 1

    with pytest.raises(pickle.PicklingError, match="__wrapped__"):
        dumps([more, lambda: 1])


def test_a_whole_pickle_has_no_buffers() -> None:
    """`dumps_whole` is one piece, whatever is in it."""
    packed = dumps_whole((np.arange(10_000), lambda: 5))
    array, function = pickle.loads(packed)
    assert (array == np.arange(10_000)).all()
    assert function() == 5


def test_a_pickle_in_a_pickle() -> None:
    """Pickling runs user code, which may pickle itself: the pickler at work is not used twice."""

    class Nested:
        def __reduce__(self) -> Any:
            return bytes, (dumps_whole(["inner", np.arange(3)]),)

    outer = travel([Nested(), Nested()])
    assert [pickle.loads(inner)[0] for inner in outer] == ["inner", "inner"]


# ------------------------------------------------------------------------------------------------- results that are bad


class Unpicklable:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise ValueError("not to be pickled")


class Unloadable:
    """Can be pickled, and not loaded."""

    def __reduce__(self) -> Any:
        return load_fails, ()


def load_fails() -> None:
    """Be loaded, and fail."""
    raise ValueError("not to be loaded")


def load_exits() -> None:
    """Be loaded, and exit."""
    raise SystemExit(3)


class Exiting:
    """Loading it would end the program."""

    def __reduce__(self) -> Any:
        return load_exits, ()


@pytest.mark.parametrize("where", ["alone", "inside", "beside a buffer"])
def test_a_result_that_cannot_be_pickled_is_an_error(where: str) -> None:
    """The task gets the original error, which says what it was about; the pickler is as good as new."""
    bad: Any = Unpicklable()
    value = {"alone": bad, "inside": [1, bad], "beside a buffer": [np.arange(100_000), bad]}[where]
    result, error = unpack(pack_value(value), note)
    assert result is None
    assert type(error) is ValueError
    assert str(error) == "not to be pickled"
    assert "result" in notes(error)
    assert "ticket 3" in notes(error)
    assert travel([1, 2]) == [1, 2]


@pytest.mark.parametrize("bad", [Unloadable(), Exiting()])
def test_a_result_that_cannot_be_loaded_is_an_error(bad: Any) -> None:
    """Whatever unpickling raises, be it an exit, is the outcome of that ticket."""
    result, error = unpack(pack_value(bad), note)
    assert result is None
    assert type(error) in (ValueError, SystemExit)
    assert "could not be unpickled" in notes(error)


def notes(error: BaseException | None) -> str:
    """All notes of an error."""
    return "\n".join(getattr(error, "__notes__", ()))


# --------------------------------------------------------------------------------------------------------------- errors


class TakesOther(Exception):
    """Its `__init__` takes something else than its args."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.where = where


class HasLock(Exception):
    """Has an attribute that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.bad = Unpicklable()


class BadText(Exception):
    """Cannot be printed."""

    def __str__(self) -> str:
        raise ZeroDivisionError


class Unrebuildable(Exception):
    """Cannot be made again, neither way."""

    made = False

    def __new__(cls, *args: Any) -> Any:
        if cls.made:
            raise ZeroDivisionError
        cls.made = True
        return super().__new__(cls, *args)

    def __reduce__(self) -> Any:
        return load_fails, ()


def test_an_error_arrives_as_itself_with_its_remote_traceback() -> None:
    """Type, arguments, attributes and notes; the worker's traceback as its cause; and which task it was as a note."""
    error = KeyError("missing", 5)
    vars(error)["extra"] = [1, 2]
    arrived: Any = travel_as_error(error)
    assert type(arrived) is KeyError
    assert arrived.args == ("missing", 5)
    assert vars(arrived)["extra"] == [1, 2]
    assert "travel_as_error" in str(arrived.__cause__)
    assert notes(arrived).endswith("ticket 3: f(…)")
    printed = "".join(traceback.format_exception(arrived))
    assert "raise error" in printed
    assert "ticket 3" in printed


def test_notes_of_the_task_survive() -> None:
    """Notes that the task added come before ours."""
    error = ValueError("x")
    error.add_note("first")
    error.add_note("second")
    assert notes(travel_as_error(error)) == "first\nsecond\nticket 3: f(…)"


def test_causes_and_contexts_are_in_the_text() -> None:
    """What an error came from is printed, though the objects stay in the worker."""
    try:
        try:
            raise ValueError("the reason")
        except ValueError as reason:
            raise KeyError("the error") from reason
    except KeyError as error:
        arrived, _ = unpack(moved(pack_error(error)), note)[1], None
    assert "the reason" in str(arrived.__cause__)  # type: ignore[union-attr]


def test_an_error_with_another_init_arrives_as_itself() -> None:
    """It is put together without calling its `__init__`."""
    arrived: Any = travel_as_error(TakesOther(5, where="here"))
    assert type(arrived) is TakesOther
    assert (str(arrived), arrived.code, arrived.where) == ("code 5", 5, "here")


class NoSuch(Exception):
    """Calling it with its args says something else."""

    def __init__(self, name: Any) -> None:
        super().__init__(f"no such {name}")
        self.name = name


class Gone(OSError):
    """The interpreter's fields, filled by an `__init__` that takes something else; so are the next."""

    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path, None, "there")


class BadBytes(UnicodeDecodeError):
    """Fields that come from no default."""

    def __init__(self, why: str) -> None:
        super().__init__("utf8", b"abc", 1, 2, why)


class BadString(UnicodeEncodeError):
    """Another."""

    def __init__(self, why: str) -> None:
        super().__init__("ascii", "a\xe4", 1, 2, why)


class BadLine(SyntaxError):
    """Another."""

    def __init__(self, *, line: int) -> None:
        super().__init__("oops", ("file.py", line, 1, "x y", line, 3))


class Leaves(SystemExit):
    """Another."""

    def __init__(self, *, number: int) -> None:
        super().__init__(number)


class NoModule(ImportError):
    """Another."""

    def __init__(self, *, module: str) -> None:
        super().__init__("no module", name=module, path="/here")


class Stops(StopIteration):
    """Another."""

    def __init__(self, *, value: Any) -> None:
        super().__init__(value)


class NoAttribute(AttributeError):
    """Another."""

    def __init__(self, *, name: str) -> None:
        super().__init__("no attribute", name=name, obj=Unpicklable())


class NoName(NameError):
    """Another."""

    def __init__(self, *, name: str) -> None:
        super().__init__("no name", name=name)


class Slotted(Exception):
    """Slots, one of them not set."""

    __slots__ = ("here", "not_here")

    def __init__(self, *, here: Any) -> None:
        super().__init__("slots")
        self.here = here


class MixedUp(NoSuch, Gone):
    """Python bases around one of the interpreter's."""

    def __init__(self) -> None:
        OSError.__init__(self, 13, "denied", "file")
        self.extra = [1]


class NoInit(Exception):
    """Says what its attributes are, and never told its base."""

    def __init__(self, *, number: Any) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"number {self.number}"


class OwnArgs(Exception):
    """Lies about its args."""

    args = property(lambda _: (1, 2, 3))

    def __init__(self, *_: Any) -> None:
        pass


class Refusing(Exception):
    """Lets nobody set anything."""

    def __init__(self, number: int) -> None:
        vars(self)["number"] = number

    def __setattr__(self, *_: object) -> None:
        raise AttributeError("frozen")


class HalfReduced(Exception):
    """Says how it is pickled, and forgets something."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")
        self.number = number
        self.late: Any = None

    def __reduce__(self) -> Any:
        return HalfReduced, (self.number + 1,)


class WellReduced(Exception):
    """Says how it is pickled, with what cannot be."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}")
        self.bad = Unpicklable()

    def __reduce__(self) -> Any:
        return WellReduced, (int(str(self).removeprefix("number ")),)


def mutated(error: Any, **attributes: Any) -> Any:
    """An error that somebody changed after it was made."""
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def http_error() -> Any:
    """A class of many bases, and a file."""
    return urllib.error.HTTPError("http://x", 404, "Not Found", {}, None)  # type: ignore[arg-type]


FIELDS = (
    *("errno", "strerror", "filename", "filename2", "characters_written", "encoding", "object", "start", "end"),
    *("reason", "msg", "lineno", "offset", "text", "end_lineno", "end_offset", "code", "name", "path", "value"),
    *("here", "not_here", "number", "extra", "late", "url", "message", "returncode", "cmd", "output", "args"),
)


def described(error: Any) -> Any:
    """All that one can see of it, and of its members."""
    seen = {name: repr(getattr(error, name)) for name in FIELDS if hasattr(error, name)}
    return type(error), str(error), seen, [described(member) for member in getattr(error, "exceptions", ())]


FAITHFUL: dict[str, Callable[[], Any]] = {
    "another message": lambda: NoSuch("bob"),
    "another message in args": lambda: ValueError(NoSuch("bob"), 3),
    "OSError": lambda: Gone("file"),
    "UnicodeDecodeError": lambda: BadBytes("why"),
    "UnicodeEncodeError": lambda: BadString("why"),
    "SyntaxError": lambda: BadLine(line=3),
    "SystemExit": lambda: Leaves(number=4),
    "ImportError": lambda: NoModule(module="m"),
    "StopIteration": lambda: Stops(value=5),
    "StopIteration of None": lambda: Stops(value=None),
    "AttributeError": lambda: NoAttribute(name="n"),
    "NameError": lambda: NoName(name="n"),
    "slots": lambda: Slotted(here=[1]),
    "several bases": MixedUp,
    "without args": lambda: NoInit(number=5),
    "a property for args": lambda: OwnArgs(1),
    "frozen": lambda: Refusing(3),
    "its own reduce, which lies": lambda: mutated(HalfReduced(3), late="x"),
    "HTTPError": http_error,
    "CalledProcessError": lambda: subprocess.CalledProcessError(3, ["a"], b"out"),
    "a plain OSError": lambda: OSError(2, "gone", "from", None, "to"),
    "written": lambda: BlockingIOError(11, "full", 5),
    "changed code": lambda: mutated(SystemExit(3), code=4),
    "changed errno": lambda: mutated(OSError(2, "gone", "file"), errno=13),
    "changed args": lambda: mutated(KeyError("x"), args=("y", 5)),
    "changed name": lambda: mutated(ImportError("x", name="a"), name="b", msg="y"),
    "changed text": lambda: mutated(SyntaxError("oops", ("f", 1, 1, "x")), lineno=7),
    "changed reason": lambda: mutated(UnicodeDecodeError("utf8", b"abc", 0, 1, "x"), reason="y", start=1),
    "changed name of an AttributeError": lambda: mutated(AttributeError("x"), name="n"),
    "never initialised": lambda: UnicodeDecodeError.__new__(BadBytes),
    "not a number": lambda: ValueError(float("nan")),
}


@pytest.mark.parametrize("make", FAITHFUL.values(), ids=FAITHFUL)
def test_errors_arrive_as_they_were(make: Callable[[], Any]) -> None:
    """Type, text, args, the interpreter's own fields, slots and attributes; no `__init__` is called again."""
    assert described(travel_as_error(make())) == described(make())


@pytest.mark.parametrize("name", FAITHFUL)
def test_members_of_groups_arrive_as_they_were(name: str) -> None:
    """So do members of a group in a group, whose class takes something more; one member costs the other nothing."""
    group: Any = builtins.BaseExceptionGroup  # type: ignore[attr-defined,unused-ignore]

    class Tagged(group):  # type: ignore[misc,unused-ignore]
        def __new__(cls, text: str, errors: Any, extra: int) -> Any:
            made = super().__new__(cls, text, errors)
            made.extra = extra
            return made

    def make() -> Any:
        return group("outer", [Tagged("inner", [FAITHFUL[name](), ValueError(1)], 5), HasLock("text")])

    arrived: Any = travel_as_error(make())
    inner, locked = arrived.exceptions
    assert described(inner)[1:] == described(make().exceptions[0])[1:]
    assert (type(locked), locked.text, str(arrived)) == (HasLock, "text", "outer (2 sub-exceptions)")


def every_builtin() -> list[type[BaseException]]:
    """The interpreter's classes, but for groups."""
    classes = [cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, BaseException)]
    return sorted({cls for cls in classes if not hasattr(cls, "exceptions")}, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("base", every_builtin())
def test_fields_of_all_builtin_classes_travel(base: type[BaseException]) -> None:
    """Whatever fields a class of the interpreter has, on whatever Python, a subclass arrives with them."""

    class Own(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            pass

    values: dict[str, Any] = {
        "object": "xyz" if "coded" not in base.__name__ and "Decode" not in base.__name__ else b"xyz"
    }
    error = Own.__new__(Own)
    for name in FIELDS:
        if hasattr(base, name) and name != "args":
            number = name in ("start", "end", "characters_written", "lineno", "offset")
            setattr(error, name, values.get(name, 1 if number else f"the {name}"))
    before = described(error)
    assert described(travel_as_error(error)) == before


simple_values = st.integers() | st.text(max_size=5) | st.none() | st.binary(max_size=5)


@given(
    st.sampled_from([Exception, OSError, SystemExit, StopIteration, KeyError, ImportError]),
    st.lists(simple_values, max_size=5),
    st.dictionaries(st.sampled_from(["extra", "late", "here"]), simple_values | st.lists(simple_values)),
    st.booleans(),
)
def test_whatever_an_init_does_it_is_done_once(
    base: Any, args: list[Any], attributes: dict[str, Any], is_group: bool
) -> None:
    """Any args for the base, any attributes: it arrives as it was."""
    own = type("Own", (base,), {"__init__": lambda self, **_: base.__init__(self, *args)})
    error = mutated(own(), **attributes)
    group = getattr(builtins, "BaseExceptionGroup", None)
    if group is not None and is_group:
        error = group("several", [error])
    before = described(error)
    arrived = travel_as_error(error)
    if type(arrived) is RemoteError:  # OSError tells None from not set, but only in its text
        assert base is OSError
        assert None in args
    else:
        assert described(arrived) == before


@given(st.sets(st.integers(0, 40).map(lambda number: f"word {number}"), min_size=2))
def test_the_order_of_a_set_is_nothing_that_can_be_lost(words: set[str]) -> None:
    """A set may come out in another order: the error is the same, whatever its text."""
    arrived: Any = travel_as_error(NoInit(number=words))
    assert type(arrived) is NoInit
    assert arrived.number == words


def test_errors_that_hold_themselves_arrive() -> None:
    """In an attribute, as frameworks do it."""
    error = NoSuch("bob")
    vars(error)["all"] = [error]
    arrived: Any = travel_as_error(error)
    assert str(arrived) == "no such bob"
    assert arrived.all == [arrived]


def test_a_class_that_says_how_it_is_pickled_is_asked() -> None:
    """What its `__reduce__` makes again is not replaced by a text."""
    arrived: Any = travel_as_error(WellReduced(3))
    assert (type(arrived), str(arrived)) == (WellReduced, "number 3")
    assert isinstance(arrived.bad, Unpicklable)


class SaysWhatItHas(HasLock):
    """Its text is made of what cannot be sent."""

    def __str__(self) -> str:
        return type(self.bad).__name__


@pytest.mark.parametrize("error", [ValueError(Unpicklable()), ValueError(Unloadable()), SaysWhatItHas("x")])
def test_errors_that_would_arrive_as_something_else_are_described(error: BaseException) -> None:
    """Better a description than an error that says something else."""
    arrived = travel_as_error(error)
    assert type(arrived) is RemoteError
    assert arrived.type_name.endswith(type(error).__qualname__)


def test_an_attribute_that_cannot_be_pickled_costs_itself_only() -> None:
    """The error arrives with the rest of its attributes, and says in the place of the bad one what it was."""
    arrived: Any = travel_as_error(HasLock("text"))
    assert type(arrived) is HasLock
    assert (str(arrived), arrived.text) == ("text", "text")
    assert "Unpicklable" in str(arrived.bad)


@pytest.mark.parametrize(
    ("error", "message"),
    [(BadText(), "ZeroDivisionError"), (Unrebuildable("made once"), "made once"), (ValueError("x" * 10**6), "xxxx")],
    ids=["bad text", "unrebuildable", "huge"],
)
def test_every_error_arrives_somehow(error: BaseException, message: str) -> None:
    """As itself or as a `RemoteError` that describes it; never not at all."""
    arrived = travel_as_error(error)
    assert type(arrived) is type(error) or type(arrived) is RemoteError
    if type(arrived) is RemoteError:
        assert arrived.type_name.endswith("Unrebuildable")
        assert message in arrived.message
        assert "travel_as_error" in arrived.traceback_text


def test_classes_made_in_a_function_arrive() -> None:
    """An exception class that the parent cannot import is sent along."""

    class Local(Exception):
        pass

    arrived = travel_as_error(Local("x"))
    assert type(arrived).__name__ == "Local"
    assert arrived.args == ("x",)


def test_groups_arrive_as_groups() -> None:
    """An exception group with its members."""
    group = builtins.ExceptionGroup("several", [ValueError("a"), KeyError("b")])  # type: ignore[attr-defined,unused-ignore]
    arrived: Any = travel_as_error(group)
    assert type(arrived) is type(group)
    assert [type(member) for member in arrived.exceptions] == [ValueError, KeyError]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), StopIteration(5), GeneratorExit()])
def test_exits_travel_like_errors(error: BaseException) -> None:
    """What ends a program elsewhere is the outcome of one ticket here."""
    arrived = travel_as_error(error)
    assert type(arrived) is type(error)
    assert arrived.args == error.args


class Spoiled(Exception):
    """Refuses whatever one does to it."""

    __notes__: Any = ()

    def __setattr__(self, *_: object) -> None:
        raise ZeroDivisionError


def test_an_error_that_refuses_notes_and_causes_arrives() -> None:
    """An exception that cannot be dressed costs nothing but its dress, if not itself."""
    arrived = travel_as_error(Spoiled("x"))
    assert isinstance(arrived, (Spoiled, RemoteError, ZeroDivisionError))


def test_a_failure_of_the_parent_is_unpacked_as_it_is() -> None:
    """What the parent made never went anywhere."""
    error = ValueError("x")
    assert unpack(Failure(error), note) == (None, error)


@pytest.mark.parametrize(
    "packed", [b"", b"?", b"v", b"vgarbage", b"e", b"egarbage", Large(b"v", []), Large(b"", [b""])]
)
def test_garbage_is_an_error_of_its_ticket(packed: Any) -> None:
    """`unpack` never raises."""
    value, error = unpack(packed, note)
    assert value is None
    assert error is not None


# ---------------------------------------------------------------------------------------------------------------- names


def test_names_of_callables() -> None:
    """Functions, methods, classes, partials and objects are named so that a reader finds them."""
    assert call_name(len) == "len"
    assert call_name(note) == f"{__name__}.note"
    assert call_name(partial(note)) == f"{__name__}.note"
    assert call_name(dict) == "dict"
    assert call_name(RemoteError) == "ordered_executor._base.errors.RemoteError"
    assert "Unpicklable" in call_name(Unpicklable)
    assert "append" in call_name([].append)


class Refusal(BaseException):
    """What lying things raise: no `except Exception` catches it."""


class LyingMeta(type):
    """Classes that will not tell their names."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__"):
            raise Refusal
        return super().__getattribute__(name)


def lying_class() -> Any:
    """A class, and callable, whose names must not be asked for."""
    return LyingMeta("Lying", (), {})


def lying_instance() -> Any:
    """An object of such a class."""
    return lying_class()()


def without_class() -> Any:
    """A callable that will not say what it is."""

    def refuse(_: object) -> type:
        raise Refusal

    return type("WithoutClass", (), {"__class__": property(refuse), "__call__": print})()


@pytest.mark.parametrize(
    "make",
    [lying_class, lying_instance, without_class, lambda: partial(without_class())],
    ids=["class", "its instance", "without class", "partial"],
)
def test_a_name_runs_no_code_of_the_user(make: Callable[[], Any]) -> None:
    """A callable that lies, or raises, when it is asked for its name gets some name all the same."""
    task = make()
    try:
        name = call_name(task)
    except Refusal:
        name = None
    assert type(name) is str


def test_an_exception_that_cannot_be_changed_arrives_as_itself() -> None:
    """A frozen dataclass refuses `__cause__` and notes: both are set past it."""
    value, error = unpack(pack_error(Frozen(5)), lambda: "the note")
    assert value is None
    assert type(error) is Frozen
    assert error.code == 5
    assert error.__cause__ is not None
    assert error.__dict__["__notes__"] == ["the note"]
    again = copy_error(error)
    assert type(again) is Frozen
    assert again.__cause__ is error.__cause__


def test_an_error_that_is_raised_again_and_again_does_not_grow() -> None:
    """Its text says where it was raised this time."""
    shared, sizes = ValueError("shared"), set[int]()
    for _ in range(3):
        try:
            raise shared
        except ValueError as error:
            sizes.add(len(str(without_frames(error).__cause__)))
    assert len(sizes) == 1


class Sharing(Exception):
    """An exception whose copies share its attributes, as those of all are where tblib is installed."""

    def __copy__(self) -> Sharing:
        again = type(self)(*self.args)
        again.__dict__ = self.__dict__
        return again


@pytest.mark.parametrize("kind", [ValueError, Sharing])
def test_a_copy_of_an_error_has_notes_of_its_own(kind: type[Exception]) -> None:
    """Whoever gets one may add to it."""
    error = kind("wrong")
    add_note(error, "one")
    again = copy_error(error)
    add_note(again, "two")
    assert error.__dict__["__notes__"] == ["one"]
    assert again.__dict__["__notes__"] == ["one", "two"]


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception whose attributes cannot be set."""

    code: int


class Stamped(Exception):
    """Its text is another one each time."""

    def __str__(self) -> str:
        return f"at {next(_ticks)}"


_ticks = itertools.count()


class Secretive(Exception):
    """It says itself what of it travels."""

    def __init__(self, name: str, password: str | None) -> None:
        super().__init__(name)
        self.password = password

    def __reduce__(self) -> Any:
        return Secretive, (self.args[0], None)


def test_what_changes_by_itself_and_what_is_kept_back() -> None:
    """A text that is never the same is no loss, nor is what a class does not give away."""
    _, error = unpack(pack_error(Stamped()), note)
    assert type(error) is Stamped
    _, error = unpack(pack_error(Secretive("me", "secret")), note)
    assert type(error) is Secretive
    assert (error.args, error.password) == (("me",), None)


class Waitable:
    """What `copyreg` is told how to pickle, late."""


def test_what_copyreg_is_told_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Picklers that were made before know it, too."""
    assert type(travel(Waitable())) is Waitable
    monkeypatch.setitem(copyreg.dispatch_table, Waitable, lambda _: (str, ("told",)))
    assert travel(Waitable()) == "told"
    monkeypatch.undo()
    assert type(travel(Waitable())) is Waitable


def _as_text(text: str, _: Waitable) -> tuple[type[str], tuple[str]]:
    return str, (text,)


def test_what_copyreg_is_told_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that takes the place of another is heeded, and so is what multiprocessing's own pickler is told."""
    monkeypatch.setitem(copyreg.dispatch_table, Waitable, lambda _: (str, ("told",)))
    assert travel(Waitable()) == "told"
    monkeypatch.setitem(copyreg.dispatch_table, Waitable, lambda _: (str, ("told otherwise",)))
    assert travel(Waitable()) == "told otherwise"
    monkeypatch.undo()
    for said in "registered", "registered again":
        ForkingPickler.register(Waitable, partial(_as_text, said))
        try:
            assert travel(Waitable()) == said
        finally:
            del ForkingPickler._extra_reducers[Waitable]  # type: ignore[attr-defined]
