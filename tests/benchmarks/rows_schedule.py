"""Rows about how busy the workers are kept: even tasks on both cores, and slow tasks among fast ones."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat

from tests.benchmarks import engines, tasks
from tests.benchmarks.engines import Each, Engine
from tests.benchmarks.row import OURS, Entry, Figure, Play, Row, Setting, check_and_warm
from tests.benchmarks.rows_speed import FORK, IMAP_1, JOBLIB, LOKY, ONE_BY_ONE
from tests.benchmarks.simulate import best_makespan

Durations = Callable[[int], list[float]]
BARE = "nothing in between"  # the same work in two calls, one for each worker
PEERS = {name: ONE_BY_ONE[name] for name in (IMAP_1, FORK, LOKY)} | {JOBLIB: engines.joblib}


def busy_share(engine: Engine, seconds: float, *, bare: bool = False) -> Entry:
    """Return the share of the workers' time that tasks of so many seconds make of it."""

    @contextmanager
    def entry(setting: Setting) -> Iterator[Play]:
        with engine(setting.workers) as each:
            check_and_warm(each)

            def play(size: int) -> Figure:
                size -= size % setting.workers
                begin = time.perf_counter()
                if bare:
                    half = (seconds, size // setting.workers)
                    list(each(tasks.busy_many, [half] * setting.workers, setting.workers))
                else:
                    list(each(tasks.busy, repeat(seconds, size), size))
                return Figure(size * seconds / setting.workers / (time.perf_counter() - begin) * 100)

            yield play

    return entry


def schedule(each: Each, durations: Durations, workers: int, window: int | None) -> Play:
    """Return the share of the best schedule that the same window allows, for tasks that sleep.

    The best one is computed from what each sleep really took, so that late timers are nobody's fault.
    """
    check_and_warm(each)

    def play(size: int) -> Figure:
        wanted = durations(size)
        begin = time.perf_counter()
        slept = list(each(tasks.nap, wanted, size))
        seconds = time.perf_counter() - begin
        return Figure(best_makespan(slept, workers, window) / seconds * 100)

    return play


def schedules(durations: Durations) -> dict[str, Entry]:
    """Enter ours with its own window, the peers with none."""

    @contextmanager
    def us(setting: Setting) -> Iterator[Play]:
        with engines.ours(setting.workers) as executor:
            each = engines.submit_then_results(executor)
            yield schedule(each, durations, setting.workers, executor.statistics().window)

    def peer(engine: Engine) -> Entry:
        @contextmanager
        def entry(setting: Setting) -> Iterator[Play]:
            with engine(setting.workers) as each:
                yield schedule(each, durations, setting.workers, None)

        return entry

    return {OURS: us} | {name: peer(engine) for name, engine in PEERS.items()}


def every_50th(size: int) -> list[float]:
    """2 ms, and every 50th 200 ms."""
    return [0.2 if number % 50 == 0 else 0.002 for number in range(size)]


def lognormal(size: int) -> list[float]:
    """1 ms in the middle, 3 ms on the average, now and then 30 ms and more."""
    rng = random.Random(1)
    return [rng.lognormvariate(0.0, 1.5) / 1000 for _ in range(size)]


def busy_row(name: str, title: str, seconds: float, share: float) -> Row:
    """Even tasks that keep both cores busy."""
    bare = {BARE: busy_share(engines.pool_imap, seconds, bare=True)}
    entries = {
        OURS: busy_share(engines.ours_results, seconds),
        **bare,
        **{peer: busy_share(engine, seconds) for peer, engine in PEERS.items()},
    }
    tasks_in_a_second = round(2 / seconds)
    return Row(
        name,
        title,
        "% of two cores",
        entries,
        against={BARE: share},
        sizes=(tasks_in_a_second, tasks_in_a_second),
        quick_sizes=(tasks_in_a_second // 4, tasks_in_a_second // 4),
    )


ROWS = [
    busy_row("busy-1ms", "busy tasks of 1 ms", 0.001, 0.95),
    busy_row("busy-10ms", "busy tasks of 10 ms", 0.010, 0.99),
    Row(
        "every-50th",
        "1,000 sleeping tasks of 2 ms, every 50th 200 ms",
        "% of the best",
        schedules(every_50th),
        limits={OURS: 97.0},
        sizes=(1000, 1000),
        quick_sizes=(200, 200),
        rounds=3,
    ),
    Row(
        "lognormal",
        "1,000 sleeping tasks, lognormal around 1 ms",
        "% of the best",
        schedules(lognormal),
        limits={OURS: 97.0},
        sizes=(1000, 1000),
        quick_sizes=(200, 200),
        rounds=5,
    ),
]
