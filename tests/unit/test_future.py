"""The future: everything of the standard one, lighter, and safe against whoever comes in between."""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, _base, as_completed, wait
from concurrent.futures import Future as StandardFuture
from typing import Any

import pytest

from ordered_executor import Future
from ordered_executor._base import waiting
from ordered_executor._base.tasks import Options
from ordered_executor._core import future as future_module
from ordered_executor._core import waiters as waiters_module
from ordered_executor._core.batches import CoreBatch, FutureBatch
from tests.interleave import Intruder, interruptions, intruders, stepping

PATIENCE = 30.0


class Owner:
    """The executor of a future: remembers what it was asked for."""

    unseen_errors = "log"

    def __init__(self) -> None:
        self.skipped: list[Any] = []
        self.killed: list[Any] = []
        self.recalls: list[tuple[CoreBatch, int]] = []
        self.not_begun: set[int] = set()
        self.reads = 0
        self.handed: list[str] = []
        self.why_not: str | None = None
        self.here = True

    def on_scheduler(self) -> bool:
        return self.here

    def skip(self, future: Future[Any]) -> None:
        self.skipped.append(future)
        if self.here:
            future.complete_cancel()  # as the scheduler does

    def recall(self, batch: CoreBatch, index: int) -> bool:
        self.recalls.append((batch, index))
        return index in self.not_begun

    def kill(self, future: Future[Any]) -> bool:
        self.killed.append(future)
        return not future.done()

    def note_read(self, future: Future[Any]) -> None:
        future.see()
        if future.take_unread():
            self.reads += 1

    def note_handed(self, future: Future[Any], why: str) -> None:
        assert future.done()
        self.handed.append(why)

    def must_not_wait(self) -> str | None:
        return self.why_not

    def note_wanted(self, ticket: int) -> None:
        """Nothing is held back here."""

    def seconds_in_worker(self, ticket: int) -> float | None:
        return 3.21 if ticket == 8 else None


def fresh(owner: Owner | None = None) -> Future[Any]:
    """A future that was claimed and not sent."""
    future: Future[Any] = Future(owner or Owner(), (len, (), {}), Options())
    future.first = 7
    return future


def owner_of(future: Future[Any]) -> Owner:
    """The condition shim for its executor."""
    owner: Any = future._owner
    assert isinstance(owner, Owner)
    return owner


# ----------------------------------------------------------------------------------------------- as the standard one


def test_it_is_a_standard_future() -> None:
    """Libraries that ask for `concurrent.futures.Future` get one, with a ticket."""
    future = fresh()
    assert isinstance(future, StandardFuture)
    assert future.ticket == 7


def test_states_are_the_standard_ones() -> None:
    """Pending, running, finished, as `running()`, `done()`, `cancelled()` and `repr()` tell it."""
    future = fresh()
    assert (future.running(), future.done(), future.cancelled()) == (False, False, False)
    assert repr(future) == "<Future 7 pending len()>"
    assert future.start()
    assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
    assert repr(future) == "<Future 7 running len() (a worker has it)>"
    future.first = 8
    assert repr(future) == "<Future 8 running len() 3.2 s>"
    future.finish(5, None)
    assert (future.running(), future.done(), future.cancelled()) == (False, True, False)
    assert repr(future) == "<Future 8 finished 5>"


def test_a_failed_and_a_cancelled_one_say_so() -> None:
    """The error by its class and arguments, not by its own text, which may be anything."""
    failed, cancelled = fresh(), fresh()
    failed.start()
    failed.finish(None, ValueError("no such file"))
    failed.see()
    assert repr(failed) == "<Future 7 failed ValueError('no such file')>"
    cancelled.cancel()
    assert repr(cancelled) == "<Future 7 cancelled>"


@pytest.mark.parametrize("looked_at", [False, True], ids=["nobody looked", "somebody looked"])
def test_value_and_error_arrive(looked_at: bool) -> None:
    """`result()` and `exception()` say the same whether somebody looked before the end or not."""
    well, ill = fresh(), fresh()
    for future in (well, ill):
        future.start()
        if looked_at:
            with pytest.raises(TimeoutError):
                future.result(timeout=0)
    error = ValueError("x")
    well.finish("value", None)
    ill.finish(None, error)
    assert well.result() == "value"
    assert well.exception() is None
    assert ill.exception() is error
    with pytest.raises(ValueError, match="x") as caught:
        ill.result()
    assert caught.value is error


