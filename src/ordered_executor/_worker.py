"""What runs in the child: one long call that takes batches until it is told to end.

    frames -> [batch] -> run a ticket -> pack -> stream in lane memory -> gate -> DONE frame -> next ticket
                                                      |
                                          read from there if this process dies

A finished outcome is in lane memory before the next task starts, so a crash costs only the task that runs.  `PROGRESS`
says how many tickets of the batch are finished, and with that which one runs.

Nothing here is kept in a function's globals: what a task is made of may bring globals of its own (see cloudpickle).
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

from . import _os, _wire
from ._gate import Gate
from ._lane_memory import (
    COUNT_BITS,
    COUNT_MASK,
    IDLE,
    INITIALIZING,
    LOADING,
    PROGRESS,
    RUNNING,
    SEGMENT,
    SENDING,
    STARTED,
    STATE,
    STREAM_AT,
    STREAM_BYTES,
    STREAM_CLOSE,
    STREAM_OPEN,
    TAKEN,
    TO_PARENT_AT,
    BufferRoom,
    LaneMemory,
    distance,
)
from ._payload import BASIC, LARGE_BYTES, PROTOCOL, Large, pack_error, pack_error_whole, pack_value

# A batch was sized to take a millisecond or two; past this, what has not started goes back, for others to run.
OVERRUN_SECONDS = 0.01


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


_attached: list[Any] = []


def attach(end: LaneEnd, initializer: bytes | None, initargs: tuple[Any, ...]) -> None:
    """The initializer that loky runs: from here on this process goes when its parent goes."""
    _os.die_with_parent(end.lifeline)
    _os.ignore_sigint_here()
    _attached[:] = [end, initializer, initargs]


def serve() -> None:
    """The one long call."""
    end, initializer, initargs = _attached
    worker = _Worker(end)
    if worker.initialize(initializer, initargs):
        worker.work()
    worker.close()


class _Worker:
    def __init__(self, end: LaneEnd) -> None:
        self._memory = LaneMemory(end.memory)
        self._words = self._memory.words
        self._frames = os.fdopen(end.read, "rb", buffering=1024 * 1024)
        self._out = end.write
        self._stash: deque[tuple[int, int, bytes]] = deque()
        self._lease = 0
        self._generation = 0
        self._room = BufferRoom(self._memory, TO_PARENT_AT)
        self._gate = Gate(self._memory, 0, self._ask, self._wait_for_open)
        self._number = 0

    def close(self) -> None:
        os.close(self._out)
        self._frames.close()

    # ----------------------------------------------------------------------------------------------- start and end

    def initialize(self, initializer: bytes | None, initargs: tuple[Any, ...]) -> bool:
        """Run the user's initializer; say READY, or why not."""
        self._words[STARTED] = time.monotonic_ns()
        self._words[STATE] = INITIALIZING
        if initializer is not None:
            try:
                pickle.loads(initializer)(*initargs)
            except BaseException as error:
                # the standard library's executor says the same, in the same place
                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
                self._send(_wire.INIT_FAILED, pack_error_whole(error))
                return False
        self._words[STARTED] = 0
        self._words[STATE] = IDLE
        self._send(_wire.READY, _wire.pack((os.getpid(),)))
        return True

    def work(self) -> None:
        """Take frames until END, or until the parent closes the pipe."""
        while True:
            frame = self._stash.popleft() if self._stash else _wire.read_frame(self._frames)
            if frame is None or frame[0] == _wire.END:
                return
            kind, lease, body = frame
            if kind == _wire.LEASE:
                self._take_lease(lease, *_wire.unpack(body))
            elif kind == _wire.BATCH:
                self._take_batch(*_wire.unpack(body))

    def _take_lease(self, lease: int, credit: int) -> None:
        self._lease = lease
        self._generation = 0
        self._room.forget()
        self._gate = Gate(self._memory, credit, self._ask, self._wait_for_open)
        self._words[PROGRESS] = 0
        self._words[SEGMENT] = COUNT_MASK << COUNT_BITS

    # ------------------------------------------------------------------------------------------------- one batch

    def _take_batch(
        self,
        generation: int,
        number: int,
        first: int,
        count: int,
        timed: bool,
        fns: list[bytes],
        many: Any,
        calls: list[Any],
    ) -> None:
        if generation != self._generation:
            return  # it was handed back, unseen
        words = self._words
        words[STATE] = LOADING
        self._number = number
        self._new_segment(0)
        if many is not None:
            try:
                step = self._steps_of_many(fns[0], many)
            except BaseException:
                # Together they cannot be loaded: have them sent one by one.
                self._hand_back(0, apart=True)
                return
        else:
            step = self._steps_of_calls(fns, calls)
        words[STATE] = RUNNING
        self._run(first, count, timed, step)
        words[STATE] = IDLE

    def _steps_of_many(self, fn_pickled: bytes, many: Any) -> Callable[[int], Any]:
        """Calls of one function, whose arguments came in one pickle."""
        fn = pickle.loads(fn_pickled)
        args = self._load(many)

        def step(index: int) -> Any:
            mine, args[index] = args[index], None  # gone when the task is done
            return fn(*mine)

        return step

    def _steps_of_calls(self, fns: list[bytes], calls: list[Any]) -> Callable[[int], Any]:
        """Calls that came each by itself.  Loaded just before they run, so that a bad one harms itself only."""
        loaded: dict[int, Any] = {}

        def step(index: int) -> Any:
            call = calls[index]
            if call is None:
                return None  # the parent has its outcome already; this keeps its place
            which, packed = call
            fn = loaded.get(which)
            if fn is None:
                fn = loaded[which] = pickle.loads(fns[which])
            args, kwargs = self._load(packed)
            calls[index] = call = packed = None
            return fn(*args, **kwargs)

        return step

    def _load(self, packed: Any) -> Any:
        if type(packed) is bytes:
            return pickle.loads(packed)
        head, buffers = packed
        memory = self._memory.bytes
        # A copy: the place is used again, and a view would be shared with whatever this process forks.
        found = [b if type(b) is bytes else bytearray(memory[b[0] : b[0] + b[1]]) for b in buffers]
        if not len(head):
            return pickle.loads(found[0])
        return pickle.loads(head, buffers=[bytearray(b) if type(b) is bytes else b for b in found])

    def _run(  # noqa: PLR0915 (the hot loop: a call costs more here than a long function)
        self, first: int, count: int, timed: bool, step: Callable[[int], Any]
    ) -> None:
        """Run the tickets one after the other.  The hot loop: about a microsecond a turn."""
        words, memory, gate = self._words, self._memory.bytes, self._gate
        dumps, basic, clock = pickle.dumps, BASIC, time.monotonic
        at = STREAM_AT + len(STREAM_OPEN)
        most = STREAM_AT + STREAM_BYTES
        start = 0  # the first outcome in the stream
        room, credit = gate.room(first)
        begun = flushed = clock()
        for index in range(count):
            if timed:
                words[STARTED] = time.monotonic_ns()
            try:
                outcome = step(index)
                if type(outcome) not in basic or (type(outcome) is str and len(outcome) > LARGE_BYTES // 4):
                    outcome = pack_value(outcome)
            except BaseException as error:
                outcome = pack_error(error)
            if timed:
                words[STARTED] = 0  # before PROGRESS moves: a start is never taken for that of the next task

            if type(outcome) is Large:
                now = clock()
                self._flush(start, index, at, now - flushed)
                self._new_segment(index)
                self._send_large(first + index, index, outcome, clock() - now)
                outcome = None
                self._new_segment(index + 1)
                words[STATE] = RUNNING
                start, at, flushed = index + 1, STREAM_AT + len(STREAM_OPEN), clock()
                room, credit = gate.room(first)
            else:
                pickled = dumps(outcome, PROTOCOL)
                end = at + len(pickled) - 1
                if end >= most:
                    self._flush(start, index, at, clock() - flushed)
                    self._new_segment(index)
                    start, at, flushed = index, STREAM_AT + len(STREAM_OPEN), clock()
                    end = at + len(pickled) - 1
                    room, credit = gate.room(first)
                memory[at:end] = pickled[:-1]
                words[PROGRESS] = (index + 1) << COUNT_BITS | (end - STREAM_AT)
                if index >= room or end - STREAM_AT > credit:
                    room, credit = gate.room(first)
                    if index >= room or end - STREAM_AT > credit:
                        # Not inside the window, or only just not: what is before it goes, and this one goes by itself.
                        now = clock()
                        self._flush(start, index, at, now - flushed)
                        size = end - at
                        gate.enter(first + index, size)
                        words[STATE] = RUNNING
                        gate.count(size)
                        self._send_done(index, 1, size, 0, STREAM_OPEN + pickled[:-1])
                        self._new_segment(index + 1)
                        start, end, flushed = index + 1, STREAM_AT + len(STREAM_OPEN), clock()
                        room, credit = gate.room(first)
                        begun += flushed - now  # waiting is not work
                at = end
            if index + 1 < count and clock() - begun > OVERRUN_SECONDS:
                self._flush(start, index + 1, at, clock() - flushed)
                self._hand_back(index + 1)
                return
        words[STATE] = SENDING
        self._flush(start, count, at, clock() - flushed)

    def _new_segment(self, index: int) -> None:
        """The stream begins again, with the outcome of `index`."""
        words = self._words
        words[PROGRESS] = 0
        words[SEGMENT] = (self._number & COUNT_MASK) << COUNT_BITS | index
        self._memory.bytes[STREAM_AT : STREAM_AT + len(STREAM_OPEN)] = STREAM_OPEN
        words[PROGRESS] = index << COUNT_BITS | len(STREAM_OPEN)

    # --------------------------------------------------------------------------------------------- sending home

    def _send(self, kind: int, *body: Any) -> None:
        length = sum(len(part) for part in body)
        _wire.write_all(self._out, [_wire.HEADER.pack(length, kind, self._lease), *body])

    def _flush(self, start: int, stop: int, at: int, seconds: float) -> None:
        """Send the outcomes of `start .. stop`, which have passed the gate and end at `at` in lane memory."""
        if stop <= start:
            return
        size = at - STREAM_AT
        self._gate.count(size)
        self._send_done(start, stop - start, size, int(seconds * 1e9), self._memory.bytes[STREAM_AT:at])

    def _send_done(self, start: int, count: int, size: int, nanoseconds: int, stream: Any) -> None:
        head = _wire.DONE_HEAD.pack(self._number & COUNT_MASK, start, count, size, nanoseconds)
        self._send(_wire.DONE, head, stream, STREAM_CLOSE)

    def _send_large(self, ticket: int, index: int, outcome: Large, seconds: float) -> None:
        """One outcome by itself: its buffers through lane memory, or behind the frame where there is no room."""
        size = outcome.size
        self._gate.enter(ticket, size)
        self._words[STATE] = SENDING
        self._gate.count(size)
        buffers = [memoryview(b).cast("B") for b in outcome.buffers]
        self._room.free(distance(self._room.freed, self._words[TAKEN]))
        total = sum(len(b) for b in buffers)
        place = self._room.take(total)
        if place is not None:
            memory, at = self._memory.bytes, place
            for buffer in buffers:
                memory[at : at + len(buffer)] = buffer
                at += len(buffer)
        lengths = [len(b) for b in buffers]
        body = _wire.pack(
            (self._number & COUNT_MASK, index, size, int(seconds * 1e9), bytes(outcome.head), place, lengths)
        )
        inline = [] if place is not None else buffers
        self._send(_wire.LARGE, len(body).to_bytes(8, "little"), body, *inline)

    def _hand_back(self, index: int, apart: bool = False) -> None:
        """What has not started of this batch, and every batch behind it, is not ours any more."""
        self._generation += 1
        self._send(_wire.RETURNED, _wire.pack((self._number & COUNT_MASK, index, apart)))
        self._words[STATE] = IDLE

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
