"""`running()` and `statistics()`, with the backend driven by hand."""

from __future__ import annotations

import time

import pytest

from ordered_executor._core.counts import MARKS, Counts
from tests.fake import HandExecutor


def parse(name: str, *, header: bool = True) -> str:
    """A task with a name."""
    return name if header else ""


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
