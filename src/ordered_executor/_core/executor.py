"""The executor: submit here, read there, in the same order.

    submit         claim          dispatch         run         gate              release           future / results
    executor  ->   scheduler  ->  dispatcher   ->  worker  ->  _channel.gate ->  reorder_buffer -> future, results
                   waits: backlog batches, lanes               waits: window     in order
    |<---------------- parent process ------------>|<--- worker process ----->|<--------- parent process ----------->|
                      ^_______________________________________________^_______ the head moves: room, window _____|

    A moment with window=4 and three workers, while ticket 5 is slow:

    tickets   0 … 4      5          6  7  8          9           10          11 12 13 …
    state     released   running    early (home)     gated       gated       waiting
                         ^ head                      ^ limit = head + 4                  tail ^

This file is the thin face: it checks what it is given and hands on to the scheduler.  It holds no thread and no
process, so that an executor nobody holds any more can go (what was submitted is finished all the same).
"""

from __future__ import annotations

import contextlib
import html
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from ordered_executor._base.checks import (
    check_buffersize,
    check_callable,
    check_choice,
    check_count,
    check_flag,
    check_optional_count,
    check_seconds,
)
from ordered_executor._base.errors import ShutdownTimeoutError
from ordered_executor._base.tasks import Options
from ordered_executor._core.backend import Backend
from ordered_executor._core.future import Future
from ordered_executor._core.inbox import Marked
from ordered_executor._core.intake import start_map
from ordered_executor._core.outcome import Outcome
from ordered_executor._core.results import Results, read_either, read_outcome, read_value
from ordered_executor._core.running import Running, table, take_running
from ordered_executor._core.scheduler import Scheduler
from ordered_executor._core.statistics import Statistics, describe, take_statistics
from ordered_executor._core.window import Window

