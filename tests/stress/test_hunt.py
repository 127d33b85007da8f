"""The fault hunt itself: that its checks can fail, that it repeats, and some seconds of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ordered_executor import TaskTimeoutError, TerminatedWorkerError
from tests.helpers import Script
from tests.stress import cargo, plan
from tests.stress.checks import check
from tests.stress.draw import draw
from tests.stress.journal import Line, executions, note, read
from tests.stress.outcomes import expected, sort_of, tasks_of
from tests.stress.plan import Map, Plan, Task
from tests.stress.record import Delivery, Final, MapRecord, Record, Shot
from tests.stress.table import Table, faults_of
from tests.stress.tasks import Planned

PID = 4711


def died(pid: int = PID) -> TerminatedWorkerError:
    """What a task gets whose worker died."""
    return TerminatedWorkerError("died", 0, pid, -9)


def good_record() -> Record:
    """Four tasks, of which the third fails; a map of two; one reader of the stream: all as it should be."""
    tasks = (Task(1), Task(2, answer="bytes", size=30), Task(3, fault="raises"), Task(4, call="mark"))
    record = Record(Plan(0, 0, 2, tasks=tasks, maps=(Map((Task(5), Task(6))),), stream="outcomes", window=3))
    record.tickets = {1: 0, 2: 1, 3: 2, 4: 3}
    record.later_tickets = dict(record.tickets)
    record.finals = {
        1: Final(1),
        2: Final(cargo.make("bytes", 30, 2)),
        3: Final(error=Planned(3)),
        4: Final(cargo.make("str", 5, 4)),
    }
    record.reads = dict(record.finals)
    record.called_back = [1, 2, 3, 4]
    record.released = [0, 1, 2, 3]
    record.streams = [[Delivery(t, final.value, final.error) for t, final in enumerate(record.finals.values())]]
    record.maps = [MapRecord([Final(5), Final(6)], started=True, ended=True)]
    record.lines = [Line("run", uid, PID) for uid in (1, 2, 3, 5, 6)]
    seen = {"head": 6, "tail": 6, "in_flight": 0, "early": 0, "early_bytes": 0, "waiting": 0, "workers": 0}
    seen |= {"window": 3, "window_bytes": 100, "peak_early": 2, "peak_early_bytes": 100}
    record.statistics = SimpleNamespace(**seen)  # type: ignore[assignment]
    return record


def end_as(record: Record, uid: int, final: Final) -> None:
    """Let a task end otherwise, wherever it is seen."""
    record.finals[uid] = record.reads[uid] = final
    ticket = record.tickets[uid]
    record.streams[0][ticket] = Delivery(ticket, final.value, final.error)


def with_fault(record: Record, uid: int, **changes: Any) -> None:
    """Change a task of the plan."""
    tasks = tuple(replace(task, **changes) if task.uid == uid else task for task in record.plan.tasks)
    record.plan = replace(record.plan, tasks=tasks)


def test_a_good_record_passes() -> None:
    """Nothing is said against a pipeline in which all went as it should."""
    assert check(good_record()) == []


def _swap(record: Record) -> None:
    record.finals[1], record.finals[2] = record.finals[2], record.finals[1]


def _swap_in_the_stream(record: Record) -> None:
    first, second, *_ = record.streams[0]
    record.streams[0][:2] = [Delivery(0, second.value, None), Delivery(1, first.value, None)]


def _lose_a_result(record: Record) -> None:
    del record.finals[1]
    record.unfinished.append(1)


def _cancelled_and_ran(record: Record) -> None:
    record.finals[1] = record.reads[1] = Final(cancelled=True)
    record.cancelled.add(1)
    del record.streams[0][0]


def _two_victims(record: Record) -> None:
    record.shots.append(Shot(PID, "SIGKILL", kills=True))
    end_as(record, 1, Final(error=died()))
    end_as(record, 2, Final(error=died()))


def _killer_not_run_again(record: Record) -> None:
    with_fault(record, 1, fault="dies by SIGKILL", retries=2)
    record.lines.append(Line("run", 1, PID))
    end_as(record, 1, Final(error=died()))


def _stats(**changes: int) -> Callable[[Record], None]:
    return lambda record: vars(record.statistics).update(changes)


WRONG: dict[str, tuple[Callable[[Record], object], str]] = {
    "complaint": (lambda r: r.complain("it broke"), "it broke"),
    "ticket twice": (lambda r: r.tickets.update({2: 0}), "given to 2 tasks"),
    "ticket changed": (lambda r: r.later_tickets.update({2: 9}), "later"),
    "callbacks out of order": (lambda r: r.released.reverse(), "ran before"),
    "callback twice": (lambda r: r.called_back.append(1), "ran 2 times"),
    "no callback": (lambda r: r.called_back.pop(), "ran 0 times"),
    "swapped results": (_swap, "a wrong value"),
    "lost result": (_lose_a_result, "never ended"),
    "read otherwise": (lambda r: r.reads.update({1: Final(2)}), "was read as"),
    "swapped in the stream": (_swap_in_the_stream, "and the stream gave"),
    "stream out of order": (lambda r: r.streams[0].reverse(), "before"),
    "stream twice": (lambda r: r.streams.append(r.streams[0][:1]), "2 times"),
    "stream lost one": (lambda r: r.streams[0].pop(), "never gave task 4"),
    "stream made one up": (lambda r: r.streams[0].append(Delivery(9, 9, None)), "nobody submitted"),
    "innocent died": (lambda r: end_as(r, 1, Final(error=died())), "died, not value"),
    "innocent timed out": (lambda r: end_as(r, 1, Final(error=TaskTimeoutError("", 0, PID))), "timeout, not value"),
    "fault without effect": (lambda r: end_as(r, 3, Final(3)), "value, not own error"),
    "another's error": (lambda r: end_as(r, 3, Final(error=Planned(2))), "another error"),
    "two victims": (_two_victims, "2 tasks were charged"),
    "ran twice": (lambda r: r.lines.append(Line("run", 1, PID)), "ran 2 times"),
    "ran once too rarely": (_killer_not_run_again, "ran 2 times instead of 3"),
    "value without a run": (lambda r: r.lines.pop(0), "never ran"),
    "cancelled and ran": (_cancelled_and_ran, "was cancelled, and ran"),
    "map swapped": (lambda r: r.maps[0].finals.reverse(), "a wrong value"),
    "map lost one": (lambda r: r.maps[0].finals.pop(), "ended after 1"),
    "map without end": (lambda r: setattr(r.maps[0], "ended", False), "did not end"),
    "map made one up": (lambda r: r.maps[0].finals.append(Final(7)), "gave 3 outcomes"),
    "map made up an error": (lambda r: r.maps[0].input_errors.append(1), "that came before [1]"),
    "too many early": (_stats(peak_early=3), "3 outcomes were early"),
    "too many bytes early": (_stats(peak_early_bytes=101), "101 bytes were early"),
    "not over": (_stats(in_flight=1), "not all is over"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_check_can_fail(name: str) -> None:
    """A record with one thing wrong is complained about, in words that say what."""
    spoil, words = WRONG[name]
    record = good_record()
    spoil(record)
    assert any(words in complaint for complaint in check(record)), check(record)


def test_an_untold_stream_is_compared_place_by_place() -> None:
    """`results()` does not say tickets: its n-th outcome must be that of the n-th ticket."""
    record = good_record()
    record.plan = replace(record.plan, stream="results")
    record.streams = [[Delivery(None, value, error) for _, value, error in record.streams[0]]]
    assert check(record) == []
    record.streams[0].pop(1)
    assert any("3 outcomes of 4" in complaint for complaint in check(record))


def test_what_has_a_cause_is_excused() -> None:
    """A death by a shot, a cancel that succeeded, a fault that was planned: nothing is said against them."""
    record = good_record()
    record.shots.append(Shot(PID, "SIGKILL", kills=True))
    end_as(record, 1, Final(error=died()))
    record.cancelled.add(2)
    end_as(record, 2, Final(cancelled=True))
    del record.streams[0][1]
    del record.lines[1]
    assert check(record) == []
    assert faults_of(record) == {"task: raises": 1}


def test_drawing_repeats() -> None:
    """The same seed and number give the same plan; others give others."""
    assert draw(3, 14) == draw(3, 14)
    assert draw(3, 14) != draw(3, 15)
    assert draw(3, 14) != draw(4, 14)
    assert "pipeline 14 of seed 3" in draw(3, 14).describe()


def test_everything_on_the_menu_is_drawn() -> None:
    """In some thousand plans there is every fault, every reader, every ending: nothing was forgotten."""
    drawn: set[object] = set()
    for number in range(1500):
        one = draw(0, number)
        drawn |= {task.fault for task in tasks_of(one)} | {mischief.what for mischief in one.mischief}
        drawn |= {("stream", one.stream), ("futures", one.futures), one.ending, one.signal, one.initializer}
    menu: set[object] = {*plan.DEATHS, plan.DIES_ONCE, *plan.STUCK, *plan.ARGUMENT_FAULTS, *plan.RESULT_FAULTS}
    menu |= {*plan.RAISES, *plan.HARMLESS, *plan.RAISES_NOT_FOR_ASYNC, *plan.KILLS, *plan.OTHER_MISCHIEF, plan.FOR_EVER}
    menu |= {("stream", one) for one in plan.STREAMS} | {("futures", one) for one in plan.FUTURES}
    menu |= {*plan.ENDINGS, *plan.SIGNALS, *plan.INITIALIZERS}
    assert menu <= drawn


@pytest.mark.parametrize("kind", cargo.KINDS)
def test_a_payload_is_known_by_its_task(kind: str) -> None:
    """Another task's payload, or one of another size, is not taken for it."""
    value = cargo.make(kind, 200, 7)
    assert cargo.same(kind, 200, 7, value)
    assert not cargo.same(kind, 200, 8, value)
    assert sort_of(Task(7, answer=kind, size=200), Final(value)) == expected(Task(7)) == "value"
    if kind not in {"int", "float"}:
        assert not cargo.same(kind, 900, 7, value)


