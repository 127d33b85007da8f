"""A lane as the parent holds it: one worker process and everything that belongs to it.

It owns the process, the two pipes, the lifeline and the memory.  It knows the batches that were sent to the worker, and
which of their parts are in shared memory.  It decides nothing: `_processes.backend` does.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker as standard_tracker
from multiprocessing.context import BaseContext
from typing import Any

from loky.backend import resource_tracker as lokys_tracker

from ordered_executor._base import loky_private, system
from ordered_executor._base.tasks import Batch
from ordered_executor._base.times import Times
from ordered_executor._channel import frames
from ordered_executor._channel.gate import Seat
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    CREDIT_BACK,
    GATED,
    HEAD,
    LEFT,
    LIMIT,
    LOG_START,
    MASK,
    PROGRESS,
    SINCE,
    STARTED,
    STATE,
    STATES,
    TAKEN,
    LaneMemory,
)
from ordered_executor._core.backend import ALL, Row
from ordered_executor._pickling.buffer_pool import buffer_pool
from ordered_executor._pickling.outcomes import KIND_BYTES
from ordered_executor._pickling.picklers import Buffer, Large
from ordered_executor._processes import recall
from ordered_executor._processes.alarms import NEVER
from ordered_executor._processes.recall import Row as Glance
from ordered_executor._processes.sent_batches import SentBatch, SentBatches
from ordered_executor._processes.worker import main as worker_main
from ordered_executor._script.initializer import Start

STARTING, SERVING, ENDING = range(3)
# After so long without work, memory goes back to the system; fresh memory costs several times what is done with it.
TRIM_SECONDS = 5.0
# How long a lane waits for another thread that forks, and that for the lane.
FORK_SECONDS = 1.0
# A batch of which nothing was heard for so long is looked at (`_processes.timers`): a slow task may withhold what is
# finished.
PEEK_SECONDS = 0.010
# A task is slow that takes so much longer than is typical.
LATE_SECONDS = 0.005


@dataclass(frozen=True)
class LaneKind:
    """What a worker is made with: lanes of one kind are interchangeable."""

    context: BaseContext | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    env: dict[str, str] | None


_leases = itertools.count(1)
_alive: weakref.WeakSet[Lane] = weakref.WeakSet()  # whose descriptors are open
_forking = threading.RLock()  # held by a thread that forks


@contextlib.contextmanager
def _unforked() -> Iterator[None]:
    """No other thread forks meanwhile: a child knows the descriptors of all lanes, and closes them.

    Waits for one that forks now, at most a second: there a signal handler may come that waits for us.  What is lost by
    that is no more than that such a child may keep this worker from noticing its parent's death.
    """
    lock = _forking
    got = lock.acquire(timeout=FORK_SECONDS)
    try:
        yield
    finally:
        if got:
            lock.release()


def _before_fork() -> None:
    _forking.acquire(timeout=FORK_SECONDS)


def _in_forking_parent() -> None:
    with contextlib.suppress(RuntimeError):  # it was not acquired: in time, or because Ctrl-C came
        _forking.release()


class Lane:
    """See the module."""

    # set by start()
    pid: int
    process: system.Process
    memory: LaneMemory
    sent_batches: SentBatches
    reader: frames.FrameReader
    writer: frames.FrameWriter
    reader_fd: int
    writer_fd: int
    _lifeline: int
    _child: Any  # as multiprocessing sees the process

    def __init__(self, kind: LaneKind) -> None:
        self.kind = kind
        self.state = STARTING
        self.lease = 0
        self.generation = 0  # guarded by: _recall.recalling
        self.heeds = False  # the barriers of this process
        self.last_row: Glance | None = None  # when its memory is closed
        self.writing = False
        self.seat = Seat()  # one of the executor's, for the time of a lease
        self.head = 0  # of the executor; behind, where the lane does not have it
        self.asks = (0, 0)
        self.started_at = time.monotonic()
        self.gated_at = 0.0  # since when it waits there
        self.gate_waits: deque[tuple[float, float]] = deque(maxlen=64)  # its last: from when, and until when
        self.pending_kill: Any = None
        self.kill_at: float | None = None
        self.orphans: list[int] = []  # processes that it had started when it was killed
        self.end_at: float | None = None  # when to look whether it has ended, if nothing says so
        self.gone_since: float | None = None  # how it ended is not known yet
        self.start_deadline: float | None = None
        self.trim_at: float | None = None  # when to look whether it has been idle for long
        self.heard = 0.0  # when something came from it last, or it was sent something to do
        self.peeked = 0.0
        self.peek_after = PEEK_SECONDS
        self.taken = 0
        self.alarm = NEVER  # see `_processes.alarms`
        self.opening: list[Any] = []  # frames that the worker waits for before its initializer runs
        self.slow = False  # the task that runs, when it was last looked at
        self.hurried = False  # that is worth a look
        self.after = 0  # how many lanes the executor had lost when this one was begun

    # ---------------------------------------------------------------------------------------------------- start, end

    @classmethod
    def start(cls, kind: LaneKind) -> Lane:
        """Start a worker.  Returns when its process runs; it says READY later."""
        lane = cls(kind)
        # theirs are closed here in any case, ours if there is no worker: there may be no descriptors left, half way
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            with _unforked():
                lane.memory = LaneMemory.create()
                ours.callback(lane.memory.close)
                to_worker_read, lane.writer_fd = system.roomy_pipe()
                theirs.callback(os.close, to_worker_read)
                ours.callback(os.close, lane.writer_fd)
                lane.reader_fd, to_parent_write = system.roomy_pipe()
                theirs.callback(os.close, to_parent_write)
                ours.callback(os.close, lane.reader_fd)
                lifeline, lane._lifeline = system.pipe()
                theirs.callback(os.close, lifeline)
                ours.callback(os.close, lane._lifeline)
                _alive.add(lane)
            ours.callback(_alive.discard, lane)  # before they are closed
            lane.sent_batches = SentBatches(lane.memory)
            end = worker_main.LaneEnd(to_worker_read, to_parent_write, lifeline, lane.memory.fd)
            start = None if kind.initializer is None else Start(kind.initializer, kind.initargs)
            _start_trackers()
            with system.sigint_blocked():
                args = end, multiprocessing.get_start_method(allow_none=True), start
                lane._child = loky_private.start(kind.context, kind.env, worker_main.serve, args)
            lane.pid = lane._child.pid
            ours.callback(os.kill, lane.pid, signal.SIGKILL)
            system.watchdog.watch(lane.pid)
            lane.process = system.Process(lane.pid, partial(getattr, lane._child, "exitcode"))
            if start is not None:
                definitions = lane.definitions_frame(lane.sent_batches.table.update(start.needs))
                lane.opening = [*definitions, lane.frame(frames.BEGIN)]
            ours.pop_all()
        lane.reader = frames.FrameReader(lane.reader_fd)
        lane.writer = frames.FrameWriter(lane.writer_fd)
        return lane

    def lives(self) -> bool:
        """Whether it takes batches: its process is there, and does not leave."""
        return not self.process.gone() and self.memory.words[STATE] != LEFT

    def ready(self, heeds: bool = False) -> None:
        """The worker has initialized itself, or failed to.  `heeds`: barriers hold in it, too."""
        self.heeds = heeds
        self.start_deadline = None
        if self.state == STARTING:
            self.state = SERVING

    def close(self) -> None:
        """The process is gone: let go of everything."""
        self.state = ENDING
        system.watchdog.forget(self.pid)
        _alive.discard(self)  # before its descriptors are another's
        for fd in (self.reader_fd, self.writer_fd, self._lifeline):
            os.close(fd)
        self.process.close()
        self.last_row = recall.read_row(self.memory)
        self.memory.close()
        self.sent_batches.table.close()
        if self._child.exitcode is not None:  # else a fork server has still to say how it ended
            self._child.close()
        del self._child

    def abandon(self) -> None:
        """In a forked child: close what would keep the parent's workers from noticing the parent's end."""
        for fd in (self.reader_fd, self.writer_fd, self._lifeline):
            os.close(fd)
        if hasattr(self, "process"):  # else it was forked while the lane was being started
            self.process.close()
        self.memory.close()

    # -------------------------------------------------------------------------------------------------------- a lease

    def begin_lease(self, seat: Seat, head: int, limit: int) -> None:
        """The lane is lent to an executor: nothing of the one before it may show."""
        self.lease = next(_leases) & 0xFFFFFFFF
        self.seat = seat
        self.taken = 0
        recall.next_generation(self)
        self.sent_batches.forget()
        self.memory.reset()
        self.open(head, limit)

    def open(self, head: int, limit: int) -> None:
        words = self.memory.words
        self.head = head
        words[LIMIT] = limit & MASK
        words[HEAD] = head & MASK

    def lease_frame(self, credit: int, levels: dict[str, int] | None) -> bytes:
        """`levels`: of this process's loggers, if what its tasks log is to come here."""
        seat = self.seat
        return self.frame(frames.LEASE, frames.pack((self.generation, credit, seat.unreleased, seat.number, levels)))

    def give_back(self, size: int) -> None:
        words = self.memory.words
        words[CREDIT_BACK] = (words[CREDIT_BACK] + size) & MASK

    # ------------------------------------------------------------------------------------- taking back, on any thread

    def recall(self) -> None:
        """See `_core.backend.Backend`, as of the next two."""
        recall.recall(self)

    def begun(self, number: int) -> int:
        row = self._row()
        return 0 if row is None else recall.begun(row, number)

    def settled(self, number: int, *, may_stop: bool = False) -> int:
        try:
            row = recall.settle(self.memory) if self.heeds else None
            if row is None and may_stop:
                # On the scheduler, which alone stops workers.
                row = self.process.look(lambda: recall.read_row(self.memory))
        except ValueError:  # nothing begins there any more
            row = self.last_row
        return ALL if row is None else recall.begun(row, number)

    def _row(self) -> Glance | None:
        try:
            return recall.read_row(self.memory)
        except ValueError:
            return self.last_row

    # -------------------------------------------------------------------------------------------------------- frames

    def frame(self, kind: int, body: bytes = b"") -> bytes:
        return frames.frame(kind, self.lease, body)

    def batch_frame(self, batch: Batch) -> list[bytes]:
        """The parts of a batch's frame.  What cannot be packed goes into `batch.failed`."""
        definitions, parts = self.sent_batches.pack(batch, self.generation)
        if len(self.sent_batches.sent) == 1:
            self.heard = time.monotonic()
        return [
            *self.definitions_frame(definitions),
            frames.HEADER.pack(sum(map(len, parts)), frames.BATCH, self.lease),
            *parts,
        ]

    def definitions_frame(self, parts: list[Any]) -> list[Any]:
        """The parts of a frame for what the worker has not yet of the script; none if it has all of it."""
        return [frames.HEADER.pack(sum(map(len, parts)), frames.DEFINE, self.lease), *parts] if parts else []

    def batch_done(self, number: int) -> None:
        """Everything of the batch is home."""
        self.sent_batches.done(number)
        self.heard = time.monotonic()
        self.trim_at = self.heard + TRIM_SECONDS

    def handed_back(self, number: int, start: int) -> None:
        """What the worker has not started of the batch, and those behind it, will be sent again, maybe elsewhere."""
        recall.next_generation(self)
        self.sent_batches.handed_back(number, start)

    def read_log(self, stream: bytes) -> list[Any]:
        outcomes: list[Any] = pickle.loads(stream)  # basic types, bytes, references: nothing of the user's runs here
        return outcomes

    def fetch(self, outcomes: list[Any], begin: int) -> list[Any]:
        """From index `begin` on, replace references into lane memory by copies of what lies there.

        Once for each, in the order in which the worker made them: it may use their room again.
        """
        for index in range(begin, len(outcomes)):
            outcome = outcomes[index]
            if type(outcome) is tuple:
                head, place, *lengths = outcome
                outcomes[index] = _copy_large(head, self.memory.bytes[place:], lengths)
                self.taken += 1
                system.fence()  # from here on the worker may write there
                self.memory.words[TAKEN] = self.taken
        return outcomes

    @staticmethod
    def read_large(body: memoryview) -> tuple[int, int, int, int, Times | None, Large]:
        """One outcome whose large buffers are behind its frame."""
        (number, index, size, nanoseconds, times, head, lengths), inline = frames.split(body)
        recorded = Times.read(times, 1) if times else None
        return number, index, size, nanoseconds, recorded, _copy_large(head, inline, lengths)

    # ---------------------------------------------------------------------------------------------- for those who look

    @property
    def number(self) -> int | None:
        """The worker's, for those who look."""
        return self.seat.number

    def passed(self) -> None:
        """It may pass the gate now; if it has waited there, that is remembered for traces."""
        if self.gated_at:
            self.gate_waits.append((self.gated_at, time.monotonic()))
            self.gated_at = 0.0

    def row(self, now: float, *, gated: bool) -> Row | None:
        """What the worker is doing.  From any thread; None if the lane is gone, or starts to go."""
        if self.state == ENDING:
            return None
        try:
            words = self.memory.words
            state, since = words[STATE], words[STARTED] or words[SINCE]
            segment, progress = words[LOG_START], words[PROGRESS]
        except (AttributeError, ValueError):  # there is no memory yet, or no more
            return None
        number, seconds = self.seat.number, max(0.0, now - since * 1e-9) if since else 0.0
        if self.state == STARTING or STATES[state] in ("starting", "idle"):
            return Row(self, number, self.pid, STATES[state], seconds)
        name = STATES[GATED if gated else state]  # a large outcome waits without a word
        index = (progress >> COUNT_BITS) - (state == GATED)  # its outcome is in the stream already
        return Row(self, number, self.pid, name, seconds, segment >> COUNT_BITS, index)

    # ------------------------------------------------------------------------------------------------------ the clock

    def has_head(self, sent: SentBatch) -> bool:
        """Before it has the head, nobody misses the outcomes of a batch; of a single one none is ever missed."""
        return sent.count > 1 and sent.first <= self.head < sent.first + sent.count

    def peek_at(self, current: SentBatch) -> float:
        """When to look how far the worker is: for finished outcomes of a batch that is not, or because it is slow."""
        if self.state != SERVING or not (self.hurried or self.has_head(current)):
            return NEVER
        return max(self.heard, self.peeked) + max(self.peek_after, current.typical + LATE_SECONDS)

    def timeout_at(self) -> float:
        """When a task will have run too long."""
        current = self.sent_batches.current
        return NEVER if current is None else self._timeout_of(current)

    def _timeout_of(self, current: SentBatch) -> float:
        return NEVER if current.look_at is None or self.pending_kill is not None else current.look_at

    def due(self) -> float:
        """When somebody should look at this lane next; never, mostly."""
        least = NEVER
        for at in (self.kill_at, self.end_at, self.trim_at, self.start_deadline):
            if at is not None and at < least:
                least = at
        current = self.sent_batches.current
        if current is not None:
            least = min(least, self.peek_at(current), self._timeout_of(current))
        return least


