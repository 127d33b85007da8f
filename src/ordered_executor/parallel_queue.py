"""Queues whose tasks run in parallel: `put` tasks, `get` results, in the same order.

    producer threads             worker processes           consumer threads
    put(index, "a.txt")    -->   index("a.txt")  --.
    put(index, "b.txt")    -->   index("b.txt")  --+-->     get() -> what index("a.txt") returned
    put(BatchDone(2))      ------------------------'        get() -> what index("b.txt") returned
                                                            get() -> BatchDone(2)

The API of the package parallel-queue, on `OrderedProcessPoolExecutor`, which does the ordering and owns the processes.
This file adds what a queue has and an executor has not: a bound with a time limit in `put`, `queue.Full` and
`queue.Empty`, an end that both sides are told of, and what happens when nobody says that it is the end.

Guarantees: results come in the order of `put`; no more than the bound is put and not yet got; every method may be called
from any thread.

Invariant: `_puts - _outcomes.position <= bound`, position being how many outcomes the stream has delivered.

Who ends a wait in `put`: `get` (after each outcome taken), `stop`, and the exit of the interpreter.  In `get`: the
executor, whose stream ends after `stop`.

The exit of the interpreter.  Like every executor, a queue ends when the main thread does: that is the moment at which
`threading._register_atexit` has hooks run, last in, first out.  Ours must run before the executor's, which waits for
what was put, so it is registered (again) once that one is.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NoReturn

from . import _exit, _os
from ._check import check_callable, check_count, check_flag, check_seconds
from ._errors import RemoteError, RemoteTraceback, ResultsTimeoutError
from ._queue_worker import Inherited, begin, call
from .process_pool import OrderedProcessPoolExecutor

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """The queue has ended.  On Python 3.13 and later this is `queue.ShutDown`."""


__all__ = ["ParallelQueue", "ParallelSingleTaskQueue", "ShutDown"]


class _Queue:
    """What both kinds have in common: everything but how a task is put."""

    def __init__(
        self,
        task: Callable[..., Any] | None,
        num_workers: int | None,
        daemon: bool,
        in_q_max: int,
        out_q_max: int,
        worker_q_max: int,
        worker_init_f: Callable[[], object] | None,
        consumer_buffer_max: int | None,
    ) -> None:
        check_count("num_workers", num_workers, 1, optional=True)
        check_flag("daemon", daemon)
        for name, most in (("in_q_max", in_q_max), ("out_q_max", out_q_max), ("worker_q_max", worker_q_max)):
            check_count(name, most, 0)
        if worker_init_f is not None:
            check_callable("worker_init_f", worker_init_f)
        check_count("consumer_buffer_max", consumer_buffer_max, 1, optional=True)

        workers = _os.default_workers() if num_workers is None else num_workers
        # As in the standard library's queues, 0 means no bound.
        bounded = in_q_max and out_q_max and worker_q_max
        self._bound: float = in_q_max + out_q_max + worker_q_max if bounded else float("inf")
        self._daemon = daemon
        sent = [None if what is None else Inherited(what) for what in (worker_init_f, task)]
        self._executor = OrderedProcessPoolExecutor(
            workers,
            initializer=None if sent == [None, None] else begin,
            initargs=() if sent == [None, None] else tuple(sent),
            window=10 * workers if consumer_buffer_max is None else consumer_buffer_max,
            unseen_errors="ignore" if daemon else "log",
            reuse=False,  # `join` waits for the processes
        )
        self._outcomes = self._executor.outcomes(follow=True)
        self._changed = threading.Condition()  # reentrant: a signal handler or a finalizer may put, too
        self._puts = 0  # guarded by: _changed
        self._waiting = 0  # guarded by: _changed
        self._stopped = False
        self._armed = False
        _watch(self)

    # --------------------------------------------------------------------------------------------------------- put

    def _put(self, submit: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Any) -> None:
        check_seconds("timeout", timeout, zero=True)
        with self._changed:
            if self._puts - self._outcomes.position >= self._bound and not self._stopped:
                self._wait_for_room_locked(timeout)
            if not self._stopped:
                try:
                    submit(*args, **kwargs)
                except BrokenProcessPool:
                    raise
                except RuntimeError as error:
                    self._reason = error  # shut down without us: by the exit of the interpreter, or in a forked child
                else:
                    # After it: interrupted between the two, we count one too few, and no place is lost.
                    self._puts += 1
                    if not self._armed:
                        self._armed = _arm()
                    return
        self._end(f"nothing can be put any more: {self._why()}")

    def _wait_for_room_locked(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._waiting += 1  # before looking: `get` moves the position, then looks at _waiting
        try:
            while self._puts - self._outcomes.position >= self._bound and not self._stopped:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise queue.Full
                self._changed.wait(remaining)
        finally:
            self._waiting -= 1

    # --------------------------------------------------------------------------------------------------------- get

    def get(self, timeout: float | None = None, block: bool = True) -> Any:
        """The next result, in the order of `put`.  Waits for it, at most `timeout` seconds; not at all if not `block`.

        A task that failed raises its error here, with the worker's traceback as `__cause__` and, as text, in
        `stack_trace`; the next `get` goes on behind it.  Raises `queue.Empty` if nothing came in time, and `ShutDown`
        after the last result of a queue that was stopped.
        """
        check_seconds("timeout", timeout, zero=True)
        check_flag("block", block)
        try:
            outcome = self._outcomes.next(timeout if block else 0)
        except ResultsTimeoutError:
            raise queue.Empty from None
        except StopIteration:
            outcome = None
        if self._waiting:
            with self._changed:
                self._changed.notify_all()
        if outcome is None or (_exiting and self._daemon):
            self._explain_end()
        if outcome.error is None:
            return outcome.value
        raise _dressed(outcome.ticket, outcome.error)

    def get_nowait(self) -> Any:
        """As `get(block=False)`."""
        return self.get(block=False)
