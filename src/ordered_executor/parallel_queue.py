"""Queues whose tasks run in parallel: `put` tasks, `get` results, in the same order.

    producer threads             worker processes           consumer threads
    put(index, "a.txt")    -->   index("a.txt")  --.
    put(index, "b.txt")    -->   index("b.txt")  --+-->     get() -> what index("a.txt") returned
    put(BatchDone(2))      ------------------------'        get() -> what index("b.txt") returned
                                                            get() -> BatchDone(2)

It has the API of the package parallel-queue.  An `OrderedProcessPoolExecutor` does the ordering and owns the processes.
This file adds the parts of a queue that an executor does not have: a bound with a time limit in `put`, `queue.Full` and
`queue.Empty`, an end that both sides learn of, and an end at the exit of the interpreter if nobody stopped the queue.

Guarantees: results come in the order of `put`.  No more tasks than the bound are put and not yet got.  You may call
every method from any thread.

Invariant: `_puts - _outcomes.position <= bound`.  The position is the number of outcomes that the stream has delivered.

A wait in `put` is ended by `get` (after each outcome that it takes), by `stop`, and by the exit of the interpreter.  A
wait in `get` is ended by the executor, whose stream ends after `stop`.

Like every executor, a queue ends when the main thread does, before Python waits for other threads.  `_base.exit_hook`
tells the queues first, and then waits for all executors.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import queue
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import Any, NoReturn

from ordered_executor._base import exit_hook, system
from ordered_executor._base.atomic import snapshot
from ordered_executor._base.checks import check_callable, check_count, check_flag, check_optional_count, check_seconds
from ordered_executor._base.errors import RemoteError, ResultsTimeoutError, TerminatedWorkerError
from ordered_executor._base.locks import Lock
from ordered_executor._base.waiting import Latch, ParkingLot
from ordered_executor._queue_worker import begin, call, rehearse
from ordered_executor.process_pool import OrderedProcessPoolExecutor

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """The queue has ended.  On Python 3.13 and later this is `queue.ShutDown`."""


__all__ = ["ParallelQueue", "ParallelSingleTaskQueue", "ShutDown"]

MAIN_THREAD_ENDED = "the main thread has ended, and the queue with it; let it wait for the threads that use the queue"


class _Queue:
    """Everything that both kinds of queue share: all but `put`."""

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
        workers = system.default_workers() if num_workers is None else check_count("num_workers", num_workers, 1)
        window = check_optional_count("consumer_buffer_max", consumer_buffer_max, 1)
        if worker_init_f is not None:
            check_callable("worker_init_f", worker_init_f)
        bounds = (
            check_count("in_q_max", in_q_max, 0),
            check_count("out_q_max", out_q_max, 0),
            check_count("worker_q_max", worker_q_max, 0),
        )
        self._bound = sum(bounds) if all(bounds) else math.inf  # 0: none, as in the standard library's queues
        self._daemon = check_flag("daemon", daemon)
        inherited = (worker_init_f, task)
        for what in inherited:
            if what is not None:
                rehearse(what)
        self._executor = OrderedProcessPoolExecutor(
            workers,
            initializer=begin,
            initargs=inherited,
            window=10 * workers if window is None else window,
            unseen_errors="ignore" if daemon else "log",
            reuse=False,  # `join` waits for the processes
        )
        self._outcomes = self._executor.outcomes(follow=True)
        self._putting = Lock()  # reentrant: a signal handler or a finalizer may put, too
        self._puts = 0  # guarded by: _putting
        self._room = ParkingLot()
        self._ended: str | None = None  # why nothing can be put any more
        self._stopped = False
        _ending.watch(self)

    # --------------------------------------------------------------------------------------------------------- put

    def _put(
        self, submit: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float | None
    ) -> None:
        timeout = check_seconds("timeout", timeout, zero=True)
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._ended is None:
            remaining = None if deadline is None else deadline - time.monotonic()
            if not self._room.park(self._has_room, remaining):
                raise queue.Full
            putting = self._putting  # a forked child has another one
            +putting
            try:
                if self._has_room() and self._submitted(submit, args, kwargs):
                    # Last: interrupted before it, we count one too few, and no place is lost.
                    self._puts += 1
                    return
            finally:
                -putting
        self._end("nothing can be put any more")

    def _has_room(self) -> bool:
        return self._puts - self._outcomes.position < self._bound or self._ended is not None

    def _submitted(self, submit: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Submit; False if the queue has ended, or the executor without us: in a forked child, or at the exit."""
        if self._ended is not None:
            return False
        try:
            submit(*args, **kwargs)
        except BrokenProcessPool:
            raise
        except RuntimeError as error:
            self._ended = str(error) if self._executor._inbox.abandoned else MAIN_THREAD_ENDED
            return False
        return True

    # --------------------------------------------------------------------------------------------------------- get

    def get(self, timeout: float | None = None, block: bool = True) -> Any:
        """Return the next result, in the order of `put`.

        It waits for the result, at most `timeout` seconds, and not at all with `block=False`.  If the task failed, its
        error is raised here, and the next `get` goes on behind it.  The error has the worker's traceback as
        `__cause__`, and as text in `stack_trace`.  Raises `queue.Empty` if nothing came in time, and `ShutDown` after
        the last result of a queue that was stopped.
        """
        timeout = check_seconds("timeout", timeout, zero=True)
        check_flag("block", block)
        try:
            outcome = self._outcomes.next(timeout if block else 0)
            self._room.unpark_all()
        except ResultsTimeoutError:
            raise queue.Empty from None
        except StopIteration:
            outcome = None
        except BaseException:
            self._room.unpark_all()  # Ctrl-C: there may be room, and nobody told
            raise
        if outcome is None or (self._daemon and _exiting):
            self._end("there is nothing more to get")
        if outcome.error is None:
            return outcome.value
        try:
            raise _dressed(outcome.ticket, outcome.error)
        finally:
            del outcome  # no cycle through the traceback

    def get_nowait(self) -> Any:
        """Return the next result if it is there: `get(block=False)`."""
        return self.get(block=False)

    # --------------------------------------------------------------------------------------------------------- end

    def stop(self) -> None:
        """Let nobody put anything more.  Returns at once.  Results of tasks that were put still come out.

        You may call it again.
        """
        self._stopped = True
        self._stop("the queue was stopped")

    def _stop(self, why: str) -> None:
        if self._ended is None:
            self._ended = why
        self._executor.shutdown(wait=False)
        self._room.unpark_all()

    def join(self, timeout: float | None = None) -> None:
        """Wait until every task has run and the workers have ended, at most `timeout` seconds.

        `is_alive` tells whether they have.  You need not get the results first.  If nobody has called `stop`, this
        waits until another thread does.
        """
        self._executor._inbox.finished.wait(check_seconds("timeout", timeout, zero=True))

    def is_alive(self) -> bool:
        """Return whether tasks or workers are left.  A queue that was not stopped is alive: more may be put."""
        return not self._executor._inbox.finished.is_set()

    def _end(self, what: str) -> NoReturn:
        """Say that it is over, and why."""
        self._submitted(self._executor.mark, (None,), {})  # nobody stopped it: if it broke down, this says why
        if self._interpreter_exits() and threading.current_thread().daemon:
            # Nobody cares for the end of such a thread, and a traceback from it would be noise.  It stands here until
            # it is gone, as it would if it were still waiting for the queue.
            threading.Event().wait()
        raise ShutDown(f"{what}: {self._ended}")

    def _interpreter_exits(self) -> bool:
        return _exiting or not (self._stopped or self._executor._inbox.abandoned)


