"""Whom a move of the head concerns: against all lanes walked over, and few of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._processes.reach import Gated, Reach


@given(window=st.integers(1, 12), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=30), data=st.data())
def test_who_needs_it_is_told(window: int, sizes: list[int], data: st.DataObject) -> None:
    """After each move a lane's words let in what they must: all it has below the limit, and the head."""
    reach = Reach()
    words: dict[int, tuple[int, int]] = {}  # of a lane: head, limit
    batches: dict[int, range] = {}
    head = first = 0
    for lane, size in enumerate(sizes):
        reach.sent(lane, first, size, head, head + window)
        words[lane], batches[lane] = (head, head + window), range(first, first + size)
        first += size
        head = data.draw(st.integers(head, first), "head")
        for told in reach.moved(head, head + window):
            words[told] = head, head + window
        for its, tickets in batches.items():
            for ticket in tickets:
                assert ticket >= head + window or ticket < words[its][1] or ticket < head
                assert ticket != head or words[its][0] >= head


def test_few_are_told() -> None:
    """However many lanes there are: a move by one batch concerns the one at the limit, and the one at the head."""
    reach, lanes, window = Reach(), 1000, 100
    for lane in range(lanes):
        reach.sent(lane, 4 * lane, 4, 0, window)
    told = [len(list(reach.moved(head, head + window))) for head in range(4, 4 * lanes, 4)]
    assert max(told) <= 4
    assert sum(told) <= 3 * lanes


def test_a_lane_that_was_told_at_once_has_the_head() -> None:
    """What is sent with the head in it is told of each move inside it, and not behind it."""
    reach = Reach()
    reach.sent("a", 0, 3, 0, 50)
    assert [list(reach.moved(head, head + 50)) for head in (1, 2, 3, 4)] == [["a"], ["a"], [], []]


@given(st.data())
def test_who_may_pass_is_judged(data: st.DataObject) -> None:
    """A gated lane is judged when the limit comes to its ticket, and when it is the head; not in between."""
    gated, window, judged = Gated(), 5, dict[int, list[int]]()
    tickets = data.draw(st.lists(st.integers(1, 30), unique=True, min_size=1, max_size=8))
    for lane, ticket in enumerate(tickets):
        gated.add(lane, ticket)
        judged[lane] = []
    for head in range(40):
        for lane in gated.moved(head, head + window):
            judged[lane].append(head)
            gated.add(lane, tickets[lane])  # its bytes do not fit
    for lane, ticket in enumerate(tickets):
        assert judged[lane] == [max(0, ticket - window + 1), ticket]


def test_one_that_has_passed_is_not_judged_again() -> None:
    """Nor is one that asks for another ticket judged by the old one."""
    gated = Gated()
    lane: Any = object()
    gated.add(lane, 3)
    assert lane in gated
    gated.discard(lane)
    assert (len(gated), list(gated.moved(10, 20))) == (0, [])
    gated.add(lane, 30)
    gated.add(lane, 40)
    assert list(gated.moved(20, 35)) == []
    assert list(gated.moved(21, 41)) == [lane]
