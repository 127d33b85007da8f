"""The backlog: a submit waits while so many tickets are unread, and wakes when there is room, or none any more."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

from ordered_executor import _backlog
from ordered_executor._backlog import Backlog

from .fake import HandExecutor, ThreadedExecutor
from .interleave import Intruder, LyingCondition, intruders

PATIENCE = 30.0


def nothing() -> None:
    """A task."""


def full(most: int, intruder: Intruder, all_done: bool = False) -> Backlog:
    """A backlog without room, whose waits the intruder must end."""
    backlog = Backlog(most, lambda: all_done)
    for _ in range(most):
        backlog.enter(may_wait=False)
    backlog._changed = LyingCondition(intruder)
    return backlog


# ------------------------------------------------------------------------------------------------------- who makes room


@pytest.mark.parametrize(
    "how", ["stream", "outcomes", "future", "failed future", "cancelled", "cancelled and read", "in a callback"]
)
def test_each_way_to_read_makes_room_once(how: str) -> None:
    """Whatever way an outcome is read, it makes room once.

    Reading through stream or future, or a cancelled ticket whose turn has come, gives back one place; a read in a
    done-callback gives back none, as the stream still has it.
    """
    executor = HandExecutor(2, backlog=3)
    head, future = executor.submit(nothing), executor.submit(nothing)
    backlog = executor.releaser.backlog
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
    assert backlog.unread == (1 if how == "in a callback" else 0)
    executor.end()


def test_what_was_read_both_ways_counts_once() -> None:
    """A future that is read, still held, and then yielded by the stream gives back one place."""
    executor = HandExecutor(1, backlog=2)
    held = executor.submit(nothing)
    executor.submit(nothing)
    executor.run_all()
    held.result(timeout=0)
    assert executor.releaser.backlog.unread == 1
    assert len(list(executor.results())) == 2
    assert executor.releaser.backlog.unread == 0
    held.result(timeout=0)
    assert executor.releaser.backlog.unread == 0
    executor.end()


def test_without_results_kept_an_end_makes_room() -> None:
    """With `keep_results=False` nobody could read a dropped future: what is done gives back its place."""
    executor = HandExecutor(1, backlog=2, keep_results=False)
    futures = [executor.submit(nothing) for _ in range(2)]
    executor.run_all()
    assert executor.releaser.backlog.unread == 0
    assert [future.result(timeout=0) for future in futures] == [None, None]
    assert executor.releaser.backlog.unread == 0
    executor.end()


def test_a_claim_that_is_refused_takes_no_place() -> None:
    """`submit` after shutdown raises, and leaves the count as it was."""
    executor = HandExecutor(1, backlog=2)
    executor.shutdown(wait=False)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(nothing)
    assert executor.releaser.backlog.unread == 0
    executor.settle()


def test_in_a_callback_submit_never_waits() -> None:
    """On the releaser a full backlog is over-admitted, and later submits wait until all of it is made up for."""
    executor = HandExecutor(1, backlog=1)
    future = executor.submit(nothing)
    more: list[Any] = []
    future.add_done_callback(lambda _: more.extend(executor.submit(nothing) for _ in range(3)))
    executor.run_all()
    assert executor.releaser.backlog.unread == 4
    assert len(list(executor.results())) == 4
    assert executor.releaser.backlog.unread == 0
    executor.end()


# ------------------------------------------------------------------------------------------------------------ who waits


@pytest.mark.parametrize("over", [0, 2])
def test_a_submit_waits_until_there_is_room(over: int) -> None:
    """A submit goes on when enough was read.

    1. A submit finds no room and goes to wait; 2. outcomes are read, at any point of that; 3. it enters.
    """
    for intruder in intruders():
        backlog = full(2, intruder)
        for _ in range(over):
            backlog.enter(may_wait=False)

        def read(backlog: Backlog = backlog) -> None:
            for _ in range(over + 1):
                backlog.leave()

        intruder.act = read
        backlog.enter(may_wait=True)
        assert backlog.unread == 2


def test_a_closed_backlog_lets_everybody_in() -> None:
    """1. A submit goes to wait; 2. the executor is shut down, or breaks; 3. it wakes (and its claim is refused)."""
    for intruder in intruders():
        backlog = full(1, intruder)
        intruder.act = backlog.close
        backlog.enter(may_wait=True)
        backlog.enter(may_wait=True)


def test_an_interrupted_submit_passes_its_wake_up_on() -> None:
    """A wake-up that met an interrupted submit goes to the next.

    1. Two submits wait; 2. one outcome is read, and the first submit is woken; 3. Ctrl-C interrupts it just then; 4.
    the second submit is woken in its place.
    """
    notified: list[str] = []

    class Interrupting(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            backlog._unread -= 1  # step 2: `leave`, whose notify() chose this one
            raise KeyboardInterrupt

        def notify(self, n: int = 1) -> None:
            notified.append("notify")

        def notify_all(self) -> None:
            notified.append("notify")

    backlog = Backlog(1, lambda: False)
    backlog.enter(may_wait=False)
    backlog._changed = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        backlog.enter(may_wait=True)
    assert backlog.unread == 0
    assert backlog._waiting == 0
    assert notified


def test_shutdown_wakes_a_waiting_submit() -> None:
    """With real threads: a submit that waits for room raises the standard error when the executor is shut down."""
    executor = ThreadedExecutor(1, backlog=1)
    executor.mark("unread")
    waits = threading.Event()
    before = executor.releaser.backlog._wait_locked

    def wait_locked() -> None:
        waits.set()
        before()

    executor.releaser.backlog._wait_locked = wait_locked  # type: ignore[method-assign]
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
    monkeypatch.setattr(_backlog, "EXPLAIN_SECONDS", 0.0)
    caplog.set_level(logging.WARNING, "ordered_executor")
    backlog = Backlog(1, lambda: all_done)
    backlog.enter(may_wait=False)
    waits: list[float | None] = []

    class Counting(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if len(waits) % 4 == 0:
                backlog._unread -= 1
            return True

    backlog._changed = Counting()
    backlog.enter(may_wait=True)
    backlog.enter(may_wait=True)
    assert caplog.text.count("submit() waits") == all_done
    assert (waits[-1] is None) == all_done
