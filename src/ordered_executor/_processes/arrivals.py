"""Outcomes on their way in: from the frames of a lane to the events that the scheduler hears."""

from __future__ import annotations

from ordered_executor._base.times import Times
from ordered_executor._channel import frames
from ordered_executor._core.backend import Arrived, Event
from ordered_executor._pickling.outcomes import ERROR_BEGINS
from ordered_executor._processes.worker_handle import Lane


def read_done(lane: Lane, body: memoryview) -> Arrived:
    """The outcomes of one DONE frame, a part of a batch."""
    number, start, count, placed, size, nanoseconds, recorded = frames.DONE_HEAD.unpack_from(body)
    begin = frames.DONE_HEAD.size + recorded
    times = Times.read(body[frames.DONE_HEAD.size : begin], count) if recorded else None
    stream = bytes(body[begin:])
    outcomes = lane.read_log(stream)
    assert len(outcomes) == count, (len(outcomes), count)
    if placed:
        lane.fetch(outcomes, lane.sent_batches.home(number) - start)  # what is before that, a peek has fetched
    lane.sent_batches.acknowledged(count)
    failures = placed > 0 or ERROR_BEGINS in stream
    return Arrived(lane, number, start, outcomes, size, nanoseconds * 1e-9, False, times, failures)


def read_large(lane: Lane, body: memoryview) -> Arrived:
    """The outcome of one LARGE frame."""
    number, index, size, nanoseconds, times, outcome = lane.read_large(body)
    lane.sent_batches.acknowledged(1)
    return Arrived(lane, number, index, [outcome], size, nanoseconds * 1e-9, False, times)


def join_last_two(events: list[Event]) -> None:
    """What came together from a lane is one event if it is in a row: most of the scheduler's work is per event."""
    if len(events) < 2:
        return
    one, other = events[-2:]
    if (
        isinstance(one, Arrived)
        and isinstance(other, Arrived)
        and one.lane is other.lane
        and one.number == other.number
        and one.start + len(one.outcomes) == other.start
        and one.rescued == other.rescued
        and (one.times is None) == (other.times is None)
    ):
        if one.times is not None and other.times is not None:
            one.times.join(other.times)
        one.outcomes += other.outcomes
        one.failures = one.failures or other.failures
        one.size += other.size
        one.seconds += other.seconds
        events.pop()
