"""Which outcomes on a cluster come home, when, and how many together.  Pure: parts without a cluster."""

from __future__ import annotations

from unittest import mock

import pytest

from ordered_executor._clusters.homeward import GATHER_BYTES, GATHER_LEAST, Homeward
from ordered_executor._clusters.parts import Part, Slot
from ordered_executor._core.window import Window

MIB = 1024 * 1024


def ended(ticket: int, count: int = 1, size: int | None = None) -> Part:
    """A part that the cluster is done with."""
    parcel = mock.Mock()
    parcel.batch.first = ticket
    part = Part(parcel, Slot(ticket), 0, count)
    part.task, part.ended, part.size = object(), True, size
    return part


def home(size: int = 64 * MIB, each: int | None = None) -> Homeward:
    """Nothing is there yet; outcomes have been so large."""
    made = Homeward(Window(None, size, 2))
    made.demand.want_all()
    made.settle()
    if each is not None:
        first = ended(0)
        made.arrived(first, each)
        made.released(each)
    return made


def tickets(gathers: list[list[Part]]) -> list[list[int]]:
    """Of what sets out."""
    return [[part.ticket for part in gather] for gather in gathers]


def test_the_lowest_come_first_and_none_from_beyond_the_window() -> None:
    """Also not a part whose last ticket is beyond it; the head comes whatever its size."""
    parts = home(each=10)
    for ticket, count in ((9, 1), (5, 1), (7, 2), (4, 1)):
        parts.offer(ended(ticket, count))
    assert tickets(parts.let_in(4, 8)) == [[4, 5]]
    assert tickets(parts.let_in(4, 9)) == [[7]]
    assert tickets(parts.let_in(9, 9)) == [[9]]


def test_bytes_that_would_not_fit_stay() -> None:
    """Counted from when they set out until they are released, by the guess until they are here."""
    parts = home(size=250, each=100)
    first, second, third = ended(1), ended(2), ended(3)
    for part in (first, second, third):
        parts.offer(part)
    assert tickets(parts.let_in(0, 99)) == [[1, 2]]
    parts.travelled(first)
    parts.arrived(first, 100)
    assert parts.let_in(0, 99) == []
    parts.released(100)
    assert tickets(parts.let_in(0, 99)) == [[3]]


def test_large_ones_travel_in_several_gathers() -> None:
    """So that one is on each part of the way; the size counts that was told."""
    parts = home(each=MIB)
    for ticket in range(10):
        parts.offer(ended(ticket))
    assert [len(gather) for gather in parts.let_in(0, 99)] == [4, 4, 2]
    parts = home(each=1)
    for ticket in range(3):
        parts.offer(ended(ticket, size=GATHER_BYTES))
    assert tickets(parts.let_in(0, 99)) == [[0], [1], [2]]


def test_small_ones_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a gather is under way or enough else runs, for the pause; not where all that is sent has a worker."""
    clock = [100.0]
    monkeypatch.setattr("ordered_executor._clusters.homeward.time.monotonic", lambda: clock[0])
    parts = home(each=100)
    parts.pause = 0.05
    assert parts.rests(20, 2, 14, 8) == 0.0, "nothing is there"
    first = ended(0)
    parts.offer(first)
    assert parts.rests(20, 2, 14, 8) == 0.0, "the first waits for nobody"
    parts.let_in(0, 99)
    parts.offer(ended(1))
    clock[0] += 0.02
    assert round(parts.rests(3, 2, 14, 8), 3) == 0.03, "another is under way"
    assert parts.rests(3, 2, 2, 2) == 0.0, "every lane has a worker"
    parts.travelled(first)
    assert parts.rests(3, 2, 14, 8) == 0.0, "little else is on the cluster"
    assert round(parts.rests(9, 2, 14, 8), 3) == 0.03
    clock[0] += 0.04
    assert parts.rests(9, 2, 14, 8) == 0.0


def test_what_is_worth_a_gather_waits_for_nobody() -> None:
    """Many bytes, in one or in several."""
    parts = home(each=GATHER_LEAST // 2)
    parts.pause = 1000.0
    parts.offer(ended(0))
    parts.let_in(0, 99)
    parts.offer(ended(1))
    assert parts.rests(20, 2, 14, 8) > 0
    parts.offer(ended(2))
    assert parts.rests(20, 2, 14, 8) == 0.0


def test_a_part_that_was_given_up_does_not_come() -> None:
    """And is not counted."""
    parts = home(each=1)
    gone, there = ended(0), ended(1)
    parts.offer(gone)
    parts.offer(there)
    gone.task = None
    assert parts.count() == 1
    assert tickets(parts.let_in(0, 99)) == [[1]]
    assert parts.count() == 0