def test_a_failed_future_is_not_in_a_cycle() -> None:
    """Reading a failure does not tie the future to the traceback: it goes at once when it is let go."""
    future = fresh()
    future.start()
    future.finish(None, ValueError("x"))
    with pytest.raises(ValueError, match="x") as caught:
        future.result()
    gone = weakref.ref(future)
    del future
    assert gone() is None
    del caught


def test_nobody_looks_nothing_is_made() -> None:
    """A future that nobody waits for costs nothing to wait at, nor does one that is looked at when it is done."""
    future = fresh()
    future.start()
    future.finish(1, None)
    future.result()
    assert wait([future]).done == {future}
    assert list(as_completed([future])) == [future]
    assert future._own_waiters is None


def test_no_dictionary_is_made() -> None:
    """From submit to read nobody asks for the future's `__dict__`, which would be made then: in a million it counts."""
    future = fresh()

    def dictionaries() -> int:
        return sum(type(each) is dict and each.get("_owner") is future._owner for each in gc.get_objects())

    future.start()
    future.finish(1, None)
    assert future.result() == 1
    assert future.take_unread() is False
    assert dictionaries() == 0
    assert vars(future)["first"] == 7  # now it is made, and found
    assert dictionaries() == 1


def test_a_thread_that_was_interrupted_sees_the_truth() -> None:
    """Ctrl-C in the middle of `wait()` leaves a picture of the state behind: nobody sees it afterwards."""
    future = fresh()
    future.start()
    future._condition.acquire()
    future.finish(1, None)
    assert future.done()
    assert not future.running()
    assert future.result(timeout=0) == 1
    assert wait([future], timeout=0).done == {future}
    assert "finished" in repr(future)


def test_a_signal_handler_in_the_middle_of_a_wait_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `wait()` takes for conditions may be taken again in between, by a handler that prints the future, say.

    1. A thread in `wait()` has looked at the states; 2. a signal handler there prints the future; 3. the future ends;
    4. the thread adds its waiter: it is told.
    """
    future = fresh()
    future.start()
    install = _base._create_and_install_waiters  # type: ignore[attr-defined]  # private, hence not in the stubs

    def interrupted_install(futures: Any, when: str) -> Any:
        assert "running" in repr(future)
        future.finish(1, None)
        assert "finished" in repr(future)
        return install(futures, when)

    monkeypatch.setattr(_base, "_create_and_install_waiters", interrupted_install)
    assert wait([future], timeout=PATIENCE).done == {future}
    assert future._own_waiters is not None
    assert not future._own_waiters.pictures


def test_as_completed_is_in_order_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Futures that end while `as_completed()` adds itself to all of them come in the order of tickets, too."""
    futures: Any = [fresh() for _ in range(50)]
    for number, future in enumerate(futures):
        future.first = number
        future.start()
    install = _base._create_and_install_waiters  # type: ignore[attr-defined]  # private, hence not in the stubs

    def slow_install(pending: Any, when: str) -> Any:
        for future in futures[:40]:
            future.finish(future.first, None)
        return install(pending, when)

    monkeypatch.setattr(_base, "_create_and_install_waiters", slow_install)
    come = as_completed(futures, timeout=PATIENCE)
    got = [next(come).result() for _ in range(40)]
    for future in futures[40:]:
        future.finish(future.first, None)
    assert got + [future.result() for future in come] == list(range(50))


