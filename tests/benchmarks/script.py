"""A script as its users write it, with its functions and its data in `__main__`: `python script.py ENGINE WORK TASKS`.

Prints the seconds that a `with` block around so many tasks took, the start of the workers included, and the work on
what they need of the script: that is the one-time cost.  With `warm` behind it, the seconds of the tasks alone.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

MIB = 1 << 20
table: Any = None
if sys.argv[2:] and sys.argv[2].startswith("table"):  # at the top level, where spawn finds it
    table = import_module("numpy").ones(int(sys.argv[2].removeprefix("table").split("-")[0]) * MIB, dtype="uint8")


def look_up(place: int) -> int:
    """Read one byte of the global."""
    return int(table[place])


def add(payload: bytes, number: int) -> int:
    """Take something large that the callable carries."""
    return len(payload) + number


def noop(_: object = None) -> None:
    """Do nothing."""


def start(engine: str, workers: int = 2) -> Executor:
    """Make an executor: ours, or one of a standard context, or loky's."""
    if engine == "ours":
        return import_module("ordered_executor").OrderedProcessPoolExecutor(workers)  # type: ignore[no-any-return]
    if engine == "loky":
        return import_module("loky").ProcessPoolExecutor(workers)  # type: ignore[no-any-return]
    return ProcessPoolExecutor(workers, multiprocessing.get_context(engine))


def submit_all(executor: Executor, task: Callable[[int], Any], tasks: int) -> None:
    """One future a task."""
    for future in [executor.submit(task, number) for number in range(tasks)]:
        future.result()


def map_all(executor: Executor, task: Callable[[int], Any], tasks: int) -> None:
    """A `map`, with nothing tuned."""
    for _ in executor.map(task, range(tasks)):
        pass


def work(name: str) -> tuple[Callable[[Executor, Callable[[int], Any], int], None], Callable[[int], Any]]:
    """How the tasks are given to the executor, and what they call."""
    if name == "partial":
        return submit_all, partial(add, bytes(64 * MIB))
    return (map_all if name.endswith("map") else submit_all), noop if name.startswith("noop") else look_up


if __name__ == "__main__":
    engine, name, tasks, *warm = sys.argv[1:]
    give, task = work(name)
    begin = time.perf_counter()
    with start(engine) as executor:
        if warm:
            give(executor, task, int(tasks) // 10)
            begin = time.perf_counter()
        give(executor, task, int(tasks))
        spent = time.perf_counter() - begin
    if not warm:
        spent = time.perf_counter() - begin
    print(spent)
