"""Traces: every ticket once, in a file that is valid at any moment; and what the timeline says of them."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, timeline, trace
from ordered_executor._core import trace as trace_module
from ordered_executor.parallel_queue import ParallelQueue
from tests.helpers import Journal, Script, Valve, fail, note_and_die, same, settled, stand


def nap(seconds: float) -> float:
    """A task that takes so long."""
    threading.Event().wait(seconds)
    return seconds


def check_format(path: Path) -> list[dict[str, Any]]:
    """What the Trace Event Format asks of a list of events, and what Perfetto asks of a row: slices nest."""
    events: list[dict[str, Any]] = json.loads(path.read_text())
    assert isinstance(events, list)
    rows: dict[int, list[tuple[float, float]]] = {}
    for event in events:
        assert event["ph"] in {"X", "M", "i", "C"}
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["ts"], (int, float))
        assert event["ts"] >= 0
        assert isinstance(event["name"], str)
        assert event["ph"] != "i" or event["s"] == "t"
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert isinstance(event["args"], dict)
            rows.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for slices in rows.values():
        slices.sort()
        for (_, end), (begin, _) in itertools.pairwise(slices):
            assert end <= begin + 0.002, "two slices of a row overlap"  # written to a thousandth of a microsecond
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert rows.keys() <= named
    return events


def tickets(events: list[dict[str, Any]]) -> list[int]:
    """Of the tasks, in the order of the file."""
    return [event["args"]["ticket"] for event in events if event.get("cat") == "task"]


def test_every_ticket_is_there_once(tmp_path: Path) -> None:
    """Submitted and mapped ones, short and long, good and failed; with names, in the rows of their workers."""
    path = tmp_path / "job.json"
    with OrderedProcessPoolExecutor(2, unseen_errors="ignore") as executor, trace(executor, path):
        for number in range(300):
            executor.submit(fail if number == 7 else same, number)
        assert list(executor.map(same, range(5000))) == list(range(5000))
        executor.submit(nap, 0.05)
    events = check_format(path)
    assert sorted(tickets(events)) == list(range(5301))
    tasks = {event["args"]["ticket"]: event for event in events if event.get("cat") == "task"}
    assert tasks[7]["name"] == "tests.helpers.fail"
    assert tasks[7]["args"]["failed"] is True
    assert tasks[8]["name"] == "tests.helpers.same"
    assert "failed" not in tasks[8]["args"]
    assert tasks[5300]["dur"] >= 50_000
    assert {event["tid"] for event in tasks.values()} <= {0, 1}


def test_the_file_is_complete_when_the_results_are_there(tmp_path: Path) -> None:
    """The executor need not be shut down; what is submitted later is not in it."""
    path = tmp_path / "job.json"
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 0).result()
        with trace(executor, path):
            assert list(executor.map(same, range(100))) == list(range(100))
        assert sorted(tickets(check_format(path))) == list(range(1, 101))
        executor.submit(same, 1).result()
    assert sorted(tickets(check_format(path))) == list(range(1, 101))


def test_gate_head_and_early_outcomes_have_their_rows(tmp_path: Path) -> None:
    """As long as the head was waited for, somebody stood at the gate."""
    path, valve = tmp_path / "job.json", Valve(tmp_path / "valve")
    with OrderedProcessPoolExecutor(2, window=2) as executor, trace(executor, path):
        try:
            executor.submit(stand, valve)
            valve.reached()
            for number in range(3):
                executor.submit(same, number)
            settled(executor, early=1, gated=1)
            threading.Event().wait(0.2)
        finally:
            valve.open()
    events = check_format(path)
    (gate,) = (event for event in events if event.get("cat") == "gate")
    assert gate["dur"] >= 200_000
    head = max((event for event in events if event.get("cat") == "head"), key=lambda event: event["dur"])
    assert head["args"]["ticket"] == 0
    assert head["dur"] >= 200_000
    assert any(event["ph"] == "C" and event["args"]["early"] == 1 for event in events)


def test_deaths_and_attempts_are_seen(tmp_path: Path) -> None:
    """A task that no worker has survived has no slice; one that was lost and ran again has one, of its last attempt."""
    path, journal = tmp_path / "job.json", Journal(tmp_path / "journal")
    with OrderedProcessPoolExecutor(1, unseen_errors="ignore") as executor, trace(executor, path):
        executor.submit(note_and_die, journal, 0)
        executor.options(retries=1).submit(_die_first)
        executor.submit(same, 2)
    journal.close()
    events = check_format(path)
    assert sorted(tickets(events)) == [1, 2]
    assert [event["args"].get("attempt") for event in events if event.get("cat") == "task"] == [2, None]
    deaths = [event["name"] for event in events if event["ph"] == "i" and event["name"].startswith("died")]
    assert len(deaths) == 2
    assert "SIGKILL" in deaths[0]
    assert "The last worker that was lost died" in "\n".join(timeline.explain(timeline.read(path)))


def _die_first() -> None:
    from ordered_executor import current_task

    task = current_task()
    if task is not None and task.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()


def test_a_queue_can_be_traced(tmp_path: Path) -> None:
    """As long as it lives."""
    results, path = ParallelQueue(1), tmp_path / "job.json"
    with trace(results, path):
        results.put(pow, 2, 3)
        assert results.get() == 8
    results.stop()
    results.join()
    assert tickets(check_format(path)) == [0]


PROGRAM = """
import os, sys, threading
from ordered_executor import OrderedProcessPoolExecutor, trace

if __name__ == "__main__":
    with OrderedProcessPoolExecutor(1) as executor, trace(executor, sys.argv[1]):
        for number in range(20):
            executor.submit(abs, -number)
        list(executor.results())
        executor.submit(__import__("time").sleep, 0.5).result()
        executor.submit(abs, 1).result()
        os.kill(os.getpid(), 9)
