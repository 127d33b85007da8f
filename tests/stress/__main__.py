"""`python -m tests.stress --seconds N --seed S`: hunt for N seconds; the exit status is 1 if there was a complaint."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ordered_executor import end_idle_workers
from tests.helpers import Traces, start_what_stays

from .checks import check
from .draw import draw
from .outcomes import tasks_of
from .plan import Plan
from .play import Play
from .programs import run_inside, run_program
from .table import Table, faults_of
from .watchdog import Watchdog, say

LEAK_PATIENCE = 10.0
WARM_UP = 50  # pipelines, after which memory should not grow any more
SHOWN = 6  # complaints of one pipeline


class Hunt:
    """Pipelines, one after the other."""

    def __init__(self, seed: int, patience: float) -> None:
        self.seed = seed
        self.table = Table()
        self._plan: Plan | None = None
        self._checked_from = 0  # the first pipeline since the last look for leaks
        self._stray: list[str] = []
        self._resident = 0.0
        threading.excepthook = self._on_stray
        sys.unraisablehook = self._on_unraisable
        start_what_stays()
        np.zeros(1).sum()  # what NumPy starts, it starts now
        self._before = Traces()
        self.watch = Watchdog(patience, self._last_words)
        self._before.threads[self.watch.thread.name] += 1

    def _on_stray(self, args: threading.ExceptHookArgs) -> None:
        self._stray.append(f"in thread {args.thread}: {args.exc_type.__name__}: {args.exc_value}")

    def _on_unraisable(self, args: Any) -> None:
        self._stray.append(f"unraisable in {args.object!r}: {args.exc_type.__name__}: {args.exc_value}")

    def _last_words(self) -> str:
        again = "" if self._plan is None else f"{self._again(self._plan)}\n{self._plan.describe()}\n"
        return f"{again}\n{self.table}"

    def _again(self, plan: Plan) -> str:
        return f"again: python -m tests.stress --seed {plan.seed} --pipeline {plan.number}"

    def run(self, number: int) -> list[str]:
        """One pipeline; returns what is wrong with it."""
        self._plan = plan = draw(self.seed, number)
        with tempfile.TemporaryDirectory(prefix="hunt-") as folder:
            book = Path(folder) / "journal"
            book.touch()
            record = run_program(plan, self.watch) if plan.signal else Play(plan, self.watch, str(book)).play()
        found = list(record.complaints) if plan.signal else check(record)
        faults = faults_of(record)
        del record
        found += self._stray
        self._stray.clear()
        if plan.look_for_leaks:
            found += self.leaks(number)
        if self.table.pipelines == WARM_UP:
            self._resident = _resident_mib()
        self.table.add(faults, number, not found, len(tasks_of(plan)))
        if found:
            say(f"\n=== {len(found)} COMPLAINTS about {plan.describe()}\n{self._again(plan)}")
            say("\n".join(f"- {one}" for one in found[:SHOWN]))
            say(f"- … {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        return found

    def leaks(self, number: int) -> list[str]:
        """What is left since the last look, when all warm workers have been ended."""
        self.watch.beat(f"looking for leaks after pipeline {number} of seed {self.seed}")
        end_idle_workers()
        gc.collect()
        deadline = time.monotonic() + LEAK_PATIENCE
        while (left := Traces().left_since(self._before)) and time.monotonic() < deadline:
            time.sleep(0.02)
            gc.collect()
            # Where a fork server was late to tell how a worker ended, multiprocessing keeps two descriptors until it
            # is asked, or starts another process.
            multiprocessing.active_children()
        if left:
            self._before = Traces()  # complained about once
        since, self._checked_from = self._checked_from, number + 1
        return [f"left by pipelines {since} to {number}: {one}" for one in left]

    def memory(self) -> str:
        """How much this process has grown since it was warm."""
        if self.table.pipelines <= WARM_UP:
            return ""
        return f"resident memory after {WARM_UP} pipelines: {self._resident:.0f} MiB, now: {_resident_mib():.0f} MiB"


def _resident_mib() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 2**20


def main() -> int:
    """Parse, hunt, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="K", help="begin with pipeline K")
    parser.add_argument("--pipeline", type=int, metavar="K", help="run pipeline K only")
    parser.add_argument("--show", action="store_true", help="print the plan before it is run")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds without progress that are a hang")
    parser.add_argument("--inside", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.getLogger("ordered_executor").setLevel(logging.CRITICAL)
    if given.inside:
        run_inside(draw(given.seed, given.pipeline), given.inside)
        return 0
    hunt = Hunt(given.seed, given.patience)
    number = given.first if given.pipeline is None else given.pipeline
    until = time.monotonic() + given.seconds
    while True:
        if given.show:
            say(draw(given.seed, number).describe())
        hunt.run(number)
        if given.pipeline is not None or time.monotonic() > until:
            break
        number += 1
    left = hunt.leaks(number)
    hunt.watch.close()
    print(hunt.table, hunt.memory(), sep="\n\n")
    print("\n".join(left))
    return 1 if hunt.table.failed or left else 0


if __name__ == "__main__":
    sys.exit(main())
