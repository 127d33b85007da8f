"""The looks at what a batch has finished: only of the one with the head, and only when a slow task withholds it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._base.tasks import Batch
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    EMPTY_LOG_AT,
    LOG_AT,
    LOG_OPEN,
    LOG_START,
    PROGRESS,
    LaneMemory,
)
from ordered_executor._processes.alarms import NEVER
from ordered_executor._processes.sent_batches import SentBatch, SentBatches
from ordered_executor._processes.timers import PEEK_MOST_SECONDS, Peeked, look_for_outcomes
from ordered_executor._processes.worker_handle import ENDING, LATE_SECONDS, PEEK_SECONDS, SERVING, Lane, LaneKind

FIRST, COUNT = 100, 10
SENT_AT = 1000.0


class Desk:
    """A lane that is at a batch of ten tickets, from 100 on; its worker is this."""

    def __init__(self, memory: LaneMemory, first: int = FIRST, typical: float = 0.004) -> None:
        self.lane = Lane(cast("LaneKind", None))
        self.lane.state = SERVING
        self.lane.memory = memory
        self.lane.sent_batches = SentBatches(memory)
        self.lane.open(first, first + 1000)
        batch = Batch(7, first, COUNT, seconds=COUNT * typical)
        self.lane.sent_batches.sent.append(SentBatch(batch))
        self.lane.heard, self.lane.peek_after = SENT_AT, PEEK_SECONDS
        memory.words[LOG_START] = batch.number << COUNT_BITS
        memory.bytes[LOG_AT:EMPTY_LOG_AT] = LOG_OPEN
        self.finish(0)

    def finish(self, count: int) -> None:
        """The worker has finished so many, whose values are their numbers."""
        values = b"".join(pickle.dumps(number, 4)[2:-1] for number in range(count))
        self.lane.memory.bytes[EMPTY_LOG_AT : EMPTY_LOG_AT + len(values)] = values
        self.lane.memory.words[PROGRESS] = count << COUNT_BITS | len(LOG_OPEN) + len(values)

    def look_twice(self, seconds: float, *, gated: bool = False) -> Peeked | None:
        """So that nothing has ended in between."""
        assert self.look(seconds, gated=gated) is None
        return self.look(seconds + 1.0, gated=gated)

    def look(self, seconds: float, *, gated: bool = False) -> Peeked | None:
        """Look so long after the batch was sent; what is fetched is home."""
        peeked = look_for_outcomes(self.lane, SENT_AT + seconds, gated=gated)
        if peeked is not None:
            self.lane.sent_batches.arrived(peeked.number, peeked.start + len(peeked.outcomes))
        return peeked

    @property
    def next_look(self) -> float:
        """How long after the batch was sent."""
        return self.lane.due() - SENT_AT


@pytest.fixture(scope="module")
def memory() -> Iterator[LaneMemory]:
    """A lane's memory; no other part of a lane is real."""
    memory = LaneMemory.create()
    yield memory
    memory.close()


@pytest.fixture
def desk(memory: LaneMemory) -> Desk:
    """One whose batch has the head."""
    return Desk(memory)


@pytest.mark.parametrize("typical", [0.0, 0.001, 0.0049, 0.006, 0.0125])
@given(data=st.data())
def test_tasks_that_take_as_long_as_most_are_left_alone(
    memory: LaneMemory, typical: float, data: st.DataObject
) -> None:
    """Looks come at intervals, fetch nothing, and come no later for that."""
    desk = Desk(memory, typical=typical)
    clock = 0.0
    for count in range(1, COUNT):
        clock += data.draw(st.floats(0.0, typical + LATE_SECONDS * 0.99))
        while desk.next_look < clock:
            last = desk.next_look
            assert desk.look(last) is None
            assert desk.next_look - last == pytest.approx(max(PEEK_SECONDS, typical + LATE_SECONDS))
        desk.finish(count)