"""


def test_a_program_that_dies_leaves_a_valid_file(tmp_path: Path) -> None:
    """All that was written is whole; only the bracket at the end is missing, which the format does not ask for."""
    (tmp_path / "program.py").write_text(PROGRAM)
    path = tmp_path / "job.json"
    script = Script([str(tmp_path / "program.py"), str(path)], tmp_path)
    try:
        assert script.wait()[0] == -signal.SIGKILL
    finally:
        script.clean_up()
    text = path.read_text()
    assert not text.endswith("]\n")
    events = json.loads(text + "]")
    assert sorted(tickets(events))[:21] == list(range(21))
    assert len(timeline.read(path).all_tasks) >= 21


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before anything is traced."""
    with OrderedProcessPoolExecutor(1) as executor:
        for path in (tmp_path / "no" / "such" / "folder.json", tmp_path):
            with pytest.raises(OSError, match=str(path)), trace(executor, path):
                pass
        with pytest.raises(TypeError, match="not 'an executor'"), trace("an executor", tmp_path / "a.json"):
            pass
        assert executor.submit(same, 1).result() == 1


def test_a_disk_that_is_full_costs_the_trace_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, with the name of the file."""
    monkeypatch.setattr(trace_module, "WRITE_BYTES", 10)
    path, write, full = tmp_path / "job.json", os.write, threading.Event()

    def refuse(fd: int, data: Any) -> int:
        if full.is_set() and Path(f"/proc/self/fd/{fd}").readlink() == path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    with OrderedProcessPoolExecutor(1) as executor, trace(executor, path):
        executor.submit(same, 1).result()
        monkeypatch.setattr(os, "write", refuse)
        full.set()
        assert list(executor.map(same, range(1000))) == list(range(1000))
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert str(path) in lines[0].getMessage()


def test_an_executor_that_has_ended_gives_an_empty_trace(tmp_path: Path) -> None:
    """There is nobody left to write it but the caller."""
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 1)
    with trace(executor, tmp_path / "job.json"):
        pass
    assert tickets(check_format(tmp_path / "job.json")) == []
    assert timeline.explain(timeline.read(tmp_path / "job.json")) == ["There are no tasks in this trace."]


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Of a hundred thousand tasks no more is kept than what was not written yet."""
    with OrderedProcessPoolExecutor(1) as executor, trace(executor, tmp_path / "job.json"):
        (tracer,) = (each for each in _observers(executor) if isinstance(each, trace_module.Tracer))
        most = 0
        for number, _ in enumerate(executor.map(same, range(100_000))):
            if number % 1000 == 0:
                most = max(most, tracer._size + len(tracer._batches) * 100)
        assert most < 2 * trace_module.WRITE_BYTES
    assert len(tickets(check_format(tmp_path / "job.json"))) == 100_001


def _observers(executor: Any) -> Any:
    executor.submit(same, 0).result()  # the trace has begun then
    return executor._scheduler.observers._all


# ------------------------------------------------------------------------------------------------------------ timeline


def slices(*parts: tuple[float, float], name: str = "work") -> list[timeline.Slice]:
    """Tasks of a worker."""
    return [timeline.Slice(begin, end, name, number) for number, (begin, end) in enumerate(parts)]


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        (
            timeline.Timeline(tasks={0: slices((0, 10)), 1: slices((0, 4))}, gate={1: slices((4, 10))}),
            "window is too small",
        ),
        (timeline.Timeline(tasks={0: slices((5, 10))}, starts={0: slices((0, 5))}), "Starting workers took 50%"),
        (
            timeline.Timeline(tasks={0: slices(*((n / 10, n / 10 + 0.1) for n in range(20))), 1: slices((0, 10))}),
            "submit the long ones first",
        ),
        (timeline.Timeline(tasks={0: slices((0, 1), (9, 10))}), "Workers were idle 80%: they had nothing to do"),
        (
            timeline.Timeline(tasks={0: slices(*((n / 1000, n / 1000 + 0.0001) for n in range(1000)))}),
            "cost more to send than to run",
        ),
        (timeline.Timeline(tasks={0: slices((0, 5), (5, 10))}), "Nothing is lost"),
    ],
)
def test_advice_follows_from_where_the_time_went(what: timeline.Timeline, advice: str) -> None:
    """One cause, one sentence with the remedy; and the shares are all of the time."""
    text = timeline.explain(what)
    assert advice in "\n".join(text)
    assert len(text) == 4
    part = timeline.shares(what)
    assert part.busy + part.gated + part.starting + part.tail + part.idle == pytest.approx(1.0)


def test_command_explains_and_draws(tmp_path: Path) -> None:
    """What `trace` has written; into whatever format the name asks for."""
    pytest.importorskip("matplotlib")
    with OrderedProcessPoolExecutor(1, unseen_errors="ignore") as executor, trace(executor, tmp_path / "job.json"):
        executor.submit(fail, 1)
        list(executor.map(nap, [0.01] * 20))
    for name in ("job.svg", "job.png"):
        # A process of its own: matplotlib keeps its fonts open.
        command = [sys.executable, "-m", "ordered_executor.timeline", str(tmp_path / "job.json"), "-o", name]
        said = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout
        assert (tmp_path / name).stat().st_size > 1000
        assert "21 tasks on 1 worker in " in said
        assert "1 failed" in said


@pytest.mark.parametrize("content", [None, "nonsense", "[nonsense", '[{"ph"'])
def test_what_is_no_trace_is_named(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the file."""
    path = tmp_path / "job.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as left:
        timeline.main([str(path)])
    assert left.value.code == 2
    assert str(path) in capsys.readouterr().err
