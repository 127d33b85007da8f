"""`python -m tests.stress.cluster --seconds N --seed S`: hunt on a Dask cluster of processes.

A scheduler, and three workers with nannies, each a process of its own.  While executors run tasks of all kinds, workers
and nannies are killed, and workers are stopped, for a while or for good.  Every ticket must come, once, in order, with
its own value or error.
The exit status is 1 if something was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import random
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any

import psutil

from ordered_executor import TaskKilledError
from ordered_executor.dask import OrderedDaskExecutor
from tests.benchmarks.cluster import Processes, processes

WORKERS = 3
KINDS = ("kill a worker", "kill a worker", "kill a nanny", "stop a worker", "stop a worker for good")
PATIENCE = 240.0  # seconds for one pipeline: a hang


def work(number: int, seconds: float, size: int, fails: bool) -> Any:
    """Sleep, and return the number and a payload, or raise."""
    time.sleep(seconds)
    if fails:
        raise ValueError(number)
    return number, bytes(size)


class Mischief:
    """A thread that kills and stops, until it is told to end."""

    def __init__(self, cluster: Processes, rng: random.Random, done: Counter[str]) -> None:
        self._cluster, self._rng, self._done = cluster, rng, done
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """No more of it."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._rng.uniform(5.0, 15.0)):
            with contextlib.suppress(psutil.Error, OSError):
                self._do(self._rng.choice(KINDS))

    def _do(self, what: str) -> None:
        nanny = self._rng.choice(self._cluster.workers)
        children = psutil.Process(nanny.pid).children(recursive=True)
        if what == "kill a nanny":
            nanny.kill()
            nanny.wait()
            for child in children:
                child.kill()
            self._cluster.workers.remove(nanny)
            self._cluster.scale(WORKERS)
        elif not children:
            return
        elif what == "kill a worker":
            for child in children:
                child.send_signal(signal.SIGKILL)
        else:
            for child in children:
                child.suspend()
            if what == "stop a worker for good":
                self._done[what] += 1
                return
            self._over.wait(self._rng.uniform(0.5, 3.0))
            for child in children:
                child.resume()
        self._done[what] += 1


def pipeline(client: Any, rng: random.Random, done: Counter[str]) -> list[str]:
    """One executor; what is wrong with it."""
    wrong: list[str] = []
    count = rng.choice((20, 100, 400))
    typical = rng.choice((0.0, 0.002, 0.02, 0.1))
    size = rng.choice((0, 10, 100_000))
    window = rng.choice((None, None, 8, 64))
    with OrderedDaskExecutor(client, retries=20, window=window, unseen_errors="ignore", stall_timeout=10) as executor:
        watch = threading.Timer(PATIENCE / 2, tell, (executor, client))
        watch.daemon = True
        watch.start()
        plans = [
            (n, typical * rng.random() * 2, size if rng.random() < 0.2 else 0, rng.random() < 0.05)
            for n in range(count)
        ]
        if rng.random() < 0.4:
            found = list(executor.map(work, *zip(*plans, strict=True), errors="yield"))
            wrong += check(plans, found, set())
            done["maps"] += 1
        else:
            futures = [executor.submit(work, *plan) for plan in plans]
            killed = {n for n in range(count) if rng.random() < 0.01}
            for number in killed:
                futures[number].kill()
            read = executor.outcomes() if rng.random() < 0.5 else None
            outcomes = (
                [(o.error or o.value) for o in read] if read is not None else [result(future) for future in futures]
            )
            gone = {number for number in killed if futures[number].cancelled()}
            plans_left = [plan for plan in plans if plan[0] not in gone] if read is not None else plans
            wrong += check(plans_left, outcomes, killed)
            done["streams" if read is not None else "futures"] += 1
        done["tickets"] += count
        watch.cancel()
    return wrong


def tell(executor: Any, client: Any) -> None:
    """What an executor that stands still has on the cluster."""
    backend = executor._scheduler.backend
    parts = [part for parts in list(backend._lanes.values()) for part in list(parts)]
    print(f"stands still: {executor.statistics()}, threads {client.nthreads()}", flush=True)
    for part in sorted(parts, key=lambda part: part.ticket)[:20]:
        print(f"  {part.ticket}+{part.count} {part.task} ended={part.ended} guess={part.guess}", flush=True)


def result(future: Any) -> Any:
    """Its value or error."""
    return None if future.cancelled() else future.exception() or future.result()


def check(plans: list[Any], found: list[Any], killed: set[int]) -> list[str]:
    """Each has its own, at its place."""
    if len(plans) != len(found):
        return [f"{len(found)} outcomes of {len(plans)}"]
    wrong = []
    for (number, _, size, fails), outcome in zip(plans, found, strict=True):
        if number in killed and (outcome is None or isinstance(outcome, TaskKilledError)):
            continue
        right = (
            (isinstance(outcome, ValueError) and outcome.args == (number,))
            if fails
            else outcome == (number, bytes(size))
        )
        if not right:
            wrong.append(f"ticket {number} has {str(outcome)[:200]!r}")
    return wrong


def main() -> int:
    """Hunt, print what was done."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng, done, complaints = random.Random(given.seed), Counter[str](), 0
    until = time.monotonic() + given.seconds
    with processes(WORKERS, nanny=True) as cluster:
        mischief = Mischief(cluster, random.Random(given.seed + 1), done)
        while time.monotonic() < until:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            for one in pipeline(cluster.client, rng, done):
                complaints += 1
                print(f"pipeline {done['pipelines']}: {one}", flush=True)
            done["pipelines"] += 1
        faulthandler.cancel_dump_traceback_later()
        mischief.end()
    print(", ".join(f"{count} {what}" for what, count in sorted(done.items())), f"{complaints} complaints", sep="; ")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
