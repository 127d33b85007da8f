"""Rows about tasks and bytes a second, and about the way there and back."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from tests.benchmarks import engines, tasks
from tests.benchmarks.engines import Engine, Task
from tests.benchmarks.row import BEST, OURS, Arguments, Entry, Figure, Play, Row, Setting, throughput

# Where concurrent.futures does not fork by default, its default is shown too.
METHODS = dict.fromkeys(["fork", multiprocessing.get_all_start_methods()[0]])
POOLS: dict[str, Callable[[int], futures.Executor]] = {
    f"ProcessPoolExecutor ({method})": partial(engines.process_pool, method=method) for method in METHODS
}
FORK = next(iter(POOLS))
LOKY = "loky"
IMAP_1, IMAP_100 = "Pool, imap(1)", "Pool, imap(100)"
JOBLIB = "joblib, generator"
Engines = dict[str, Engine]
BY_FUTURES: Engines = {
    name: partial(engines.one_by_one, start) for name, start in (POOLS | {LOKY: engines.loky}).items()
}
ONE_BY_ONE: Engines = {IMAP_1: engines.pool_imap} | BY_FUTURES
IN_CHUNKS: Engines = {
    IMAP_100: partial(engines.pool_imap, chunksize=100),
    f"{FORK}, map(100)": partial(engines.mapped, POOLS[FORK], chunksize=100),
    "loky, map(100)": partial(engines.mapped, engines.loky, chunksize=100),
    JOBLIB: engines.joblib,
    "mpire, imap": engines.mpire,
    "Pebble, map(100)": partial(engines.pebble, chunksize=100),
}
LARGE: Engines = {
    IMAP_1: engines.pool_imap,
    f"{FORK}, map": partial(engines.mapped, POOLS[FORK]),
    "loky, map": partial(engines.mapped, engines.loky),
    JOBLIB: engines.joblib,
    "mpire, imap": engines.mpire,
    "Pebble, map": engines.pebble,
}


def speeds(us: Engine, peers: Engines, task: Task, arguments: Arguments = range) -> dict[str, Entry]:
    """Enter all of these with the same task."""
    return {name: throughput(engine, task, arguments) for name, engine in ({OURS: us} | peers).items()}


def large_arguments(count: int) -> Iterator[Any]:
    """Give arrays of 1 MiB, each an object of its own on the same memory."""
    whole = tasks.array(tasks.MIB)
    return (whole.view() for _ in range(count))


def round_trip(start: Callable[[int], futures.Executor]) -> Entry:
    """Time one task on an idle executor, there and back."""

    @contextmanager
    def entry(setting: Setting) -> Iterator[Play]:
        with start(setting.workers) as executor:
            for _ in range(20):
                executor.submit(tasks.noop).result()

            def play(size: int) -> Figure:
                spent = 0.0
                for _ in range(size):
                    time.sleep(0.001)  # idle means that every thread has gone to sleep
                    begin = time.perf_counter()
                    executor.submit(tasks.noop).result()
                    spent += time.perf_counter() - begin
                return Figure(spent / size * 1e6)

            yield play

    return entry


def with_block(start: Callable[[int], Any]) -> Entry:
    """Time a `with` block around two no-op tasks."""

    @contextmanager
    def entry(setting: Setting) -> Iterator[Play]:
        def play(size: int) -> Figure:
            begin = time.perf_counter()
            for _ in range(size):
                with start(setting.workers) as executor:
                    for future in [executor.submit(tasks.noop), executor.submit(tasks.noop)]:
                        future.result()
            return Figure((time.perf_counter() - begin) / size * 1e3)

        play(2)
        yield play

    return entry


@contextmanager
def left_running(start: Callable[[int], Any], workers: int) -> Iterator[Any]:
    """An executor that is not shut down with the block, as loky's reusable one is used."""
    yield start(workers)


def new_loky(workers: int) -> Any:
    """Start loky's plain executor."""
    return import_module("loky").ProcessPoolExecutor(workers)


TIMES_TEN = dict.fromkeys(POOLS, 10.0) | {LOKY: 10.0}

ROWS = [
    Row(
        "noop-results",
        "no-op tasks: submit, then results()",
        "tasks/s",
        speeds(engines.ours_results, ONE_BY_ONE, tasks.noop),
        against={IMAP_1: 1.5} | TIMES_TEN,
    ),
    Row(
        "noop-futures",
        "no-op tasks: futures read one by one",
        "tasks/s",
        speeds(partial(engines.one_by_one, engines.ours), ONE_BY_ONE, tasks.noop),
        against={IMAP_1: 1.5} | TIMES_TEN,
    ),
    Row(
        "noop-map",
        "no-op tasks: map, nothing tuned",
        "tasks/s",
        speeds(engines.ours_map, IN_CHUNKS, tasks.noop),
        against={IMAP_100: 1.25, JOBLIB: 5.0},
        sizes=(1000, 2_000_000),
    ),
    Row(
        "noop-queue",
        "no-op tasks: ParallelQueue put, get",
        "tasks/s",
        speeds(engines.ours_queue, {IMAP_1: engines.pool_imap}, tasks.noop),
        limits={OURS: 200 * 216},  # 216 tasks a second is what parallel-queue 0.5 carried
    ),
    Row(
        "small-results",
        "small results: str, dict, dataclass, tuple",
        "tasks/s",
        speeds(engines.ours_results, ONE_BY_ONE, tasks.small),
        against={IMAP_1: 1.5},
    ),
    Row(
        "array-64k",
        "results: NumPy arrays of 64 KiB",
        "tasks/s",
        speeds(engines.ours_results, LARGE | {IMAP_100: IN_CHUNKS[IMAP_100]}, tasks.array_64k),
        against={BEST: 3.0},
        sizes=(10, 100_000),
    ),
    Row(
        "array-1m",
        "results: NumPy arrays of 1 MiB",
        "tasks/s",
        speeds(engines.ours_results, LARGE, tasks.array_1m),
        against={BEST: 12.0},
        sizes=(10, 10_000),
    ),
    Row(
        "bytes-1m",
        "results: bytes of 1 MiB",
        "tasks/s",
        speeds(engines.ours_results, LARGE, tasks.bytes_1m),
        against={BEST: 5.0},
        sizes=(10, 10_000),
    ),
    Row(
        "array-64m",
        "results: NumPy arrays of 64 MiB",
        "tasks/s",
        speeds(engines.ours_results, LARGE, tasks.array_64m),
        against={BEST: 3.0},
        sizes=(4, 16),
        quick_sizes=(4, 4),
        rounds=3,
    ),
    Row(
        "argument-1m",
        "arguments: NumPy arrays of 1 MiB",
        "tasks/s",
        speeds(engines.ours_map, LARGE, tasks.length, large_arguments),
        against={BEST: 5.0},
        sizes=(10, 10_000),
    ),
    Row(
        "round-trip",
        "one task on a warm idle executor, there and back",
        "µs",
        {OURS: round_trip(engines.ours)}
        | {name: round_trip(start) for name, start in (POOLS | {LOKY: engines.loky}).items()},
        against={FORK: 1.0, LOKY: 0.5},
        less_is_better=True,
        sizes=(10, 300),
    ),
    Row(
        "with-block",
        "with block around two no-op tasks, warm",
        "ms",
        {OURS: with_block(engines.ours)}
        | {name: with_block(start) for name, start in POOLS.items()}
        | {
            LOKY: with_block(new_loky),
            "loky, reusable": with_block(partial(left_running, engines.loky)),
        },
        against={FORK: 1 / 3},
        less_is_better=True,
        sizes=(1, 200),
    ),
]
