"""How the types of the public API look from outside: checked by mypy, never run."""

# ruff: noqa: D103 (each function shows what its name says)

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from ordered_executor import (
    Future,
    OptionsView,
    OrderedExecutor,
    OrderedProcessPoolExecutor,
    Outcome,
    RemoteError,
    Results,
    ShutdownTimeoutError,
    Statistics,
    TaskKilledError,
    TaskTimeoutError,
    TerminatedWorkerError,
    changed,
    end_idle_workers,
)


def double(number: int, *, times: int = 1) -> float:
    return 2.0**times * number


def construct() -> None:
    assert_type(OrderedProcessPoolExecutor(), OrderedProcessPoolExecutor)
    OrderedProcessPoolExecutor(4, None, print, ("hello",), window=5, backlog=None, env={"A": "b"})
    OrderedProcessPoolExecutor(max_workers="4")  # type: ignore[arg-type]
    OrderedProcessPoolExecutor(4, None, print, ("hello",), 5)  # type: ignore[call-arg]
    OrderedProcessPoolExecutor(windows=5)  # type: ignore[call-arg]
    OrderedProcessPoolExecutor(env={"A": 1})  # type: ignore[dict-item]


def submit(executor: OrderedProcessPoolExecutor) -> None:
    future = executor.submit(double, 3, times=2)
    assert_type(future, Future[float])
    assert_type(future.result(), float)
    assert_type(future.result(timeout=1.5), float)
    assert_type(future.ticket, int)
    assert_type(future.kill(), bool)
    assert_type(future.cancel(), bool)
    standard: concurrent.futures.Future[float] = future
    standard.add_done_callback(print)
    executor.submit(double, "3")  # type: ignore[arg-type]
    executor.submit(double, 3, 4)  # type: ignore[call-arg]
    executor.submit(double, 3, time=4)  # type: ignore[call-arg]
    executor.submit()  # type: ignore[call-arg]


def mark(executor: OrderedProcessPoolExecutor) -> None:
    assert_type(executor.mark("done"), Future[str])
    assert_type(executor.mark(divmod(7, 2)), Future[tuple[int, int]])


def mapped(executor: OrderedProcessPoolExecutor) -> None:
    assert_type(executor.map(double, [1, 2]), Iterator[float])
    executor.map(double, [1], timeout=1, chunksize=2, buffersize=3)
    assert_type(executor.map(double, [1], buffersize=3, prefetch=True, errors="raise"), Iterator[float])
    assert_type(executor.map(double, [1], errors="yield"), Iterator[float | BaseException])
    assert_type(executor.options().map(double, [1], errors="pass"), Iterator[float | BaseException])
    executor.map(double, [1], buffersize="3")  # type: ignore[call-overload]


def options(executor: OrderedProcessPoolExecutor) -> None:
    view = executor.options(retries=2, timeout=1.5)
    assert_type(view, OptionsView)
    assert_type(view.submit(double, 3), Future[float])
    assert_type(view.map(double, [3]), Iterator[float])
    executor.options(2)  # type: ignore[call-arg]


def read(executor: OrderedProcessPoolExecutor) -> None:
    assert_type(executor.results(), Results[Any])
    results = executor.outcomes(timeout=5, follow=True)
    assert_type(results, Results[Outcome])
    assert_type(next(results), Outcome)
    assert_type(results.next(timeout=1), Outcome)
    assert_type(results.position, int)
    for outcome in results:
        assert_type(outcome.ticket, int)
        assert_type(outcome.error, BaseException | None)
        ticket, _, error = outcome
        assert_type(ticket, int)
        assert_type(error, BaseException | None)
    iterator: Iterator[Outcome] = results
    asynchronous: AsyncIterator[Outcome] = results
    print(iterator, asynchronous)
    executor.results(5)  # type: ignore[call-arg]


async def read_later(executor: OrderedProcessPoolExecutor) -> None:
    async for outcome in executor.outcomes():
        assert_type(outcome, Outcome)
    assert_type(await asyncio.wrap_future(executor.submit(double, 3)), float)
    loop = asyncio.get_running_loop()
    assert_type(await loop.run_in_executor(executor, double, 3), float)


def statistics(executor: OrderedProcessPoolExecutor) -> None:
    seen = executor.statistics()
    assert_type(seen, Statistics)
    assert_type(seen.head, int)
    assert_type(seen.pids, tuple[int, ...])
    seen.head = 5  # type: ignore[misc]


def shut_down(executor: OrderedProcessPoolExecutor) -> None:
    with executor as same:
        same.submit(double, 3)
    executor.shutdown()
    executor.shutdown(False)
    try:
        executor.shutdown(timeout=1.5, cancel_futures=True, kill_workers=True)
    except ShutdownTimeoutError as error:
        assert_type(error.unfinished, tuple[int, ...])
    end_idle_workers()
    changed([1])


def errors(error: BaseException) -> None:
    if isinstance(error, TerminatedWorkerError):
        assert_type(error.exitcode, int | None)
        assert_type(error.pid, int | None)
    if isinstance(error, TaskTimeoutError | TaskKilledError):
        assert_type(error.ticket, int | None)
    if isinstance(error, RemoteError):
        assert_type(error.type_name, str)


def takes_any_executor(executor: concurrent.futures.Executor) -> concurrent.futures.Future[float]:
    return executor.submit(double, 3)


def is_an_executor(executor: OrderedProcessPoolExecutor) -> None:
    takes_any_executor(executor)
    ours: OrderedExecutor = executor
    print(ours)
