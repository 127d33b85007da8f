"""Shutdown in every state, from any thread, with everything that may be waiting."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError
from typing import Any

import pytest

from ordered_executor import (
    OrderedProcessPoolExecutor,
    ShutdownTimeoutError,
    TaskKilledError,
    TerminatedWorkerError,
    end_idle_workers,
)
from ordered_executor._processes import backend
from tests.helpers import (
    PATIENCE,
    Journal,
    Traces,
    fail,
    getpid,
    is_dead,
    note,
    note_and_exit,
    same,
    settled,
    stand,
    stand_with_pid,
    until,
    warm_up,
)

from .conftest import MakePool, MakeValve
from .tasks import stand_and_exit, stand_until_terminated


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Start it in a thread of its own."""
    thread = threading.Thread(target=call)
    thread.start()
    return thread


# ---------------------------------------------------------------------------------------------------- nothing is left


def test_nothing_is_left_while_executor_and_futures_are_held() -> None:
    """When shutdown returns, all is gone: though executor, futures and an error are held, and no garbage collected."""
    before = Traces()
    gc.disable()
    try:
        executor = OrderedProcessPoolExecutor(2, reuse=False, initializer=same, initargs=(1,))
        futures = [executor.submit(same, number) for number in range(50)]
        failed = executor.submit(fail, "why")
        mapped = executor.map(same, range(50))
        assert [future.result() for future in futures] == list(range(50))
        assert list(mapped) == list(range(50))
        assert failed.exception() is not None
        executor.shutdown()
        assert Traces().left_since(before) == []
    finally:
        gc.enable()


def test_nothing_is_left_after_a_death_and_a_timeout(journal: Journal) -> None:
    """The same when workers died, were killed, or were replaced."""
    before = Traces()
    executor = OrderedProcessPoolExecutor(2, reuse=False, max_tasks_per_child=3)
    died = executor.submit(note_and_exit, journal, 1, 1)
    stuck = executor.options(timeout=0.1).submit(time.sleep, 60)
    list(executor.map(same, range(10)))
    assert died.exception() is not None
    assert stuck.exception() is not None
    executor.shutdown()
    assert Traces().left_since(before) == []


def test_warm_workers_wait_for_the_next_executor_until_they_are_ended() -> None:
    """With reuse, workers stay after shutdown; `end_idle_workers()` ends them, and leaves nothing."""
    before = Traces()
    executor = OrderedProcessPoolExecutor(1)
    pid = executor.submit(getpid).result()
    executor.shutdown()
    assert not is_dead(pid)
    end_idle_workers()
    assert Traces().left_since(before) == []
    end_idle_workers()  # nothing to do


def test_warm_workers_end_by_themselves() -> None:
    """After `idle_timeout` seconds nobody has to end them."""
    with OrderedProcessPoolExecutor(1, idle_timeout=0.05) as executor:
        pid = executor.submit(getpid).result()
    until(lambda: is_dead(pid))


# ----------------------------------------------------------------------------------------------------- what is finished


def test_shutdown_waits_for_everything_submitted(journal: Journal) -> None:
    """Everything submitted before is run; nothing is taken after."""
    executor = OrderedProcessPoolExecutor(2)
    futures = [executor.submit(note, journal, number) for number in range(100)]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == list(range(100))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(same, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(same, [1])
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.mark(1)
    executor.shutdown()


def test_shutdown_without_waiting(pool: MakePool, valve: MakeValve) -> None:
    """It returns at once; what was submitted is run all the same, and a later call waits for it."""
    executor = pool(2)
    blocked = valve()
    futures = [executor.submit(stand, blocked, 0), *(executor.submit(same, number) for number in range(1, 30))]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(same, 1)
    blocked.reached()
    assert not any(future.done() for future in futures)
    blocked.open()
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == list(range(30))


def test_shutdown_without_waiting_and_a_bad_argument(pool: MakePool) -> None:
    """A task that cannot be sent fails after shutdown as before it."""
    executor = pool(2)
    executor.submit(same, 1).result()
    bad = executor.submit(same, _BadPickle())
    executor.shutdown(wait=False)
    with pytest.raises(PicklingError):
        bad.result()


class _BadPickle:
    def __reduce__(self) -> str:
        raise PicklingError("bad")


def test_shutdown_at_once_of_an_executor_that_did_nothing() -> None:
    """No task, no process, no wait."""
    executor = OrderedProcessPoolExecutor(4)
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)
    executor.shutdown(kill_workers=True)


