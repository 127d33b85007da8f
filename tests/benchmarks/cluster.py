"""On a Dask cluster: ours beside the plain client, in one run.  `python -m tests.benchmarks.cluster [ROW ...]`.

The scheduler and each worker are processes of their own, so that what the parent costs is the parent's.  Ratios are
ours over the plain client; a row says which is the better one.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import distributed
import numpy as np
import psutil

from ordered_executor.dask import OrderedDaskExecutor
from tests.benchmarks import tasks

Play = Callable[[Any], float]
MIB = 1 << 20
HOST = ("--host", "127.0.0.1")


# --------------------------------------------------------------------------------------------------------- a cluster


class Processes:
    """A scheduler and workers, each a process; and a client, which waits `patience` seconds for a lost scheduler."""

    def __init__(self, workers: int, *, threads: int = 1, nanny: bool = False, patience: float = 30.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cluster-")
        self.file = str(Path(self._folder.name) / "scheduler.json")
        self._threads = threads
        self._nanny = nanny
        self.scheduler = self._start("dask_scheduler", *HOST, "--port", "0")
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scale(workers)
        self.client = distributed.Client(scheduler_file=self.file, set_as_default=False, timeout=patience)
        if workers:
            self.client.wait_for_workers(workers)

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
        return subprocess.Popen(
            [*command, "--scheduler-file", self.file],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def scale(self, workers: int) -> None:
        """So many workers there are from now on, some of which may have still to start."""
        nanny = "--nanny" if self._nanny else "--no-nanny"
        folder = ("--local-directory", self._folder.name)
        while len(self.workers) < workers:
            self.workers.append(self._start("dask_worker", "--nthreads", str(self._threads), nanny, *folder))
        while len(self.workers) > workers:
            worker = self.workers.pop()
            worker.terminate()
            worker.wait()

    def lose_scheduler(self) -> None:
        """Kill it.  Its workers end by themselves."""
        self.scheduler.kill()
        self.scheduler.wait()
        for worker in self.workers:
            worker.wait()

    def bring_scheduler_back(self) -> None:
        """Another takes its place, and others those of the workers."""
        workers, self.workers = len(self.workers), []
        port = self.client.scheduler.address.rpartition(":")[2]
        self.scheduler = self._start("dask_scheduler", *HOST, "--port", port)
        self.scale(workers)

    def scheduler_seconds(self) -> float:
        """The processor time that the scheduler has used."""
        times = psutil.Process(self.scheduler.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """End all of it."""
        self.client.close()
        for process in (*self.workers, self.scheduler):
            process.terminate()
        for process in (*self.workers, self.scheduler):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # one that was about to start does not hear
                process.kill()
                process.wait()
        self._folder.cleanup()


@contextmanager
def processes(workers: int, **options: Any) -> Iterator[Processes]:
    """A cluster for the time of the block."""
    cluster = Processes(workers, **options)
    try:
        yield cluster
    finally:
        cluster.close()


# ---------------------------------------------------------------------------------------------------------- ways to run


def plain(client: Any, task: Any, arguments: Any) -> list[Any]:
    """`Client.map` and one `gather`."""
    found: list[Any] = client.gather(client.map(task, arguments, pure=False))
    return found


def ours(client: Any, task: Any, arguments: Any, **options: Any) -> list[Any]:
    """`map` of ours."""
    with OrderedDaskExecutor(client, **options) as executor:
        return list(executor.map(task, arguments))


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    gc.collect()
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def number(argument: Any) -> int:
    """A task that does nothing."""
    return int(argument)


def total(array: Any, which: int) -> float:
    """A task on a large argument."""
    return float(array[which])


# ----------------------------------------------------------------------------------------------------------------- rows


def row(name: str, unit: str) -> Callable[[Callable[[], Iterator[tuple[str, float]]]], Any]:
    """A row of the table; its function yields names and figures, the plain client's last."""

    def register(play: Callable[[], Iterator[tuple[str, float]]]) -> Any:
        ROWS[name] = ((play.__doc__ or "").rstrip("."), unit, play)
        return play

    return register


ROWS: dict[str, tuple[str, str, Callable[[], Iterator[tuple[str, float]]]]] = {}
WAYS: dict[str, Callable[..., Any]] = {"ours": ours, "plain client": plain}


def both(
    workers: int, play: Callable[[Processes, Callable[..., Any]], float], **options: Any
) -> Iterator[tuple[str, float]]:
    """Each way on a cluster of its own."""
    for name, way in WAYS.items():
        with processes(workers, **options) as cluster:
            yield name, play(cluster, way)


