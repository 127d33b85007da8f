"""The contestants: ways to run a task over arguments and read the results in order.

Each engine is a context manager that starts the workers and gives an `Each`; a package that is not installed
shows as a ModuleNotFoundError. Every one is used the way its documentation shows for results in order.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from itertools import islice
from threading import Thread
from typing import Any

Task = Callable[[Any], Any]
Each = Callable[[Task, Iterable[Any], int], Iterable[Any]]  # task, arguments, how many -> results in order
Engine = Callable[[int], AbstractContextManager[Each]]  # of the number of workers


# Ours


def ours(workers: int, **options: Any) -> Any:
    """Start our executor."""
    from ordered_executor import OrderedProcessPoolExecutor

    return OrderedProcessPoolExecutor(workers, **options)


def submit_then_results(executor: Any) -> Each:
    """`submit` everything, then read `results()`."""

    def each(task: Task, arguments: Iterable[Any], _: int) -> Iterable[Any]:
        for argument in arguments:
            executor.submit(task, argument)
        return executor.results()  # type: ignore[no-any-return]

    return each


@contextmanager
def ours_results(workers: int, **options: Any) -> Iterator[Each]:
    """Ours, read through the stream."""
    with ours(workers, **options) as executor:
        yield submit_then_results(executor)


@contextmanager
def ours_backlog(workers: int, backlog: int, **options: Any) -> Iterator[Each]:
    """`submit` in a thread that waits while the backlog is full, and read `results()` meanwhile."""
    with ours(workers, backlog=backlog, **options) as executor:

        def each(task: Task, arguments: Iterable[Any], count: int) -> Iterable[Any]:
            def produce() -> None:
                for argument in arguments:
                    executor.submit(task, argument)

            producer = Thread(target=produce)
            producer.start()
            yield from islice(executor.results(follow=True), count)
            producer.join()

        yield each


@contextmanager
def ours_map(workers: int, buffersize: int | None = None, **options: Any) -> Iterator[Each]:
    """`map`, with nothing tuned unless it says so."""
    with ours(workers, **options) as executor:
        yield lambda task, arguments, _: executor.map(task, arguments, buffersize=buffersize)


@contextmanager
def ours_queue(workers: int) -> Iterator[Each]:
    """`put` in one thread, `get` in another."""
    from ordered_executor.parallel_queue import ParallelQueue

    queue = ParallelQueue(num_workers=workers)

    def each(task: Task, arguments: Iterable[Any], count: int) -> Iterable[Any]:
        def produce() -> None:
            for argument in arguments:
                queue.put(task, argument)

        producer = Thread(target=produce)
        producer.start()
        for _ in range(count):
            yield queue.get()
        producer.join()

    try:
        yield each
    finally:
        queue.stop()
        queue.join(10)


# Peers


def read_one_by_one(executor: futures.Executor) -> Each:
    """`submit` everything, then ask future by future: the plain way to get order from any executor."""

    def each(task: Task, arguments: Iterable[Any], _: int) -> Iterable[Any]:
        submitted = [executor.submit(task, argument) for argument in arguments]
        submitted.reverse()
        while submitted:
            yield submitted.pop().result()

    return each


@contextmanager
def one_by_one(start: Callable[[int], futures.Executor], workers: int) -> Iterator[Each]:
    """Any executor, with its futures read one by one."""
    with start(workers) as executor:
        yield read_one_by_one(executor)


@contextmanager
def all_alive(start: Callable[[int], futures.Executor], workers: int) -> Iterator[Each]:
    """Any executor, with every future held until the last one has been read."""
    with start(workers) as executor:

        def each(task: Task, arguments: Iterable[Any], _: int) -> Iterable[Any]:
            submitted = [executor.submit(task, argument) for argument in arguments]
            for future in submitted:
                yield future.result()

        yield each


@contextmanager
def mapped(start: Callable[[int], futures.Executor], workers: int, chunksize: int = 1) -> Iterator[Each]:
    """Any executor's `map`."""
    with start(workers) as executor:
        yield lambda task, arguments, _: executor.map(task, arguments, chunksize=chunksize)


def process_pool(workers: int, method: str = "fork") -> futures.Executor:
    """Start concurrent.futures' executor."""
    return futures.ProcessPoolExecutor(workers, multiprocessing.get_context(method))


def loky(workers: int) -> Any:
    """Get loky's reusable executor. The process is the contestant's own, so it is nobody else's."""
    return import_module("loky").get_reusable_executor(max_workers=workers)


@contextmanager
def pool_imap(workers: int, chunksize: int = 1) -> Iterator[Each]:
    """multiprocessing.Pool."""
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield lambda task, arguments, _: pool.imap(task, arguments, chunksize)


@contextmanager
def joblib(workers: int) -> Iterator[Each]:
    """The generator of joblib; it sizes its batches itself."""
    library = import_module("joblib")
    with library.Parallel(n_jobs=workers, return_as="generator") as parallel:
        call = library.delayed
        yield lambda task, arguments, _: parallel(call(task)(argument) for argument in arguments)


@contextmanager
def mpire(workers: int) -> Iterator[Each]:
    """The imap of mpire; it sizes its chunks itself, from the length it is told."""
    with import_module("mpire").WorkerPool(n_jobs=workers, keep_alive=True) as pool:
        yield lambda task, arguments, count: pool.imap(task, arguments, iterable_len=count)


@contextmanager
def pebble(workers: int, chunksize: int = 1) -> Iterator[Each]:
    """Pebble's map."""
    with import_module("pebble").ProcessPool(max_workers=workers) as pool:
        yield lambda task, arguments, _: pool.map(task, arguments, chunksize=chunksize).result()
