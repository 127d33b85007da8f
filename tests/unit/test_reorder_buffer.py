"""The sequencer: whatever comes home in whatever order leaves in ticket order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._base.tasks import SKIP, Segment
from ordered_executor._core.reorder_buffer import Sequencer

JUST_BELOW_THE_WRAP = 2**64 - 3


def segment(first: int, count: int = 1, *, size: int = 0, passed: bool = True) -> Segment:
    """Outcomes that came through the gate; each is its own ticket."""
    tickets = list(range(first, first + count))
    return Segment(first, count, tickets, list(tickets), "lane", size, passed)


def released(sequencer: Sequencer) -> list[int]:
    """The tickets that can be released now."""
    tickets: list[int] = []
    while (ready := sequencer.release()) is not None:
        tickets += ready.outcomes
    return tickets


@pytest.mark.parametrize("first", [0, JUST_BELOW_THE_WRAP])
def test_claims_are_dense(first: int) -> None:
    """Each claim begins where the one before it ended."""
    sequencer = Sequencer(first)
    assert [sequencer.claim(count) for count in (1, 3, 2)] == [first, first + 1, first + 4]
    assert (sequencer.head, sequencer.tail) == (first, first + 6)


@given(counts=st.lists(st.integers(1, 4), max_size=12), first=st.sampled_from([0, JUST_BELOW_THE_WRAP]), data=st.data())
def test_any_order_home_is_ticket_order_out(counts: list[int], first: int, data: st.DataObject) -> None:
    """Segments are released as soon as all before them are home, and never sooner."""
    sequencer = Sequencer(first)
    segments = [segment(sequencer.claim(count), count, size=count) for count in counts]
    home: set[int] = set()
    out: list[int] = []
    for one in data.draw(st.permutations(segments)):
        sequencer.put(one)
        home.update(one.outcomes)
        out += released(sequencer)
        expected = first
        while expected in home:
            expected += 1
        assert out == list(range(first, expected))
        assert sequencer.head == expected
        assert sequencer.early == sequencer.early_bytes == len(home) - len(out)
    assert sequencer.head == sequencer.tail


def test_nothing_is_released_before_the_head_is_home() -> None:
    """A segment behind the head waits, however complete it is."""
    sequencer = Sequencer()
    sequencer.claim(3)
    sequencer.put(segment(1, 2))
    assert sequencer.release() is None
    assert sequencer.head == 0


def test_what_waits_at_the_head_is_not_early() -> None:
    """Early is what has others in front of it; when these are gone it is early no more."""
    sequencer = Sequencer()
    sequencer.claim(4)
    sequencer.put(segment(2, 2, size=20))
    assert (sequencer.early, sequencer.early_bytes) == (2, 20)
    sequencer.put(segment(0, 2, size=5))
    assert (sequencer.early, sequencer.early_bytes) == (2, 20)
    sequencer.release()
    assert (sequencer.early, sequencer.early_bytes) == (0, 0)
    sequencer.release()
    assert (sequencer.peak_early, sequencer.peak_early_bytes) == (2, 20)


def test_what_did_not_pass_the_gate_is_not_early() -> None:
    """Marks, skips, errors made in the parent, and what was taken from a dead worker do not count."""
    sequencer = Sequencer()
    sequencer.claim(3)
    sequencer.put(Segment(1, 1, ["owner"], [SKIP]))
    sequencer.put(segment(2, passed=False, size=7))
    assert (sequencer.early, sequencer.early_bytes) == (0, 0)
    sequencer.put(segment(0))
    assert released(sequencer) == [0, SKIP, 2]
    assert (sequencer.early, sequencer.peak_early) == (0, 0)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 1), (4, 1), (3, 2), (1, 1)], ids=["released", "unclaimed", "past the tail", "home"]
)
def test_a_ticket_cannot_end_twice_or_out_of_bounds(first: int, count: int) -> None:
    """Only tickets between head and tail that are not home may come home."""
    sequencer = Sequencer()
    sequencer.claim(4)
    sequencer.put(segment(0))
    sequencer.release()
    sequencer.put(segment(1))
    with pytest.raises(AssertionError):
        sequencer.put(segment(first, count))