def rounds(task: Any, arguments: list[Any], times: int = 5) -> Iterator[tuple[str, float]]:
    """Each way in turn on one cluster of two; the median of the rounds, and of the ratios."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    with processes(2) as cluster:
        for way in WAYS.values():
            way(cluster.client, task, arguments[:20])
        for turn in range(times):
            for name in sorted(WAYS, reverse=bool(turn % 2)):
                found[name].append(timed(lambda name=name: WAYS[name](cluster.client, task, arguments)))  # type: ignore[misc]
    yield "ours", median(found["ours"])
    yield "plain client", median(found["plain client"])


@row("scale", "s")
def scale() -> Iterator[tuple[str, float]]:
    """Made on 2 workers, 8 half a second later: 64 tasks of 0.5 s."""

    def play(cluster: Processes, way: Callable[..., Any]) -> float:
        way(cluster.client, number, range(10))
        threading.Timer(0.5, cluster.scale, (8,)).start()
        return timed(lambda: way(cluster.client, tasks.nap, [0.5] * 64))

    yield from both(2, play)


@row("zero", "s")
def zero() -> Iterator[tuple[str, float]]:
    """No worker at first, 4 a second later: 40 tasks of 0.5 s."""

    def play(cluster: Processes, way: Callable[..., Any]) -> float:
        threading.Timer(1.0, cluster.scale, (4,)).start()
        return timed(lambda: way(cluster.client, tasks.nap, [0.5] * 40))

    yield from both(0, play)


@row("adapt", "s")
def adapt() -> Iterator[tuple[str, float]]:
    """Adapt(minimum=0, maximum=4): 60 tasks of 0.5 s."""
    for name, way in WAYS.items():
        with (
            distributed.LocalCluster(
                n_workers=0, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            cluster.adapt(minimum=0, maximum=4)
            yield name, timed(lambda way=way, client=client: way(client, tasks.nap, [0.5] * 60))  # type: ignore[misc]


@row("nap-10ms", "s")
def nap_10() -> Iterator[tuple[str, float]]:
    """400 tasks of 10 ms on 2 workers."""
    yield from rounds(tasks.nap, [0.01] * 400)


@row("nap-100ms", "s")
def nap_100() -> Iterator[tuple[str, float]]:
    """60 tasks of 100 ms on 2 workers."""
    yield from rounds(tasks.nap, [0.1] * 60)


@row("array-1m", "s")
def array_1m() -> Iterator[tuple[str, float]]:
    """300 results of 1 MiB."""
    yield from rounds(tasks.array_1m, list(range(300)))


@row("bytes-1m", "s")
def bytes_1m() -> Iterator[tuple[str, float]]:
    """300 results of 1 MiB of bytes."""
    yield from rounds(tasks.bytes_1m, list(range(300)))


@row("noop", "s")
def noop() -> Iterator[tuple[str, float]]:
    """2,000 tasks that do nothing."""
    yield from rounds(number, list(range(2000)))


def with_array(name: str, times: int, make: Callable[[Any], Any]) -> Iterator[tuple[str, float]]:
    """20 tasks on what `make` makes of the client, each way in turn; the first round counts not."""

    def submit_ours(client: Any, argument: Any) -> None:
        with OrderedDaskExecutor(client) as executor:
            futures = [executor.submit(total, argument, which) for which in range(20)]
            assert [future.result() for future in futures] == [float(which) for which in range(20)], name

    def submit_plain(client: Any, argument: Any) -> None:
        futures = [client.submit(total, argument, which, pure=False) for which in range(20)]
        assert client.gather(futures) == [float(which) for which in range(20)], name

    ways = {"ours": submit_ours, "plain client": submit_plain}
    found: dict[str, list[float]] = {way: [] for way in ways}
    with processes(2) as cluster, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        argument = make(cluster.client)
        for turn in range(times + 1):
            for way in sorted(ways, reverse=bool(turn % 2)):
                spent = timed(partial(ways[way], cluster.client, argument))
                if turn:
                    found[way].append(spent)
        del argument
    yield from ((way, median(spent)) for way, spent in found.items())


def numbers(_: Any) -> Any:
    """32 MiB of them."""
    return np.arange(32 * MIB // 8, dtype=np.float64)


@row("shared-32m", "s")
def shared() -> Iterator[tuple[str, float]]:
    """The same array of 32 MiB for 20 tasks."""
    yield from with_array("shared", 2, numbers)


@row("scattered-32m", "s")
def scattered() -> Iterator[tuple[str, float]]:
    """The same, scattered by the user."""
    yield from with_array("scattered", 7, lambda client: client.scatter(numbers(client), hash=False))


@row("load", "ms")
def load() -> Iterator[tuple[str, float]]:
    """Processor time of the scheduler for a Dask task, 1,000 tasks of 20 ms on 8 threads; the median of three."""

    def one_by_one(client: Any, task: Any, arguments: Any) -> None:
        for future in [client.submit(task, argument, pure=False) for argument in arguments]:
            future.result()

    def singly(client: Any, task: Any, arguments: Any) -> None:
        with OrderedDaskExecutor(client) as executor:
            list(executor.map(task, arguments, chunksize=1))

    ways = {"ours, chunksize=1": singly, "plain client, submit and result": one_by_one, "plain client": plain}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with processes(2, threads=4) as cluster:
        for way in ways.values():
            way(cluster.client, tasks.nap, [0.01] * 50)
        for _ in range(3):
            for name, way in ways.items():
                time.sleep(1.0)  # what it does by itself
                before = cluster.scheduler_seconds()
                way(cluster.client, tasks.nap, [0.02] * 1000)
                time.sleep(1.0)
                found[name].append(cluster.scheduler_seconds() - before)
    yield from ((name, median(spent)) for name, spent in found.items())


def read_ours(client: Any) -> Iterator[Any]:
    """From a `map`."""
    with OrderedDaskExecutor(client) as executor:
        yield from executor.map(tasks.array_1m, range(300))


def results_ours(client: Any) -> Iterator[Any]:
    """From `results()`."""
    with OrderedDaskExecutor(client) as executor:
        for argument in range(300):
            executor.submit(tasks.array_1m, argument)
        yield from executor.results()


def futures_ours(client: Any) -> Iterator[Any]:
    """From futures, which go when they are read."""
    with OrderedDaskExecutor(client) as executor:
        futures = [executor.submit(tasks.array_1m, argument) for argument in range(300)]
        futures.reverse()
        while futures:
            yield futures.pop().result()


def futures_plain(client: Any) -> Iterator[Any]:
    """The same with the client's."""
    futures = client.map(tasks.array_1m, range(300), pure=False)
    futures.reverse()
    while futures:
        yield futures.pop().result()


