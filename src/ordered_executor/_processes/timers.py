"""Timers: the looks at a lane that no frame asks for.

A lane is looked at when its time has come (`Lane.due`), and not before.  If an executor hears of its workers in time,
it sets no alarm but the next.  Four looks are here; `_processes.task_stop` has the one at a task that overruns its
limit.

- *kill*: the process was told to end, or is to be killed, and is there still;
- *idleness*: the worker has had nothing to do for long, and need not keep its memory;
- *start*: its initializer runs, and may take `task_timeout`;
- *peek*: nothing was heard for a while of the batch that has the head, and the running task takes longer than most.
  Outcomes finished ahead of the slow task are read from shared memory.  The same look tells, if other lanes are idle,
  that the tasks behind that one should be taken back.

They change the lane at most.  The backend (`_processes.backend`) draws the consequences for the executor from what they
return.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ordered_executor._base import system
from ordered_executor._base.times import Times
from ordered_executor._channel.shared_memory import COUNT_BITS, STARTED
from ordered_executor._processes.sent_batches import SentBatch
from ordered_executor._processes.task_stop import TIMEOUT_SECONDS
from ordered_executor._processes.worker_handle import PEEK_SECONDS, SERVING, TRIM_SECONDS, Lane, kill

# The time between two looks for outcomes doubles up to this while no task ends, so that a very slow one costs nothing.
PEEK_MOST_SECONDS = 0.05
# How long a process that was told to end may take before it is killed.
END_SECONDS = 5.0


class Peeked(NamedTuple):
    """Outcomes from lane memory: of which batch, and from which index on."""

    number: int
    start: int
    outcomes: list[Any]
    times: Times | None = None


def look_at_end(lane: Lane, now: float) -> None:
    """Kill it if it should be gone."""
    if lane.kill_at is not None and now >= lane.kill_at:
        lane.kill_at = now + END_SECONDS
        kill([lane])


def look_at_start(lane: Lane, now: float, timeout: float | None) -> bool:
    """Whether the initializer has taken longer than `task_timeout`, from its own start."""
    if lane.start_deadline is None or now < lane.start_deadline:
        return False
    assert timeout is not None
    begun = lane.memory.words[STARTED]
    if begun and now >= begun * 1e-9 + timeout:
        lane.start_deadline = None
        return True
    lane.start_deadline = begun * 1e-9 + timeout if begun else now + TIMEOUT_SECONDS
    return False


def look_for_idleness(lane: Lane, now: float) -> bool:
    """Whether the worker has had nothing to do for long; asked once after each time it had."""
    if lane.trim_at is None or now < lane.trim_at:
        return False
    idle = lane.state == SERVING and not lane.sent_batches.busy and not lane.writing
    rested = lane.heard + TRIM_SECONDS
    lane.trim_at = None if idle and now >= rested else max(rested, now + TRIM_SECONDS / 2)
    return lane.trim_at is None


def look_for_outcomes(lane: Lane, now: float, *, gated: bool) -> Peeked | None:
    """Fetch what is finished of the batch that has the head, if it is time for that and a slow task withholds it.

    The task that runs is slow if none has ended since the look before.  Else nothing is fetched: it would cost as much
    as another batch, and the rest is soon done.  What is fetched is released at once, nothing in front of it being
    missing; its bytes are counted when its frame comes.
    """
    lane.slow = False
    sent = lane.sent_batches.current
    if sent is None or now < lane.peek_at(sent):
        return None
    lane.peeked = now
    row = lane.memory.row(sent.number)
    moved, sent.seen = row != sent.seen, row
    if moved:
        lane.peek_after = PEEK_SECONDS
        return None
    lane.slow = not gated
    if not gated and lane.has_head(sent) and row[1] >> COUNT_BITS > sent.home and (peeked := _peek(lane, sent)):
        return peeked
    lane.peek_after = min(2 * lane.peek_after, PEEK_MOST_SECONDS)
    return None


def _peek(lane: Lane, sent: SentBatch) -> Peeked | None:
    """Where no barrier can order what is read of a running worker, it is stopped for the time of the look."""
    if system.settle():
        return _read(lane, sent)
    return lane.process.look(lambda: _read(lane, sent))


def _read(lane: Lane, sent: SentBatch) -> Peeked | None:
    """By the words that the look before has seen: whatever was written before them is visible now (see design.md)."""
    if (found := lane.memory.stream(sent.number, sent.seen)) is None:
        return None
    start, outcomes = found
    known = sent.home - start
    if not 0 <= known < len(outcomes):
        return None  # below zero: what is before it is in the pipe still, and this comes by the pipe as well
    times = lane.memory.times(sent.number, start, start + len(outcomes)) if sent.recorded else None
    return Peeked(sent.number, start, lane.fetch(outcomes, known), times)
