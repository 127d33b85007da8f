"""What is shown while it runs: `running()`, `statistics()`, and what things print as."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, TaskKilledError, TerminatedWorkerError
from ordered_executor._core.counts import MARKS, Counts
from tests.fake import HandExecutor
from tests.helpers import Journal, Valve, fail, note_and_die, same, settled, stand, stand_with_pid, until


def parse(name: str, *, header: bool = True) -> str:
    """A task with a name."""
    return name if header else ""


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


# ------------------------------------------------------------------------------------------------ with the hand-driven


def test_the_head_comes_first_and_is_named() -> None:
    """By ticket, with function, arguments and state; idle workers come last."""
    executor = HandExecutor(3, window=2)
    futures = [executor.submit(parse, "a.csv"), executor.submit(parse, "b.csv", header=False)]
    lanes = executor.open_lanes(3)
    executor.submit(parse, "c.csv")
    executor.step()
    executor.finish(2, "c")
    seen = executor.running()
    assert [(worker.ticket, worker.state) for worker in seen] == [(0, "running"), (1, "running"), (2, "gated")]
    assert seen[1].call == f"{__name__}.parse('b.csv', header=False)"
    assert seen[1].function == f"{__name__}.parse"
    assert (seen[0].attempt, seen[0].seconds) == (1, 0.5)
    assert {worker.pid for worker in seen} == {lane.pid for lane in lanes}
    assert repr(futures[0]) == f"<Future 0 running {__name__}.parse('a.csv') 0.5 s>"
    executor.finish(0, "a")
    assert [(worker.ticket, worker.state) for worker in executor.running()][-1] == (None, "idle")
    executor.run_all()
    executor.end()


def test_a_call_of_a_map_is_named_like_any_other() -> None:
    """Its arguments are there until its outcome is home."""
    executor = HandExecutor(1)
    results = executor.map(pow, [2, 3], [4, 5])
    executor.open_lanes(1)
    assert [worker.call for worker in executor.running()] == ["pow(2, 4)"]
    executor.finish(0, 16)
    assert [worker.call for worker in executor.running()] == ["pow(3, 5)"]
    executor.run_all()
    del results
    executor.end()


def test_failures_skips_and_retries_are_counted() -> None:
    """Whoever made the failure: the task, the parent, or a worker that died; each once."""
    executor = HandExecutor(1, retries=1, unseen_errors="ignore")
    lane = executor.open_lanes(1) and executor.backend.lanes[0]
    futures = [executor.submit(parse, str(number)) for number in range(4)]
    executor.step()
    futures[3].cancel()
    executor.fail(0, ValueError("first"))
    executor.backend.lanes[0].lose()
    executor.step()
    seen = executor.statistics()
    assert (seen.failed, seen.cancelled, seen.retried, seen.lost_workers) == (1, 1, 1, 1)
    executor.open_lanes(1)
    executor.backend.lanes[0].lose()  # the same task a second time: that was its last
    executor.step()
    seen = executor.statistics()
    assert (seen.failed, seen.retried, seen.lost_workers) == (2, 1, 2)
    executor.open_lanes(1)
    executor.run_all()
    assert executor.statistics().failed == 2
    assert isinstance(futures[1].exception(), BaseException)
    del lane
    executor.end()


def test_the_pace_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark a second, of ten seconds at most; a pause in which nothing was in flight does not count."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    counts = Counts(0)
    for step in range(1, 31):
        now = 100.0 + step
        counts.head_moved(5 * step if step <= 15 else 75 + 10 * (step - 15))
    assert counts.rate(225, 1) == pytest.approx(10.0)
    assert len(counts._marks) == MARKS
    now = 500.0
    counts.woke_up(225)
    now = 501.0
    counts.head_moved(227)
    assert counts.rate(227, 0) == pytest.approx(2.0)


def test_the_age_of_the_head_begins_anew_with_each_head() -> None:
    """Nothing in flight: no age."""
    executor = HandExecutor(1)
    assert executor.statistics().head_seconds == 0.0
    executor.submit(parse, "a")
    executor.open_lanes(1)
    executor.scheduler.counts.head_since -= 12.0
    assert executor.statistics().head_seconds == pytest.approx(12.0, abs=1.0)
    executor.submit(parse, "b")
    executor.finish(0, "a")
    assert executor.statistics().head_seconds < 1.0
    executor.run_all()
    assert executor.statistics().head_seconds == 0.0
    executor.end()


# --------------------------------------------------------------------------------------------------- with real workers


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
        endless = executor.map(same, iter(int, 1), buffersize=2)
        assert repr(endless) == "<map of tests.helpers.same: more to come>"
        endless.close()
        assert repr(endless) == "<map of tests.helpers.same: closed>"
        assert "OptionsView retries=2" in repr(executor.options(retries=2))
        executor.submit(same, 1).result()
        assert "0 yielded" in repr(executor.results())