@pytest.mark.parametrize("typical", [0.0, 0.001, 0.0049, 0.006, 0.0125])
@given(data=st.data())
def test_a_slow_task_withholds_nothing_for_long(memory: LaneMemory, typical: float, data: st.DataObject) -> None:
    """What is before it is fetched at the second look after it began; behind another, looks may have become rare."""
    desk = Desk(memory, typical=typical)
    step = max(PEEK_SECONDS, typical + LATE_SECONDS)
    clock, limit = 0.0, 2 * step
    count = home = 0
    while count < COUNT - 2:
        for _ in range(data.draw(st.integers(1, COUNT - 2 - count))):
            clock += data.draw(st.floats(0.0, typical))
            while desk.next_look < clock:
                if peeked := desk.look(desk.next_look):
                    home = len(peeked.outcomes)
            desk.finish(count := count + 1)
        late, clock = clock + limit * 1.0001, clock + limit * data.draw(st.floats(1.001, 5))  # clocks round
        while desk.next_look < clock:
            assert home == count or desk.next_look < late
            if peeked := desk.look(desk.next_look):
                home = len(peeked.outcomes)
        assert home == count
        limit = PEEK_MOST_SECONDS + step


def test_looks_become_rare_while_a_task_is_very_slow(desk: Desk) -> None:
    """They find nothing more; and are as frequent as at first when it has ended."""
    desk.finish(3)
    assert desk.look(desk.next_look) is None  # they have just ended, for all one knows
    assert desk.look(desk.next_look) == Peeked(7, 0, [0, 1, 2])
    times = [desk.next_look]
    for _ in range(6):
        assert desk.look(desk.next_look) is None
        times.append(desk.next_look)
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert all(later > earlier - 1e-6 for earlier, later in pairwise(steps))  # clocks round
    assert steps[-1] == pytest.approx(PEEK_MOST_SECONDS)
    desk.finish(5)
    assert desk.look(last := desk.next_look) is None
    assert desk.next_look == pytest.approx(last + PEEK_SECONDS)
    assert desk.look(desk.next_look) == Peeked(7, 0, [0, 1, 2, 3, 4])  # what is known comes again, and is known


def test_nothing_is_fetched_early(desk: Desk) -> None:
    """A look before its time is none."""
    desk.finish(3)
    assert desk.look(desk.next_look) is None
    before = desk.next_look
    assert desk.look(before - 0.001) is None
    assert desk.next_look == before
    assert desk.look(before) is not None


@pytest.mark.parametrize("head", [FIRST - 1, FIRST + COUNT])
def test_a_batch_without_the_head_is_not_looked_at(desk: Desk, head: int) -> None:
    """Nobody misses what it has finished.  As soon as it has the head, a look is due."""
    desk.finish(3)
    desk.lane.open(head, head + 1000)
    assert desk.next_look == NEVER - SENT_AT
    assert desk.look_twice(1.0) is None
    desk.lane.open(FIRST, FIRST + 1000)
    assert desk.next_look < 1.0
    assert desk.look_twice(3.0) is not None


def test_a_lane_that_ends_or_waits_is_not_fetched_from(desk: Desk) -> None:
    """At the gate all that is finished is sent or asked for; what ends is read when it is dead."""
    desk.finish(3)
    assert desk.look_twice(1.0, gated=True) is None
    desk.lane.state = ENDING
    assert desk.look_twice(4.0) is None


def test_the_memory_may_be_ahead_of_the_pipe(desk: Desk) -> None:
    """The worker has sent its first outcomes, which are not read yet, and begun its stream anew: these come first."""
    desk.finish(3)
    desk.lane.memory.words[LOG_START] = 7 << COUNT_BITS | 2
    assert desk.look_twice(1.0) is None
    desk.lane.memory.words[LOG_START] = 8 << COUNT_BITS  # it is at the next batch
    assert desk.look_twice(4.0) is None
    assert desk.lane.sent_batches.sent[0].seen == (0, 0)


def test_not_looked_at_without_a_batch_or_with_one_task(desk: Desk) -> None:
    """What one task has finished, its worker sends."""
    desk.lane.sent_batches.sent[0].count = 1
    assert desk.next_look == NEVER - SENT_AT
    desk.lane.sent_batches.sent.clear()
    assert desk.next_look == NEVER - SENT_AT


def test_a_ticket_far_out(memory: LaneMemory) -> None:
    """Numbers of the head wrap in lane memory, and not here."""
    desk = Desk(memory, first=2**64 - 3)
    desk.lane.open(2**64 + 1, 2**64 + 1000)
    desk.finish(6)
    assert desk.look_twice(1.0) is not None
