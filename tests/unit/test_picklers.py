"""Objects to bytes and back: whatever can travel arrives as it was."""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from functools import cache, lru_cache, partial, wraps
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._pickling.outcomes import pack_value, unpack
from ordered_executor._pickling.picklers import BASIC, LARGE_BYTES, Large, dumps, dumps_whole, loads

from .travel import note, travel

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
