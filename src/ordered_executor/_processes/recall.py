"""Taking back the tasks that a worker has been sent and has not begun.  Nobody stops; each task costs one look.

    parent, any thread                                    worker, before each task
    1  RECALL = generation + 1                            a  STATE = RUNNING, PROGRESS = index      (it is about to run)
    2  a barrier, which acts in the worker, too           b  RECALL > generation?  then leave, and hand back the rest
    3  read LOG_START, STATE, PROGRESS, FLOOR:              c  run the task
       from which index on nothing has begun

*Why it holds.*  The barrier of 2 acts at one instant of the worker's run.  If b comes after it, the worker sees the
recall and does not come to c.  If b comes before it, so does a, and 3 sees that the task runs.  So if 3 does not see a
task run, its c never comes: the task is the parent's again.  If both see each other, the parent believes that the task
runs, and the worker hands it back: it is sent once more, and was not lost.

*Generations.*  Each batch is sent in the lane's generation.  The parent counts it up when it hears what was handed
back, and the worker when it hands back: batches that were sent in between are dropped unseen.  So RECALL means one
generation and no other, and does not meet later batches.  Invariants: `RECALL <= generation + 1`.  Both only grow, over
all leases.  The parent's moves, and the writes of RECALL, happen under `recalling` only.  A recall of a lane that has
nothing left costs a round trip: the next batch comes back once.

*Torn rows.*  Four words are read one after the other, while the worker may write.  After a recall it soon stops
writing: it ends its task, sends the finished outcomes, and hands back.  So rows are read until two are the same, with a
barrier between.  LOG_START and FLOOR only move on, so two equal values mean that the word had that value in between.
PROGRESS falls back only to nothing, when a new segment begins; then FLOOR, written before, has moved, or the segment is
the same.  STATE returns to an earlier value only together with a new PROGRESS, or when nothing is begun any more.  So
two equal rows were there at the time of the barrier between them.  That barrier is for processors whose reads pass each
other, or whose writes do (arm64): the values of the first row were written before it, and so was everything that the
worker wrote earlier, and the second row shows that.

*The meaning of a row* for a batch, `begun`: if LOG_START has not reached the batch, nothing of it has begun; if
LOG_START is past it, everything has.  In between it is PROGRESS, and one more while a task runs, or has finished and is
held.  If PROGRESS is nothing, a segment begins, with the first outcome that is missing or held: FLOOR's index, and one
more.

Without barriers (not on Linux, an old kernel, some sandboxes) the scheduler stops the worker for an instant and reads
one row.  Then b comes before the stop, and the row shows that the task runs; or it comes after, and the worker sees the
recall.  Other threads do not stop a worker: a signal handler may come in the middle of that, and wait.  So they do not
know, and promise nothing.  The worker follows the recall all the same.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

from ordered_executor._base import system
from ordered_executor._base.locks import Lock
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    COUNT_MASK,
    FLOOR,
    HELD,
    LOG_START,
    NO_SEGMENT,
    PROGRESS,
    RECALL,
    RUNNING,
    STATE,
    LaneMemory,
)
from ordered_executor._core.backend import ALL

# A recalled worker writes a dozen times at most before it has handed back, and stands between.
_LOOKS = 32
_HALF = 1 << (COUNT_BITS - 1)


class Row(NamedTuple):
    """Where a worker is, as it has written."""

    segment: int
    state: int
    progress: int
    floor: int


def read_row(memory: LaneMemory) -> Row:
    """Raises ValueError if the memory is closed."""
    words = memory.words
    return Row(words[LOG_START], words[STATE], words[PROGRESS], words[FLOOR])


def begun(row: Row, number: int) -> int:
    """From which index on nothing of that batch has begun, by this row: see the module.  `ALL` if it is past."""
    at = row.segment >> COUNT_BITS
    number &= COUNT_MASK
    if at != number:
        # in serial number arithmetic: batches ascend, and wrap
        reached = row.segment != NO_SEGMENT and (at - number) & COUNT_MASK < _HALF
        return ALL if reached else 0
    if row.progress:
        return (row.progress >> COUNT_BITS) + (row.state == RUNNING or bool(row.progress & HELD))
    return (row.floor & COUNT_MASK) + 1 if row.floor >> COUNT_BITS == number else ALL


def settle(memory: LaneMemory) -> Row | None:
    """A row of a worker that was recalled; None if there are no barriers."""
    before = None
    for _ in range(_LOOKS):
        if not system.barrier():
            return None
        row = read_row(memory)
        if row == before:
            return row
        before = row
    return None


recalling = Lock()  # of all lanes


class Recallable(Protocol):
    """A lane."""

    memory: LaneMemory
    generation: int  # guarded by: recalling


def next_generation(lane: Recallable) -> None:
    """What is sent from now on is met by no recall of before.  On the scheduler."""
    +recalling
    try:
        lane.generation += 1
    finally:
        -recalling


def recall(lane: Recallable) -> None:
    """On any thread; a signal handler may come back here."""
    words = lane.memory.words
    try:
        +recalling
        try:
            words[RECALL] = lane.generation + 1
        finally:
            -recalling
    except ValueError:
        pass  # its memory is closed: it is gone


def _in_forked_child() -> None:
    global recalling
    recalling = Lock()


os.register_at_fork(after_in_child=_in_forked_child)
