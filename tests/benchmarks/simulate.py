"""How much speed does a window cost? A simulation without processes.

The model is the executor with every cost taken out but the waiting:

- tasks go in ticket order, each to the first free worker;
- a worker that has finished ticket ``t`` holds its outcome at the gate until ``t < head + window``,
  and starts nothing else before;
- outcomes are released in ticket order.

A ticket is released once it and all before it have finished, so the time of its release is the running
maximum of the finishing times, and the gate of ticket ``t`` opens when ticket ``t - window`` is released.
Nothing in this looks ahead: one pass over the durations, with a heap of the times at which the workers
become free, is exact.

``python -m tests.benchmarks.simulate`` prints the table of docs/window.md; with ``--picture FILE`` it draws
the picture as well.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from importlib import import_module
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any

ENOUGH = 0.97  # the efficiency that the rule of thumb aims at
WORKERS = (2, 4, 8, 16, 64, 512, 4096)
WINDOWS = (1, 2, 5, 10, 20, 35, 50, 100, 200, 350)  # per worker
DRAWN = 200_000  # durations; a run repeats them, so that rare long tasks weigh the same in all runs
WINDOWS_PER_RUN = 5  # a window is felt only after its own length, and half of a run must be past that
MOST_TASKS = 5_000_000  # a few seconds; the few larger runs are left out of the table


@dataclass(frozen=True)
class Schedule:
    """What became of the tasks, in the unit of their durations.

    ``makespan`` is when the last outcome was released. ``busy`` and ``gated`` are what the workers spent on
    tasks and at the gate for the second half of the tickets, when the window has long been felt. While there
    are tasks, a worker does always one or the other.
    """

    makespan: float
    busy: float
    gated: float

    @property
    def efficiency(self) -> float:
        """The share of the workers' time that went into tasks."""
        return self.busy / (self.busy + self.gated) if self.busy else 1.0


def simulate(durations: Sequence[float], workers: int, window: int | None) -> Schedule:
    """Run tasks of these durations on so many workers behind this window (``None``: no bound)."""
    if workers < 1 or (window is not None and window < 1):
        raise ValueError(f"workers and window must be at least 1, not {workers} and {window}")
    reach = len(durations) if window is None else window
    settled = len(durations) // 2
    free = [0.0] * workers  # a heap: when each worker can start its next task
    released: list[float] = []  # by ticket
    latest = busy = gated = 0.0
    for ticket, duration in enumerate(durations):
        finish = leave = free[0] + duration
        latest = max(latest, finish)
        released.append(latest)
        if ticket >= reach:
            leave = max(finish, released[ticket - reach])
        heapreplace(free, leave)
        if ticket >= settled:
            busy += duration
            gated += leave - finish
    return Schedule(latest, busy, gated)


def best_makespan(durations: Sequence[float], workers: int, window: int | None) -> float:
    """Return how long these tasks take at least, dispatched in ticket order behind this window."""
    return simulate(durations, workers, window).makespan


# Durations of tasks, about 1 most of the time. The shares of very long tasks are what matters here.


def constant(_: random.Random) -> Iterator[float]:
    """All alike."""
    while True:
        yield 1.0


def exponential(rng: random.Random) -> Iterator[float]:
    """Now and then 7 times the average: requests to a server that is not busy."""
    while True:
        yield rng.expovariate(1.0)


def lognormal(rng: random.Random) -> Iterator[float]:
    """Now and then 15 times the average: sizes of files, lengths of texts."""
    while True:
        yield rng.lognormvariate(0.0, 1.0)


def every_50th(_: random.Random) -> Iterator[float]:
    """Every 50th task takes 100 times as long as the others."""
    while True:
        yield 100.0
        for _turn in range(49):
            yield 1.0


def pareto(rng: random.Random) -> Iterator[float]:
    """A few tasks take hundreds of times the average, up to 1,000 times the shortest: crawls, solvers."""
    while True:
        yield min(rng.paretovariate(1.5), 1000.0)


DISTRIBUTIONS: Mapping[str, Callable[[random.Random], Iterator[float]]] = MappingProxyType(
    {
        "constant": constant,
        "exponential": exponential,
        "lognormal": lognormal,
        "every 50th x 100": every_50th,
        "Pareto, up to x 1,000": pareto,
    }
)