def test_the_journal_counts(tmp_path: Path) -> None:
    """Each execution is a line."""
    book = tmp_path / "journal"
    book.touch()
    for uid in (1, 2, 1):
        note(str(book), "run", uid)
    note(str(book), "load", 1)
    assert executions(str(book), 1) == 2
    assert [line.uid for line in read(str(book))] == [1, 2, 1, 1]


def test_the_table_tells_the_survivors() -> None:
    """A fault has survived if its pipeline had no complaint."""
    table = Table()
    table.add(faults_of(good_record()), 0, passed=True, tasks=6)
    table.add(faults_of(good_record()), 1, passed=False, tasks=6)
    assert "| task: raises | 2 | 1 |" in str(table)
    assert table.failed == [1]


def run(command: list[str], folder: Path, patience: float) -> tuple[int, str, str]:
    """Run a program to its end: exit code, output, errors."""
    program = Script(command, folder)
    try:
        return program.wait(patience)
    finally:
        program.clean_up()


STANDS_STILL = """
import threading
from tests.stress.watchdog import Watchdog

def this_is_where_it_stands():
    threading.Event().wait()

Watchdog(0.1, lambda: "the plan").beat("testing")
this_is_where_it_stands()
"""


def test_the_watchdog_says_where_it_stands(tmp_path: Path) -> None:
    """When nothing moves, the plan and the stacks are printed, and the hunt ends."""
    code, _, errors = run(["-c", STANDS_STILL], tmp_path, 30)
    assert code == 3
    assert "while testing" in errors
    assert "the plan" in errors
    assert "this_is_where_it_stands" in errors


@pytest.mark.timeout(180)
def test_some_seconds_of_the_hunt(tmp_path: Path) -> None:
    """A few pipelines with faults of many kinds pass all checks."""
    code, out, errors = run(["-m", "tests.stress", "--seconds", "4", "--seed", "11"], tmp_path, 170)
    print(errors, file=sys.stderr)
    assert code == 0
    assert "| fault | injected | survived |" in out
