"""`python -m tests.stress.soak --seconds N`: a service of eight asyncio clients, none of whose parts may grow.

The clients share an executor with its defaults.  They await calls, give up on them, cancel them, kill them, lose their
workers, meet errors, send what cannot be pickled, read in done-callbacks, wait and do not read, and map.  Meanwhile the
memory, objects, descriptors and threads of the parent and of its workers are sampled.  At the end: a line is laid
through the samples of each (the first fifth aside, in which everything warms up); it is flat if what it rises over the
time measured is within twice the spread of the samples around it, or less than can be told.

The exit status is 1 if something is not flat, or if a client met what it should not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass, field
from typing import Any

import psutil

from ordered_executor import OrderedProcessPoolExecutor, TaskKilledError, TerminatedWorkerError

CLIENTS = 8
WORKERS = 3
WARM_UP = 0.2  # of the time; its samples do not count
MIB = 2**20


# ---------------------------------------------------------------------------------------------------------- in a worker


def work(seconds: float, size: int) -> bytes:
    """Take some time, and return so much."""
    time.sleep(seconds)
    return bytes(size)


def fail(size: int) -> None:
    """Raise an error that is large."""
    raise ValueError(bytes(size))


def die() -> None:
    """End the process."""
    os._exit(7)


def look() -> tuple[int, int]:
    """Count the objects of this worker; say which it is."""
    gc.collect()
    return os.getpid(), len(gc.get_objects())


# ------------------------------------------------------------------------------------------------------------ a client


class Client:
    """Does one thing after the other, at random."""

    def __init__(self, executor: OrderedProcessPoolExecutor, seed: int, done: Counter[str]) -> None:
        self.executor = executor
        self.random = random.Random(seed)
        self.done = done
        self.acts: list[Callable[[], Awaitable[object]]] = [
            *[self.call] * 6,
            *[self.give_up] * 3,
            self.cancel,
            self.kill,
            self.lose_worker,
            self.meet_error,
            self.send_what_cannot_be_sent,
            self.read_in_callback,
            self.only_wait,
            self.gather,
            self.map,
        ]

    async def run(self, until: float) -> None:
        """Until that time."""
        while time.monotonic() < until:
            act = self.random.choice(self.acts)
            await act()
            self.done[act.__name__] += 1

    def start(self, seconds: float = 0.003) -> asyncio.Future[bytes]:
        """A call on its way."""
        size = self.random.choice([10, 1000, 50_000, 1_000_000])
        return asyncio.get_running_loop().run_in_executor(self.executor, work, self.random.random() * seconds, size)

    async def call(self) -> None:
        """Await a call."""
        await self.start()

    async def give_up(self) -> None:
        """Time out, before it begins, while it runs, or just when it ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.start(0.02), self.random.random() * 0.02)

    async def cancel(self) -> None:
        """Cancel an asyncio task that awaits it."""
        task = asyncio.ensure_future(self.start(0.02))
        await asyncio.sleep(self.random.random() * 0.02)
        task.cancel()
        await asyncio.wait([task])

    async def kill(self) -> None:
        """Kill one that runs long."""
        future = self.executor.submit(work, 30.0, 10)
        await asyncio.sleep(self.random.random() * 0.1)
        future.kill()
        with contextlib.suppress(TaskKilledError, asyncio.CancelledError):
            await asyncio.wrap_future(future)

    async def lose_worker(self) -> None:
        """A task ends its process."""
        with contextlib.suppress(TerminatedWorkerError):
            await asyncio.wrap_future(self.executor.submit(die))

    async def meet_error(self) -> None:
        """A task raises."""
        with contextlib.suppress(ValueError):
            await asyncio.wrap_future(self.executor.submit(fail, 100_000))

    async def send_what_cannot_be_sent(self) -> None:
        """An argument that cannot be pickled."""
        with contextlib.suppress(TypeError):
            await asyncio.wrap_future(self.executor.submit(work, threading.Lock(), 1))  # type: ignore[arg-type]

    async def read_in_callback(self) -> None:
        """Nobody holds the future: its callback reads."""
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read(future: Any) -> None:
            future.result()
            loop.call_soon_threadsafe(over.set)

        self.executor.submit(work, 0.001, 100_000).add_done_callback(read)
        await over.wait()

    async def only_wait(self) -> None:
        """Wait for some, and read none."""
        futures = [self.executor.submit(work, 0.001, 10_000) for _ in range(5)]
        await asyncio.to_thread(wait, futures, self.random.random() * 0.02)

    async def gather(self) -> None:
        """Many at a time, of which the first error ends the waiting."""
        with contextlib.suppress(ValueError):
            await asyncio.gather(*(self.start() for _ in range(10)), asyncio.wrap_future(self.executor.submit(fail, 9)))

    async def map(self) -> None:
        """A map in a thread, left half way."""
        await asyncio.to_thread(self._read_half, self.random.random() < 0.3)

    def _read_half(self, prefetch: bool) -> None:
        results = self.executor.map(work, [0.0] * 100, [1000] * 100, buffersize=20, prefetch=prefetch)
        try:
            for _ in range(50):
                next(results)
        except (TerminatedWorkerError, CancelledError):
            pass  # never of its own calls; a worker that was lost has had some of them


