"""Rows about the parent's memory while results wait: behind a slow head, and for a slow reader.

`python -m tests.benchmarks.memory --picture FILE` plays both and draws resident memory over time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.benchmarks import engines, tasks
from tests.benchmarks.engines import Engine
from tests.benchmarks.row import MEMORY, OURS, Entry, Figure, Play, Row, Setting
from tests.benchmarks.rows_speed import LARGE

EVERY = 0.02  # seconds between two looks at the memory
WINDOW_MIB = 64  # of bytes: the default
SLACK_MIB = 30
BOUNDED = 16  # results: window, buffersize or backlog where one is set


def resident_mib() -> float:
    """Return the resident memory of this process, shared pages included."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:  # not Linux
        return import_module("psutil").Process().memory_info().rss / tasks.MIB  # type: ignore[no-any-return]
    return pages * os.sysconf("SC_PAGE_SIZE") / tasks.MIB


@contextmanager
def watched() -> Iterator[list[tuple[float, float]]]:
    """Collect (seconds, MiB more than at the start) until the block ends."""
    begin, before = time.perf_counter(), resident_mib()
    trace: list[tuple[float, float]] = [(0.0, 0.0)]
    over = Event()

    def look() -> None:
        while not over.wait(EVERY):
            trace.append((time.perf_counter() - begin, resident_mib() - before))

    watcher = Thread(target=look)
    watcher.start()
    try:
        yield trace
    finally:
        over.set()
        watcher.join()


def growth(engine: Engine, head: float, reader: float) -> Entry:
    """Return by how many MiB the parent grows at most, with a head that takes so long, or a reader."""

    @contextmanager
    def entry(setting: Setting) -> Iterator[Play]:
        with engine(setting.workers) as each:
            sum(1 for _ in each(tasks.late_1m, [0.0] * 10, 10))

            def play(size: int) -> Figure:
                durations = [head] + [0.0] * (size - 1)
                with watched() as trace:
                    for _ in each(tasks.late_1m, durations, size):
                        if reader:
                            time.sleep(reader)
                return Figure(max(mib for _, mib in trace), tuple(trace))

            yield play

    return entry


def grown(ours: dict[str, Engine], head: float = 0.0, reader: float = 0.0) -> dict[str, Entry]:
    """Enter these of ours, and all peers."""
    return {name: growth(engine, head, reader) for name, engine in (ours | LARGE).items()}


def bound(results: int, workers: int = 2) -> float:
    """Return the MiB that are allowed where so many results of 1 MiB may wait."""
    return float(results + workers + 2 + SLACK_MIB)


WINDOW = f"ours, window={BOUNDED}"
BUFFERSIZE = f"ours, map(buffersize={BOUNDED})"
BACKLOG = f"ours, backlog={BOUNDED}"
ROWS = [
    Row(
        "slow-head",
        "memory behind a slow head (2 s), 1 MiB results",
        MEMORY,
        grown({OURS: engines.ours_results, WINDOW: partial(engines.ours_results, window=BOUNDED)}, head=2.0),
        limits={OURS: bound(WINDOW_MIB), WINDOW: bound(BOUNDED)},
        less_is_better=True,
        sizes=(1000, 1000),
        quick_sizes=(300, 300),
        rounds=1,
    ),
    Row(
        "slow-reader",
        "memory with a slow reader (5 ms each), 1 MiB results",
        MEMORY,
        grown(
            {
                BUFFERSIZE: partial(engines.ours_map, buffersize=BOUNDED),
                BACKLOG: partial(engines.ours_backlog, backlog=BOUNDED),
            },
            reader=0.005,
        ),
        limits={BUFFERSIZE: bound(BOUNDED), BACKLOG: bound(BOUNDED)},
        less_is_better=True,
        sizes=(1000, 1000),
        quick_sizes=(300, 300),
        rounds=1,
    ),
]


def picture(file: Path, setting: Setting) -> None:
    """Play the rows and draw what was seen."""
    from tests.benchmarks.contest import contest  # which finds its rows here

    plt: Any = import_module("matplotlib.pyplot")
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "memory", "font.size": 9})
    figure, panels = plt.subplots(1, len(ROWS), figsize=(11, 3.4), sharey=True, layout="constrained")
    for panel, row in zip(panels, ROWS, strict=True):
        for score in contest(row, setting):
            if score.figures:
                width = 2 if score.name.startswith(OURS) else 1
                panel.plot(*zip(*score.trace, strict=True), label=score.name, linewidth=width)
        panel.set(title=row.title, xlabel="seconds")
        panel.legend(fontsize=7)
    panels[0].set_ylabel("MiB more than at the start")
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__)
    parser.add_argument("--picture", type=Path, metavar="FILE", required=True, help="an SVG (needs matplotlib)")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    picture(arguments.picture, Setting(quick=arguments.quick))


if __name__ == "__main__":
    main()
