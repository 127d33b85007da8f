"""The backlog: a submit waits while so many tickets are unread, and wakes when there is room, or none any more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from typing import Any

import pytest

from ordered_executor._base import waiting
from ordered_executor._base.waiting import ParkingLot
from ordered_executor._core import backlog as backlog_module
from ordered_executor._core.backlog import Backlog
from tests.fake import HandExecutor, ThreadedExecutor
from tests.helpers import until
from tests.interleave import Intruder, interruptions, intruders, stepping

PATIENCE = 30.0


def nothing() -> None:
    """A task."""


def full(most: int) -> Backlog:
    """A backlog without room."""
    backlog = Backlog(most, lambda: False)
    for number in range(most):
        backlog.enter(number, may_wait=False)
    return backlog


def watched(intruder: Intruder, backlog: Backlog) -> AbstractContextManager[None]:
    """Each instruction of a backlog is a point, but where its lock is held: there others wait for it."""
    intruder.is_kept_out = backlog._lock._is_owned  # type: ignore[attr-defined]
    return stepping(intruder, backlog_module, waiting)


# ------------------------------------------------------------------------------------------------------- who makes room


@pytest.mark.parametrize(
    "how", ["stream", "outcomes", "future", "failed future", "cancelled", "cancelled and read", "in a callback"]
)
def test_each_way_to_read_makes_room_once(how: str) -> None:
    """Whatever way an outcome is read, it makes room once.

    Reading through stream or future, in a callback too, or a cancelled ticket whose turn has come, gives back one
    place.
    """
    executor = HandExecutor(2, backlog=3)
    head, future = executor.submit(nothing), executor.submit(nothing)
    backlog = executor.scheduler.inbox.backlog
    assert backlog.unread == 2
    if how.startswith("cancelled"):
        future.cancel()
        if how == "cancelled and read":
            with pytest.raises(CancelledError):
                future.result()
        assert backlog.unread == 2
        executor.open_lanes(1)
    else:
        if how == "in a callback":
            future.add_done_callback(lambda f: f.result())
        executor.open_lanes(2)
        if how == "failed future":
            executor.fail(1, ValueError("x"))
        else:
            executor.finish(1, "value")
    executor.finish(0, "head")
    assert head.result(timeout=0) == "head"
    del head
    if how == "stream":
        assert list(executor.results()) == ["value"]
    elif how == "outcomes":
        assert [outcome.ticket for outcome in executor.outcomes()] == [1]
    elif "future" in how:
        for _ in range(2):
            assert (future.exception(timeout=0) is None) == (how == "future")
    assert backlog.unread == 0
    executor.end()


def test_what_was_read_both_ways_counts_once() -> None:
    """A future that is read, still held, and then yielded by the stream gives back one place."""
    executor = HandExecutor(1, backlog=2)
    held = executor.submit(nothing)
    executor.submit(nothing)
    executor.run_all()
    held.result(timeout=0)
    assert executor.scheduler.inbox.backlog.unread == 1
    assert len(list(executor.results())) == 2
    assert executor.scheduler.inbox.backlog.unread == 0
    held.result(timeout=0)
    assert executor.scheduler.inbox.backlog.unread == 0
    executor.end()


def test_without_results_kept_an_end_makes_room() -> None:
    """With `keep_results=False` nobody could read a dropped future: what is done gives back its place."""
    executor = HandExecutor(1, backlog=2, keep_results=False)
    futures = [executor.submit(nothing) for _ in range(2)]
    executor.run_all()
    assert executor.scheduler.inbox.backlog.unread == 0
    assert [future.result(timeout=0) for future in futures] == [None, None]
    assert executor.scheduler.inbox.backlog.unread == 0
    executor.end()


def test_a_claim_that_is_refused_takes_no_place() -> None:
    """`submit` after shutdown raises, and leaves the count as it was."""
    executor = HandExecutor(1, backlog=2)
    executor.shutdown(wait=False)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(nothing)
    assert executor.scheduler.inbox.backlog.unread == 0
    executor.settle()


def test_in_a_callback_submit_never_waits() -> None:
    """On the scheduler a full backlog is over-admitted, and later submits wait until all of it is made up for."""
    executor = HandExecutor(1, backlog=1)
    future = executor.submit(nothing)
    more: list[Any] = []
    future.add_done_callback(lambda _: more.extend(executor.submit(nothing) for _ in range(3)))
    executor.run_all()
    assert executor.scheduler.inbox.backlog.unread == 4
    assert len(list(executor.results())) == 4
    assert executor.scheduler.inbox.backlog.unread == 0
    executor.end()


def test_in_a_callback_of_a_finished_future_submit_never_waits() -> None:
    """The same where the callback runs at once, in the thread that adds it."""
    executor = HandExecutor(1, backlog=1)
    future = executor.submit(nothing)
    executor.run_all()
    future.add_done_callback(lambda _: executor.submit(nothing))
    executor.run_all()
    assert len(list(executor.results())) == 2
    executor.end()


# ------------------------------------------------------------------------------------------------------------ who waits


@pytest.mark.parametrize("over", [0, 2])
def test_a_submit_waits_until_there_is_room(over: int) -> None:
    """A submit goes on when enough was read.

    1. A submit finds no room and goes to wait; 2. outcomes are read, at any point of that; 3. it enters.
    """
    rounds = 0
    for intruder in intruders():
        backlog = full(2)
        for number in range(over):
            backlog.enter(2 + number, may_wait=False)

        def read(backlog: Backlog = backlog) -> None:
            for number in range(over + 1):
                backlog.leave(number)
                backlog.leave(number)  # once more is as good as once

        intruder.act = read
        with watched(intruder, backlog):
            backlog.enter("the submit", may_wait=True)
        assert backlog.unread == 2
        rounds += 1
    assert rounds >= 20


def test_a_closed_backlog_lets_everybody_in() -> None:
    """1. A submit goes to wait; 2. the executor is shut down, or breaks; 3. it wakes (and its claim is refused)."""
    for intruder in intruders():
        backlog = full(1)
        intruder.act = backlog.close
        with watched(intruder, backlog):
            backlog.enter("one", may_wait=True)
            backlog.enter("another", may_wait=True)


def test_an_interrupted_reader_still_makes_room() -> None:
    """Ctrl-C in a read, wherever it comes: a submit that waits does not miss the room that was made.

    1. A submit waits in a thread; 2. the main thread reads, and is interrupted; 3. if that has made room, the submit
    goes on; else the next read makes it.
    """
    for interruption in interruptions():
        backlog = full(1)
        thread = threading.Thread(target=backlog._wait)
        thread.start()
        until(lambda backlog=backlog: backlog._room.parked)  # type: ignore[misc]
        interruption.press(lambda backlog=backlog: backlog.leave(0))  # type: ignore[misc]
        if backlog.unread:
            backlog.leave(0)
        thread.join(PATIENCE)
        assert not thread.is_alive(), interruption.where


def test_shutdown_wakes_a_waiting_submit() -> None:
    """With real threads: a submit that waits for room raises the standard error when the executor is shut down."""
    executor = ThreadedExecutor(1, backlog=1)
    executor.mark("unread")
    waits = threading.Event()
    before = executor.scheduler.inbox.backlog._wait

    def wait() -> bool:
        waits.set()
        return before()

    executor.scheduler.inbox.backlog._wait = wait  # type: ignore[method-assign]
    raised: list[BaseException] = []

    def submit() -> None:
        try:
            executor.mark("no room")
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    assert waits.wait(PATIENCE)
    executor.shutdown()
    thread.join(PATIENCE)
    assert "after shutdown" in str(raised[0])
    assert executor.statistics().tail == 1


def test_a_slow_reader_holds_back_a_fast_submitter() -> None:
    """With real threads: never more than `backlog` are submitted and unread, and all of it arrives."""
    executor = ThreadedExecutor(1, backlog=5)
    most = 0

    def submit() -> None:
        for number in range(300):
            executor.mark(number)
        executor.shutdown(wait=False)

    thread = threading.Thread(target=submit)
    thread.start()
    got: list[int] = []
    for number in executor.results(follow=True):
        most = max(most, executor.statistics().tail - len(got) - 1)
        got.append(number)
    thread.join(PATIENCE)
    assert got == list(range(300))
    assert 1 <= most <= 5


# --------------------------------------------------------------------------------------------------- it explains itself


@pytest.mark.parametrize("all_done", [True, False])
def test_a_wait_that_nobody_will_end_is_explained_once(
    all_done: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a submit waits for long, and everything is done and unread, it says so, once; not while tasks still run."""
    monkeypatch.setattr(backlog_module, "EXPLAIN_SECONDS", 0.0)
    caplog.set_level(logging.WARNING, "ordered_executor")
    backlog = Backlog(1, lambda: all_done)
    backlog.enter(0, may_wait=False)
    waits = 0

    class Counting(ParkingLot):
        def park(self, is_so: Callable[[], bool], timeout: float | None = None) -> bool:
            nonlocal waits
            waits += 1
            if waits % 4 == 0:
                backlog._unread.popitem()
            return is_so()

    backlog._room = Counting()
    backlog.enter(1, may_wait=True)
    backlog.enter(2, may_wait=True)
    assert waits == 8
    assert caplog.text.count("submit() waits") == all_done