# How long `cancel_pending` waits for the scheduler, which may be in a callback.
CANCEL_SECONDS = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class OrderedExecutor(Executor):
    """What all ordered executors have in common; a subclass brings the backend."""

    _first_ticket = 0  # tests let it start just below a wrap

    def __init__(
        self,
        backend: Backend,
        window: Window,
        max_workers: int,
        *,
        backlog: int | None = None,
        retries: int = 0,
        timeout: float | None = None,
        keep_results: bool | None = None,
        unseen_errors: str = "log",
    ) -> None:
        backlog = check_optional_count("backlog", backlog, 1)
        retries = check_count("retries", retries, 0)
        timeout = check_seconds("task_timeout", timeout)
        if keep_results is not None:
            check_flag("keep_results", keep_results)
        check_choice("unseen_errors", unseen_errors, ("log", "raise", "ignore"))
        self._max_workers = max_workers
        self._options = Options(retries, timeout)
        self._scheduler = Scheduler(
            backend, window, max_workers, backlog, keep_results, unseen_errors, self._first_ticket
        )
        self._inbox = self._scheduler.inbox
        self._scheduler.start()
        # Nobody holds the executor any more: finish what was submitted, then end.
        weakref.finalize(self, self._inbox.orphan).atexit = False

    # ------------------------------------------------------------------------------------------------------- submit

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` in a worker; return its future at once.

        Order: futures complete in the order of their submission, whoever finishes first.
        Waits: only if the executor has a `backlog`, while that many tickets are unread, but never in a done-callback.
        Raises: `RuntimeError` after shutdown, `BrokenProcessPool` if no worker can run, `TypeError` if `fn` cannot
        be called.  What is wrong with the arguments (they cannot be pickled) shows in the future.
        Cost: some microseconds; the arguments are pickled later, when the task is sent to a worker.
        """
        return self._submit(fn, args, kwargs, self._options)

    def _submit(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options) -> Future[Any]:
        if not callable(fn):
            check_callable("fn", fn)
        inbox = self._inbox
        future: Future[Any] = Future(inbox, (fn, args, kwargs), options)
        inbox.claim_future(future)
        return future

    def mark(self, value: T) -> Future[T]:
        """Put a value into the order, without a worker: it comes out when everything before it has.

        For "this batch is done" markers.  Returns its future.  Waits and raises as `submit` does.
        """
        future: Future[T] = Future(self._inbox, Marked(value), self._options)
        self._inbox.claim_future(future)
        return future

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        errors: Literal["raise"] = "raise",
        prefetch: bool = False,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        errors: str,
        prefetch: bool = False,
    ) -> Iterator[T | BaseException]: ...

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        errors: str = "raise",
        prefetch: bool = False,
    ) -> Iterator[T] | Iterator[T | BaseException]:
        """Yield `fn(*args)` for the arguments that `zip(*iterables)` gives, in their order.

        A call that fails raises at its place, and the iterator goes on behind it; so does an error of the input.
        Only its `StopIteration` ends it.  Closing the iterator, or letting go of it half way, cancels what no worker
        has begun.  Yielded results are not kept.  Not part of `results()`.

        `timeout`: seconds from now within which a result must be there when it is asked for, else a `TimeoutError`.
        `chunksize`: how many calls are sent to a worker together, at most; `None` finds out what is best.
        `buffersize`: how many inputs may be taken that are not yielded yet; `None` takes all of them now, so an endless
        iterable needs it.
        `errors`: `"yield"` yields the exception in the place of each result that there is not.  A map over such a map
        does not call `fn` with its errors: they come out at their place.  If there is something in between, a generator
        say, `"pass"` does the same for all exceptions among the inputs.  `"outcome"` yields an `Outcome` for each call:
        of one that failed it has the arguments.  (An error of the input comes as one with the ticket -1.)
        `prefetch`: read the inputs in a thread, ahead of you: for inputs that take long to come.  Needs `buffersize`.
        """
        return self._map(fn, iterables, timeout, chunksize, buffersize, errors, prefetch, self._options)

    def _map(
        self,
        fn: Any,
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        errors: str,
        prefetch: bool,
        options: Options,
    ) -> Iterator[Any]:
        check_callable("fn", fn)
        timeout = check_seconds("timeout", timeout, zero=True)
        chunksize = check_optional_count("chunksize", chunksize, 1)
        buffersize = check_buffersize(buffersize)
        check_choice("errors", errors, ("raise", "yield", "pass", "outcome"))
        check_flag("prefetch", prefetch)
        if prefetch and buffersize is None:
            raise ValueError("prefetch needs a buffersize: how far ahead the thread may read")
        return start_map(self._inbox, fn, iterables, timeout, chunksize, buffersize, errors, prefetch, options)

    def options(self, *, retries: int | None = None, timeout: float | None = None) -> OptionsView:
        """A light view on this executor whose `submit` and `map` use other settings.

        `retries`: how often a task is run again if its worker dies.  `timeout`: seconds a task may run before it is
        stopped, from its start in the worker; `float("inf")` for no limit.  What is not given stays as the executor has
        it.
        """
        retries = check_optional_count("retries", retries, 0)
        mine = self._options
        limit = mine.timeout if timeout is None else check_seconds("timeout", timeout)
        return OptionsView(self, mine._replace(retries=mine.retries if retries is None else retries, timeout=limit))

    @property
    def max_workers(self) -> int:
        """How many tasks run at a time, at most."""
        return self._max_workers

    # --------------------------------------------------------------------------------------------------------- read

    def results(self, *, timeout: float | None = None, errors: str = "raise", follow: bool = False) -> Results[Any]:
        """The ordered stream of outcomes: everything submitted (but not mapped) that nobody has read.

        Yields in ticket order; each outcome once, across all readers and threads.  Waits for the next, at most
        `timeout` seconds each (then `ResultsTimeoutError`; ask again, nothing is lost).  Ends when all that was
        submitted has been yielded; with `follow=True` when, moreover, the executor is shut down.  A failed task raises
        at its place, and the next `next()` goes on; `errors="yield"` yields the exception instead.  A cancelled ticket
        is not yielded.

        Also an asynchronous iterator.
        """
        timeout = check_seconds("timeout", timeout, zero=True)
        check_choice("errors", errors, ("raise", "yield"))
        check_flag("follow", follow)
        return self._read(read_value if errors == "raise" else read_either, timeout, follow)

    def outcomes(self, *, timeout: float | None = None, follow: bool = False, calls: bool = False) -> Results[Outcome]:
        """The same stream as `results()`, as an `Outcome` each: `ticket`, `value`, `error`, and what else is known.

        `calls`: from now on tasks keep their function and arguments until their outcome is read; else only those that
        failed do.
        """
        timeout = check_seconds("timeout", timeout, zero=True)
        check_flag("follow", follow)
        if check_flag("calls", calls):
            self._scheduler.keeps_calls = True
        return self._read(read_outcome, timeout, follow)

    def _read(self, read: Callable[[Future[Any]], T], timeout: float | None, follow: bool) -> Results[T]:
        inbox = self._inbox

        return Results(inbox.stream, lambda: inbox.claims.tail, read, timeout, follow)

    def statistics(self) -> Statistics:
        """A snapshot of the executor.  Does not wait; the numbers are of about the same moment."""
        return take_statistics(self._scheduler)

    def running(self) -> list[Running]:
        """What each worker is doing now: the head first, then by ticket, then those that are idle.

        Reads what the workers write into shared memory anyway: from any thread, at any time, also after a shutdown
        (then there is nobody).  Does not wait.  Cost: some ten microseconds a worker.
        """
        return take_running(self._scheduler)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {describe(self._scheduler)}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{table(self.running())}"

    # ----------------------------------------------------------------------------------------------------- shutdown

    def cancel_pending(self, *, kill: bool = False) -> None:
        """Cancel all that was submitted, or drawn by a `map`, and that no worker has begun.  The executor goes on.

        For notebooks, servers and Ctrl-C.  Futures are cancelled; a `map` yields what had begun, then it raises
        `CancelledError`.  `kill`: what runs is stopped, too, and gets `TaskKilledError` at its place.

        Does not wait for tasks, but, unless it is called in a done-callback, for the executor's thread, at most a
        second: when it returns, the futures are cancelled, if no callback keeps that thread so long.
        """
        check_flag("kill", kill)
        inbox = self._inbox
        inbox.cancel_waiting()
        if kill:
            inbox.kill_begun()
        inbox.wait_for_turn(CANCEL_SECONDS)

    def shutdown(
        self,
        wait: bool = True,
        timeout: float | None = None,
        *,
        cancel_futures: bool = False,
        kill_workers: bool = False,
    ) -> None:
        """Take no more tasks; finish what was submitted; end the workers.

        `wait`: return when all of that is done, or after `timeout` seconds with a `ShutdownTimeoutError` that lists
        what is not (call again, or kill).  In a done-callback it never waits.  `cancel_futures`: cancel what no worker
        has begun.  `kill_workers`: stop what runs, too; everything unfinished gets `TaskKilledError`, or is cancelled
        if `cancel_futures` says so.  May be called again, from any thread, at any time.
        """
        timeout = check_seconds("timeout", timeout, zero=True)
        check_flag("wait", wait)
        check_flag("cancel_futures", cancel_futures)
        check_flag("kill_workers", kill_workers)
        self._shutdown(wait, timeout, cancel_futures, kill_workers, may_raise=True)

    def _shutdown(
        self, wait: bool, timeout: float | None, cancel_futures: bool, kill_workers: bool, may_raise: bool
    ) -> None:
        inbox = self._inbox
        inbox.close_claims()
        if cancel_futures:
            inbox.cancel_waiting()
        if kill_workers:
            inbox.kill_all()
        if not wait or inbox.on_scheduler():
            return
        if not inbox.wait(timeout):
            unfinished = inbox.unfinished()
            what = (
                f"tickets {unfinished[:10]}{' …' if len(unfinished) > 10 else ''} are unfinished"
                if unfinished
                else "workers are still ending"
            )
            raise ShutdownTimeoutError(
                f"the executor was not done within {timeout} s: {what}. Nothing is lost: call shutdown() again, "
                "or shutdown(kill_workers=True)",
                unfinished,
            )
        inbox.report_unseen(may_raise)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down and wait; after Ctrl-C, also while it waits here, without waiting for what is not done."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        try:
            self._shutdown(True, None, interrupted, interrupted, may_raise=kind is None)
        except KeyboardInterrupt:
            self._shutdown(True, None, True, True, may_raise=False)
            raise

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The same without blocking the loop.

        Left because the loop's task was cancelled, it cancels what no worker has, and waits for what runs.  Cancelled
        while it waits, it does not wait any more.
        """
        import asyncio  # noqa: PLC0415 (there a loop runs, so it is loaded; workers do without)

        loop, finished = asyncio.get_running_loop(), asyncio.Event()
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        self._shutdown(False, None, cancelled, False, may_raise=False)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(finished.set)

        self._inbox.finished.tell(tell)
        try:
            await finished.wait()
        except BaseException:
            self._shutdown(False, None, True, False, may_raise=False)
            raise
        self._inbox.report_unseen(may_raise=kind is None)


class OptionsView:
    """What `OrderedExecutor.options` returns: `submit` and `map` of the same executor, with other settings."""

    def __init__(self, executor: OrderedExecutor, options: Options) -> None:
        self._executor = executor
        self._options = options

    def __repr__(self) -> str:
        retries, timeout = self._options[:2]
        return f"<OptionsView retries={retries} timeout={timeout} of {self._executor!r}>"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As the executor's `submit`, with the view's settings."""
        return self._executor._submit(fn, args, kwargs, self._options)

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        errors: Literal["raise"] = "raise",
        prefetch: bool = False,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        errors: str,
        prefetch: bool = False,
    ) -> Iterator[T | BaseException]: ...

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        errors: str = "raise",
        prefetch: bool = False,
    ) -> Iterator[T] | Iterator[T | BaseException]:
        """As the executor's `map`, with the view's settings."""
        return self._executor._map(fn, iterables, timeout, chunksize, buffersize, errors, prefetch, self._options)