def test_shutdown_while_workers_start() -> None:
    """A shutdown right after the first submits finishes them."""
    for _ in range(3):
        executor = OrderedProcessPoolExecutor(2, reuse=False)
        futures = [executor.submit(same, number) for number in range(2)]
        executor.shutdown()
        assert [future.result(timeout=0) for future in futures] == [0, 1]


def test_worker_that_dies_after_shutdown(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """A death in the last task does not hang shutdown; a task behind it runs on a new worker."""
    executor = pool(1)
    lost, after = executor.submit(note_and_exit, journal, 1, 1), executor.submit(same, "after")
    executor.shutdown()
    assert isinstance(lost.exception(), TerminatedWorkerError)
    assert after.result() == "after"


def test_shutdown_of_a_gated_executor(pool: MakePool, valve: MakeValve) -> None:
    """Shutdown does not open the gate: workers stand there until the head moves."""
    executor = pool(3, window=2)
    warm_up(executor, valve)
    blocked = valve()
    head = executor.submit(stand, blocked, "head")
    blocked.reached()
    futures = [executor.submit(same, number) for number in range(9)]
    settled(executor, early=1, gated=2)
    executor.shutdown(wait=False)
    settled(executor, early=1, gated=2)
    blocked.open()
    assert head.result() == "head"
    assert [future.result() for future in futures] == list(range(9))


# --------------------------------------------------------------------------------------------------- cancel and kill


def test_cancel_futures_cancels_what_no_worker_has(pool: MakePool, valve: MakeValve) -> None:
    """What runs is finished; what waits is cancelled at once, and the stream ends."""
    executor = pool(1)
    blocked = valve()
    running = executor.submit(stand, blocked, "ran")
    blocked.reached()
    waiting = [executor.submit(same, number) for number in range(50)]
    mapped = executor.map(same, range(5), chunksize=1)
    executor.shutdown(wait=False, cancel_futures=True)
    until(waiting[-1].cancelled)
    assert sum(future.cancelled() for future in waiting) >= 48  # one batch may have been sent ahead
    blocked.open()
    executor.shutdown()
    assert running.result() == "ran"
    assert all(future.done() for future in waiting)
    with pytest.raises(CancelledError):
        list(mapped)
    assert executor.statistics().in_flight == 0


@pytest.mark.parametrize("cancel", [False, True])
def test_kill_workers_ends_everything_now(
    pool: MakePool, valve: MakeValve, journal: Journal, cancel: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Running and gated tasks get TaskKilledError, waiting ones too, or are cancelled; the processes are gone.

    Whoever kills knows of it: no such failure is logged as unseen.
    """
    executor = pool(2, window=3)
    warm_up(executor, valve)
    stuck = executor.submit(stand_with_pid, journal, valve())
    journal.read()
    pids = executor.statistics().pids
    futures = [executor.submit(same, number) for number in range(20)]
    settled(executor, early=2, gated=1)

    executor.shutdown(kill_workers=True, cancel_futures=cancel)

    assert not [r for r in caplog.records if r.exc_info and isinstance(r.exc_info[1], TaskKilledError)]
    error = stuck.exception(timeout=0)
    assert isinstance(error, TaskKilledError)
    assert error.ticket == stuck.ticket
    assert [futures[0].result(timeout=0), futures[1].result(timeout=0)] == [0, 1]  # they were home
    for future in futures[4:]:
        assert future.cancelled() if cancel else isinstance(future.exception(timeout=0), TaskKilledError)
    assert all(is_dead(pid) for pid in pids)


@pytest.mark.parametrize("name", ["kill_workers", "terminate_workers"])
def test_workers_are_killed_as_by_the_standard_library(
    pool: MakePool, valve: MakeValve, journal: Journal, name: str
) -> None:
    """At once, without waiting: what ran is broken, what waited is cancelled, nothing more is taken."""
    executor = pool(1)
    stuck = executor.submit(stand_with_pid, journal, valve())
    pid = int(journal.read())
    waiting = [executor.submit(same, number) for number in range(9)]
    getattr(executor, name)()
    assert isinstance(stuck.exception(PATIENCE), BrokenProcessPool)
    assert all(future.cancelled() or isinstance(future.exception(PATIENCE), BrokenProcessPool) for future in waiting)
    assert waiting[-1].cancelled()
    with pytest.raises(RuntimeError):
        executor.submit(same, 1)
    getattr(executor, name)()
    executor.shutdown()
    assert is_dead(pid)


def test_a_task_may_handle_sigterm(pool: MakePool, journal: Journal) -> None:
    """`terminate_workers` lets it put something in order."""
    executor = pool(1)
    executor.submit(stand_until_terminated, journal, "go")
    pid = int(journal.read())
    executor.terminate_workers()
    assert journal.read() == "in order"
    executor.shutdown(timeout=PATIENCE)
    assert is_dead(pid)


@pytest.mark.parametrize("how", ["time", "kill_workers", "shutdown"])
def test_a_task_that_stays_after_sigterm_is_killed(
    pool: MakePool, journal: Journal, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some seconds, or by the next call."""
    monkeypatch.setattr(backend, "TERMINATE_SECONDS", 0.2 if how == "time" else 1000.0)
    executor = pool(1)
    stuck = executor.submit(stand_until_terminated, journal, "stay")
    pid = int(journal.read())
    executor.terminate_workers()
    assert journal.read() == "in order"
    assert isinstance(stuck.exception(PATIENCE), TaskKilledError)
    if how == "kill_workers":
        executor.kill_workers()
    executor.shutdown(timeout=PATIENCE, kill_workers=how == "shutdown")
    assert is_dead(pid)


def test_workers_of_an_idle_executor_are_killed(pool: MakePool) -> None:
    """Also while nothing runs, and before anything has started."""
    for name in ("kill_workers", "terminate_workers"):
        executor = pool(1)
        getattr(executor, name)()
        executor.shutdown(timeout=PATIENCE)
        executor = pool(1, reuse=False)
        pid = executor.submit(getpid).result()
        getattr(executor, name)()
        executor.shutdown(timeout=PATIENCE)
        assert is_dead(pid)


def test_kill_workers_before_the_first_is_ready() -> None:
    """Killing while workers start leaves nothing and nobody waiting."""
    for _ in range(3):
        executor = OrderedProcessPoolExecutor(2)
        futures = [executor.submit(same, number) for number in range(4)]
        executor.shutdown(kill_workers=True)
        assert all(future.done() for future in futures)


def test_kill_workers_while_another_thread_waits_in_shutdown(
    pool: MakePool, valve: MakeValve, journal: Journal
) -> None:
    """A shutdown that waits returns when another thread kills."""
    executor = pool(1)
    stuck = executor.submit(stand_with_pid, journal, valve())
    journal.read()
    waiting = in_thread(executor.shutdown)
    executor.shutdown(kill_workers=True)
    waiting.join(10)
    assert not waiting.is_alive()
    assert isinstance(stuck.exception(), TaskKilledError)


def test_timeout_names_what_is_unfinished(pool: MakePool, valve: MakeValve) -> None:
    """Past the timeout the error lists the tickets; nothing is lost, and a later call goes on."""
    executor = pool(1)
    blocked = valve()
    futures = [executor.submit(same, 0), executor.submit(stand, blocked, 1), executor.submit(same, 2)]
    blocked.reached()
    others = [executor.submit(same, number) for number in range(3, 3000)]
    sent = [future.ticket for future in others if not future.cancel()]
    begun = time.monotonic()
    with pytest.raises(ShutdownTimeoutError, match="1, 2") as caught:
        executor.shutdown(timeout=0.2)
    assert 0.2 <= time.monotonic() - begun < 5
    assert caught.value.unfinished == (1, 2, *sent)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(ShutdownTimeoutError):
        executor.shutdown(timeout=0)
    blocked.open()
    executor.shutdown(timeout=30)
    assert [future.result(timeout=0) for future in futures] == [0, 1, 2]


# -------------------------------------------------------------------------------------------- from here and from there


def test_shutdown_in_a_callback_does_not_wait_for_itself(pool: MakePool) -> None:
    """In a done-callback, shutdown returns at once, and takes effect."""
    executor = pool(1)
    returned = threading.Event()

    def stop(_: object) -> None:
        executor.shutdown(wait=True)
        returned.set()

    executor.submit(same, 1).add_done_callback(stop)
    assert returned.wait(30)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(same, 2)
    executor.shutdown(timeout=10)


def test_shutdown_in_callback_with_everything(pool: MakePool) -> None:
    """The same with cancel_futures and kill_workers: what is behind the callback ends."""
    executor = pool(2)
    later = []
    first = executor.submit(same, 1)
    later = [executor.submit(time.sleep, 0.01) for _ in range(50)]
    first.add_done_callback(lambda _: executor.shutdown(cancel_futures=True, kill_workers=True))
    executor.shutdown(timeout=30)
    assert all(future.done() for future in later)


def test_shutdown_from_many_threads_at_once(pool: MakePool) -> None:
    """All of them return when all is done."""
    executor = pool(2)
    futures = [executor.submit(same, number) for number in range(100)]
    threads = [in_thread(executor.shutdown) for _ in range(8)]
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert [future.result(timeout=0) for future in futures] == list(range(100))


def test_submits_that_race_with_shutdown(pool: MakePool) -> None:
    """A submit either raises or its future ends: none is in between."""
    for _ in range(5):
        executor = pool(1)
        futures = []
        begun = threading.Event()

        def submit_for_ever() -> None:
            try:
                while True:
                    futures.append(executor.submit(same, 1))  # noqa: B023
                    begun.set()  # noqa: B023
            except RuntimeError:
                pass

        thread = in_thread(submit_for_ever)
        begun.wait()
        executor.shutdown()
        thread.join()
        assert all(future.result(timeout=0) == 1 for future in futures)


def test_readers_and_submitters_that_wait_wake(pool: MakePool, valve: MakeValve) -> None:
    """A reader that follows ends with the executor; a submit that waits for room raises."""
    executor = pool(1, backlog=2)
    blocked = valve()
    executor.submit(stand, blocked, 0)
    executor.submit(same, 1)
    blocked.reached()
    raised: list[BaseException] = []

    def submit() -> None:
        try:
            executor.submit(same, 2)
        except RuntimeError as error:
            raised.append(error)

    submitter = in_thread(submit)
    executor.shutdown(wait=False)
    submitter.join(30)
    assert len(raised) == 1
    got: list[int] = []
    reader = in_thread(lambda: got.extend(executor.results(follow=True)))
    blocked.open()
    reader.join(30)
    assert got == [0, 1]


def test_with_block_that_raises_waits_for_what_runs(journal: Journal) -> None:
    """An exception in the block goes through, after everything submitted was run."""
    with pytest.raises(KeyError), OrderedProcessPoolExecutor(1) as executor:  # noqa: PT012
        futures = [executor.submit(note, journal, number) for number in range(20)]
        raise KeyError
    assert [future.result(timeout=0) for future in futures] == list(range(20))


def test_with_block_left_by_ctrl_c_does_not_wait(journal: Journal, valve: MakeValve) -> None:
    """After KeyboardInterrupt in the block what runs is killed, what waits is cancelled."""
    with pytest.raises(KeyboardInterrupt), OrderedProcessPoolExecutor(1) as executor:  # noqa: PT012
        stuck = executor.submit(stand_with_pid, journal, valve())
        waiting = [executor.submit(same, number) for number in range(20)]
        pid = int(journal.read())
        raise KeyboardInterrupt
    assert isinstance(stuck.exception(timeout=0), TaskKilledError)
    assert all(future.done() for future in waiting)
    assert is_dead(pid)


# -------------------------------------------------------------------------------------------------- garbage collection


def test_executor_nobody_holds_finishes_and_ends(valve: MakeValve, journal: Journal) -> None:
    """An executor that is let go with work pending finishes it, and then its workers end."""
    executor = OrderedProcessPoolExecutor(2, reuse=False)
    blocked = valve()
    futures = [executor.submit(stand, blocked, 0), *(executor.submit(note, journal, n) for n in range(1, 30))]
    blocked.reached()
    pids = executor.statistics().pids
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    blocked.open()
    assert [future.result() for future in futures] == list(range(30))
    until(lambda: all(is_dead(pid) for pid in pids))


def test_executor_and_futures_nobody_holds(journal: Journal) -> None:
    """The same when the futures are let go, too: everything is run."""
    executor = OrderedProcessPoolExecutor(2)
    for number in range(30):
        executor.submit(note, journal, number)
    del executor
    gc.collect()
    assert sorted(int(journal.read()) for _ in range(30)) == list(range(30))


def test_map_outlives_its_executor() -> None:
    """The iterator of a map goes on when nobody holds the executor."""
    mapped = OrderedProcessPoolExecutor(2).map(same, range(100))
    gc.collect()
    assert list(mapped) == list(range(100))


def test_crash_after_the_executor_was_let_go(valve: MakeValve) -> None:
    """A worker that dies when nobody holds the executor costs its task, and is replaced for the next."""
    executor = OrderedProcessPoolExecutor(1)
    blocked = valve()
    futures: list[Future[Any]] = [executor.submit(stand_and_exit, blocked), executor.submit(same, "after")]
    blocked.reached()
    del executor
    gc.collect()
    blocked.open()
    assert isinstance(futures[0].exception(), TerminatedWorkerError)
    assert futures[1].result() == "after"


def test_thousand_executors_leave_nothing() -> None:
    """Blocks one after the other do not grow threads or descriptors (the memory is another test's)."""
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 1).result()
    before = Traces()
    for number in range(300):
        with OrderedProcessPoolExecutor(1) as executor:
            assert executor.submit(same, number).result() == number
    assert Traces().left_since(before) == []


# ------------------------------------------------------------------------------------------------- failures unseen


@pytest.mark.parametrize(("how", "follow"), [("log", True), ("log", False), ("raise", True)])
def test_what_a_reader_has_before_it_is_not_called_unseen(
    caplog: pytest.LogCaptureFixture, how: str, follow: bool
) -> None:
    """A reader that is behind when the executor ends meets the failures later: nothing is said or raised before."""
    with OrderedProcessPoolExecutor(1, unseen_errors=how) as executor:
        outcomes = executor.outcomes(follow=follow)
        executor.submit(int, "no number")
        executor.submit(int, "5")
    assert caplog.records == []
    first, second = outcomes
    assert type(first.error) is ValueError
    assert second.value == 5
    del outcomes, first, second, executor
    gc.collect()
    assert caplog.records == []


def test_readers_that_are_gone_will_not_see_failures(caplog: pytest.LogCaptureFixture) -> None:
    """One that was at the end, and one that nobody holds, do not count."""
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 1)
        held = executor.results()
        assert list(held) == [1]
        executor.submit(same, 2)
        assert next(executor.results()) == 2
        executor.submit(int, "no number")
    assert [record.getMessage() for record in caplog.records] == ["nobody looked at the failure of ticket 2"]


def test_failures_are_raised_although_a_reader_could_still_read(pool: MakePool) -> None:
    """With `unseen_errors="raise"`, only a reader that follows is trusted to look at everything."""
    executor = pool(1, unseen_errors="raise")
    results = executor.results()
    executor.submit(int, "no number")
    with pytest.raises(Exception, match="nobody looked") as caught:
        executor.shutdown()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]  # type: ignore[attr-defined]
    del results
