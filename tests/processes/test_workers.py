"""Workers from their start to their end: on demand, initialized, in their environment, replaced after so many tasks."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import platform
import resource
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from ordered_executor import OrderedProcessPoolExecutor
from ordered_executor._base import system
from tests.helpers import Journal, getpid, note_and_die, same, stand, until

from .conftest import MakePool, MakeValve
from .tasks import (
    fail_to_start,
    give,
    interrupt_a_program,
    interrupt_myself,
    leave,
    put_given,
    read_given,
    start_a_child,
    take_all,
    use_much_memory,
    variable,
)

# ------------------------------------------------------------------------------------------------------- on demand


def test_a_worker_loads_what_it_needs(pool: MakePool) -> None:
    """Of this package no more than its own half: the start of a worker is mostly the loading of modules."""
    loaded = pool(1).submit(eval, "list(__import__('sys').modules)").result()
    packages = {"_base", "_base.system", "_channel", "_pickling", "_processes", "_processes.worker", "_script"}
    needed = {f"_base.{name}" for name in ("atomic", "current_task", "error_tools", "errors", "exit_hook", "locks")}
    needed |= {f"_base.{name}" for name in ("loky_private", "tasks", "times")}
    needed |= {f"_base.system.{name}" for name in ("barrier", "descriptors", "lifeline", "memory", "process", "tree")}
    needed |= {f"_channel.{name}" for name in ("arena", "frames", "gate", "shared_memory")}
    needed |= {
        f"_pickling.{name}" for name in ("buffer_pool", "by_value", "exceptions", "functions", "keys", "outcomes")
    }
    needed |= {f"_pickling.{name}" for name in ("picklers", "rebuild", "reducers")}
    needed |= {f"_processes.worker.{name}" for name in ("loading", "main", "outbox", "runner", "witness")}
    needed |= {"_script.at_home", "_script.home"}
    ours = {name.removeprefix("ordered_executor.") for name in loaded if name.startswith("ordered_executor.")}
    assert ours == packages | needed


def test_a_task_may_use_the_package(pool: MakePool) -> None:
    """What a worker has not loaded is there when a task asks for it, and what does not exist is missed as ever."""
    code = "dir(__import__('ordered_executor')) and __import__('ordered_executor').{}"
    executor = pool(1)
    assert executor.submit(eval, code.format("Outcome.__name__")).result() == "Outcome"
    assert executor.submit(eval, code.format("OrderedExecutor.__name__")).result() == "OrderedExecutor"
    with pytest.raises(AttributeError, match="module 'ordered_executor' has no attribute 'OrderedThreads'"):
        executor.submit(eval, code.format("OrderedThreads")).result()


def test_workers_start_on_demand(pool: MakePool) -> None:
    """No process before the first task, one for tasks that come one after the other."""
    executor = pool(4)
    assert executor.statistics().workers == 0
    pids = {executor.submit(getpid).result() for _ in range(10)}
    assert len(pids) == 1
    assert executor.statistics().workers == 1


def test_as_many_workers_as_tasks_at_once(pool: MakePool, valve: MakeValve) -> None:
    """Tasks that all stand at once each have a worker, up to max_workers."""
    executor = pool(3)
    valves = [valve() for _ in range(5)]
    futures = [executor.submit(stand, one, place) for place, one in enumerate(valves)]
    for one in valves[:3]:
        one.reached()
    assert executor.statistics().workers == 3
    for one in valves:
        one.open()
    assert [future.result() for future in futures] == list(range(5))
    assert executor.statistics().workers == 3


@pytest.mark.parametrize("method", [None, "spawn"])  # a fork server that is short of them ends
@pytest.mark.parametrize("short", range(16))
def test_worker_that_cannot_be_started_leaves_nothing(pool: MakePool, method: str | None, short: int) -> None:
    """Whichever descriptor is the one too many: what was opened is closed, and when there is room again it works."""
    context = None if method is None else multiprocessing.get_context(method)
    fds = [os.open(os.devnull, os.O_RDONLY)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    executor = pool(1, context, reuse=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 200, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                fds.append(os.dup(fds[0]))
        for _ in range(short):
            os.close(fds.pop())
        future = executor.submit(same, 1)
        time.sleep(0.05)  # the scheduler is at it
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert future.result() == 1


@pytest.mark.parametrize("fails", ["the first pipe", "the second pipe", "the process"])
def test_error_that_does_not_pass_breaks_the_executor(
    pool: MakePool, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Wherever the start of a worker ends: what was opened is closed, and the reason is told."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("too many of something")

    def next_pipe() -> tuple[int, int]:
        made: tuple[int, int] = next(pipes)()
        return made

    pipes: Iterator[Callable[[], Any]] = iter([system.roomy_pipe, refuse] if fails == "the second pipe" else [refuse])
    if fails == "the process":
        monkeypatch.setattr("loky.backend.fork_exec.fork_exec", refuse)
    else:
        monkeypatch.setattr(system, "roomy_pipe", next_pipe)
    executor = pool(1, reuse=False)
    future = executor.submit(same, 1)
    with pytest.raises(BrokenProcessPool, match="too many of something"):
        future.result()


@pytest.mark.parametrize("method", ["loky", "spawn", "forkserver"])
def test_every_way_to_start_workers(pool: MakePool, method: str) -> None:
    """Values, errors and primitives of multiprocessing travel, however the workers are started."""
    context = multiprocessing.get_context(method)
    counter = context.Semaphore(3)
    executor = pool(2, context, give, (counter, "given"))
    assert executor.submit(take_all).result() == 3
    assert isinstance(executor.submit(int, "x").exception(), ValueError)
    assert list(executor.map(same, range(100))) == list(range(100))
    assert not counter.acquire(block=False)  # the worker took them all


def test_fork_context_is_refused() -> None:
    """A forked worker would inherit locks that nobody lets go: the constructor says so."""
    with pytest.raises(ValueError, match="mp_context must not be a 'fork' context"):
        OrderedProcessPoolExecutor(1, multiprocessing.get_context("fork"))


@pytest.mark.parametrize("method", [None, "loky"])
def test_environment_of_the_workers(pool: MakePool, method: str | None) -> None:
    """`env` adds to the workers' environment, and to nobody else's."""
    context = None if method is None else multiprocessing.get_context(method)
    executor = pool(1, context, env={"ORDERED_TEST_VARIABLE": "set"})
    assert executor.submit(variable, "ORDERED_TEST_VARIABLE").result() == "set"
    assert "ORDERED_TEST_VARIABLE" not in os.environ


def test_warm_workers_are_not_lent_across_directories(
    pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was started in another directory, or with another environment, is not used again."""
    with OrderedProcessPoolExecutor(1) as executor:
        first = executor.submit(getpid).result()
    monkeypatch.chdir(tmp_path)
    with OrderedProcessPoolExecutor(1) as executor:
        assert executor.submit(os.getcwd).result() == str(tmp_path)
        second = executor.submit(getpid).result()
    monkeypatch.setenv("ORDERED_TEST_VARIABLE", "changed")
    executor = pool(1)
    assert executor.submit(variable, "ORDERED_TEST_VARIABLE").result() == "changed"
    assert len({first, second, executor.submit(getpid).result()}) == 3


