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

This file is a thin face: it checks arguments and passes calls on to the scheduler.  The executor itself owns no thread
and no process.  So it can be collected as soon as nobody holds it, and the scheduler still finishes its tasks.
"""

from __future__ import annotations

import contextlib
import html
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, overload

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
    """The part that all ordered executors share.  A subclass brings the backend."""

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
        """Run `fn(*args, **kwargs)` in a worker and return its future at once.

        Order: futures complete in the order of submission, whichever task finishes first.
        Waits: only if the executor has a `backlog` and that many tickets are unread; never in a done-callback.
        Raises: `RuntimeError` after shutdown, `BrokenProcessPool` if no worker can run, `TypeError` if `fn` is not
        callable.  If the arguments cannot be pickled, the future gets the error.
        Cost: some microseconds.  The arguments are pickled later, when the task is sent to a worker.
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
        """Put a value into the order without a worker: it comes out after everything that was submitted before it.

        Use it to mark the end of a batch.  Returns a future.  Waits and raises as `submit` does.
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

        A call that fails raises at its place, and the next `next()` goes on behind it.  An error of the input does the
        same; only `StopIteration` of the input ends the map.  If you close the iterator, or drop it after you have
        begun to read, the calls that no worker has begun are cancelled.  Yielded results are not kept, and results of
        a map are not part of `results()`.

        `timeout`: raise `TimeoutError` if you ask for a result later than this many seconds from now and it is not
        there, or if you wait for it beyond that moment.
        `chunksize`: the largest number of calls that travel to a worker together.  `None` adapts it to the tasks.
        `buffersize`: how many inputs may be drawn ahead of the results that you have read.  `None` draws all of them
        now, so an endless iterable needs a `buffersize`.
        `errors`: `"raise"` raises errors.  `"yield"` yields the exception in the place of the result; a map over such a
        map does not call its function with these exceptions, but hands them on at their places.  `"pass"` is `"yield"`
        and hands on every exception among the inputs; use it if a generator, say, stands between the two maps.
        `"outcome"` yields an `Outcome` for each call, which has the arguments if the call failed.  An error of the
        input then is an `Outcome` with the ticket -1.
        `prefetch`: read the inputs in a thread, ahead of you, for inputs that take long to come.  Needs `buffersize`.
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
        """Return a light view on this executor whose `submit` and `map` use other settings.

        `retries`: how many times to rerun a task whose worker died.  `timeout`: how many seconds a task may run, from
        its start in the worker, before it is stopped; `float("inf")` means no limit.  A setting that you leave out is
        the executor's.
        """
        retries = check_optional_count("retries", retries, 0)
        mine = self._options
        limit = mine.timeout if timeout is None else check_seconds("timeout", timeout)
        return OptionsView(self, mine._replace(retries=mine.retries if retries is None else retries, timeout=limit))

    @property
    def max_workers(self) -> int:
        """The largest number of tasks that run at a time."""
        return self._max_workers

    # --------------------------------------------------------------------------------------------------------- read

    def results(self, *, timeout: float | None = None, errors: str = "raise", follow: bool = False) -> Results[Any]:
        """Return the ordered stream of outcomes: of everything submitted (but not mapped) that is kept and unread.

        It yields in ticket order, and each outcome once, across all readers and threads.  It waits for the next
        outcome; if `timeout` seconds pass it raises `ResultsTimeoutError`, nothing is lost, and you can ask again.  It
        ends when everything submitted has been yielded; with `follow=True` it also waits for the executor to be shut
        down.  A failed task raises at its place, and the next `next()` goes on behind it; `errors="yield"` yields the
        exception instead.  A cancelled ticket is passed over.

        The stream is an asynchronous iterator, too.
        """
        timeout = check_seconds("timeout", timeout, zero=True)
        check_choice("errors", errors, ("raise", "yield"))
        check_flag("follow", follow)
        return self._read(read_value if errors == "raise" else read_either, timeout, follow)

    def outcomes(self, *, timeout: float | None = None, follow: bool = False, calls: bool = False) -> Results[Outcome]:
        """Return the same stream as `results()`; it yields an `Outcome` for each ticket, and never raises for a task.

        `calls=True`: from now on each task keeps its function and arguments until its outcome is read.  Without it
        only tasks that fail keep them.
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
        """Return a snapshot of the executor.  It does not wait.  The numbers are of about the same moment."""
        return take_statistics(self._scheduler)

    def running(self) -> list[Running]:
        """Return what each worker is doing now: the head first, then by ticket, then the idle workers.

        It reads what the workers write into shared memory in any case, and does not wait.  You may call it from any
        thread and at any time; after a shutdown the list is empty.  Cost: some ten microseconds a worker.
        """
        return take_running(self._scheduler)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {describe(self._scheduler)}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{table(self.running())}"

    # ----------------------------------------------------------------------------------------------------- shutdown

    def cancel_pending(self, *, kill: bool = False) -> None:
        """Cancel every task that was submitted, or drawn by a `map`, and that no worker has begun.

        The executor goes on.  Use it in notebooks, in servers and after Ctrl-C.  A `map` yields the results of the
        calls that had begun, and then raises `CancelledError`.  `kill=True` also stops the tasks that run; they get
        `TaskKilledError` at their places.

        It does not wait for tasks.  Outside a done-callback it waits for the executor's thread, at most a second: when
        it returns, the futures are cancelled, unless a callback keeps that thread longer.
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
        """Take no more tasks, finish what was submitted, and free or end the workers.

        `wait`: return when all of that is done.  After `timeout` seconds raise a `ShutdownTimeoutError` that lists the
        unfinished tickets; call again, or kill.  In a done-callback it never waits.  `cancel_futures`: cancel the
        tasks that no worker has begun.  `kill_workers`: stop the tasks that run.  Everything unfinished then gets
        `TaskKilledError`, or is cancelled if `cancel_futures` says so.  You may call it again, from any thread and at
        any time.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down and wait.  After Ctrl-C, or at one while it waits here, cancel what waits and kill the workers."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        try:
            self._shutdown(True, None, interrupted, interrupted, may_raise=kind is None)
        except KeyboardInterrupt:
            self._shutdown(True, None, True, True, may_raise=False)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down, and wait without blocking the loop.

        If the block is left because its asyncio task was cancelled, the tasks that no worker has begun are cancelled,
        and it waits for those that run.  If the asyncio task is cancelled while it waits here, it cancels them too, and
        waits no longer.
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
    """`submit` and `map` of an executor with other settings.  `OrderedExecutor.options` returns it."""

    def __init__(self, executor: OrderedExecutor, options: Options) -> None:
        self._executor = executor
        self._options = options

    def __repr__(self) -> str:
        retries, timeout = self._options[:2]
        return f"<OptionsView retries={retries} timeout={timeout} of {self._executor!r}>"

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do what the executor's `submit` does, with the settings of this view."""
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
        """Do what the executor's `map` does, with the settings of this view."""
        return self._executor._map(fn, iterables, timeout, chunksize, buffersize, errors, prefetch, self._options)