READERS = {
    "ours, map": read_ours,
    "ours, results()": results_ours,
    "ours": futures_ours,
    "plain client": futures_plain,
}


@row("unread", "MiB")
def unread() -> Iterator[tuple[str, float]]:
    """The parent's memory above its start, each time a new process: 300 results of 1 MiB, read one in 10 ms."""
    with processes(2) as cluster:
        for name in READERS:
            command = [sys.executable, "-m", "tests.benchmarks.cluster", "--reader", name, cluster.file]
            yield name, float(subprocess.run(command, check=True, capture_output=True).stdout)


def read_slowly(name: str, scheduler_file: str) -> float:
    """In a process of its own: the most memory above that of the start, in MiB."""
    with distributed.Client(scheduler_file=scheduler_file, set_as_default=False) as client:
        list(zip(range(5), READERS[name](client), strict=False))
        gc.collect()
        me, most = psutil.Process(), 0
        before = me.memory_info().rss
        for _ in READERS[name](client):
            time.sleep(0.01)
            most = max(most, me.memory_info().rss)
    return float(most - before) / MIB


@row("slots-1024", "s")
def slots_1024() -> Iterator[tuple[str, float]]:
    """4,096 tasks of 1 s on 2 workers of 512 threads."""
    with processes(2, threads=512) as cluster:
        for name, way in WAYS.items():
            way(cluster.client, tasks.nap, [0.01] * 100)
            yield name, timed(lambda way=way: way(cluster.client, tasks.nap, [1.0] * 4096))  # type: ignore[misc]


def on_ray(task: Any, arguments: list[Any]) -> Iterator[tuple[str, float]]:
    """Ours, and `ray.get` of all, in turn on one cluster of two."""
    import ray

    from ordered_executor.ray import OrderedRayExecutor

    def ours_on_ray() -> None:
        with OrderedRayExecutor() as executor:
            list(executor.map(task, arguments))

    remote = ray.remote(task)
    ways = {"ours": ours_on_ray, "plain client": lambda: ray.get([remote.remote(argument) for argument in arguments])}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=500 * MIB)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(4):
        for name, way in ways.items():
            spent = timed(way)
            if turn:
                found[name].append(spent)
    ray.shutdown()
    yield from ((name, median(spent)) for name, spent in found.items())


@row("ray-noop", "s")
def ray_noop() -> Iterator[tuple[str, float]]:
    """Ray: 2,000 tasks that do nothing."""
    yield from on_ray(number, list(range(2000)))


@row("ray-10ms", "s")
def ray_10ms() -> Iterator[tuple[str, float]]:
    """Ray: 200 tasks of 10 ms."""
    yield from on_ray(tasks.nap, [0.01] * 200)


@row("ray-100ms", "s")
def ray_100ms() -> Iterator[tuple[str, float]]:
    """Ray: 40 tasks of 100 ms."""
    yield from on_ray(tasks.nap, [0.1] * 40)


@row("ray-1m", "s")
def ray_1m() -> Iterator[tuple[str, float]]:
    """Ray: 200 results of 1 MiB."""
    yield from on_ray(tasks.array_1m, list(range(200)))


def main() -> None:
    """Print the rows as they are found."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cluster", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--reader", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader:
        print(read_slowly(*given.reader))
        return
    unknown = set(given.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    print(f"distributed {distributed.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in given.rows or ROWS:
        title, unit, play = ROWS[name]
        print(f"{name}: {title}", flush=True)
        figures: dict[str, float] = {}
        for who, figure in play():
            figures[who] = figure
            print(f"    {who:<40}{figure:>9.2f} {unit}", flush=True)
        against = figures["plain client"]
        for who, figure in figures.items():
            if who.startswith("ours") and unit != "MiB":
                print(f"    {who:<40}{figure / against:>9.2f} x the plain client", flush=True)


if __name__ == "__main__":
    main()