# ----------------------------------------------------------------------------------------------------- initializer


def test_initializer_runs_in_every_worker(pool: MakePool, valve: MakeValve) -> None:
    """Each worker runs the initializer with its arguments before its first task; closures travel."""
    suffix = "made here"
    executor = pool(2, initializer=lambda *values: give(*values, suffix), initargs=(1, "two"))
    valves = [valve(), valve()]
    pids = [executor.submit(read_given, one) for one in valves]
    for one in valves:
        one.reached()
    for one in valves:
        one.open()
    results = [future.result() for future in pids]
    assert len({pid for pid, _ in results}) == 2
    assert [given for _, given in results] == [[1, "two", "made here"]] * 2


def test_initializer_with_a_queue(pool: MakePool) -> None:
    """Queues of multiprocessing may be among the initargs: they can be handed over only while a worker starts."""
    context = multiprocessing.get_context("loky")
    queue = context.Queue()
    executor = pool(1, initializer=give, initargs=(queue,))
    executor.submit(put_given, "through the queue").result()
    assert queue.get() == "through the queue"
    queue.close()
    queue.join_thread()


def test_initializer_that_fails_breaks_the_executor(pool: MakePool) -> None:
    """All that is pending fails in order, each with an exception of its own; the remote reason is the cause."""
    executor = pool(2, initializer=fail_to_start)
    futures = [executor.submit(same, number) for number in range(5)]
    order: list[int] = []
    for future in futures:
        future.add_done_callback(lambda f: order.append(f.ticket))
    errors = [future.exception() for future in futures]
    assert all(isinstance(error, BrokenProcessPool) for error in errors)
    assert len(set(map(id, errors))) == 5
    assert isinstance(errors[0].__cause__, ValueError)  # type: ignore[union-attr]
    assert "error in initializer" in str(errors[0])
    assert order == sorted(order)
    with pytest.raises(BrokenProcessPool):
        executor.submit(same, 1)