def kill(lanes: Iterable[Lane]) -> None:
    """Kill their workers, and what those have started."""
    lanes = [lane for lane in lanes if lane.process.signal(signal.SIGSTOP)]  # or they go on starting others
    orphans = system.descendants([lane.pid for lane in lanes]) if lanes else []
    for lane in lanes:
        lane.process.signal(signal.SIGKILL)
    system.kill_all(orphans)


def _copy_large(head: bytes, source: memoryview, lengths: list[int]) -> Large:
    """Copies: a view would be shared with forks, and pin the place."""
    copy: Callable[[memoryview], Buffer] = bytes if head == KIND_BYTES else buffer_pool.copy
    buffers, at = [], 0
    for length in lengths:
        buffers.append(copy(source[at : at + length]))
        at += length
    return Large(head, buffers)


def _start_trackers() -> None:
    """Start the two resource trackers before Ctrl-C is held back, or they would hold it back for ever."""
    standard_tracker.ensure_running()
    lokys_tracker.ensure_running()


def _in_forked_child() -> None:
    global _forking
    _forking = threading.RLock()
    for lane in list(_alive):
        _alive.discard(lane)
        lane.abandon()


os.register_at_fork(before=_before_fork, after_in_parent=_in_forking_parent, after_in_child=_in_forked_child)
