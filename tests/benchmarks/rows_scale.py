"""Rows about what a task costs when there are very many of them, or many workers: ours against itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.benchmarks import engines, tasks
from tests.benchmarks.engines import Engine
from tests.benchmarks.row import Entry, Figure, Play, Row, Setting, check_and_warm
from tests.benchmarks.rows_speed import IMAP_1

FEW = 10_000
PLAYS = 5  # of the few, for each play of the many: their median is what a task costs


def cost(engine: Engine, *, few: bool = False) -> Entry:
    """Return the microseconds that a task costs, of the round's size or of FEW."""

    @contextmanager
    def entry(setting: Setting) -> Iterator[Play]:
        with engine(setting.workers) as each:
            check_and_warm(each)

            def once(size: int) -> float:
                begin = time.perf_counter()
                count = sum(1 for _ in each(tasks.noop, range(size), size))
                if count != size:
                    raise AssertionError(f"{count} results for {size} tasks")
                return (time.perf_counter() - begin) / size * 1e6

            def play(size: int) -> Figure:
                return Figure(sorted(once(FEW) for _ in range(PLAYS))[PLAYS // 2] if few else once(size))

            yield play

    return entry


def million(name: str, title: str, engine: Engine, ratio: float) -> Row:
    """Compare the cost per task at 1,000,000 tasks with that at 10,000."""
    return Row(
        name,
        title,
        "µs a task",
        {"ours, 1,000,000 tasks": cost(engine), "ours, 10,000 tasks": cost(engine, few=True)},
        against={"ours, 10,000 tasks": ratio},
        less_is_better=True,
        sizes=(1_000_000, 1_000_000),
        quick_sizes=(100_000, 100_000),
        rounds=2,
        patience=240,
    )


def parent_time(engine: Engine, workers: int) -> Entry:
    """Return the microseconds of processor time that a task costs in the parent, all its threads together."""

    @contextmanager
    def entry(_: Setting) -> Iterator[Play]:
        with engine(workers) as each:
            check_and_warm(each)

            def play(size: int) -> Figure:
                begin = time.process_time()
                for _ in each(tasks.noop, range(size), size):
                    pass
                return Figure((time.process_time() - begin) / size * 1e6)

            yield play

    return entry


def parent_times(kind: str, engine: Engine) -> dict[str, Entry]:
    """Enter an engine with 16 workers and with 2."""
    return {f"{kind}, {workers} workers": parent_time(engine, workers) for workers in (16, 2)}


BACKLOG = partial(engines.ours_backlog, backlog=1000)
BUFFERSIZE = partial(engines.ours_map, buffersize=1000)
ALL_ALIVE = partial(engines.all_alive, engines.ours)
ROWS = [
    million("million-backlog", "no-op tasks, backlog=1000", BACKLOG, 1.1),
    million("million-map", "no-op tasks, map(buffersize=1000)", BUFFERSIZE, 1.1),
    million("million-futures", "no-op tasks, all futures alive", ALL_ALIVE, 2.0),
    Row(
        "lanes-16",
        "the parent's processor time for a no-op task",
        "µs a task",
        parent_times("ours", engines.ours_results) | parent_times(IMAP_1, engines.pool_imap),
        against={"ours, 2 workers": 1.5},
        less_is_better=True,
        sizes=(1000, 100_000),
    ),
]
