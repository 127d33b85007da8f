"""Calls and values in a few words: short, whatever the user's classes do."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor import RemoteError
from ordered_executor._pickling.texts import LONGEST, as_call, call_name, call_text, error_text, short

from .travel import Unpicklable, note


class Hostile:
    """Whatever may be asked of it raises, or never returns; nothing of it may be asked."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise SystemExit("somebody asked")

    __repr__ = __str__ = __len__ = __iter__ = __lt__ = __getattr__ = _refuse


class HostileInt(int):
    """A number with a `repr` of its own."""

    def __repr__(self) -> str:
        raise SystemExit("somebody asked")


def test_values_of_a_users_classes_are_named_only() -> None:
    """No code of theirs runs, also where they stand inside of something."""
    assert short(Hostile()) == f"<{__name__}.Hostile>"
    assert short(HostileInt(3)) == f"<{__name__}.HostileInt>"
    assert short([Hostile(), 1]) == f"[<{__name__}.Hostile>, 1]"
    keys = {HostileInt(1): Hostile(), HostileInt(2): 5}
    assert short(keys) == f"{{<{__name__}.HostileInt>: <{__name__}.Hostile>, <{__name__}.HostileInt>: 5}}"
    assert call_text(Hostile(), (Hostile(),), {"a": Hostile()}).count("Hostile") == 3


def test_large_values_are_cut() -> None:
    """A text, a number, an array, a list of any size take no more than a line, and no time."""
    assert short("x" * 10**8) == f"'{'x' * 27}...{'x' * 28}'"
    assert short(bytes(10**8)) == r"<bytes of 100000000 bytes, b'\x00\x00\x00\x00\x00\x00\...>"
    assert short(1 << 10**7) == "<int of 10000001 bits>"
    assert short(np.zeros((1000, 3))) == "<numpy.ndarray of shape (1000, 3)>"
    assert short(list(range(10**6))) == "[0, 1, 2, 3, ...]"
    assert short(dict.fromkeys(range(10**6))) == "{0: None, 1: None, 2: None, 3: None, ...}"
    assert len(call_text(print, ("x" * 1000,) * 1000, {f"k{n}": "x" * 1000 for n in range(1000)})) < LONGEST + 20


def test_small_values_are_as_python_writes_them() -> None:
    """What the interpreter has written itself is as `repr` writes it."""
    for value in (3, -1.5, True, None, "a", b"b", (1, "x"), [1], {"a": 1}, {1}, frozenset({1}), decimal.Decimal("1.5")):
        assert short(value) == repr(value)
    assert short(Path("a.csv")) == "PosixPath('a.csv')"
    assert short(set()) == "set()"
    assert short(len) == "<len>"


def test_what_contains_itself_ends() -> None:
    """A list in itself is shown a few levels deep."""
    loop: list[Any] = []
    loop.append(loop)
    assert short(loop) == "[[[[...]]]]"
    deep: Any = 1
    for _ in range(10**5):
        deep = {"a": deep}
    assert short(deep) == "{'a': {'a': {'a': {...}}}}"


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary() | st.floats(),
        lambda part: st.lists(part) | st.dictionaries(st.text(), part) | st.tuples(part, part),
    )
)
def test_anything_is_short(value: Any) -> None:
    """Whatever it is, a call with it is a line or two, and has no line break."""
    text = call_text(print, (value, value), {"key": value})
    assert len(text) <= LONGEST + len("print()")
    assert "\n" not in text


def test_errors_are_shown_by_class_and_arguments() -> None:
    """Their own text may be anything."""

    class Odd(ValueError):
        __str__ = __repr__ = Hostile._refuse

    assert error_text(Odd("a", 1)).endswith("Odd('a', 1)")
    assert error_text(KeyError("k")) == "KeyError('k')"


def test_whatever_is_left_of_a_call_is_shown() -> None:
    """A future keeps a call as a tuple, as a packed call, or as the function alone."""
    assert as_call((len, ("a",), {"b": 1})) == (len, ("a",), {"b": 1})
    assert as_call((len,)) == (len, (), {})
    assert call_text(*as_call(None)) == "NoneType object()"


def test_names_of_callables() -> None:
    """Functions, methods, classes, partials and objects are named so that a reader finds them."""
    assert call_name(len) == "len"
    assert call_name(note) == "tests.unit.travel.note"
    assert call_name(partial(note)) == "tests.unit.travel.note"
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
