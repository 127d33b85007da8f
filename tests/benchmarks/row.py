"""What a row of the table is made of.

A row names its contestants; an `Entry` starts one of them and gives a `Play`, which plays one round of so
many tasks and returns the figure that is compared. The first contestant is the one that the row is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.benchmarks.engines import Each, Engine, Task
from tests.benchmarks.tasks import small

OURS = "ours"
BEST = "the best peer"
MEMORY = "MiB"  # the unit of rows in which each one's own figure tells more than a ratio


class Figure(NamedTuple):
    """What a round came to; rows about memory add (seconds, MiB) over time."""

    value: float
    trace: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Setting:
    """What holds for the whole run."""

    quick: bool = False
    workers: int = 2
    repeat: int | None = None  # rounds, where a row does not need its own number

    @property
    def seconds(self) -> float:
        """About how long a round takes where its size is free."""
        return 0.1 if self.quick else 0.4


Play = Callable[[int], Figure]
Entry = Callable[[Setting], AbstractContextManager[Play]]


@dataclass(frozen=True)
class Row:
    """One row: what is done, who does it, and what is to be reached."""

    name: str
    title: str
    unit: str
    entries: Mapping[str, Entry]  # the first is the one that the row is about
    against: Mapping[str, float] = field(default_factory=dict)  # contestant -> ratio to it, to be reached
    limits: Mapping[str, float] = field(default_factory=dict)  # contestant -> its own figure, to be reached
    less_is_better: bool = False
    sizes: tuple[int, int] = (1, 2_000_000)  # tasks in a round; where the two differ, what fills the time
    quick_sizes: tuple[int, int] | None = None
    rounds: int | None = None  # at most
    patience: float = 60.0  # seconds after which a round counts as hung

    def size(self, setting: Setting) -> tuple[int, int]:
        """Return the least and the most tasks in a round."""
        return self.quick_sizes or self.sizes if setting.quick else self.sizes

    def times(self, setting: Setting) -> int:
        """Return how many rounds are played."""
        wanted = setting.repeat or (3 if setting.quick else 5)
        return wanted if self.rounds is None else min(wanted, 1 if setting.quick else self.rounds)


Arguments = Callable[[int], Iterable[Any]]  # of how many


def check_and_warm(each: Each) -> None:
    """See that the workers run and that results come in order, before anything is timed."""
    for _ in range(3):
        found = list(each(small, range(40), 40))
        if found != [small(number) for number in range(40)]:
            raise AssertionError(f"results out of order: {found}")


def throughput(engine: Engine, task: Task, arguments: Arguments = range) -> Entry:
    """Tasks a second through an engine."""

    @contextmanager
    def entry(setting: Setting) -> Iterator[Play]:
        with engine(setting.workers) as each:
            check_and_warm(each)

            def play(size: int) -> Figure:
                start = time.perf_counter()
                count = sum(1 for _ in each(task, arguments(size), size))
                seconds = time.perf_counter() - start
                if count != size:
                    raise AssertionError(f"{count} results for {size} tasks")
                return Figure(size / seconds)

            yield play

    return entry