def test_initializer_that_fails_is_logged_in_the_worker(pool: MakePool) -> None:
    """As with the standard executor, the worker logs the exception as critical, where its handlers see it."""
    queue = multiprocessing.get_context("loky").Queue()
    executor = pool(1, initializer=fail_to_start, initargs=(queue,))
    assert isinstance(executor.submit(same, 1).exception(), BrokenProcessPool)
    record = queue.get()
    assert (record.levelno, "error in initializer" in record.getMessage()) == (logging.CRITICAL, True)
    queue.close()
    queue.join_thread()


def test_initializer_that_dies_breaks_the_executor(pool: MakePool, journal: Journal) -> None:
    """A worker that dies while it starts is tried again some times, then the executor is broken."""
    executor = pool(1, initializer=note_and_die, initargs=(journal, "started"))
    futures = [executor.submit(same, number) for number in range(3)]
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in futures)
    assert 1 < len(journal.read_all()) < 10


def test_initializer_that_hangs_is_ended_by_task_timeout(pool: MakePool, valve: MakeValve) -> None:
    """With a task_timeout, an initializer that does not end in time breaks the executor, and its worker is killed."""
    blocked = valve()
    executor = pool(1, initializer=blocked.stand, task_timeout=0.3)
    future = executor.submit(same, 1)
    blocked.reached()
    error = future.exception()
    assert isinstance(error, BrokenProcessPool)
    assert "initializer" in str(error)


def test_initializer_that_exits(pool: MakePool) -> None:
    """`sys.exit` in the initializer is a failure of it, not the end of the world."""
    error = pool(1, initializer=os._exit, initargs=(3,)).submit(same, 1).exception()
    assert isinstance(error, BrokenProcessPool)
    error = pool(1, initializer=leave).submit(same, 1).exception()
    assert isinstance(error, BrokenProcessPool)


# ------------------------------------------------------------------------------------------------ max_tasks_per_child


@pytest.mark.parametrize("limit", [1, 3])
def test_worker_is_replaced_after_exactly_so_many_tasks(pool: MakePool, limit: int) -> None:
    """The task after the last allowed runs in a new process; the order does not notice."""
    executor = pool(1, max_tasks_per_child=limit)
    futures = [executor.submit(getpid) for _ in range(3 * limit)]
    pids = [future.result() for future in futures]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [limit] * 3


def test_limit_of_tasks_counts_calls_of_a_map(pool: MakePool) -> None:
    """A chunk never holds more calls than the worker may still run; values and order are those of map()."""
    pids = list(pool(2, max_tasks_per_child=5).map(getpid, range(23), chunksize=10))
    runs = [pids.count(pid) for pid in dict.fromkeys(pids)]
    assert max(runs) == 5
    assert len(runs) >= 5


def test_limit_of_tasks_counts_failures(pool: MakePool) -> None:
    """A task that raises is one of the worker's tasks, too."""
    executor = pool(1, max_tasks_per_child=2)
    pids = []
    for _ in range(3):
        pids.append(executor.submit(getpid).result())
        assert executor.submit(int, "no number").exception() is not None
    assert len(set(pids)) == 3


def test_last_worker_ends_when_its_tasks_are_used_up(pool: MakePool) -> None:
    """A worker that may run nothing more ends, whether a next task comes or not."""
    executor = pool(1, max_tasks_per_child=1)
    executor.submit(getpid).result()
    until(lambda: executor.statistics().workers == 0)


def test_worker_that_does_not_end_is_killed_with_its_children(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker waits at its end for a child process that a task has left to it: both are gone after a while."""
    monkeypatch.setattr("ordered_executor._processes.backend.END_SECONDS", 0.5)
    executor = pool(1, max_tasks_per_child=1)
    child = executor.submit(start_a_child).result()
    executor.shutdown()
    until(lambda: not psutil.pid_exists(child))


# ------------------------------------------------------------------------------------------------ what a worker is like


def test_interrupt_from_the_keyboard_is_not_for_workers(pool: MakePool) -> None:
    """A worker that gets SIGINT goes on; a program that it starts has the usual handling of it."""
    executor = pool(1)
    assert executor.submit(interrupt_myself).result() == "went on"
    assert executor.submit(interrupt_a_program).result() == -signal.SIGINT


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is set up where it is glibc's")
def test_memory_that_a_task_frees_is_there_for_the_next(pool: MakePool) -> None:
    """A task that makes and frees large objects finds warm memory, where the one before it has left it."""
    executor = pool(1)
    faults = [executor.submit(use_much_memory).result() for _ in range(5)]
    assert min(faults[1:]) < faults[0] / 10, faults


def test_settings_of_malloc_in_the_environment_hold(pool: MakePool) -> None:
    """Whoever has set up malloc for the program has set it up for the workers."""
    executor = pool(1, env={"MALLOC_TRIM_THRESHOLD_": "131072"})
    faults = [executor.submit(use_much_memory).result() for _ in range(3)]
    assert min(faults) > max(faults) / 10, faults
