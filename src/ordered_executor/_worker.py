"""What runs in the child: one long call that takes batches until it is told to end.

    frames -> [batch] -> run a ticket -> pack -> stream in lane memory -> gate -> DONE frame -> next ticket
                                                      |
                                          read from there if this process dies

A finished outcome is in lane memory before the next task starts, so a crash costs only the task that runs.  `PROGRESS`
says how many tickets of the batch are finished, and with that which one runs.

Before each start it looks whether it was recalled (see `_recall`).  Then it begins nothing more: it sends what is
finished, hands back the rest, and drops unseen what else it is sent before the parent hears of that.  Invariant: when
it looks, `STATE` and `PROGRESS` say already that the task runs.

Nothing here is kept in a function's globals: what a task is made of may bring globals of its own (see cloudpickle).
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import pickle
import struct
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

from . import _exit, _home, _loky, _os, _payload, _wire
from ._gate import Gate
from ._lane_memory import (
    COUNT_BITS,
    COUNT_MASK,
    EMPTY_STREAM_AT,
    FLOOR,
    GATED,
    HELD,
    HOLDING,
    IDLE,
    INITIALIZING,
    LEFT,
    LOADING,
    NO_SEGMENT,
    PROGRESS,
    RECALL,
    RUNNING,
    SEGMENT,
    SENDING,
    SINCE,
    STARTED,
    STATE,
    STREAM_AT,
    STREAM_BYTES,
    STREAM_CLOSE,
    STREAM_OPEN,
    TAKEN,
    TO_PARENT,
    BufferRoom,
    LaneMemory,
    distance,
)
from ._loading import Loader
from ._outbox import Outbox
from ._payload import BASIC, LARGE_BYTES, PROTOCOL, Large, pack_error_whole, pack_value
from ._warm import warm
from ._witness import Witness

# A batch may take twice what it was sized to take, at least this; then what has not started goes back, for others.
OVERRUN_SECONDS = 0.014

# An idle worker that nobody has keeps its memory warm so long.
TRIM_SECONDS = 1.0

# Copies are fastest between whole cache lines.
ALIGNMENT = 64
# What it takes at most to say where one buffer is.
REFERENCE_BYTES = 32

NUMBERS = frozenset({int, float, bool})  # pickles of a few bytes
SHORT_TEXT = LARGE_BYTES // 4
PACKED_NONE = pack_value(None)  # an outcome that is held back must not look like none
ONE_MORE = 1 << COUNT_BITS  # what PROGRESS grows by, besides the length of a pickle
NONE_OPCODE, NONE_STEP = pickle.NONE[0], ONE_MORE + 1
INT_OPCODE, INT_LIMIT = pickle.BININT[0], 1 << 31
INT_SIZE = struct.calcsize("<Bi")
INT_STEP = ONE_MORE + INT_SIZE
write_int = struct.Struct("<Bi").pack_into


def pack_error(error: BaseException) -> bytes | Large:
    """Pack what a task raised."""
    if isinstance(error, NameError):
        _home.why_lacking(error)
    return _payload.pack_error(error)


class LaneEnd:
    """The worker's descriptors of a lane.  Picklable while a process is being spawned, and only then."""

    def __init__(self, read: int, write: int, lifeline: int, memory: int) -> None:
        self.read, self.write, self.lifeline, self.memory = read, write, lifeline, memory

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(DupFd(fd) for fd in (self.read, self.write, self.lifeline, self.memory))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.read, self.write, self.lifeline, self.memory = (dup.detach() for dup in state)
        for fd in (self.read, self.write, self.lifeline, self.memory):
            os.set_inheritable(fd, False)


def serve(depth: int, end: LaneEnd, start_method: str | None, start: bytes | None) -> None:
    """All that the process does.  `start_method`: the program's own for multiprocessing, if it has set one."""
    _os.die_with_parent(end.lifeline)
    _os.ignore_sigint_here()
    _os.keep_freed_memory()
    _os.read_nothing()
    # Whoever was made this way would start others this way: loky's processes know no functions of the script.
    multiprocessing.set_start_method(start_method, force=True)
    _loky.begin_worker(depth)
    _home.settle()
    _payload.refer_in_outcomes(_home.AtHome())
    worker = _Worker(end)
    os.register_at_fork(after_in_child=worker.in_forked_child)
    pid = os.getpid()
    try:
        if worker.initialize(start):
            # after the initializer, which may close what it does not know
            _os.dump_stack_on_signal(end.memory, worker.stack_at)
            worker.work()
    finally:
        if os.getpid() != pid:
            os._exit(1)  # a child that a task has forked, and that came back from the task
    _exit.end_nested()
    _loky.end_worker()
    worker.close()