@pytest.mark.parametrize("kind", ["as_completed", "wait"])
def test_whoever_ends_a_future_takes_no_lock_of_its_waiters(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.14 Ctrl-C may leave one taken: 1. the waiter's lock is taken; 2. the future ends all the same."""
    future: Any = fresh()
    future.start()
    install = _base._create_and_install_waiters  # type: ignore[attr-defined]  # private, hence not in the stubs
    waiters: list[Any] = []

    def noted_install(pending: Any, when: str) -> Any:
        waiters.append(install(pending, when))
        return waiters[-1]

    monkeypatch.setattr(_base, "_create_and_install_waiters", noted_install)
    if kind == "as_completed":
        with pytest.raises(TimeoutError):
            next(as_completed([future], timeout=0))
    else:
        wait([future], timeout=0)
    future._waiters.append(waiters[0])  # as if it had been interrupted, and not taken itself off
    waiters[0].lock.acquire()
    ending = threading.Thread(target=future.finish, args=(1, None), daemon=True)
    ending.start()
    ending.join(PATIENCE)
    assert not ending.is_alive()


def test_callbacks_of_a_cancelled_future_run_in_one_thread() -> None:
    """1. `cancel()` runs the first of two; 2. the scheduler meets the future; 3. the second runs after the first."""
    future = fresh()
    calls: list[str] = []

    def first(_: Any) -> None:
        calls.append("first begins")
        future.complete_cancel()
        calls.append("first ends")

    future.add_done_callback(first)
    future.add_done_callback(lambda _: calls.append("second"))
    assert future.cancel()
    assert calls == ["first begins", "first ends", "second"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_done_callbacks_run_once_each_in_order(when: str) -> None:
    """Callbacks added before the end run at the end, those added after it at once; a bad one stops nobody."""
    future = fresh()
    future.start()
    calls: list[Any] = []

    def bad(_: object) -> None:
        calls.append("bad")
        raise SystemExit

    if when == "before":
        for callback in (calls.append, bad, lambda _: calls.append("last")):
            future.add_done_callback(callback)
        assert calls == []
        future.finish(1, None)
        assert calls == [future, "bad", "last"]
    else:
        future.finish(1, None)
        future.add_done_callback(calls.append)
        assert calls == [future]


def test_waiting_where_it_would_never_end_raises() -> None:
    """On the scheduler, or in a forked child, `result()` of what is unfinished says why it will not wait."""
    future = fresh()
    owner_of(future).why_not = "of the test"
    with pytest.raises(RuntimeError, match="ticket 7 would never end: of the test"):
        future.result()
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    future.start()
    future.finish(1, None)
    assert future.result() == 1


# ------------------------------------------------------------------------------------------------------------- cancel


def test_cancel_before_the_start() -> None:
    """Done at once: waiters, callbacks, the ticket is skipped; a second time it stays so."""
    future = fresh()
    calls: list[Any] = []
    future.add_done_callback(calls.append)
    assert future.cancel()
    assert (future.cancelled(), future.done(), calls) == (True, True, [future])
    assert owner_of(future).skipped == [future]
    assert future.cancel()
    assert set(owner_of(future).skipped) == {future}
    assert not future.start()
    assert calls == [future]
    with pytest.raises(CancelledError):
        future.result(timeout=0)
    assert wait([future], timeout=0).done == {future}


def test_cancel_after_the_start_says_no() -> None:
    """A task that is with a worker, or done, is not cancelled."""
    future = fresh()
    future.start()
    assert not future.cancel()
    future.finish(1, None)
    assert not future.cancel()
    assert owner_of(future).skipped == []
    assert future.result() == 1


def test_kill_cancels_or_asks_the_owner() -> None:
    """Before the start `kill()` is `cancel()`; then the owner stops the task; when it is done it says no."""
    future = fresh()
    assert future.kill()
    assert future.cancelled()
    future = fresh()
    future.start()
    assert future.kill()
    assert owner_of(future).killed == [future]
    future.finish(1, None)
    assert not future.kill()


def test_a_cancel_interrupted_anywhere_is_completed() -> None:
    """Ctrl-C in `cancel()`, wherever it comes.

    1. Threads wait for the future in every way; 2. `cancel()` is interrupted; 3. the scheduler, which is told all the
    same, completes it: if it is cancelled, everybody hears of it, waiters once.
    """
    for interruption in interruptions():
        owner = Owner()
        owner.here = False
        future = fresh(owner)
        waiter = Waiter()
        future._waiters.append(waiter)  # type: ignore[arg-type]  # all that is asked of one
        calls: list[Any] = []
        for _ in range(3):
            future.add_done_callback(calls.append)
        interruption.press(future.cancel)
        if future.cancelled():
            assert owner.skipped or "skip" in interruption.where
            future.complete_cancel()
            assert waiter.told == 1, interruption.where
            assert 2 <= len(calls) <= 3, interruption.where  # the one that was about to run is lost
        assert future._own_waiters is not None
        assert future._own_waiters.caller is None


class Waiter:
    """One of `wait()`'s."""

    def __init__(self) -> None:
        self.told = 0

    def add_cancelled(self, _: Any) -> None:
        self.told += 1


# ----------------------------------------------------------------------------------------------- forced interleavings


def watched(intruder: Intruder) -> contextlib.AbstractContextManager[None]:
    """Each instruction of our future, and of the standard one, is a point, but where a lock is held."""
    intruder.is_kept_out = future_module._deciding._is_owned  # type: ignore[attr-defined]
    return stepping(intruder, future_module, waiters_module, waiting, _base)


def read_result(future: Future[Any]) -> Any:
    """Wait without a limit."""
    return future.result()


def read_result_in_time(future: Future[Any]) -> Any:
    """Wait with a limit."""
    return future.result(timeout=PATIENCE)


def read_exception(future: Future[Any]) -> Any:
    """Ask for the error first."""
    assert future.exception() is None
    return future.result()


def wait_for_it(future: Future[Any]) -> Any:
    """Wait by `wait()`."""
    done, not_done = wait([future], timeout=PATIENCE)
    assert (done, not_done) == ({future}, set())
    return future.result(timeout=0)


def wait_for_the_first(future: Future[Any]) -> Any:
    """Wait for the first of two."""
    done, not_done = wait([future, fresh()], timeout=PATIENCE, return_when="FIRST_COMPLETED")
    assert done == {future}
    assert len(not_done) == 1
    return future.result(timeout=0)


def take_as_completed(future: Future[Any]) -> Any:
    """Wait by `as_completed()`."""
    standard: StandardFuture[Any] = future
    assert list(as_completed([standard], timeout=PATIENCE)) == [future]
    return future.result(timeout=0)


def add_callback(future: Future[Any]) -> Any:
    """Have it call back."""
    calls: list[Any] = []
    future.add_done_callback(calls.append)
    value = future.result()
    assert calls == [future]
    return value


ACTIONS = [
    read_result,
    read_result_in_time,
    read_exception,
    wait_for_it,
    wait_for_the_first,
    take_as_completed,
    add_callback,
]


@pytest.mark.parametrize("action", ACTIONS)
def test_the_end_comes_at_any_point_of_a_wait(action: Callable[[Future[Any]], Any]) -> None:
    """Finish against the first look.

    1. a thread begins to wait, or to add a callback; 2. at any point of that the scheduler finishes the task; 3. the
    thread goes on. It does not sleep, or is woken, and sees the value, once.
    """
    rounds = 0
    for intruder in intruders():
        future = fresh()
        future.start()
        intruder.act = lambda future=future: future.finish("value", None)  # type: ignore[misc]
        with watched(intruder):
            assert action(future) == "value"
        intruder.come()
        rounds += 1
    assert rounds >= 20


@pytest.mark.parametrize("action", ACTIONS)
def test_a_cancel_comes_at_any_point_of_a_wait(action: Callable[[Future[Any]], Any]) -> None:
    """The same with a thread that cancels: whoever waits sees that it is cancelled."""
    for intruder in intruders():
        future = fresh()
        intruder.act = future.cancel
        with watched(intruder), pytest.raises(CancelledError):
            action(future)
        intruder.come()
        assert owner_of(future).skipped == [future]


def test_a_thread_comes_at_any_point_of_the_end() -> None:
    """A first look against finish.

    1. the scheduler begins to finish the task; 2. at any point a thread asks for it and adds a callback; 3. the
    scheduler goes on. The thread sees all or nothing; the callback runs once.
    """
    rounds = 0
    for intruder in intruders():
        future = fresh()
        future.start()
        calls: list[Any] = []
        seen: list[Any] = []
        intruder.act = lambda future=future, calls=calls, seen=seen: (  # type: ignore[misc]
            seen.append(look(future)),
            future.add_done_callback(calls.append),
            seen.append(look(future)),
        )
        with watched(intruder):
            future.finish("value", None)
        intruder.come()
        assert seen in (["not yet", "not yet"], ["value", "value"])
        assert calls == [future]
        assert look(future) == "value"
        rounds += 1
    assert rounds >= 20


def look(future: Future[Any]) -> Any:
    """The value, or "not yet", without waiting."""
    if not future.done():
        with pytest.raises(TimeoutError):
            future.result(timeout=0)
        return "not yet"
    return future.result(timeout=0)


def test_cancel_against_start_has_one_winner() -> None:
    """Cancel against start: one of them wins.

    1. A thread begins to cancel; 2. at any point the scheduler starts the task; 3. the thread goes on. Either it is
    cancelled, skipped and not started, or it runs; and the same with the roles changed.
    """
    for roles in ("cancel, start", "start, cancel"):
        for intruder in intruders():
            future = fresh()
            answers: dict[str, bool] = {}
            calls: list[Any] = []
            future.add_done_callback(calls.append)
            first, second = roles.split(", ")
            intruder.act = lambda future=future, answers=answers, name=second: (  # type: ignore[misc]
                answers.update({name: getattr(future, name)()})
            )
            with watched(intruder):
                answers[first] = getattr(future, first)()
            intruder.come()
            assert answers["cancel"] != answers["start"]
            assert future.cancelled() == answers["cancel"]
            assert future.running() == answers["start"]
            assert calls == ([future] if answers["cancel"] else [])
            assert owner_of(future).skipped == ([future] if answers["cancel"] else [])


def test_two_threads_cancel() -> None:
    """Of two threads that cancel, both are told that it is cancelled.

    1. A thread begins to cancel; 2. at any point another cancels as well; 3. the first goes on. It is cancelled once:
    callbacks run once.
    """
    for intruder in intruders():
        future = fresh()
        calls: list[Any] = []
        answers: list[bool] = []
        future.add_done_callback(calls.append)
        intruder.act = lambda future=future, answers=answers: answers.append(future.cancel())  # type: ignore[misc]
        with watched(intruder):
            answers.append(future.cancel())
        intruder.come()
        assert answers == [True, True]
        assert calls == [future]
        assert set(owner_of(future).skipped) == {future}


def test_two_readers_count_as_one_read() -> None:
    """An outcome is read once, whoever reads.

    1. A holder begins to read a finished future; 2. at any point another thread reads it too (through the stream, or
    itself); 3. the first goes on. Its place in the backlog is given back once.
    """
    for through_stream in (False, True):
        for intruder in intruders():
            future = fresh()
            future.start()
            future.finish("value", None)
            taken: list[bool] = []
            intruder.act = (
                (lambda future=future, taken=taken: taken.append(future.take_unread()))  # type: ignore[misc]
                if through_stream
                else (lambda future=future: future.result(timeout=0))  # type: ignore[misc]
            )
            with watched(intruder):
                assert future.result(timeout=0) == "value"
            intruder.come()
            assert owner_of(future).reads + sum(taken) == 1


# -------------------------------------------------------------------------------------------------- failures unseen


@pytest.mark.parametrize("seen", [False, True])
def test_a_failure_that_nobody_saw_is_logged_when_its_future_goes(seen: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Errors do not pass silently; one that was looked at is not repeated."""
    future = fresh()
    future.start()
    future.finish(None, ValueError("what happened"))
    if seen:
        future.exception()
    del future
    assert ("what happened" in caplog.text) == (not seen)
    assert ("ticket 7" in caplog.text) == (not seen)


def test_ctrl_c_in_a_callback_of_cancel_comes_out() -> None:
    """As the standard one lets it; on the scheduler it is logged, for the order must go on."""
    owner = Owner()
    owner.here = False
    future: Future[Any] = Future(owner, (len, (), {}), Options())

    def press(_: Any) -> None:
        raise KeyboardInterrupt

    future.add_done_callback(press)
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert future.cancelled()
    assert owner.skipped == [future]


# ------------------------------------------------------------------------------------------- what a worker has


def sent(owner: Owner, *not_begun: int) -> tuple[Future[Any], CoreBatch]:
    """A future, the second of a batch that a lane has."""
    future = fresh(owner)
    batch = FutureBatch(1, 6, 4, futures=[future], lane="lane")
    owner.not_begun.update(not_begun)
    assert future.start(batch)
    return future, batch


def test_a_task_that_a_worker_has_and_has_not_begun_can_be_cancelled() -> None:
    """It takes one look at the batch it is in; its call stays until the scheduler has it: it may just be packed."""
    owner = Owner()
    owner.here = False
    future, batch = sent(owner, 1)
    assert future.running()
    assert future.cancel()
    assert owner.recalls == [(batch, 1)]
    assert owner.skipped == [future]
    assert future.call is not None
    assert not future.take_back()


def test_a_task_that_runs_cannot_be_cancelled() -> None:
    """Nor one that has ended, or that had begun when its worker died; of those nobody looks at the worker."""
    owner = Owner()
    future, _ = sent(owner)
    assert not future.cancel()
    future.take_back(begun=True)
    assert not future.cancel()
    future.start(FutureBatch(2, 7, 1, futures=[future], lane="another"))
    owner.not_begun.add(0)
    assert not future.cancel()
    future.sent = None
    future.finish(1, None)
    assert not future.cancel()
    assert len(owner.recalls) == 1
    assert future.result() == 1


def test_what_was_taken_back_is_pending() -> None:
    """It has not begun, and can be cancelled without a look at anybody."""
    owner = Owner()
    future, _ = sent(owner)
    assert future.take_back()
    assert not future.running()
    assert future.cancel()
    assert owner.recalls == []


@pytest.mark.parametrize("second", [True, False])
def test_cancel_against_the_scheduler(second: bool) -> None:
    """Cancel against taking back and sending anew.

    1. A task is cancelled; 2. at any point of that the scheduler takes it back and sends it in another batch, where it
    may begin; 3. what was found out about the first batch does not count: it is cancelled, or begins, never both.
    """
    answers = set()
    for intruder in intruders():
        owner = Owner()
        owner.here = False
        future, _ = sent(owner)
        other = FutureBatch(2, 7, 1, futures=[future], lane="another")
        begun: list[CoreBatch] = []
        owner.recall = lambda batch, index: index == 1 or not begun  # type: ignore[method-assign]  # noqa: B023
        intruder.is_kept_out = future_module._deciding._is_owned  # type: ignore[attr-defined]

        def scheduler(future: Any = future, other: CoreBatch = other, begun: list[CoreBatch] = begun) -> None:
            if future.take_back() and future.start(other) and second:
                begun.append(other)  # nobody recalled that lane in time

        intruder.act = scheduler
        with stepping(intruder, future_module):
            answer = future.cancel()
        intruder.come()
        assert answer == future.cancelled()
        assert not (answer and begun)
        assert answer or begun, "no worker has begun it"
        answers.add(answer)
    assert answers == ({True, False} if second else {True})


@pytest.mark.parametrize("in_callback", [False, True])
def test_a_snapshot_is_a_read(in_callback: bool) -> None:
    """Asyncio of Python 3.15 takes one in the place of the result, for a future that is done in a done-callback."""
    owner = Owner()
    pending, cancelled, finished, failed = (fresh(owner) for _ in range(4))
    cancelled.cancel()
    finished.finish("value", None)
    failed.finish(None, error := ValueError("bad"))
    snapshots: list[Any] = []
    for future in (pending, cancelled, finished, failed):
        if in_callback and future.done():
            future.add_done_callback(lambda it: snapshots.append(it._get_snapshot()))
        else:
            snapshots.append(future._get_snapshot())
    assert snapshots == [
        (False, False, None, None),
        (True, True, None, None),
        (True, False, "value", None),
        (True, False, None, error),
    ]
    assert owner.reads == 2
    assert failed.unseen_error is None
    assert future_module.in_callback.depth == 0


def test_what_has_begun_once_is_never_cancelled() -> None:
    """1. It had begun when its worker died; 2. it is sent again, and comes back without having begun anew."""
    owner = Owner()
    future, _ = sent(owner)
    assert future.take_back(begun=True)
    assert future.start(FutureBatch(2, 7, 1, futures=[future], lane="another"))
    assert future.take_back()
    owner.not_begun.add(0)
    assert not future.cancel()
    assert owner.recalls == []