def draw(name: str, tasks: int, seed: int = 0) -> list[float]:
    """Return so many durations of a distribution, the same ones for the same seed."""
    durations = DISTRIBUTIONS[name](random.Random(seed))
    return [next(durations) for _ in range(tasks)]


def longest_over_mean(durations: Sequence[float]) -> float:
    """Return the longest of these durations over their average, which the rule of thumb is made of."""
    return max(durations) * len(durations) / sum(durations)


@dataclass(frozen=True)
class Line:
    """One line of the table: efficiency by window per worker."""

    distribution: str
    ratio: float  # longest over mean
    workers: int
    shares: Mapping[int, float]

    def share(self, per_worker: int) -> float | None:
        """Return the efficiency with this window per worker, or None if unknown."""
        full = any(share > 0.9999 for share in self.shares.values())  # and so are all wider windows
        return self.shares.get(per_worker, 1.0 if full else None)

    @property
    def enough(self) -> str:
        """The smallest window per worker of the table that gives ENOUGH."""
        return next((f"{w}" for w, share in self.shares.items() if share >= ENOUGH), f"> {max(self.shares)}")


def shares(durations: Sequence[float], workers: int) -> Iterator[tuple[int, float]]:
    """Yield window per worker and efficiency, up to the first window that costs nothing."""
    for per_worker in WINDOWS:
        window = per_worker * workers
        # An even number, so that the second half is made of whole draws.
        times = 2 * ceil(WINDOWS_PER_RUN * window / len(durations) / 2)
        if times * len(durations) > MOST_TASKS:
            return
        share = simulate([*durations] * times, workers, window).efficiency
        yield per_worker, share
        if share > 0.9999:
            return


def table(workers: Sequence[int] = WORKERS) -> Iterator[Line]:
    """Yield the lines of the table as they are found."""
    for name in DISTRIBUTIONS:
        durations = draw(name, DRAWN)
        for count in workers:
            yield Line(name, longest_over_mean(durations), count, dict(shares(durations, count)))


def picture(lines: Sequence[Line], file: Path) -> None:
    """Draw efficiency over window per worker, one panel for each distribution."""
    plt: Any = import_module("matplotlib.pyplot")
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "window", "font.size": 9})
    figure, panels = plt.subplots(1, len(DISTRIBUTIONS), figsize=(12, 2.9), sharey=True, layout="constrained")
    for panel, name in zip(panels, DISTRIBUTIONS, strict=True):
        of_this = [line for line in lines if line.distribution == name]
        for line in of_this:
            known = [(w, share) for w in WINDOWS if (share := line.share(w)) is not None]
            panel.plot(*zip(*known, strict=True), linewidth=1.2, label=f"{line.workers:,}")
        panel.axvline(of_this[0].ratio, color="gray", linestyle=":")
        panel.set(xscale="log", xlabel="window / workers", title=name, ylim=(0, 1.03))
        panel.set_xticks([1, 10, 100], ["1", "10", "100"])
        panel.minorticks_off()
    panels[0].set_ylabel("share of time in tasks")
    panels[0].legend(title="workers", loc="lower right", fontsize=8)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Print the table, line by line as it is found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.simulate", description="Window against efficiency."
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it, as SVG (needs matplotlib)")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, metavar="N")
    arguments = parser.parse_args()
    print("Percent of the workers' time spent in tasks, by window / workers; R: longest / average task.")
    heading = "".join(f"{per_worker:>5}" for per_worker in WINDOWS)
    print(f"{'durations':<22} {'R':>4} {'workers':>7} |{heading} | {ENOUGH:.0%} from")
    lines = []
    for line in table(arguments.workers):
        known = [line.share(per_worker) for per_worker in WINDOWS]
        cells = "".join("    -" if share is None else f"{share * 100:>5.0f}" for share in known)
        about = f"{line.distribution:<22} {line.ratio:>4.0f} {line.workers:>7,}"
        print(f"{about} |{cells} | {line.enough:>5}", flush=True)
        lines.append(line)
    if arguments.picture:
        picture(lines, arguments.picture)


if __name__ == "__main__":
    main()
