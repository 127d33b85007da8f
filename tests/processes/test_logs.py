"""Logs of tasks in the parent, and tasks that ask which one they are."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import CurrentTask, OrderedProcessPoolExecutor, TerminatedWorkerError, current_task
from ordered_executor._pickling.logs import hand_on, pack_record
from tests.helpers import Journal, note_and_die

job = logging.getLogger("job")


class Collector(logging.Handler):
    """What came."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def texts(self) -> list[str]:
        """The messages."""
        return [record.getMessage() for record in self.records]


@pytest.fixture
def came() -> Iterator[Collector]:
    """A handler of the parent's, on a logger that takes everything."""
    collector = Collector()
    job.addHandler(collector)
    job.setLevel(logging.DEBUG)
    yield collector
    job.removeHandler(collector)
    job.setLevel(logging.NOTSET)


class Odd:
    """It cannot be marshalled, and says so when asked for its text."""

    def __repr__(self) -> str:
        return "an odd object"


def log_it(number: int) -> int:
    """Log at several levels."""
    job.debug("debug %d", number, extra={"odd": Odd(), "plain": {"a": [1]}})
    try:
        raise KeyError(number)
    except KeyError:
        job.exception("failed %s", Odd())
    return number


def test_records_come_with_ticket_worker_and_attempt(came: Collector) -> None:
    """Message, level, traceback and extras; in the order in which a worker logged."""
    with OrderedProcessPoolExecutor(1, forward_logs=True) as executor:
        executor.submit(abs, 1)
        assert executor.submit(log_it, 5).result() == 5
        debug, failed = came.records
        assert (debug.getMessage(), debug.levelno, debug.name) == ("debug 5", logging.DEBUG, "job")
        assert (debug.ticket, debug.worker, debug.attempt) == (1, 0, 1)
        assert (debug.plain, debug.odd) == ({"a": [1]}, f"<{__name__}.Odd>")
        assert debug.process != os.getpid()
        assert debug.funcName == "log_it"
        assert failed.getMessage() == "failed an odd object"
        assert "KeyError: 5" in failed.exc_text
        assert "KeyError: 5" in logging.Formatter().format(failed)


def test_levels_are_the_parents(came: Collector) -> None:
    """What no logger of the parent's would take is not even made."""
    job.setLevel(logging.ERROR)
    with OrderedProcessPoolExecutor(1, forward_logs=True) as executor:
        executor.submit(log_it, 5).result()
        assert came.texts() == ["failed an odd object"]


def test_nothing_comes_unasked(came: Collector) -> None:
    """Nor of a worker that was lent to somebody who wanted logs before."""
    with OrderedProcessPoolExecutor(1, forward_logs=True) as executor:
        pid = executor.submit(os.getpid).result()
    with OrderedProcessPoolExecutor(1) as executor:
        assert executor.submit(os.getpid).result() == pid
        executor.submit(log_it, 5).result()
    assert came.texts() == []


def log_and_die(journal: Journal) -> None:
    """The last words of a worker."""
    job.warning("about to die")
    note_and_die(journal, "dead")


def test_last_words_of_a_worker_come_too(came: Collector, tmp_path: Path) -> None:
    """They are in the pipe before `logging` returns; each attempt has its own."""
    journal = Journal(tmp_path / "journal")
    with OrderedProcessPoolExecutor(1, retries=1, forward_logs=True) as executor:
        future = executor.submit(log_and_die, journal)
        with pytest.raises(TerminatedWorkerError):
            future.result()
    assert came.texts() == ["about to die"] * 2
    assert [record.attempt for record in came.records] == [1, 2]
    journal.close()


def log_much_and_die(_: object) -> None:
    """Another thread kills the process, whatever the first is at."""
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        job.info("%s", "x" * 100_000)


def test_a_worker_that_dies_in_the_middle_of_a_record(came: Collector) -> None:
    """What came whole is whole, the rest is nothing, and the others go on."""
    with OrderedProcessPoolExecutor(1, forward_logs=True) as executor:
        for _ in range(3):
            with pytest.raises(TerminatedWorkerError):
                executor.submit(log_much_and_die, 0).result()
        assert executor.submit(abs, -1).result() == 1
    assert set(came.texts()) == {"x" * 100_000}


