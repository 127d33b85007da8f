"""The workers: an `OrderedProcessPoolExecutor` that is sent pieces.

The end of a piece is told twice: by its worker over the pipe, at once (`telling`), and by the executor, in the order of
tickets.  The run goes on with the first; the second matters when a worker has died.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from concurrent.futures import CancelledError
from typing import Any

from ordered_executor import OrderedProcessPoolExecutor, ShutdownTimeoutError
from ordered_executor._base.system import default_workers

from . import worker
from .keeper import Keeper
from .options import Options
from .slots import PROGRAM, Slots
from .telling import Telling

# Seconds for programs to go by themselves, and for everything to be gone.
POLITE_SECONDS = 0.15
END_SECONDS = 0.6


class Task:
    """A piece on its way; the executor's future for it."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: Any = None


class Crew:
    """See the module.  Of the parent's main thread, but for `_ended`."""

    def __init__(self, options: Options) -> None:
        self.workers = options.workers or default_workers()
        self.slots = Slots.create(options.window_bytes, self.workers)
        self.telling = Telling()
        self.wake, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self.wake, False)
        self._dead: deque[tuple[Task | None, BaseException]] = deque()
        self._executor = OrderedProcessPoolExecutor(
            self.workers,
            initializer=worker.begin,
            initargs=(self.slots, self.telling, options.work, [os.getcwd()]),
            keep_results=False,
            unseen_errors="ignore",
            reuse=False,
        )
        self._keeper = Keeper(self.slots) if options.work.program and not options.work.dry_run else None
        self.ready = False  # there is a worker, and it has found the function
        self._submit(worker.ready, (), None)

    # --------------------------------------------------------------------------------------------------------- pieces

    def send(self, slot: int, begin: int, end: int, number: int) -> Task:
        """Have a worker run what is left of a piece."""
        task = Task()
        self._submit(worker.run_piece, (slot, begin, end, number), task)
        return task

    def _submit(self, function: Any, arguments: tuple[int, ...], task: Task | None) -> None:
        try:
            future = self._executor.submit(function, *arguments)
        except RuntimeError as error:  # the executor is broken
            self._dead.append((task, error))
            self._rouse()
            return
        if task is not None:
            task.future = future
        future.add_done_callback(lambda done: self._ended(done, task))

    def _ended(self, future: Any, task: Task | None) -> None:
        """On the executor's thread.  A future that has gone well says nothing new."""
        with contextlib.suppress(CancelledError):
            error = future.exception()
            if error is not None:
                self._dead.append((task, error))
            elif task is None:
                self.ready = True
            if error is not None or task is None:
                self._rouse()

    def _rouse(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then there are so many that one more says nothing new
            os.write(self._wake, b"!")

    def deaths(self) -> list[tuple[Task | None, BaseException]]:
        """Tasks that did not come to their end, and why; ask after what was told."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wake, 4096):
                pass
        return [self._dead.popleft() for _ in range(len(self._dead))]

    # ------------------------------------------------------------------------------------------------------------ end

    def kill(self, task: Task) -> None:
        """Stop a task, and what it has started: its worker dies."""
        if task.future is not None:
            task.future.kill()

    def kill_program(self, slot: int, number: int = signal.SIGKILL) -> bool:
        """Signal the program that runs for a slot, with all that it has started; whether there was any."""
        process = self.slots.get(slot, PROGRAM)
        if not process:
            return False
        with contextlib.suppress(OSError):
            os.killpg(process, number)
        return True

    def finish(self) -> None:
        """All is done: the workers go."""
        self._executor.shutdown(wait=False)
        self._wait()

    def stop(self) -> None:
        """Nothing more begins, and what runs ends: programs by SIGTERM, then everything by SIGKILL."""
        self.slots.stop()
        slots = range(self.slots.count)
        if sum(self.kill_program(slot, signal.SIGTERM) for slot in slots):
            until = time.monotonic() + POLITE_SECONDS
            while time.monotonic() < until and any(self.slots.get(slot, PROGRAM) for slot in slots):
                time.sleep(0.005)  # nobody tells when the last of them is gone
        self._executor.shutdown(wait=False, cancel_futures=True, kill_workers=True)
        self._wait()
        for slot in slots:
            self.kill_program(slot)
            self.slots.set(slot, PROGRAM, 0)  # whoever kills later does not know whether it is still the same

    def _wait(self) -> None:
        with contextlib.suppress(ShutdownTimeoutError):  # they go with this process, which ends now
            self._executor.shutdown(timeout=END_SECONDS, cancel_futures=True, kill_workers=True)
