"""The looks at what a batch has finished: only of the one with the head, and only when a slow task withholds it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import pytest

from ordered_executor._clock import LATE_SECONDS, PEEK_MOST_SECONDS, PEEK_SECONDS, Peeked, look_for_outcomes, next_look
from ordered_executor._lane import ENDING, NEVER, Lane, LaneKind
from ordered_executor._lane_memory import (
    COUNT_BITS,
    EMPTY_STREAM_AT,
    PROGRESS,
    SEGMENT,
    STREAM_AT,
    STREAM_OPEN,
    LaneMemory,
)
from ordered_executor._parcels import Parcels, Sent
from ordered_executor._ticket import Batch

FIRST, COUNT, TYPICAL = 100, 10, 0.004
SENT_AT = 1000.0
SLOW = TYPICAL + LATE_SECONDS


class Desk:
    """A lane that is at a batch of ten tickets, from 100 on, of 4 ms each; its worker is this."""

    def __init__(self, memory: LaneMemory, first: int = FIRST) -> None:
        self.lane = Lane(cast("LaneKind", None))
        self.lane.state += 1  # SERVING
        self.lane.memory = memory
        self.lane.parcels = Parcels(memory)
        self.lane.open(first, first + 1000)
        batch = Batch(7, first, COUNT, [], seconds=COUNT * TYPICAL)
        self.lane.parcels.sent.append(Sent(batch))
        self.lane.heard, self.lane.peek_after = SENT_AT, PEEK_SECONDS
        memory.words[SEGMENT] = batch.number << COUNT_BITS
        memory.bytes[STREAM_AT:EMPTY_STREAM_AT] = STREAM_OPEN
        self.finish(0)

    def finish(self, count: int) -> None:
        """The worker has finished so many, whose values are their numbers."""
        values = b"".join(pickle.dumps(number, 4)[2:-1] for number in range(count))
        self.lane.memory.bytes[EMPTY_STREAM_AT : EMPTY_STREAM_AT + len(values)] = values
        self.lane.memory.words[PROGRESS] = count << COUNT_BITS | len(STREAM_OPEN) + len(values)

    def look(self, seconds: float, *, gated: bool = False) -> Peeked | None:
        """Look so long after the batch was sent; what is fetched is home."""
        peeked = look_for_outcomes(self.lane, SENT_AT + seconds, gated=gated)
        if peeked is not None:
            self.lane.parcels.arrived(peeked.number, peeked.start + len(peeked.outcomes))
        return peeked

    @property
    def next_look(self) -> float:
        """How long after the batch was sent."""
        return next_look([self.lane]) - SENT_AT


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One whose batch has the head."""
    memory = LaneMemory.create()
    yield Desk(memory)
    memory.close()


def test_tasks_that_take_as_long_as_most_are_left_alone(desk: Desk) -> None:
    """Looks come at intervals, fetch nothing, and come no later for that."""
    seconds = 0.0
    while desk.next_look < COUNT * TYPICAL:
        step = desk.next_look - seconds
        assert step == pytest.approx(PEEK_SECONDS + TYPICAL)
        seconds = desk.next_look
        desk.finish(int(seconds / TYPICAL))
        assert desk.look(seconds) is None


def test_what_is_before_a_slow_task_is_fetched_once(desk: Desk) -> None:
    """At the look after it became slow.  The next ones find nothing, and come at longer and longer times."""
    desk.finish(3)
    assert desk.look(desk.next_look) is None  # it has run for 2 ms
    peeked = desk.look(desk.next_look)
    assert peeked == Peeked(7, 0, [0, 1, 2])
    assert desk.next_look <= 3 * TYPICAL + 2 * (PEEK_SECONDS + TYPICAL) + SLOW
    times = [desk.next_look]
    for _ in range(6):
        assert desk.look(desk.next_look) is None
        times.append(desk.next_look)
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(PEEK_MOST_SECONDS + TYPICAL)


def test_what_comes_behind_the_slow_task_is_withheld_no_longer_than_before_it(desk: Desk) -> None:
    """When something was fetched, looks are as frequent as at first.  What was fetched is fetched again."""
    desk.finish(3)
    fetched_at = 0.5
    assert desk.look(fetched_at) is not None
    assert desk.next_look == pytest.approx(fetched_at + PEEK_SECONDS + TYPICAL)
    desk.finish(5)
    peeked = desk.look(fetched_at + 2 * TYPICAL + SLOW)
    assert peeked == Peeked(7, 0, [0, 1, 2, 3, 4])


def test_nothing_is_fetched_early(desk: Desk) -> None:
    """A look before its time is none."""
    desk.finish(3)
    assert desk.look(desk.next_look - 0.001) is None
    assert desk.next_look == pytest.approx(PEEK_SECONDS + TYPICAL)


@pytest.mark.parametrize("head", [FIRST - 1, FIRST + COUNT])
def test_a_batch_without_the_head_is_not_looked_at(desk: Desk, head: int) -> None:
    """Nobody misses what it has finished.  As soon as it has the head, a look is due."""
    desk.finish(3)
    desk.lane.open(head, head + 1000)
    assert desk.next_look == NEVER - SENT_AT
    assert desk.look(1.0) is None
    desk.lane.open(FIRST, FIRST + 1000)
    assert desk.next_look < 1.0
    assert desk.look(1.0) is not None


def test_a_lane_that_ends_or_waits_is_not_fetched_from(desk: Desk) -> None:
    """At the gate all that is finished is sent or asked for; what ends is read when it is dead."""
    desk.finish(3)
    assert desk.look(1.0, gated=True) is None
    desk.lane.state = ENDING
    assert desk.look(2.0) is None


def test_the_memory_may_be_ahead_of_the_pipe(desk: Desk) -> None:
    """The worker has sent its first outcomes, which are not read yet, and begun its stream anew: these come first."""
    desk.finish(3)
    desk.lane.memory.words[SEGMENT] = 7 << COUNT_BITS | 2
    assert desk.look(1.0) is None
    desk.lane.memory.words[SEGMENT] = 8 << COUNT_BITS  # it is at the next batch
    assert desk.look(2.0) is None


def test_not_looked_at_without_a_batch_or_with_one_task(desk: Desk) -> None:
    """What one task has finished, its worker sends."""
    desk.lane.parcels.sent[0].count = 1
    assert desk.next_look == NEVER - SENT_AT
    desk.lane.parcels.sent.clear()
    assert desk.next_look == NEVER - SENT_AT


def test_a_ticket_far_out() -> None:
    """Numbers of the head wrap in lane memory, and not here."""
    memory = LaneMemory.create()
    desk: Any = Desk(memory, first=2**64 - 3)
    desk.lane.open(2**64 + 1, 2**64 + 1000)
    desk.finish(6)
    assert desk.look(1.0) is not None
    memory.close()
