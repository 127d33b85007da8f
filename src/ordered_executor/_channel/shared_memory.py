"""A lane's memory: a page of words, the finished small outcomes of the batch that runs, and room for large buffers.

One anonymous file, mapped by the parent and by the worker.  Every word is eight aligned bytes with one writer, so a
read never tears; what needs two words is put into one, or read between two looks at a third.

    words     | LIMIT HEAD CREDIT_BACK TAKEN RECALL        (the parent writes)
              | STATE LOG_START PROGRESS STARTED FLOOR SINCE (the worker writes)
    outcomes  | the stream of the running batch: a list pickle that is still open (see below)
    times     | when tasks of the running batch began and ended, if that is recorded (see `_base.times`)
    to parent | large buffers of results
    to worker | large buffers of arguments
    stack     | behind the mapping, in the file only: the stack of a stuck task, when it was asked for

The stream of outcomes.  `LOG_START` says which outcome of which batch is the first in it, `PROGRESS` how many outcomes
of the batch are finished and how long the stream is: one word, so the two always agree.  A stream is `STREAM_OPEN`,
then the pickles of the outcomes without their stop codes; with `STREAM_CLOSE` behind it, it is one pickle of a
list.  That is sound because outcomes there are of basic types or bytes, whose pickles refer to nothing before
them.  One with large buffers is there as a reference, `(head, place, *lengths)`: the buffers lie behind each other
from `place` on.

Order of the worker's writes, so that whoever reads after its death never sees the outcomes of one batch as another's:
a new segment first sets `PROGRESS` to nothing, then `LOG_START`.  Read in between, it counts less than nothing, which
means: all that was there has been sent.  Before both it sets `FLOOR`, to the same as `LOG_START`: so there is always a
word that says how far the worker has come at least.  `RECALL` and `FLOOR` are for taking back (see
`_processes.recall`).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
from array import array
from typing import Any

from ordered_executor._base import system
from ordered_executor._base.times import Times

WORDS = 512
LIMIT, HEAD, CREDIT_BACK, TAKEN = 0, 1, 2, 3
RECALL = 8  # on a cache line of its own: the worker reads it before each task
STATE, LOG_START, PROGRESS, STARTED, FLOOR, SINCE = 16, 17, 18, 19, 20, 21

LOG_AT = 4096
LOG_BYTES = 256 * 1024
LOG_OPEN = b"\x80\x05]("
LOG_CLOSE = b"e."
EMPTY_LOG_AT = LOG_AT + len(LOG_OPEN)
# Address space, not memory: pages come into being when they are first used, and low ones are used again.
BUFFER_BYTES = 256 * 1024 * 1024
# Less where the system limits either: a lane takes so much of the address space at most.
SHARE_OF_ADDRESSES = 64
_STEP = 64 * 1024  # a multiple of every system's pages
TIMES_AT = LOG_AT + LOG_BYTES
MOST_TIMES = 4096  # tasks in a batch
TIME_BYTES = 8
TO_PARENT_AT = TIMES_AT + 2 * MOST_TIMES * TIME_BYTES
TO_PARENT, TO_WORKER = 0, 1  # the two halves
STACK_BYTES = 64 * 1024
_RESERVE_STEP = 1024 * 1024

MASK = (1 << 64) - 1
HALF = 1 << 63
COUNT_BITS = 32
COUNT_MASK = (1 << COUNT_BITS) - 1
NO_SEGMENT = MASK  # in LOG_START, from the beginning of a lease to its first batch
HELD = 1 << 31  # in PROGRESS, above the length: the next outcome is finished, and is not in the stream
LENGTH_MASK = HELD - 1

# STATE of a worker.  Only the worker moves it.
#   LOADING   unpickles a batch         RUNNING   runs the first ticket that is not finished
#   HOLDING   has finished it, and has its outcome in no other place yet
#   GATED     waits; the outcome is in the stream             SENDING   has nothing that is not in the stream or sent
#   LEFT      was idle for too long, and reads no frame any more
STARTING, INITIALIZING, IDLE, LOADING, RUNNING, HOLDING, GATED, SENDING, LEFT = range(9)
STATE_NAMES = (
    "started",
    "initialized itself",
    "was idle",
    "loaded a batch",
    "ran a task",
    "held a result",
    "waited at the gate",
    "sent results",
    "left, as nobody needed it",
)
# The same, as users see them.
STATES = ("starting", "starting", "idle", "loading", "running", "packing", "gated", "packing", "idle")


def distance(first: int, last: int) -> int:
    """How far `last` is past `first`, where both wrap at 64 bits (serial number arithmetic, RFC 1982).

    >>> distance(5, 7), distance(7, 5), distance(MASK, 1)
    (2, -2, 2)
    """
    gap = (last - first) & MASK
    return gap if gap < HALF else gap - (MASK + 1)


def least_bytes(outcomes: list[Any]) -> int:
    """What outcomes of a stream take at least: text, packed ones, and what references stand for.

    >>> least_bytes([1, (b"v", 4096, 100, 20), "text", b"vpacked"])
    131
    """
    return sum(sum(o[2:]) if type(o) is tuple else len(o) for o in outcomes if type(o) in (tuple, str, bytes))


class LaneMemory:
    """The mapping, on either side."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size - TO_PARENT_AT - STACK_BYTES
        self.room = size // 2 // _STEP * _STEP  # of each half; the system may have rounded up the whole
        self.stack_at = TO_PARENT_AT + 2 * self.room
        self._map = mmap.mmap(fd, self.stack_at)
        self.bytes = memoryview(self._map)
        self.words = self.bytes[: WORDS * 8].cast("Q")
        half = MOST_TIMES * TIME_BYTES
        self.starts = self.bytes[TIMES_AT : TIMES_AT + half].cast("d")
        self.ends = self.bytes[TIMES_AT + half : TO_PARENT_AT].cast("d")

    @classmethod
    def create(cls) -> LaneMemory:
        """As large as it may be; without room for large buffers, if need be: then they go through the pipe."""
        room = _most_room()
        while True:
            try:
                return cls._create(room)
            except OSError:
                if not room:
                    raise
            room = room // 2 // _STEP * _STEP

    @classmethod
    def _create(cls, room: int) -> LaneMemory:
        # What is always used is reserved at once; without it there is no lane.
        fd = system.memory_file(TO_PARENT_AT + 2 * room + STACK_BYTES, TO_PARENT_AT)
        try:
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    def half_at(self, half: int) -> int:
        return TO_PARENT_AT + half * self.room

    def give_back(self, start: int, size: int) -> bool:
        """Have the system take these pages; False if it cannot.  They are zeros then, and must be reserved anew."""
        if not hasattr(mmap, "MADV_REMOVE"):
            return False
        first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + size) // mmap.PAGESIZE * mmap.PAGESIZE
        try:
            if first < end:
                self._map.madvise(mmap.MADV_REMOVE, first, end - first)
        except OSError:
            return False
        return True

    def keep_from_forks(self) -> None:
        """In a worker: what a task forks has no such mapping, if the system can do that."""
        if hasattr(mmap, "MADV_DONTFORK"):
            self._map.madvise(mmap.MADV_DONTFORK)

    def leave(self) -> None:
        """In a child that a task has forked: whoever touches the memory from now on raises ValueError."""
        for view in (self.words, self.bytes):
            with contextlib.suppress(BufferError):  # somebody looks at a part of it: then the mapping is not there
                view.release()

    def close(self) -> None:
        for view in (self.words, self.starts, self.ends):
            view.release()
        self.bytes.release()
        with contextlib.suppress(BufferError):  # somebody still looks at it; it goes with them
            self._map.close()
        os.close(self.fd)

    def read_stack(self) -> str:
        """What the worker has written there, if anything: see `_base.system.dump_stack_on_signal`."""
        return os.pread(self.fd, STACK_BYTES, self.stack_at).decode(errors="replace")

    def reset(self) -> None:
        """For a new lease.  While the worker is idle, by the parent.  RECALL only grows (see `_processes.recall`)."""
        for word in (LIMIT, HEAD, CREDIT_BACK, TAKEN):
            self.words[word] = 0

    def row(self, number: int) -> tuple[int, int]:
        """LOG_START and PROGRESS, if the worker is at batch `number`, as far as that shows; cheap."""
        words = self.words
        segment, progress = words[LOG_START], words[PROGRESS]
        return (segment, progress) if segment >> COUNT_BITS == number & COUNT_MASK else (0, 0)

    def begin_times(self, count: int, now: float) -> None:
        """In the worker: a batch of so many tasks begins."""
        self.bytes[TIMES_AT : TIMES_AT + count * TIME_BYTES] = bytes(count * TIME_BYTES)
        self.starts[0] = now

    def sent_times(self, start: int, stop: int) -> tuple[memoryview, memoryview]:
        """In the worker: starts and ends of the tasks from `start` to `stop`, for their frame."""
        if not self.starts[start]:
            self.starts[start] = self.ends[start - 1]
        begin, end, half = TIMES_AT + start * TIME_BYTES, TIMES_AT + stop * TIME_BYTES, MOST_TIMES * TIME_BYTES
        return self.bytes[begin:end], self.bytes[begin + half : end + half]

    def times(self, number: int, begin: int, stop: int) -> Times | None:
        """Of the tasks `begin` to `stop` of batch `number`, which is recorded and the last that the worker began."""
        times = Times(array("d", self.starts[begin:stop]), array("d", self.ends[begin:stop]))
        if begin < stop and not times.starts[0]:
            times.starts[0] = self.ends[begin - 1]
        system.settle()  # had the worker begun the next batch, which writes there, the word would say so
        return times if self.words[LOG_START] >> COUNT_BITS == number & COUNT_MASK else None

    def stream(self, number: int, row: tuple[int, int] | None = None) -> tuple[int, list[Any]] | None:
        """The finished outcomes of batch `number` that lie here: the index of the first, and the list.

        Sound when the worker is dead or stopped; and also while it runs, if `row` is one that an earlier look has seen
        (see `_processes.timers`): what it has changed meanwhile shows in the words, and then there is nothing to be
        had (it is on its way through the pipe).
        """
        words = self.words
        segment = words[LOG_START]
        if segment >> COUNT_BITS != number & COUNT_MASK:
            return None
        start = segment & COUNT_MASK
        progress = words[PROGRESS]
        done, length = progress >> COUNT_BITS, progress & LENGTH_MASK
        if done <= start or (row is not None and row != (segment, progress)):
            return None
        raw = bytes(self.bytes[LOG_AT : LOG_AT + length])
        if row is not None:
            system.settle()
        if words[LOG_START] != segment or words[PROGRESS] & LENGTH_MASK < length:
            return None
        outcomes = pickle.loads(raw + LOG_CLOSE)
        return start, outcomes


def _most_room() -> int:
    """How large each half may be."""
    addresses, file = system.memory_limits()
    room = BUFFER_BYTES
    if addresses is not None:
        room = min(room, addresses // SHARE_OF_ADDRESSES // 2)
    if file is not None:
        room = min(room, max(0, file - TO_PARENT_AT - STACK_BYTES) // 2)
    return room // _STEP * _STEP