class _Worker:
    def __init__(self, end: LaneEnd) -> None:
        self._memory = LaneMemory(end.memory)
        self._memory.keep_from_forks()
        self.stack_at = self._memory.stack_at
        self._words = self._memory.words
        self._frames: io.BufferedReader = os.fdopen(end.read, "rb", buffering=1024 * 1024)  # type: ignore[assignment]
        self._outbox = Outbox(end.write)
        self._send = self._outbox.send
        self._witness = Witness(self._memory, self._outbox)
        self._stash: deque[tuple[int, int, _wire.Body]] = deque()
        self._generation = 0
        self._room = BufferRoom(self._memory, TO_PARENT)
        self._gate = Gate(self._memory, 0, 0, self._ask, self._wait_for_open)
        self._loader = Loader(self._memory)
        self._number, self._recorded = 0, False  # of the batch that runs, and whether the times of its tasks are
        self._start = 0  # the index of the first outcome in the stream
        self._at = EMPTY_STREAM_AT  # where the next goes
        self._placed = self._placed_bytes = 0  # how many there have buffers elsewhere in lane memory, and their bytes
        self._flushed = 0.0  # when something was last sent, or had waited: work is counted from here

    def close(self) -> None:
        os.close(self._outbox.fd)
        self._frames.close()

    def in_forked_child(self) -> None:
        """A child that a task forks has nothing of the lane: it must neither keep its pipe open nor go on as its twin.

        Without the memory it raises at its first step here.  One that ends or runs another program never gets there.
        """
        self._memory.leave()
        with contextlib.suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in (self._outbox.fd, self._frames.fileno()):
                os.dup2(nothing, fd, inheritable=False)  # and not closed: their numbers stay taken
            os.close(nothing)

    # ----------------------------------------------------------------------------------------------- start and end

    def initialize(self, start: bytes | None) -> bool:
        """Run the user's initializer; say READY, or why not."""
        self._words[STARTED] = time.monotonic_ns()
        self._words[STATE] = INITIALIZING
        if start is not None:
            try:
                self._take_definitions()
                initializer, initargs = pickle.loads(start)
                initializer(*initargs)
            except BaseException as error:
                # the standard library's executor says the same, in the same place
                _home.why_lacking(error)
                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
                self._send(_wire.INIT_FAILED, _wire.pack((pack_error_whole(error),)))
                return False
        self._words[STARTED] = 0
        self._enter(IDLE)
        self._send(_wire.READY, _wire.pack((_os.heed_barriers(),)))
        return True

    def _take_definitions(self) -> None:
        """What the initializer needs of the script; the parent sends it, and BEGIN, as soon as the process runs."""
        while True:
            frame = _wire.read_frame(self._frames)
            if frame is None:
                os._exit(1)  # the parent closed the lane
            if frame[0] == _wire.BEGIN:
                return
            _home.apply(frame[2])

    def work(self) -> None:
        """Take frames until END, or until the parent closes the pipe."""
        while self._take_frame():
            pass  # and nothing of a frame is kept while the next is waited for

    def _take_frame(self) -> bool:
        frame = self._stash.popleft() if self._stash else _wire.read_frame(self._frames)
        if frame is None or frame[0] == _wire.END:
            return False
        kind, lease, body = frame
        if kind == _wire.LEASE:
            self._take_lease(lease, *_wire.unpack(body))
        elif kind == _wire.DEFINE:  # also before a batch that was handed back: the parent takes it as done
            self._enter(INITIALIZING)
            _home.apply(body)
            self._enter(IDLE)
        elif kind == _wire.BATCH:
            batch, inline = _wire.split(body)
            self._take_batch(inline, *batch)
        elif kind == _wire.TRIM:
            self._give_back_memory()
        elif kind == _wire.IDLE:
            return self._lie_idle(*_wire.unpack(body))
        return True

    def _give_back_memory(self) -> None:
        """There is nothing to do for a while: what tasks have used is the system's again."""
        self._room.free(distance(self._room.freed, self._words[TAKEN]))
        self._room.give_back()
        warm.trim()
        _os.give_back_freed_memory()

    def _lie_idle(self, seconds: float | None) -> bool:
        """Nobody has this worker: wait for the next frame, at most so long.  False if it is time to leave.

        The parent needs no thread for that, and loses nothing if it sends something at that very moment: LEFT says that
        no frame was read any more.
        """
        soon = TRIM_SECONDS if seconds is None else min(seconds, TRIM_SECONDS)
        if self._hear_within(soon):
            return True
        self._give_back_memory()
        if self._hear_within(None if seconds is None else seconds - soon):
            return True
        self._words[STATE] = LEFT
        return False

    def _hear_within(self, seconds: float | None) -> bool:
        """Whether a frame comes, or the end of the pipe."""
        fd = self._frames.fileno()
        os.set_blocking(fd, False)
        try:
            return bool(self._frames.peek(1)) or _os.can_be_read(fd, seconds)
        finally:
            os.set_blocking(fd, True)

    def _take_lease(self, lease: int, generation: int, credit: int, unreleased: int, *witnessed: Any) -> None:
        self._outbox.lease = lease
        self._witness.begin_lease(*witnessed)
        self._generation = generation
        self._room.forget()
        self._gate = Gate(self._memory, credit, unreleased, self._ask, self._wait_for_open)
        self._words[PROGRESS] = 0
        self._words[SEGMENT] = NO_SEGMENT

    # ------------------------------------------------------------------------------------------------- one batch

    def _take_batch(
        self,
        inline: memoryview,
        generation: int,
        number: int,
        first: int,
        count: int,
        seconds: float,
        timed: bool,
        recorded: bool,
        losses: dict[int, int],
        fns: list[Any],
        single: bool,
        many: Any,
        calls: list[Any],
    ) -> None:
        if generation != self._generation:
            return  # it was handed back, unseen
        self._number, self._recorded = number, recorded
        self._witness.begin_batch(first, losses)
        if self._recalled():
            self._hand_back(0)
            return
        self._enter(LOADING)
        self._new_segment(0)
        try:
            step = self._loader.steps(fns, single, many, calls, inline)
        except BaseException:
            # Together they cannot be loaded: have them sent one by one.
            self._hand_back(0, apart=True)
            return
        self._enter(RUNNING)
        self._run(first, count, max(OVERRUN_SECONDS, 2 * seconds), self._timed(step) if timed else step)
        self._enter(IDLE)

    def _timed(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """The same, and the time of each start in lane memory."""
        words, clock = self._words, time.monotonic_ns

        def timed() -> Any:
            words[STARTED] = clock()
            try:
                return step()
            finally:
                words[STARTED] = 0  # before PROGRESS moves: a start is never taken for that of the next task

        return timed

    def _run(self, first: int, count: int, budget: float, step: Callable[[], Any]) -> None:
        """Run the tickets one after the other: plain sailing in `_sail`, and here what needs more care."""
        clock, recorded, memory = time.monotonic, self._recorded, self._memory
        self._flushed = clock()
        index, until = 0, self._flushed + budget
        if recorded:
            memory.begin_times(count, self._flushed)
        while index < count:
            passing, credit = self._gate.room(first)
            most = STREAM_AT + credit - self._placed_bytes
            index, held = self._sail(index, max(index, min(count, passing)), most, step, until)
            if held is None and index < count and clock() <= until and not self._recalled():
                held = self._outcome(step)  # outside the window, as things were
            if held is not None:
                self._hold()
                if recorded:
                    memory.ends[index] = clock()
                if type(held) is not Large or index >= passing or not self._add_large(index, held, most):
                    waited = clock()
                    self._flush(index, held=True)  # what is before it goes; then it goes by itself
                    self._send_held(first + index, index, held)
                    until += clock() - waited  # waiting is not work
                index += 1
                if recorded and index < count:
                    memory.starts[index] = clock()
                self._enter(RUNNING)
            if clock() > until or self._recalled():
                break
        self._enter(SENDING)
        self._flush(index)
        self._loader.last_arguments = None
        if index < count:
            self._hand_back(index)

    def _recalled(self) -> bool:
        """Whether nothing more is to be begun of what is here."""
        return self._words[RECALL] > self._generation

    def _enter(self, state: int) -> None:
        """Change the state, and say when: for those who look.  Not for each of many short tasks."""
        self._words[STATE] = state
        self._words[SINCE] = time.monotonic_ns()

    @staticmethod
    def _outcome(step: Callable[[], Any]) -> Any:
        """Run one ticket; its value if that is of a basic type, else packed."""
        try:
            value = step()
            if type(value) in BASIC and (type(value) is not str or len(value) < SHORT_TEXT):
                return value if value is not None else PACKED_NONE
            return pack_value(value)
        except BaseException as error:
            return pack_error(error)

    def _sail(self, index: int, stop: int, most: int, step: Callable[[], Any], until: float) -> tuple[int, Any]:
        """Run tickets from `index` to `stop` as long as their outcomes go into the stream unhindered.

        They all pass the gate, if the stream does not grow beyond `most`.  Returns the index it stopped at, and that
        ticket's outcome if it was run and is held back: `None` if all before the index are in the stream.

        The hot loop, a fifth of a microsecond a turn.  So None and a small int are written as the opcode and number
        that pickle would write, which is three times as fast.
        """
        words, memory, dumps, clock = self._words, self._memory.bytes, pickle.dumps, time.monotonic
        recall, generation = RECALL, self._generation
        ends, recorded = self._memory.ends, self._recorded
        at, most = self._at, min(most, STREAM_AT + STREAM_BYTES)
        progress = index << COUNT_BITS | (at - STREAM_AT)
        for index in range(index, stop):  # noqa: B020, PLR1704 (it goes on from where it was)
            if words[recall] > generation:
                self._at = at
                return index, None
            try:
                outcome = step()
                if (
                    outcome is not None
                    and type(outcome) not in NUMBERS
                    and (type(outcome) is not str or len(outcome) > SHORT_TEXT)
                ):
                    outcome = pack_value(outcome)
            except BaseException as error:
                outcome = pack_error(error)
            if outcome is None and at < most:
                memory[at] = NONE_OPCODE
                at += 1
                progress += NONE_STEP
            elif type(outcome) is int and -INT_LIMIT <= outcome < INT_LIMIT and at + INT_SIZE <= most:
                write_int(memory, at, INT_OPCODE, outcome)
                at += INT_SIZE
                progress += INT_STEP
            elif type(outcome) is Large or at + len(pickled := dumps(outcome)) > most:
                self._at = at
                return index, PACKED_NONE if outcome is None else outcome
            else:
                size = len(pickled) - 1  # the stop code is overwritten by what comes next
                memory[at : at + size + 1] = pickled
                at += size
                progress += ONE_MORE + size
            now = clock()
            if recorded:
                ends[index] = now
            words[PROGRESS] = progress
            if now > until:
                self._at = at
                return index + 1, None
        self._at = at
        return stop, None

    def _hold(self) -> None:
        """The ticket that ran is finished, and its outcome is not in the stream."""
        self._words[PROGRESS] |= HELD
        self._enter(HOLDING)

    def _append(self, index: int, pickled: bytes) -> None:
        """Put the outcome of `index` into the stream: it is held no more."""
        end = self._at + len(pickled)
        self._memory.bytes[self._at : end] = pickled
        self._at = end - 1  # the stop code is overwritten by what comes next
        self._words[PROGRESS] = (index + 1) << COUNT_BITS | self._at - STREAM_AT

    def _new_segment(self, index: int, held: bool = False) -> None:
        """The stream begins again, with the outcome of `index`."""
        words, segment = self._words, (self._number & COUNT_MASK) << COUNT_BITS | index
        words[FLOOR] = segment
        words[PROGRESS] = 0
        words[SEGMENT] = segment
        self._memory.bytes[STREAM_AT:EMPTY_STREAM_AT] = STREAM_OPEN
        words[PROGRESS] = index << COUNT_BITS | len(STREAM_OPEN) | (HELD if held else 0)
        self._start, self._at = index, EMPTY_STREAM_AT
        self._placed = self._placed_bytes = 0

    # --------------------------------------------------------------------------------------------- large outcomes

    def _add_large(self, index: int, outcome: Large, most: int) -> bool:
        """Put an outcome that passes the gate into the stream, with its buffers elsewhere; False if it does not fit."""
        if self._at + outcome.size > most:
            return False
        reference = self._place(outcome)
        if reference is None:
            return False
        self._append(index, reference)
        return True

    def _place(self, outcome: Large) -> bytes | None:
        """Copy the buffers into lane memory; the pickle of where they are, or None if there is no room."""
        lengths = [len(buffer) for buffer in outcome.buffers]
        if self._at + len(outcome.head) + REFERENCE_BYTES * (1 + len(lengths)) > STREAM_AT + STREAM_BYTES:
            return None
        self._room.free(distance(self._room.freed, self._words[TAKEN]))
        total = sum(lengths)
        place = self._room.take(total // ALIGNMENT * ALIGNMENT + ALIGNMENT)
        if place is None:
            return None
        memory, at = self._memory.bytes, place
        for buffer in outcome.buffers:
            memory[at : at + len(buffer)] = buffer
            at += len(buffer)
        self._placed += 1
        self._placed_bytes += total
        return pickle.dumps((bytes(outcome.head), place, *lengths), PROTOCOL)

    # --------------------------------------------------------------------------------------------- sending home

    def _flush(self, stop: int, held: bool = False) -> None:
        """Send what is in the stream, the outcomes up to `stop`, which have passed the gate, and begin it anew."""
        if stop > self._start:
            now = time.monotonic()
            size = self._at - STREAM_AT + self._placed_bytes
            self._send_stream(stop, size, now - self._flushed, self._memory.bytes[STREAM_AT : self._at])
            self._flushed = now
        self._new_segment(stop, held)

    def _send_held(self, ticket: int, index: int, outcome: Any) -> None:
        """Wait at the gate with one outcome, and send it.  The stream is empty.

        The outcome is put there for the wait: if this process dies, it is read from there.
        """
        pickled = self._place(outcome) if type(outcome) is Large else pickle.dumps(outcome, PROTOCOL)
        if pickled is None:
            self._send_inline(ticket, index, outcome)
            return
        if len(pickled) <= STREAM_BYTES - len(STREAM_OPEN):
            self._append(index, pickled)
            self._enter(GATED)
        size = len(STREAM_OPEN) + len(pickled) - 1 + self._placed_bytes
        seconds = time.monotonic() - self._flushed
        self._gate.enter(ticket, size)
        self._send_stream(index + 1, size, seconds, STREAM_OPEN + pickled[:-1])
        self._words[STATE] = SENDING  # nothing is held any more
        self._flushed = time.monotonic()
        self._new_segment(index + 1)

    def _send_stream(self, stop: int, size: int, seconds: float, stream: Any) -> None:
        """Send the outcomes from the first in the stream up to `stop`: they have passed the gate."""
        self._gate.count(size)
        count, times = stop - self._start, self._memory.sent_times(self._start, stop) if self._recorded else ()
        nanoseconds, bytes_of_times = int(seconds * 1e9), sum(map(len, times))
        head = _wire.DONE_HEAD.pack(self._number, self._start, count, self._placed, size, nanoseconds, bytes_of_times)
        self._send(_wire.DONE, head, *times, stream, STREAM_CLOSE)

    def _send_inline(self, ticket: int, index: int, outcome: Large) -> None:
        """One outcome that finds no room in lane memory: its buffers behind its frame."""
        nanoseconds = int((time.monotonic() - self._flushed) * 1e9)
        size = outcome.size
        self._gate.enter(ticket, size)
        self._gate.count(size)
        lengths = [len(buffer) for buffer in outcome.buffers]
        times = b"".join(self._memory.sent_times(index, index + 1)) if self._recorded else b""
        body = _wire.pack((self._number, index, size, nanoseconds, times, bytes(outcome.head), lengths))
        self._send(_wire.LARGE, _wire.LENGTH.pack(len(body)), body, *outcome.buffers)
        self._words[STATE] = SENDING  # nothing is held any more
        self._flushed = time.monotonic()
        self._new_segment(index + 1)

    def _hand_back(self, index: int, apart: bool = False) -> None:
        """What has not started of this batch, and every batch behind it, is not ours any more."""
        recalled = self._recalled()
        self._generation += 1
        self._send(_wire.RETURNED, _wire.pack((self._number, index, apart, recalled)))
        self._enter(IDLE)

    # ------------------------------------------------------------------------------------------------- the gate

    def _ask(self, ticket: int, size: int) -> None:
        self._send(_wire.ASK, _wire.pack((ticket, size)))

    def _wait_for_open(self) -> None:
        """Read frames until OPEN; what else comes is for later (a batch has later tickets than the one gated)."""
        while True:
            frame = _wire.read_frame(self._frames)
            if frame is None:
                os._exit(1)  # the parent closed the lane: nobody will ever open the gate
            if frame[0] == _wire.OPEN:
                return
            self._stash.append(frame)