# ------------------------------------------------------------------------------------------------ it never stands still


def test_what_a_callback_was_told_of_makes_room_when_it_is_needed() -> None:
    """A done-callback that reads nothing counts, or is a library's: a submit does not wait for a reader of that."""
    executor = HandExecutor(1, backlog=2)
    for number in range(2):
        executor.mark(number).add_done_callback(lambda _: None)
    executor.step()
    assert executor.scheduler.inbox.backlog.unread == 2
    executor.mark(2)  # does not wait
    assert executor.scheduler.inbox.backlog.unread == 1
    executor.step()
    assert list(executor.results()) == [0, 1, 2]
    executor.end()


def test_what_the_stream_has_makes_no_room_by_a_callback() -> None:
    """Where the stream was asked for, its reader is the one who makes room."""
    executor = ThreadedExecutor(1, backlog=1)
    results = executor.results(follow=True)
    executor.mark(0).add_done_callback(lambda _: None)
    until(lambda: executor.statistics().in_flight == 0)
    thread = threading.Thread(target=executor.mark, args=(1,))
    thread.start()
    until(lambda: executor.scheduler.inbox.backlog._room.parked)
    assert executor.statistics().tail == 1
    assert next(results) == 0
    thread.join(PATIENCE)
    assert next(results) == 1
    executor.shutdown()


def test_a_callback_may_want_what_a_waiting_submit_holds() -> None:
    """1. A scheduler submits under a lock, and waits for room; 2. a callback wants that lock: neither stands still."""
    executor = ThreadedExecutor(1, backlog=2)
    executor.work_by_itself()
    lock = threading.Lock()
    ended: list[int] = []

    def note_end(future: Any) -> None:
        with lock:
            ended.append(future.result())

    for number in range(6):
        with lock:
            executor.submit(abs, -number).add_done_callback(note_end)
    until(lambda: len(ended) == 6)
    assert ended == list(range(6))
    executor.shutdown()


def test_a_submit_goes_on_where_the_scheduler_does_not() -> None:
    """Forced: the scheduler is at one turn all the time.  Without a turn, or at another one, the submit waits on."""
    turns: list[int | None] = [None, None, 5, 6, 7, None, 8, 8]
    backlog = Backlog(1, lambda: False, busy_turn=lambda: turns.pop(0))
    backlog.enter(0, may_wait=True)

    class Full(ParkingLot):
        def park(self, is_so: Callable[[], bool], timeout: float | None = None) -> bool:
            return is_so()

    backlog._room = Full()
    backlog.enter(1, may_wait=True)
    assert turns == []
    assert backlog.unread == 2
