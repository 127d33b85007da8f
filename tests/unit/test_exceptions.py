"""Errors arrive as themselves, or described."""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import builtins
import itertools
import subprocess
import traceback
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor import RemoteError
from ordered_executor._base.error_tools import add_note, copy_error
from ordered_executor._pickling.outcomes import pack_error, unpack, without_frames

from .travel import Unloadable, Unpicklable, load_fails, moved, note, notes, travel_as_error


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
