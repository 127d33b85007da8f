"""The main loop of the child: it takes frames until it is told to end, and obeys them.

    frames -> LEASE, DEFINE, BATCH, TRIM, IDLE, END
                             |
                             v
                     `runner`: runs the batch, sends its outcomes

Nothing here is kept in a function's globals: the parts of a task may bring globals of their own (see cloudpickle).
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import pickle
import time
from collections import deque
from multiprocessing.reduction import DupFd
from typing import Any

from ordered_executor._base import exit_hook, loky_private, system
from ordered_executor._channel import frames
from ordered_executor._channel.shared_memory import (
    IDLE,
    INITIALIZING,
    LEFT,
    STARTED,
    STATE,
    LaneMemory,
)
from ordered_executor._pickling import outcomes
from ordered_executor._pickling.buffer_pool import buffer_pool
from ordered_executor._pickling.outcomes import pack_error_whole
from ordered_executor._processes.worker.outbox import Outbox
from ordered_executor._processes.worker.runner import Runner
from ordered_executor._processes.worker.witness import Witness
from ordered_executor._script import home as worker_home
from ordered_executor._script.at_home import AtHome

# An idle worker that nobody has keeps its memory warm so long.
TRIM_SECONDS = 1.0


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
    system.die_with_parent(end.lifeline)
    system.ignore_sigint_here()
    system.keep_freed_memory()
    system.read_nothing()
    # Whoever was made this way would start others this way: loky's processes know no functions of the script.
    multiprocessing.set_start_method(start_method, force=True)
    loky_private.begin_worker(depth)
    worker_home.settle()
    outcomes.refer_in_outcomes(AtHome())
    worker = _Worker(end)
    os.register_at_fork(after_in_child=worker.in_forked_child)
    pid = os.getpid()
    try:
        if worker.initialize(start):
            # after the initializer, which may close what it does not know
            system.dump_stack_on_signal(end.memory, worker.stack_at)
            worker.work()
    finally:
        if os.getpid() != pid:
            os._exit(1)  # a child that a task has forked, and that came back from the task
    exit_hook.end_nested()
    loky_private.end_worker()
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
        self._stash: deque[tuple[int, int, frames.Body]] = deque()
        self._runner = Runner(self._memory, self._outbox, self._witness, self._wait_for_open)

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
                worker_home.why_lacking(error)
                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
                self._send(frames.INIT_FAILED, frames.pack((pack_error_whole(error),)))
                return False
        self._words[STARTED] = 0
        self._runner.enter(IDLE)
        self._send(frames.READY, frames.pack((system.heed_barriers(),)))
        return True

    def _take_definitions(self) -> None:
        """What the initializer needs of the script; the parent sends it, and BEGIN, as soon as the process runs."""
        while True:
            frame = frames.read_frame(self._frames)
            if frame is None:
                os._exit(1)  # the parent closed the lane
            if frame[0] == frames.BEGIN:
                return
            worker_home.apply(frame[2])

    def work(self) -> None:
        """Take frames until END, or until the parent closes the pipe."""
        while self._take_frame():
            pass  # and nothing of a frame is kept while the next is waited for

    def _take_frame(self) -> bool:
        frame = self._stash.popleft() if self._stash else frames.read_frame(self._frames)
        if frame is None or frame[0] == frames.END:
            return False
        kind, lease, body = frame
        if kind == frames.LEASE:
            self._take_lease(lease, *frames.unpack(body))
        elif kind == frames.DEFINE:  # also before a batch that was handed back: the parent takes it as done
            self._runner.enter(INITIALIZING)
            worker_home.apply(body)
            self._runner.enter(IDLE)
        elif kind == frames.BATCH:
            batch, inline = frames.split(body)
            self._runner.take_batch(inline, *batch)
        elif kind == frames.TRIM:
            self._give_back_memory()
        elif kind == frames.IDLE:
            return self._lie_idle(*frames.unpack(body))
        return True

    def _give_back_memory(self) -> None:
        """There is nothing to do for a while: what tasks have used is the system's again."""
        self._runner.give_back_room()
        buffer_pool.trim()
        system.give_back_freed_memory()

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
            return bool(self._frames.peek(1)) or system.can_be_read(fd, seconds)
        finally:
            os.set_blocking(fd, True)

    def _take_lease(self, lease: int, generation: int, credit: int, unreleased: int, *witnessed: Any) -> None:
        self._outbox.lease = lease
        self._witness.begin_lease(*witnessed)
        self._runner.begin_lease(generation, credit, unreleased)

    def _wait_for_open(self) -> None:
        """Read frames until OPEN; what else comes is for later (a batch has later tickets than the one gated)."""
        while True:
            frame = frames.read_frame(self._frames)
            if frame is None:
                os._exit(1)  # the parent closed the lane: nobody will ever open the gate
            if frame[0] == frames.OPEN:
                return
            self._stash.append(frame)