def log_from_everywhere(number: int) -> int:
    """Threads, a signal handler that comes at any place, and a fork."""
    pid = os.fork()
    if not pid:
        job.warning("from a fork")
        os._exit(0)
    os.waitpid(pid, 0)

    def write(who: int) -> None:
        for step in range(50):
            job.info("thread %d step %d %s", who, step, "x" * 3000)

    signal.signal(signal.SIGALRM, lambda *_: job.info("from a signal handler"))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    threads = [threading.Thread(target=write, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    write(3)
    for thread in threads:
        thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return number


def test_frames_stay_whole_whoever_logs(came: Collector) -> None:
    """Threads of a task and handlers of signals log in the middle of frames; a fork's records are not ours."""
    with OrderedProcessPoolExecutor(1, forward_logs=True) as executor:
        assert [f.result() for f in [executor.submit(log_from_everywhere, n) for n in range(5)]] == list(range(5))
    texts = came.texts()
    for who in range(4):
        steps = [text for text in texts if text.startswith(f"thread {who} ")]
        assert steps == [f"thread {who} step {step} {'x' * 3000}" for step in range(50)] * 5
    assert "from a fork" not in texts
    assert {record.ticket for record in came.records} <= {None, *range(5)}


def test_a_handler_that_raises_costs_its_record_only(came: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging says so in its own way, and the executor goes on."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    came.emit = lambda record: 1 / 0  # type: ignore[assignment, method-assign]
    with OrderedProcessPoolExecutor(1, forward_logs=True) as executor:
        assert executor.submit(log_it, 5).result() == 5
        assert executor.submit(abs, -1).result() == 1


def test_a_record_that_makes_no_sense_is_dropped() -> None:
    """Whatever it is."""
    hand_on(b"nonsense", 1, 1, 1)
    record = logging.LogRecord("job", logging.INFO, __file__, 1, "text", None, None)
    assert pack_record(record)


# -------------------------------------------------------------------------------------------------------- current_task


def ask() -> list[CurrentTask | None]:
    """In the task, in a thread of it, and in a fork of it."""
    found = [current_task()]
    thread = threading.Thread(target=lambda: found.append(current_task()))
    thread.start()
    thread.join()
    pid = os.fork()
    if not pid:
        os._exit(0 if current_task() is None else 1)
    return [*found, None if os.waitpid(pid, 0)[1] == 0 else CurrentTask(-1, -1, -1)]


def test_a_task_knows_which_one_it_is() -> None:
    """So does a thread of it; a process that it started is none."""
    with OrderedProcessPoolExecutor(1) as executor:
        for ticket in range(3):
            assert executor.submit(ask).result() == [(ticket, 1, 0), (ticket, 1, 0), None]
        assert [each.ticket for each in executor.map(_ask_in_a_map, range(500))] == list(range(3, 503))
    assert current_task() is None


def test_to_ask_loads_no_more_than_that() -> None:
    """A worker that was started for it has not loaded what users of executors need."""
    ask_it = "__import__('ordered_executor').current_task().ticket"
    look = "'ordered_executor._public' in __import__('sys').modules"
    with OrderedProcessPoolExecutor(1, reuse=False) as executor:
        assert executor.submit(eval, f"({ask_it}, {look})").result() == (0, False)


def _ask_in_a_map(_: int) -> Any:
    return current_task()


def test_attempts_are_told() -> None:
    """To the task itself, in whatever batch it comes again."""
    with OrderedProcessPoolExecutor(2, retries=1) as executor:
        tasks = [f.result() for f in [executor.submit(_die_if_first) for _ in range(3)]]
        assert [task.ticket for task in tasks] == list(range(3))
        assert {task.attempt for task in tasks} == {2}
        assert {task.worker for task in tasks} <= {0, 1}
        assert {each.attempt for each in executor.map(_die_if_first, range(2))} == {2}


def _die_if_first(_: object = None) -> Any:
    task = current_task()
    if task is not None and task.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()
    return task
