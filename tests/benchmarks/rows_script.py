"""Rows about scripts: what `__main__` has goes to the workers once, and costs nothing from then on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.row import OURS, Entry, Figure, Play, Row, Setting

SCRIPT = Path(__file__).with_name("script.py")
ENGINES = (
    {OURS: "ours"}
    | {f"ProcessPoolExecutor ({method})": method for method in ("fork", "spawn", "forkserver")}
    | {"loky": "loky"}
)
FORK, SPAWN, SERVER, LOKY = list(ENGINES)[1:]


def script(engine: str, work: str, *, warm: bool = False) -> Entry:
    """Time a script, each round in a process of its own."""

    @contextmanager
    def entry(_: Setting) -> Iterator[Play]:
        def play(size: int) -> Figure:
            command = [sys.executable, str(SCRIPT), engine, work, str(size), *["warm"] * warm]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])
            return Figure(size / float(done.stdout) if warm else float(done.stdout))

        yield play

    return entry


def scripts(work: str, *names: str, warm: bool = False) -> dict[str, Entry]:
    """Enter ours and these peers."""
    return {name: script(ENGINES[name], work, warm=warm) for name in (OURS, *names)}


ROWS = [
    *(
        Row(
            f"script-{size}-{tasks}",
            f"a script's global of {text}, {tasks:,} tasks, from the start of the workers",
            "s",
            scripts(f"table{mib}", FORK, SPAWN, *[LOKY] * (mib < 100 and tasks < 1000)),
            against={SPAWN: 1.0},
            less_is_better=True,
            sizes=(tasks, tasks),
            rounds=3,
        )
        for size, mib, text in (("16m", 16, "16 MiB"), ("1g", 1024, "1 GiB"))
        for tasks in (200, 2000)
    ),
    Row(
        "script-partial",
        "a partial over 64 MiB, 200 tasks, from the start of the workers",
        "s",
        scripts("partial", FORK),
        less_is_better=True,
        against={FORK: 1.0},
        sizes=(200, 200),
        rounds=1,
        patience=180.0,
    ),
    Row(
        "script-noop",
        "no-op tasks of a script: futures read one by one",
        "tasks/s",
        scripts("noop", FORK, warm=True),
        sizes=(20_000, 20_000),
        against={FORK: 10.0},
        rounds=3,
    ),
    Row(
        "script-noop-map",
        "no-op tasks of a script: map, nothing tuned",
        "tasks/s",
        scripts("noop-map", FORK, warm=True),
        sizes=(20_000, 20_000),
        against={FORK: 10.0},
        rounds=3,
    ),
]
