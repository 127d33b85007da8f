"""Two workers, each in a network of its own, and the link to one of them cut and restored.

`python -m tests.benchmarks.network` (as root, on Linux: it makes network namespaces, and removes them at the end).
The scheduler and the program run in one namespace, each worker in another, joined by a pair of veth devices, with a
delay on it where the kernel has one (netem).  Printed: how long tasks and results take over it, beside the plain
client; and what becomes of an executor when the link is cut for a short time and for a long one: everything comes, once
and in order.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import tasks

HUB = "oe-hub"
WORKERS = ("oe-w0", "oe-w1")
PATIENCE = 120.0


def ip(*arguments: str, check: bool = True) -> None:
    """Call `ip`."""
    subprocess.run(["ip", *arguments], check=check, stderr=None if check else subprocess.DEVNULL)


def inside(namespace: str, *command: str) -> list[str]:
    """A command in a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


@contextlib.contextmanager
def network(delay: str) -> Iterator[None]:
    """The namespaces and links, for the time of the block."""
    remove()
    try:
        for namespace in (HUB, *WORKERS):
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        for number, namespace in enumerate(WORKERS):
            here, there = f"oe-h{number}", f"oe-t{number}"
            ip("link", "add", here, "type", "veth", "peer", "name", there)
            for device, its, last in ((here, HUB, 1), (there, namespace, 2)):
                ip("link", "set", device, "netns", its)
                ip("-n", its, "addr", "add", f"10.77.{number}.{last}/24", "dev", device)
                ip("-n", its, "link", "set", device, "up")
                netem = inside(its, "tc", "qdisc", "add", "dev", device, "root", "netem", "delay", delay)
                subprocess.run(netem, check=False, stderr=subprocess.DEVNULL)
            ip("-n", namespace, "route", "add", "default", "via", f"10.77.{number}.1")
        subprocess.run(inside(HUB, "sysctl", "-qw", "net.ipv4.ip_forward=1"), check=False)
        yield
    finally:
        remove()


def remove() -> None:
    """Whatever is left of them."""
    for namespace in (HUB, *WORKERS):
        ip("netns", "del", namespace, check=False)


def start(namespace: str | None, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a part of the cluster."""
    command = [sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(inside(namespace, *command) if namespace else command, env=environment, **quiet)  # type: ignore[call-overload,no-any-return]


def link(number: int, state: str) -> None:
    """From inside the hub: cut or restore the link to a worker."""
    ip("link", "set", f"oe-h{number}", state)


def play(client: Any) -> None:
    """What is printed."""
    from ordered_executor.dask import OrderedDaskExecutor

    def ours(task: Any, arguments: list[Any], **options: Any) -> list[Any]:
        with OrderedDaskExecutor(client, **options) as executor:
            return list(executor.map(task, arguments))

    def plain(task: Any, arguments: list[Any]) -> list[Any]:
        found: list[Any] = client.gather(client.map(task, arguments, pure=False))
        return found

    def timed(run: Any, *arguments: Any, **options: Any) -> float:
        begin = time.perf_counter()
        run(*arguments, **options)
        return time.perf_counter() - begin

    ours(tasks.nap, [0.001] * 20)
    for what, task, arguments in (
        ("200 tasks of 10 ms", tasks.nap, [0.01] * 200),
        ("100 results of 1 MiB", tasks.array_1m, list(range(100))),
    ):
        one, other = timed(ours, task, arguments), timed(plain, task, arguments)
        print(f"{what:<40}{one:>8.2f} s, plain client {other:>8.2f} s, {one / other:.2f} x", flush=True)
    for seconds, stall in ((2.0, 60.0), (20.0, 4.0)):
        cut, restored = threading.Timer(1.0, link, (0, "down")), threading.Timer(1.0 + seconds, link, (0, "up"))
        cut.start()
        restored.start()
        begin = time.perf_counter()
        found = ours(tasks.numbered_nap, [(number, 0.05) for number in range(120)], stall_timeout=stall)
        spent = time.perf_counter() - begin
        assert found == list(range(120)), "something was lost, or out of order"
        restored.join()
        print(f"120 tasks of 50 ms, link cut for {seconds:g} s: {spent:>8.2f} s, all there and in order", flush=True)
        client.wait_for_workers(1, timeout=PATIENCE)


def main() -> None:
    """Make the network, and run inside it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.network", description=__doc__)
    parser.add_argument("--delay", default="0.5ms", help="of each link, one way")
    parser.add_argument("--inside", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        import distributed

        with distributed.Client(scheduler_file=given.inside, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            play(client)
        return
    with network(given.delay), tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "scheduler.json")
        started = [start(HUB, "dask_scheduler", "--host", "10.77.0.1", "--port", "0", "--scheduler-file", file)]
        try:
            for number, namespace in enumerate(WORKERS):
                where = ("--host", f"10.77.{number}.2", "--local-directory", folder)
                started.append(
                    start(namespace, "dask_worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny", *where)
                )
            again = [sys.executable, "-m", "tests.benchmarks.network", "--inside", file]
            subprocess.run(inside(HUB, *again), check=True, timeout=5 * PATIENCE)
        finally:
            for process in started:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
