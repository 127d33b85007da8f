"""Tasks that are stuck or unwanted: `task_timeout` and `kill()` stop them, and nobody else."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from ordered_executor import TaskKilledError, TaskTimeoutError, TerminatedWorkerError
from ordered_executor._base import system
from tests.helpers import (
    Journal,
    getpid,
    hold_the_gil,
    is_dead,
    note,
    same,
    settled,
    stand,
    stand_with_pid,
    until,
    warm_up,
)

from .conftest import MakePool, MakeValve, StartScript
from .tasks import (
    COUNT_UNTIL_KILLED,
    StuckWhenLoaded,
    block_signals_and_take_time,
    note_slowly,
    outlive_its_sentence,
    raise_timeout,
    stand_if_told,
    start_idle_threads,
    stop_myself,
    stuck_when_packed,
    wait_for_a_program,
    work,
)

# ------------------------------------------------------------------------------------------------------- task_timeout


def test_stuck_task_is_stopped(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """The task gets TaskTimeoutError with its ticket and pid, its process is gone, and others do not notice."""
    executor = pool(1, task_timeout=0.2)
    futures = [executor.submit(same, 0), executor.submit(stand_with_pid, journal, valve()), executor.submit(same, 2)]
    pid = int(journal.read())
    error = futures[1].exception()
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.ticket, error.pid) == (1, pid)
    assert "0.2" in str(error)
    assert is_dead(pid)
    assert [futures[0].result(), futures[2].result()] == [0, 2]


def test_time_limit_of_one_task(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """`options(timeout=…)` limits its own submits and maps, and no others."""
    executor = pool(2)
    free, limited = valve(), valve()
    slow = executor.submit(stand, free, "slow")
    stuck = executor.options(timeout=0.1).submit(stand_with_pid, journal, limited)
    stuck_call = executor.options(timeout=0.1).map(stand, [limited])
    free.reached()
    pid = int(journal.read())
    until(lambda: is_dead(pid))
    free.open()
    assert isinstance(stuck.exception(), TaskTimeoutError)
    with pytest.raises(TaskTimeoutError):
        next(stuck_call)
    assert slow.result() == "slow"


def test_time_limit_begins_when_the_task_does(pool: MakePool) -> None:
    """Waiting for a worker does not count: many tasks of 30 ms pass a limit of a second, one after the other."""
    executor = pool(1, task_timeout=1.0)
    futures = [executor.submit(time.sleep, 0.03) for _ in range(50)]
    assert [future.result() for future in futures] == [None] * 50


def test_waiting_at_the_gate_does_not_count(pool: MakePool, valve: MakeValve) -> None:
    """A task that has finished and stands at the gate is not stuck."""
    executor = pool(2, window=2)
    warm_up(executor, valve)
    head = valve()
    blocked = executor.submit(stand, head, "head")
    limited = executor.options(timeout=0.05)
    futures = [limited.submit(same, number) for number in range(6)]
    settled(executor, early=1, gated=1)
    threading.Event().wait(0.3)  # six times the limit
    assert executor.statistics().gated == 1
    head.open()
    assert blocked.result() == "head"
    assert [future.result() for future in futures] == list(range(6))


def test_task_that_holds_the_interpreter_is_stopped(pool: MakePool, journal: Journal) -> None:
    """A task stuck in C code, with the interpreter lock held, is stopped all the same."""
    executor = pool(1, task_timeout=0.3)
    stuck = executor.submit(hold_the_gil, journal)
    assert isinstance(stuck.exception(), TaskTimeoutError)
    assert executor.submit(same, "on").result() == "on"


def test_stopped_process_is_stopped_for_good(pool: MakePool) -> None:
    """A worker that was stopped by SIGSTOP overruns its limit like any other."""
    executor = pool(1, task_timeout=0.3)
    stuck = executor.submit(stop_myself)
    assert isinstance(stuck.exception(), TaskTimeoutError)
    assert executor.submit(same, "on").result() == "on"


def test_process_stopped_before_a_task_begins(pool: MakePool) -> None:
    """A worker that was stopped while it was idle has run nothing: its tasks run elsewhere."""
    executor = pool(1, task_timeout=0.3)
    pid = executor.submit(getpid).result()
    os.kill(pid, signal.SIGSTOP)
    futures = [executor.submit(same, number) for number in range(3)]
    assert [future.result() for future in futures] == [0, 1, 2]
    assert is_dead(pid)


def test_parent_that_stood_still_itself_kills_nobody(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """In a done-callback that takes longer than a worker may stand still, nobody looks: that time does not count."""
    executor = pool(2)
    warm_up(executor, valve)
    head = valve()
    blocked = executor.submit(stand_with_pid, journal, head)
    (other,) = set(executor.statistics().pids) - {int(journal.read())}
    os.kill(other, signal.SIGSTOP)
    stopped = executor.options(timeout=0.1).submit(getpid)
    threading.Event().wait(0.3)  # it is looked at, and stands still

    def take_long(_: object) -> None:
        time.sleep(2.5)
        threading.Timer(0.3, os.kill, (other, signal.SIGCONT)).start()

    blocked.add_done_callback(take_long)
    head.open()
    assert stopped.result() == other


def test_process_stopped_at_the_gate(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """A worker that was stopped with its outcome at the gate: the outcome is taken from its memory."""
    executor = pool(2, window=1)
    warm_up(executor, valve)
    head = valve()
    blocked = executor.submit(stand_with_pid, journal, head)
    (gated,) = set(executor.statistics().pids) - {int(journal.read())}
    early = executor.options(timeout=0.3).submit(getpid)
    settled(executor, early=0, gated=1)
    os.kill(gated, signal.SIGSTOP)
    head.open()
    blocked.result()
    assert early.result() == gated
    until(lambda: is_dead(gated))


def test_argument_stuck_while_it_is_unpickled(pool: MakePool) -> None:
    """It overruns its limit like a task, in a chunk too, and its neighbours run once."""
    executor = pool(1, task_timeout=0.3)
    results = executor.map(same, [0, StuckWhenLoaded(), 2], chunksize=3)
    assert next(results) == 0
    with pytest.raises(TaskTimeoutError):
        next(results)
    assert list(results) == [2]
    assert isinstance(executor.submit(same, StuckWhenLoaded()).exception(), TaskTimeoutError)


def test_result_stuck_while_it_is_pickled(pool: MakePool) -> None:
    """A task is not over before its result is packed."""
    executor = pool(1, task_timeout=0.3)
    stuck, behind = executor.submit(stuck_when_packed), executor.submit(same, "behind")
    assert isinstance(stuck.exception(), TaskTimeoutError)
    assert "stood still" in str(stuck.exception())
    assert behind.result() == "behind"


def test_timeout_that_the_task_raises_is_its_own(pool: MakePool) -> None:
    """A TimeoutError raised by the task comes as it is, not as TaskTimeoutError; `result(timeout)` has its own, too."""
    executor = pool(1, task_timeout=30)
    error = executor.submit(raise_timeout).exception()
    assert type(error) is TimeoutError
    blocked = executor.submit(time.sleep, 0.2)
    with pytest.raises(TimeoutError) as caught:
        blocked.result(timeout=0.01)
    assert not isinstance(caught.value, TaskTimeoutError)
    assert blocked.result() is None


def test_timeout_is_not_retried(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """`retries` are for workers that died by themselves; a task that overran its limit has had its time."""
    executor = pool(1, task_timeout=0.2, retries=3)
    assert isinstance(executor.submit(stand_with_pid, journal, valve()).exception(), TaskTimeoutError)
    assert len(journal.read_all()) == 1


def test_stuck_call_of_a_map(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """In a chunk, the stuck call alone fails; the calls before it keep their results, those behind it run once."""
    blocked = valve()
    inputs = [(journal, blocked if number == 3 else None, number) for number in range(8)]
    results = pool(1, task_timeout=0.3).map(stand_if_told, inputs, chunksize=8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TaskTimeoutError):
        next(results)
    assert list(results) == [4, 5, 6, 7]
    assert sorted(map(int, journal.read_all())) == list(range(8))


def test_short_tasks_with_a_limit_are_never_hit(pool: MakePool) -> None:
    """Where task after task overruns its limit, the ones between are untouched."""
    executor = pool(2)
    limited = executor.options(timeout=0.05)
    futures = [
        limited.submit(time.sleep, 30) if number % 6 == 5 else executor.submit(same, number) for number in range(24)
    ]
    for number, future in enumerate(futures):
        if number % 6 == 5:
            assert isinstance(future.exception(), TaskTimeoutError)
        else:
            assert future.result() == number


# --------------------------------------------------------------------------------------------------------------- kill


def test_kill_stops_a_running_task(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """The killed task gets TaskKilledError, its process is gone, its neighbours run."""
    executor = pool(1)
    before = executor.submit(same, "before")
    stuck = executor.submit(stand_with_pid, journal, valve())
    after = executor.submit(same, "after")
    pid = int(journal.read())
    assert stuck.kill()
    error = stuck.exception()
    assert isinstance(error, TaskKilledError)
    assert error.ticket == 1
    assert not isinstance(error, TerminatedWorkerError)
    assert is_dead(pid)
    assert (before.result(), after.result()) == ("before", "after")
    assert not stuck.kill()


def test_kill_cancels_what_waits(pool: MakePool, valve: MakeValve) -> None:
    """A task that no worker has is cancelled; one that is done cannot be killed."""
    executor = pool(1)
    blocked = valve()
    running = executor.submit(stand, blocked, 1)
    blocked.reached()
    waiting = executor.submit(same, 2)
    assert waiting.kill()
    assert waiting.cancelled()
    blocked.open()
    assert running.result() == 1
    assert not running.kill()


def test_kill_moves_the_head(pool: MakePool, valve: MakeValve) -> None:
    """Killing the head lets everything that stood behind it come."""
    executor = pool(3, window=3)
    warm_up(executor, valve)
    blocked = valve()
    head = executor.submit(stand, blocked)
    blocked.reached()
    futures = [executor.submit(same, number) for number in range(8)]
    settled(executor, early=2, gated=2)
    assert head.kill()
    assert [future.result() for future in futures] == list(range(8))
    assert isinstance(head.exception(), TaskKilledError)


def test_kill_of_a_task_that_stands_at_the_gate_is_too_late(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """A task that has finished keeps its outcome, whoever wants it killed."""
    executor = pool(2, window=2)
    warm_up(executor, valve)
    blocked = valve()
    head = executor.submit(stand, blocked, "head")
    blocked.reached()
    futures = [executor.submit(note, journal, number) for number in range(3)]
    settled(executor, early=1, gated=1)
    futures[0].kill()
    futures[1].kill()
    blocked.open()
    assert head.result() == "head"
    assert [future.result() for future in futures] == [0, 1, 2]
    assert journal.read_all() == ["0", "1", "2"]


def test_no_innocent_is_hit(pool: MakePool, journal: Journal) -> None:
    """Hundreds of tasks of 0.3 ms, a third of them killed at any moment: each ends as asked for or as it would have."""
    executor = pool(2)
    choose = random.Random(3)
    killed = set()
    futures = []
    for number in range(600):
        futures.append(executor.submit(note_slowly, journal, number))
        if choose.random() < 0.3:
            wanted = choose.randrange(max(0, number - 10), number + 1)
            if futures[wanted].kill():
                killed.add(wanted)
    for number, future in enumerate(futures):
        if number in killed:
            assert future.cancelled() or isinstance(future.exception(), TaskKilledError) or future.result() == number
        else:
            assert future.result() == number
    lines = journal.read_all()
    assert len(lines) == len(set(lines))
    assert {str(n) for n in range(600) if n not in killed} <= set(lines)


def test_no_innocent_is_hit_where_threads_wait(pool: MakePool) -> None:
    """The same in a worker with idle threads, as numeric libraries start them: two of a batch are killed."""
    executor = pool(1, initializer=start_idle_threads, initargs=(40,))
    for _ in range(8):
        futures = [executor.submit(work, 0.0025, number) for number in range(24)]
        until(lambda futures=futures: futures[12].running() or futures[12].done())  # type: ignore[misc]
        for future in futures[12:14]:
            future.kill()
        for number, future in enumerate(futures):
            if number not in (12, 13):
                assert future.result() == number
            elif not future.cancelled():
                assert isinstance(future.exception(), TaskKilledError) or future.result() == number


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "tgkill"), reason="here signals are for a process as a whole")
def test_the_main_thread_takes_the_signal(script: StartScript, tmp_path: Path) -> None:
    """It is for the thread that runs the tasks, and that one does nothing any more, however many others wait."""
    path = tmp_path / "counter"
    path.write_bytes(bytes(4096))
    counts = script("-c", COUNT_UNTIL_KILLED, str(path))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as counter:
        until(lambda: any(counter[:8]))
        process = system.Process(counts.process.pid, counts.process.poll)
        assert process.stop()
        before = counter[:8]
        assert process.signal_main_thread(system.STACK_SIGNAL)
        waiting = Path(f"/proc/{process.pid}/status").read_text()
        process.resume()
        assert counts.wait()[0] == -system.STACK_SIGNAL
        assert counter[:8] == before
    process.close()
    mask = f"{1 << (system.STACK_SIGNAL - 1):016x}"
    assert f"SigPnd:\t{mask}" in waiting  # else it is in ShdPnd, for any thread


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_condemned_task_that_finishes(pool: MakePool, chunksize: int) -> None:
    """A worker's signals are blocked: the one that is to kill its task waits, and the task returns meanwhile.

    It keeps its outcome.  The next one runs when the process is killed after a while, and is run again, for nothing.
    """
    limited = pool(1, initializer=block_signals_and_take_time).options(timeout=0.5)
    calls = ["condemned", "next", "behind"]
    assert list(limited.map(outlive_its_sentence, calls, chunksize=chunksize)) == calls


def test_killed_task_takes_its_programs_along(pool: MakePool, journal: Journal) -> None:
    """What the killed task had started, in its own process group or not, is killed with it."""
    executor = pool(1)
    stuck = executor.submit(wait_for_a_program, journal)
    program = int(journal.read())
    assert stuck.kill()
    assert isinstance(stuck.exception(), TaskKilledError)
    until(lambda: is_dead(program))
    assert executor.submit(getpid).result() > 0