class ParallelQueue(_Queue):
    """A queue of tasks: each callable that you put runs in a worker, and its result comes out at its place.

    Args:
        num_workers: The largest number of processes.  They start on demand.  Default: as `OrderedProcessPoolExecutor`.
        daemon: How a queue that was not stopped ends when the interpreter exits.  False: its tasks are finished first.
            True: they are dropped, so that the queue never keeps the interpreter from exiting.
        in_q_max, worker_q_max, out_q_max: Their sum is the bound on tasks that are put and not yet got.  A 0 in any of
            them means no bound.
        worker_init_f: A callable without arguments that each worker runs before its first task.
        consumer_buffer_max: How far ahead of its turn a result may be.  A worker that is further ahead keeps its
            result and waits.  Default: ten times the number of workers.

    No process starts before the first task.  `ShutDown` is in this module; from Python 3.13 on it is `queue.ShutDown`.

    >>> results = ParallelQueue(num_workers=2)
    >>> results.put(pow, 2, 5)
    >>> results.put("what cannot be called goes through as it is")
    >>> results.get(), results.get()
    (32, 'what cannot be called goes through as it is')
    >>> results.stop()
    >>> results.join()
    """

    def __init__(
        self,
        num_workers: int | None = None,
        daemon: bool = False,
        in_q_max: int = 1000,
        out_q_max: int = 1000,
        worker_q_max: int = 100,
        worker_init_f: Callable[[], object] | None = None,
        consumer_buffer_max: int | None = None,
    ) -> None:
        super().__init__(
            None, num_workers, daemon, in_q_max, out_q_max, worker_q_max, worker_init_f, consumer_buffer_max
        )

    def put(self, task: Any, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Run `task(*args, **kwargs)` in a worker.  If `task` is not callable, it comes out itself, at its place.

        Waits while the queue is full; after `timeout` seconds it raises `queue.Full`.  Raises `ShutDown` after `stop`,
        `ValueError` if `task` is not callable and there are more arguments, and `BrokenProcessPool` if no worker can
        run.  A task that cannot be pickled fails at its place, in `get`.
        """
        if callable(task):
            self._put(self._executor.submit, (task, *args), kwargs, timeout)
        elif args or kwargs:
            raise ValueError(
                f"put() takes a callable and its arguments, or one thing that is not callable; {task!r} is not callable"
            )
        else:
            self._put(self._executor.mark, (task,), kwargs, timeout)


class ParallelSingleTaskQueue(_Queue):
    """A queue of arguments for one task.

    It is a `ParallelQueue` whose task you give here.  Each worker gets the task once, when it starts.  The task may
    hold locks, events and other primitives of multiprocessing that were made in a *spawn* or *loky* context.  Each
    worker has its own copy of the task, and the copy keeps whatever the task stores in it.

    Raises `ValueError` if the task holds a primitive that was made in a fork context.  An error of its pickling is
    raised, too.

    >>> powers = ParallelSingleTaskQueue(pow, num_workers=2)
    >>> powers.put(2, 5)
    >>> powers.put(3, 4)
    >>> powers.get(), powers.get()
    (32, 81)
    >>> powers.stop()
    >>> powers.join()
    """

    def __init__(
        self,
        task_fn: Callable[..., Any],
        num_workers: int | None = None,
        daemon: bool = False,
        in_q_max: int = 1000,
        out_q_max: int = 1000,
        worker_q_max: int = 100,
        worker_init_f: Callable[[], object] | None = None,
        consumer_buffer_max: int | None = None,
    ) -> None:
        check_callable("task_fn", task_fn)
        super().__init__(
            task_fn, num_workers, daemon, in_q_max, out_q_max, worker_q_max, worker_init_f, consumer_buffer_max
        )

    def put(self, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Run the task with these arguments.  Waits and raises as `ParallelQueue.put` does."""
        self._put(self._executor.submit, (call, *args), kwargs, timeout)


def _dressed(ticket: int, error: BaseException) -> BaseException:
    """The error of a task as `get` raises it."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        # It would end the loop of whoever reads by `iter(results.get, last)`, as if all was well.
        cause, error = error, RuntimeError(f"the task with ticket {ticket} raised {type(error).__name__}")
        error.__cause__ = cause
    with contextlib.suppress(Exception):  # where a class of the user's refuses, it goes without
        error.stack_trace = _stack_trace(error)  # type: ignore[attr-defined]
    return error


def _stack_trace(error: BaseException) -> str:
    if isinstance(error, RemoteError):
        return error.traceback_text
    if isinstance(error.__cause__, _RemoteTraceback) and not isinstance(error, TerminatedWorkerError):
        return str(error.__cause__).strip('\n"')
    return "".join(traceback.format_exception(error))


# ------------------------------------------------------------------------------------------ the interpreter's exit

_exiting = False
_hooked = False


class _Ending:
    """For all queues together, what `_base.exit_hook` asks of everything that lives until the interpreter exits."""

    def __init__(self) -> None:
        self.queues: weakref.WeakSet[_Queue] = weakref.WeakSet()
        self.droppable: weakref.WeakSet[Any] = weakref.WeakSet()  # inboxes of daemons: they outlive a queue let go
        self.finished = Latch()
        self.finished.set()  # the executors are waited for themselves

    def watch(self, new: _Queue) -> None:
        global _hooked
        self.queues.add(new)
        if new._daemon:
            self.droppable.add(new._executor._inbox)
        exit_hook.watch(self)
        if not _hooked:
            # Registered after the executors' own, and so run before: whoever puts is told of the queue, not of those.
            _hooked = True
            with contextlib.suppress(RuntimeError):  # the interpreter is on its way out
                getattr(threading, "_register_atexit", atexit.register)(self.close_claims)

    def report_unseen(self, may_raise: bool) -> None:
        """The executors do so themselves."""

    def close_claims(self) -> None:
        """The main thread has ended.  May come more than once."""
        global _exiting
        _exiting = True
        for each in snapshot(self.queues):
            each._stop(MAIN_THREAD_ENDED)
        for inbox in snapshot(self.droppable):
            inbox.close_claims()
            inbox.kill_all()

    def cancel_waiting(self) -> None:
        """After Ctrl-C: that is the executors' affair."""

    def kill_all(self) -> None:
        """The same."""

    def abandon(self) -> None:
        """In a forked child the queues are the parent's; another thread may have held their locks."""
        for each in snapshot(self.queues):
            each._putting = Lock()
        self.queues.clear()
        self.droppable.clear()


_ending = _Ending()