# ------------------------------------------------------------------------------------------------------------- samples


@dataclass
class Series:
    """One quantity over time."""

    name: str
    unit: str
    least: float  # a rise that is less than this cannot be told
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        """A sample."""
        self.times.append(at)
        self.values.append(value)

    def line(self, begin: float) -> tuple[float, float]:
        """Slope a second, and the spread around the line, of the samples from `begin` on."""
        points = [(t, v) for t, v in zip(self.times, self.values, strict=True) if t >= begin]
        times, values = [t for t, _ in points], [v for _, v in points]
        slope, rest = statistics.linear_regression(times, values)
        return slope, statistics.pstdev(v - slope * t - rest for t, v in points)

    def row(self, begin: float) -> tuple[str, bool]:
        """A line of the table, and whether it is flat."""
        slope, spread = self.line(begin)
        rise = slope * (self.times[-1] - begin)
        flat = rise <= max(2 * spread, self.least)
        late = [v for t, v in zip(self.times, self.values, strict=True) if t >= begin]
        numbers = f"{late[0]:,.1f} | {late[-1]:,.1f} | {max(late):,.1f} | {slope * 3600:+,.1f} | {spread:,.1f}"
        return f"| {self.name} ({self.unit}) | {numbers} | {'yes' if flat else '**no**'} |", flat


class Sampler:
    """Looks at the parent and its workers."""

    def __init__(self, executor: OrderedProcessPoolExecutor) -> None:
        self.executor = executor
        self.began = time.monotonic()
        self.parent = psutil.Process()
        self.series = {
            key: Series(*about)
            for key, about in {
                "parent memory": ("parent: memory", "MiB", 2.0),
                "parent objects": ("parent: objects", "number", 200.0),
                "parent descriptors": ("parent: descriptors", "number", 2.0),
                "parent threads": ("parent: threads", "number", 1.0),
                "unread": ("parent: outcomes kept unread", "number", 50.0),
                "memory": ("workers: memory, mean", "MiB", 2.0),
                "objects": ("workers: objects, mean", "number", 200.0),
                "descriptors": ("workers: descriptors, mean", "number", 2.0),
                "threads": ("workers: threads, mean", "number", 1.0),
            }.items()
        }

    async def run(self, until: float, every: float) -> None:
        """Until that time."""
        while time.monotonic() < until:
            await asyncio.sleep(every)
            await self.sample()

    async def sample(self) -> None:
        """All of them, once."""
        at = time.monotonic() - self.began
        counts: dict[int, int] = {}
        for future in [self.executor.submit(look) for _ in range(2 * WORKERS)]:
            try:
                pid, count = await asyncio.wrap_future(future)
                counts[pid] = count
            except TerminatedWorkerError:
                pass
        del future
        if counts:
            self.series["objects"].add(at, statistics.mean(counts.values()))
        found = [seen for pid in self.executor.statistics().pids if (seen := _look_at(pid)) is not None]
        if found:
            for key, values in zip(("memory", "descriptors", "threads"), zip(*found, strict=True), strict=True):
                self.series[key].add(at, statistics.mean(values))
        gc.collect()
        self.series["parent memory"].add(at, self.parent.memory_info().rss / MIB)
        self.series["parent objects"].add(at, len(gc.get_objects()))
        self.series["parent descriptors"].add(at, self.parent.num_fds())
        self.series["parent threads"].add(at, self.parent.num_threads())
        self.series["unread"].add(at, self.executor.statistics().unread)


def _look_at(pid: int) -> tuple[float, int, int] | None:
    try:
        process = psutil.Process(pid)
        return process.memory_info().rss / MIB, process.num_fds(), process.num_threads()
    except psutil.Error:  # it has just ended
        return None


# ----------------------------------------------------------------------------------------------------------- the whole


async def soak(seconds: float, every: float, seed: int) -> bool:
    """Run the service; print the table.  Returns whether all is well."""
    done: Counter[str] = Counter()
    async with OrderedProcessPoolExecutor(WORKERS, unseen_errors="ignore") as executor:
        sampler = Sampler(executor)
        until = sampler.began + seconds
        clients = [Client(executor, seed + number, done) for number in range(CLIENTS)]
        await asyncio.gather(sampler.run(until, every), *(client.run(until) for client in clients))
        tickets = executor.statistics().tail
    acts = ", ".join(f"{name} {count:,}" for name, count in sorted(done.items()))
    print(f"\n{seconds:.0f} s, {CLIENTS} clients, {tickets:,} tickets; {acts}\n")
    print("| | at first | at last | at most | slope an hour | spread | flat |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = [series.row(WARM_UP * seconds) for series in sampler.series.values()]
    print("\n".join(row for row, _ in rows))
    return all(flat for _, flat in rows)


def main() -> int:
    """Parse, run."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.getLogger("ordered_executor").setLevel(logging.WARNING)
    return 0 if asyncio.run(soak(given.seconds, given.every, given.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
