"""`running()` and `statistics()` while workers run, and how executors, maps and results print."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, TaskKilledError, TerminatedWorkerError
from tests.helpers import Journal, Valve, fail, note_and_die, same, settled, stand, stand_with_pid, until


@pytest.fixture
def valve(tmp_path: Path) -> Valve:
    """Where tasks stand."""
    return Valve(tmp_path / "valve")


@contextmanager
def opened(valve: Valve) -> Iterator[None]:
    """Whatever the test finds, nobody stands there in the end."""
    try:
        yield
    finally:
        valve.open()


def test_running_workers_are_seen_in_their_memory(valve: Valve, tmp_path: Path) -> None:
    """A slow head, somebody gated behind it, and an idle one: number, pid, state, attempt."""
    journal = Journal(tmp_path / "journal")
    with OrderedProcessPoolExecutor(2, window=2, reuse=False) as executor, opened(valve):
        executor.submit(stand_with_pid, journal, valve)
        pid = int(journal.read())
        executor.submit(same, 1)
        executor.submit(same, 2)
        settled(executor, early=1, gated=1)
        head, gated = executor.running()
        assert (head.ticket, head.state, head.pid, head.attempt) == (0, "running", pid, 1)
        assert head.function == "tests.helpers.stand_with_pid"
        assert (gated.ticket, gated.state, gated.call) == (2, "gated", "tests.helpers.same(2)")
        assert {head.number, gated.number} == {0, 1}
        begun = head.seconds
        assert until(lambda: executor.running()[0].seconds > begun)
        assert head.seconds < 30.0
        assert "head 0" in repr(executor)
        assert f"<td>{pid}</td>" in executor._repr_html_()
    assert executor.running() == []
    assert "shut down" in repr(executor)
    journal.close()


def test_seconds_of_a_slow_task_behind_many_short_ones(valve: Valve) -> None:
    """They are its own, not those of all that ran before it, give or take the length of a batch."""
    with OrderedProcessPoolExecutor(1) as executor, opened(valve):
        for _ in executor.map(same, range(20_000)):
            pass
        before = executor.map(same, range(1000))
        slow = executor.submit(stand, valve, "slow")
        valve.reached()
        seen = executor.running()[0]
        assert seen.ticket == slow.ticket
        assert seen.seconds < 5.0
        valve.open()
        assert slow.result() == "slow"
        assert list(before) == list(range(1000))


def test_a_task_that_is_run_again_says_so(valve: Valve, tmp_path: Path) -> None:
    """Its attempt is counted, and so is the worker that died."""
    journal = Journal(tmp_path / "journal")
    with OrderedProcessPoolExecutor(1, retries=1, unseen_errors="ignore") as executor, opened(valve):
        future = executor.submit(note_and_die, journal, 1)
        journal.read()
        journal.read()
        with pytest.raises(TerminatedWorkerError):
            future.result()
        seen = executor.statistics()
        assert (seen.retried, seen.lost_workers, seen.failed) == (1, 2, 1)
        stopped = executor.submit(stand, valve)
        valve.reached()
        stopped.kill()
        assert isinstance(stopped.exception(), TaskKilledError)
        seen = executor.statistics()
        assert (seen.killed, seen.failed, seen.lost_workers) == (1, 2, 2)
    journal.close()


@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "large"])
def test_failures_of_a_map_are_counted_before_anybody_reads_them(size: int) -> None:
    """Also of errors that are large themselves, among many results that are none."""
    with OrderedProcessPoolExecutor(1) as executor:
        results = executor.map(_fail_at_seven, range(3000), [size] * 3000)
        until(lambda: executor.statistics().head == 3000)
        assert executor.statistics().failed == 300
        del results


def _fail_at_seven(number: int, size: int) -> bytes:
    if number % 10 == 7:
        fail("x" * size)
    return b"e\x80\x05"  # what packed errors begin with


def test_task_times_are_recorded() -> None:
    """Slow tasks one by one; the median of many short ones is short."""
    with OrderedProcessPoolExecutor(1) as executor:
        list(executor.map(_nap, [0.3] + [0.0] * 500))
        seen = executor.statistics()
        assert 0.3 <= seen.longest_seconds < 10.0
        assert seen.median_seconds < 0.1
        assert seen.median_seconds <= seen.p90_seconds <= seen.p99_seconds <= seen.longest_seconds
        assert seen.tasks_per_second > 0.0
        assert "<td>longest_seconds</td>" in seen._repr_html_()


def _nap(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_looking_while_everything_changes_harms_nothing() -> None:
    """Threads look on and on while workers start and end; nothing is raised, nothing is lost."""
    over = threading.Event()
    raised: list[BaseException] = []

    def look(once: Callable[[], Any]) -> None:
        while not over.wait(0.0005):
            try:
                once()
            except BaseException as error:
                raised.append(error)
                return

    with OrderedProcessPoolExecutor(2, max_tasks_per_child=20, unseen_errors="ignore") as executor:
        futures = [executor.submit(same, number) for number in range(80)]
        looks = [executor.running, executor.statistics, *(future.__repr__ for future in futures[-3:])]
        threads = [threading.Thread(target=look, args=(once,)) for once in looks]
        for thread in threads:
            thread.start()
        assert [future.result() for future in futures] == list(range(80))
        executor.shutdown()
    over.set()
    for thread in threads:
        thread.join()
    assert raised == []


def test_results_maps_and_views_say_what_they_are() -> None:
    """What one wants to know, in a line."""
    with OrderedProcessPoolExecutor(1) as executor:
        mapped = executor.map(same, range(5))
        assert repr(mapped) == "<map of tests.helpers.same: 5 to come>"
        assert next(mapped) == 0
        assert repr(mapped) == "<map of tests.helpers.same: 4 to come>"
        endless: Any = executor.map(same, iter(int, 1), buffersize=2)
        assert repr(endless) == "<map of tests.helpers.same: more to come>"
        endless.close()
        assert repr(endless) == "<map of tests.helpers.same: closed>"
        assert "OptionsView retries=2" in repr(executor.options(retries=2))
        executor.submit(same, 1).result()
        assert "0 yielded" in repr(executor.results())
