"""Results that cannot be packed or unpacked cost their own task only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ordered_executor._base.tasks import Failure
from ordered_executor._pickling.outcomes import pack_value, unpack
from ordered_executor._pickling.picklers import Large

from .travel import Unloadable, Unpicklable, note, notes, travel


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
