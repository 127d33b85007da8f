"""Workers that die, in every state: what it costs, and that the rest goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import psutil
import pytest

from ordered_executor import Future, OrderedProcessPoolExecutor, TerminatedWorkerError
from tests.helpers import (
    Journal,
    Valve,
    getpid,
    is_dead,
    note,
    note_and_die,
    note_and_exit,
    same,
    settled,
    stand,
    stand_with_pid,
    until,
    warm_up,
)

from .conftest import MakePool, MakeValve
from .tasks import KillsWhenDropped, die_first, note_and_make, stand_and_make, start_a_program_and_die


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_death_by_signal_costs_the_running_task(pool: MakePool, journal: Journal, number: signal.Signals) -> None:
    """The task gets an error that names ticket, pid and signal; all others run, on a new worker."""
    executor = pool(1)
    futures = [executor.submit(same, n) for n in range(4)]
    lost = executor.submit(note_and_die, journal, "died", number)
    futures += [executor.submit(same, n) for n in range(4, 8)]
    error = lost.exception()
    assert isinstance(error, BrokenProcessPool)
    assert isinstance(error, TerminatedWorkerError)
    assert (error.ticket, error.exitcode) == (4, -number)
    assert number.name in str(error)
    assert f"Process {error.pid} terminated abruptly with exit code {-number}" in str(error.__cause__)
    assert error.pid is not None
    assert [future.result() for future in futures] == list(range(8))
    assert journal.read_all() == ["died"]
    assert is_dead(error.pid)


def test_an_argument_that_kills_when_it_is_dropped(pool: MakePool) -> None:
    """The task has finished by then: it has its result, and what comes after runs on a new worker, charged nothing."""
    executor = pool(1)
    for size in (10, 300_000):
        future = executor.submit(lambda _, size: b"." * size, KillsWhenDropped(), size)
        assert future.result() == b"." * size  # before others are submitted, which may travel in the same batch
        others = [executor.submit(same, number) for number in range(3)]
        assert [other.result() for other in others] == [0, 1, 2]


def test_exit_without_a_word_costs_the_running_task(pool: MakePool, journal: Journal) -> None:
    """`os._exit` in a task is the death of its worker, with its exit code; exit code 0, too."""
    executor = pool(2)
    for code in (0, 3):
        error = executor.submit(note_and_exit, journal, code, code).exception()
        assert isinstance(error, TerminatedWorkerError)
        assert error.exitcode == code
        assert f"exit code {code}" in str(error)
    assert executor.submit(same, "on").result() == "on"
    assert len(journal.read_all()) == 2


def test_out_of_memory_is_hinted_at(pool: MakePool, journal: Journal) -> None:
    """A SIGKILL that nobody here sent smells of the out-of-memory killer: the error says so."""
    error = pool(1).submit(note_and_die, journal, 1).exception()
    assert "memory" in str(error)


def test_idle_worker_that_dies_costs_nothing(pool: MakePool) -> None:
    """A worker killed between two tasks is replaced; no task notices."""
    executor = pool(1)
    for number in range(4):
        pid = executor.submit(getpid).result()
        os.kill(pid, signal.SIGKILL)
        if number % 2:  # once before the death is known, once after
            until(lambda dead=pid: dead not in executor.statistics().pids)  # type: ignore[misc]
    assert executor.submit(same, "on").result() == "on"


def test_warm_worker_that_dies_costs_nothing() -> None:
    """A worker killed while it waits for the next executor is not lent."""
    for _ in range(3):
        with OrderedProcessPoolExecutor(1) as executor:
            pid = executor.submit(getpid).result()
            assert executor.submit(same, 1).result() == 1
        os.kill(pid, signal.SIGKILL)


def test_worker_killed_while_it_starts(pool: MakePool, valve: MakeValve) -> None:
    """A worker killed in its initializer is replaced by another; the task runs there."""
    blocked = valve()
    executor = pool(1, initializer=blocked.stand)
    future = executor.submit(getpid)
    blocked.reached()
    starting = until(  # it says that it is there, and then opens what it stands at
        lambda: [child for child in psutil.Process().children(recursive=True) if _holds(child.pid, blocked)]
    )
    assert len(starting) == 1
    starting[0].kill()
    blocked.open()
    assert future.result() != starting[0].pid


def _holds(pid: int, valve: Valve) -> bool:
    try:
        return any(str(fd.readlink()) == valve.path for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def test_early_and_gated_outcomes_of_others_are_untouched(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """The death of the worker with the head costs the head; early and gated outcomes come out as they were."""
    executor = pool(3, window=3)
    warm_up(executor, valve)
    head = valve()
    dying = executor.submit(stand_with_pid, journal, head)
    pid = int(journal.read())
    futures = [executor.submit(note, journal, number) for number in range(1, 9)]
    settled(executor, early=2, gated=2)
    os.kill(pid, signal.SIGKILL)
    assert isinstance(dying.exception(), TerminatedWorkerError)
    assert [future.result() for future in futures] == list(range(1, 9))
    assert sorted(map(int, journal.read_all())) == list(range(1, 9))  # each once


def test_all_workers_killed_at_the_gate_and_at_the_head(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """Every worker killed at once: the head is charged, finished outcomes are kept, everything else runs."""
    executor = pool(3, window=2)
    warm_up(executor, valve)
    head = valve()
    dying = executor.submit(stand, head)
    head.reached()
    futures = [executor.submit(note, journal, number) for number in range(8)]
    settled(executor, early=1, gated=2)
    for pid in executor.statistics().pids:
        os.kill(pid, signal.SIGKILL)
    assert isinstance(dying.exception(), TerminatedWorkerError)
    assert [future.result() for future in futures] == list(range(8))
    assert sorted(map(int, journal.read_all())) == list(range(8))


def test_finished_outcomes_of_a_dying_batch_are_kept(pool: MakePool, journal: Journal) -> None:
    """What a batch had finished before its worker died is read from memory: it is neither lost nor run again."""
    executor = pool(1)
    list(executor.map(same, range(2000)))  # tasks are known to be short: batches form
    futures = [executor.submit(note, journal, number) for number in range(40)]
    lost = executor.submit(note_and_die, journal, "died")
    futures += [executor.submit(note, journal, number) for number in range(40, 80)]
    assert isinstance(lost.exception(), TerminatedWorkerError)
    assert [future.result() for future in futures] == list(range(80))
    lines = journal.read_all()
    assert sorted(lines) == sorted([*map(str, range(80)), "died"])


def test_large_outcomes_of_a_dead_worker_are_kept(pool: MakePool, journal: Journal) -> None:
    """Large results that a batch had finished lie in memory, too."""
    executor = pool(1)
    list(executor.map(same, range(2000)))  # tasks are known to be short: batches form
    values = [bytes([number]) * 2**20 for number in range(40)]
    futures = [executor.submit(note_and_make, journal, number, 2**20) for number in range(20)]
    lost = executor.submit(note_and_die, journal, "died")
    futures += [executor.submit(note_and_make, journal, number, 2**20) for number in range(20, 40)]
    assert isinstance(lost.exception(), TerminatedWorkerError)
    assert [future.result() for future in futures] == values
    assert sorted(journal.read_all()) == sorted([*map(str, range(40)), "died"])


def test_worker_killed_while_it_sends_a_large_result(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """A result too large for lane memory dies with its worker half way: the error says that it had finished.

    1. Both workers stand in a task.
    2. The head finishes; its callback holds the scheduler, which reads nothing from here on.
    3. The other task returns 300 MiB: its worker stands in a write to the full pipe, and is killed there.
    """
    executor = pool(2, window_bytes=2**40)
    let_go = threading.Event()
    first, second = valve(), valve()
    executor.submit(stand, first).add_done_callback(lambda _: let_go.wait())
    lost = executor.submit(stand_and_make, journal, second, 300 * 1024 * 1024)
    after = executor.submit(same, "after")
    first.reached()
    pid = int(journal.read())
    first.open()
    second.open()
    until(lambda: _waits_to_write(pid))
    os.kill(pid, signal.SIGKILL)
    let_go.set()
    error = lost.exception()
    assert isinstance(error, TerminatedWorkerError)
    assert "finished" in str(error)
    assert after.result() == "after"


def _waits_to_write(pid: int) -> bool:
    return "pipe_write" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.parametrize("retries", [1, 3])
def test_retries_run_the_lost_task_again(pool: MakePool, journal: Journal, retries: int) -> None:
    """A task that kills its worker every time runs exactly 1 + n times and fails alone."""
    executor = pool(2, retries=retries)
    before = executor.submit(note, journal, "before")
    lost = executor.submit(note_and_die, journal, "died")
    after = [executor.submit(note, journal, "after") for _ in range(5)]
    assert isinstance(lost.exception(), TerminatedWorkerError)
    assert before.result() == "before"
    assert [future.result() for future in after] == ["after"] * 5
    assert sorted(journal.read_all()) == sorted(["before", *["died"] * (1 + retries), *["after"] * 5])


def test_retry_that_succeeds(pool: MakePool, journal: Journal) -> None:
    """A task whose worker dies once has its value from the second run, at its place."""
    executor = pool(2)
    patient = executor.options(retries=1)
    futures: list[Future[Any]] = [
        executor.submit(same, 0),
        patient.submit(die_first, journal),
        executor.submit(same, 2),
    ]
    order: list[int] = []
    for future in futures:
        future.add_done_callback(lambda f: order.append(f.ticket))
    assert [future.result() for future in futures] == [0, "second run", 2]
    assert journal.read_all() == ["ran", "ran"]
    assert order == [0, 1, 2]


def test_retry_of_the_head_while_all_others_are_gated(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """The lost head runs again although every other worker stands at the gate with a later ticket."""
    executor = pool(2, window=2, retries=1)
    blocked = valve()
    head = executor.submit(stand_with_pid, journal, blocked)
    pid = int(journal.read())
    futures = [executor.submit(same, number) for number in range(6)]
    settled(executor, early=1, gated=1)
    os.kill(pid, signal.SIGKILL)
    assert int(journal.read()) != pid
    blocked.open()
    assert head.result() != pid
    assert [future.result() for future in futures] == list(range(6))


def test_death_is_known_while_a_grandchild_lives(pool: MakePool, journal: Journal) -> None:
    """A program that the task had started, and that holds what it inherited, does not hide the death."""
    executor = pool(1)
    lost = executor.submit(start_a_program_and_die, journal)
    program = int(journal.read())
    try:
        begun = time.monotonic()
        assert isinstance(lost.exception(timeout=30), TerminatedWorkerError)
        assert executor.submit(same, "on").result() == "on"
        assert time.monotonic() - begun < 10  # the program would live for a minute
        assert not is_dead(program)
    finally:
        os.kill(program, signal.SIGKILL)


def test_many_deaths_in_a_row_do_not_break_the_executor(pool: MakePool, journal: Journal) -> None:
    """Tasks that die cost themselves, however many there are; only workers that die before any task break it."""
    executor = pool(2)
    futures = [executor.submit(note_and_exit, journal, n, 1) if n % 2 else executor.submit(same, n) for n in range(16)]
    for number, future in enumerate(futures):
        if number % 2:
            assert isinstance(future.exception(), TerminatedWorkerError)
        else:
            assert future.result() == number
    assert len(journal.read_all()) == 8


def test_last_worker_killed_while_it_ends(journal: Journal) -> None:
    """A worker killed when it was told to leave changes nothing: shutdown ends."""
    executor = OrderedProcessPoolExecutor(2, reuse=False)
    pids = set(executor.map(getpid, range(50)))
    executor.shutdown(wait=False)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    executor.shutdown(timeout=10)
