"""Wrong settings and arguments, errors that look like the queue's own, workers that cannot run, forks, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from ordered_executor.parallel_queue import ParallelQueue, ParallelSingleTaskQueue, ShutDown
from tests.helpers import PATIENCE, Journal, same, stand_with_pid, until

from .common import drain, raise_bad_value
from .conftest import MakeQueue, MakeValve


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"num_workers": 0}, ValueError, "num_workers"),
        ({"num_workers": "two"}, TypeError, "num_workers"),
        ({"daemon": 1}, TypeError, "daemon"),
        ({"in_q_max": -1}, ValueError, "in_q_max"),
        ({"out_q_max": None}, TypeError, "out_q_max"),
        ({"worker_q_max": 1.5}, TypeError, "worker_q_max"),
        ({"worker_init_f": 3}, TypeError, "worker_init_f"),
        ({"consumer_buffer_max": 0}, ValueError, "consumer_buffer_max"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], error: type[Exception], name: str) -> None:
    """A setting that cannot be is refused by its name, and nothing is started."""
    with pytest.raises(error, match=name):
        ParallelQueue(**options)
    with pytest.raises(error, match=name):
        ParallelSingleTaskQueue(same, **options)


def test_wrong_arguments_are_named(many: MakeQueue) -> None:
    """So are wrong limits of time, and a task that cannot be called."""
    results = many()
    for wrong in (lambda: results.put(1, timeout=-1), lambda: results.get(-1), lambda: results.join(-1)):
        with pytest.raises(ValueError, match="timeout"):
            wrong()
    for wrong in (
        lambda: results.put(1, timeout="long"),  # type: ignore[arg-type]
        lambda: results.get(False),  # what would be `block` in the standard library's get
        lambda: results.join("long"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="timeout"):
            wrong()
    with pytest.raises(TypeError, match="block"):
        results.get(block=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="task_fn"):
        ParallelSingleTaskQueue("no task")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="put"):
        results.put()  # type: ignore[call-arg]


def test_more_patience_than_a_clock_has(many: MakeQueue) -> None:
    """An endless limit of time is none."""
    results = many(in_q_max=1, out_q_max=1, worker_q_max=1)
    for number in range(3):
        results.put(number, timeout=float("inf"))
    with ThreadPoolExecutor(1) as threads:
        put = threads.submit(results.put, 3, timeout=float("inf"))
        until(lambda: results._room.parked)
        assert results.get(timeout=1e300) == 0
        put.result(PATIENCE)
    results.stop()
    results.join(timeout=float("inf"))
    assert drain(results) == [1, 2, 3]


def test_task_that_raises_stop_iteration_does_not_end_a_loop(many: MakeQueue) -> None:
    """It would, in `iter(queue.get, last)`: so it comes as the cause of a RuntimeError."""
    results = many()
    results.put(next, iter(()))
    results.put("last")
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        list(iter(results.get, "last"))
    assert isinstance(caught.value.__cause__, StopIteration)
    assert "StopIteration" in caught.value.stack_trace  # type: ignore[attr-defined]
    assert list(iter(results.get, "last")) == []


def test_task_that_raises_empty_is_not_taken_for_an_empty_queue(many: MakeQueue) -> None:
    """An error that looks like one of the queue's own carries its worker's traceback, and takes its place only."""
    results = many()
    for error in (queue.Empty(), queue.Full(), ShutDown("theirs"), TimeoutError()):
        results.put(raise_it, error)
    results.put("last")
    for expected in (queue.Empty, queue.Full, ShutDown, TimeoutError):
        with pytest.raises(expected) as caught:
            results.get(timeout=PATIENCE)
        assert "raise_it" in caught.value.stack_trace  # type: ignore[attr-defined]
    assert results.get() == "last"


def raise_it(error: BaseException) -> None:
    """Raise what is given."""
    raise error


def test_worker_init_f_runs_first_in_each_worker(many: MakeQueue, journal: Journal, valve: MakeValve) -> None:
    """Once in each process, before any task."""
    results, gate = many(2, worker_init_f=lambda: journal.write("init")), valve()
    for _ in range(2):
        results.put(stand_with_pid, journal, gate)
    lines = [journal.read() for _ in range(4)]
    gate.open()
    assert lines[0] == "init"
    assert lines.count("init") == 2
    for _ in range(50):
        results.put(same, 1)
    results.stop()
    assert len(drain(results)) == 52
    assert journal.read_all() == []


def test_worker_init_f_that_fails_breaks_the_queue(many: MakeQueue, caplog: pytest.LogCaptureFixture) -> None:
    """What was put fails in its place, with the reason; later `put` and `get` raise it too, and do not wait."""
    results = many(1, worker_init_f=raise_bad_value)
    results.put(same, 1)
    for _ in range(2):  # the second: nothing is left, nobody has stopped it, and nothing will ever come
        with pytest.raises(BrokenProcessPool, match="bad bad value"):
            results.get(timeout=PATIENCE)
    with pytest.raises(BrokenProcessPool, match="bad bad value"):
        results.put(same, 2)
    results.stop()
    results.join(timeout=PATIENCE)
    assert not results.is_alive()
    with pytest.raises(ShutDown):
        results.get()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_is_told_whose_queue_it_is(many: MakeQueue) -> None:
    """In a forked child `put` and `get` of the parent's queue raise; the parent's queue goes on."""
    results = many()
    results.put(same, 1)
    with results._putting:  # as if another thread was just putting
        pid = os.fork()
        if pid == 0:
            told = 0
            with contextlib.suppress(BaseException):
                for use in (lambda: results.put(2), lambda: results.put(same, 2), lambda: results.get(timeout=1)):
                    try:
                        use()
                    except Exception as error:
                        told += "parent process" in str(error)
                results.stop()
                results.join(timeout=1)
            os._exit(told)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    results.put(same, 3)
    assert [results.get(), results.get()] == [1, 3]


def test_interrupted_put_loses_no_place(many: MakeQueue) -> None:
    """Ctrl-C ends a `put` that waits; the place it waited for is there for others."""
    results = many(in_q_max=1, out_q_max=1, worker_q_max=1)
    for number in range(3):
        results.put(number)
    main, came = threading.get_ident(), threading.Event()

    def interrupt() -> None:
        until(lambda: results._room.parked)
        # Again and again: Python does not notice a signal that comes just before it waits for a lock.
        while not came.is_set():
            signal.pthread_kill(main, signal.SIGINT)
            came.wait(1)

    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                results.put("interrupted")
        finally:
            came.set()
        sent.result()
    assert results.get() == 0
    results.put(3, timeout=0)
    assert [results.get() for _ in range(3)] == [1, 2, 3]
