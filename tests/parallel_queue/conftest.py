"""For the tests of the queues: queues that must end, valves, a journal, programs, and a leak check after each test."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ordered_executor.parallel_queue import ParallelQueue, ParallelSingleTaskQueue
from tests.helpers import Journal, Script, Valve, nothing_is_left, start_what_stays, until

from .common import AnyQueue

MakeQueue = Callable[..., ParallelQueue]
MakeSingle = Callable[..., ParallelSingleTaskQueue]
MakeValve = Callable[[], Valve]
Run = Callable[..., str]

# What all programs of the tests begin with.
PREAMBLE = """
import threading
from ordered_executor.parallel_queue import ParallelQueue, ParallelSingleTaskQueue, ShutDown
from tests.helpers import *
"""


@pytest.fixture(autouse=True)
def leak_check() -> Iterator[None]:
    """No process, thread, descriptor or shared memory is left behind by a test."""
    start_what_stays()
    with nothing_is_left():
        yield


@pytest.fixture
def made(leak_check: None) -> Iterator[list[AnyQueue]]:
    """Queues to be stopped and joined at the end, which must not take long."""
    queues: list[AnyQueue] = []
    yield queues
    for one in queues:
        one.stop()
    try:
        for one in queues:
            one.join(timeout=10)
            assert not one.is_alive()
    finally:
        for one in queues:
            one._executor.shutdown(kill_workers=True, timeout=10)
        queues.clear()
        # Tracebacks of tests hold queues in cycles.
        gc.collect()


@pytest.fixture
def many(made: list[AnyQueue]) -> MakeQueue:
    """Make a `ParallelQueue`."""

    def make(num_workers: int = 2, **options: Any) -> ParallelQueue:
        made.append(new := ParallelQueue(num_workers, **options))
        return new

    return make


@pytest.fixture
def single(made: list[AnyQueue]) -> MakeSingle:
    """Make a `ParallelSingleTaskQueue`."""

    def make(task: Callable[..., Any], num_workers: int = 2, **options: Any) -> ParallelSingleTaskQueue:
        made.append(new := ParallelSingleTaskQueue(task, num_workers, **options))
        return new

    return make


@pytest.fixture
def valve(made: list[AnyQueue], tmp_path: Path) -> Iterator[MakeValve]:
    """Make valves.  Those that a test leaves closed are opened at its end, before its queues are joined."""
    valves: list[Valve] = []

    def make() -> Valve:
        valves.append(Valve(tmp_path / f"valve{len(valves)}"))
        return valves[-1]

    yield make
    for one in valves:
        one.open()


@pytest.fixture
def journal(leak_check: None, tmp_path: Path) -> Iterator[Journal]:
    """A journal for tasks to write and the test to read."""
    book = Journal(tmp_path / "journal")
    yield book
    book.close()


@pytest.fixture
def run(leak_check: None, tmp_path: Path) -> Iterator[Run]:
    """Run a program that must go well, print nothing but its output, and leave no process behind; return its output."""
    started: list[Script] = []

    def finish(code: str, *command: str, stdin: str | None = None) -> str:
        command = command or ("-c", PREAMBLE + dedent(code))
        started.append(Script(list(command), tmp_path, stdin))
        exit_code, out, err = started[-1].wait()
        assert (exit_code, err) == (0, ""), out
        until(lambda: not started[-1].processes(), "the end of its processes", 2.0)
        return out

    yield finish
    for one in started:
        one.clean_up()
