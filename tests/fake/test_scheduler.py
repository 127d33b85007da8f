"""The scheduler: who wakes it, what user threads do in between, and faults that must cost one ticket only."""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from functools import partial as bind
from typing import Any

import pytest

from ordered_executor import Future, ShutdownTimeoutError, TaskKilledError
from ordered_executor._core.claims import Claims
from ordered_executor._core.scheduler import DEATHS_IN_VAIN
from tests.fake import HandExecutor, ThreadedExecutor, WorkerDied
from tests.interleave import Intruder, LyingDeque, interruptions, intruders

PATIENCE = 30.0
JUST_BELOW_THE_WRAP = 2**64 - 3


def nothing() -> None:
    """A task."""


# ------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("first", [0, JUST_BELOW_THE_WRAP])
def test_futures_complete_in_the_order_of_submission(first: int) -> None:
    """Whoever ends first: state, callbacks and stream follow the tickets."""
    executor = HandExecutor(3, first=first)
    order: list[int] = []
    futures = [executor.submit(nothing) for _ in range(3)]
    for future in futures:
        future.add_done_callback(lambda f: order.append(f.ticket))
    executor.open_lanes(3)
    assert [future.ticket for future in futures] == [first, first + 1, first + 2]
    executor.finish(first + 2, "c")
    executor.finish(first + 1, "b")
    assert [future.done() for future in futures] == [False, False, False]
    assert executor.statistics().early == 2
    executor.finish(first, "a")
    assert [future.result(timeout=0) for future in futures] == ["a", "b", "c"]
    assert order == [first, first + 1, first + 2]
    assert list(executor.results()) == ["a", "b", "c"]
    executor.end()


def test_a_callback_sees_all_before_it_done_and_none_behind_it() -> None:
    """In the callback of a ticket every lower one is done, and no higher one is."""
    executor = HandExecutor(1)
    futures = [executor.submit(nothing) for _ in range(3)]
    seen: list[list[bool]] = []
    for future in futures:
        future.add_done_callback(lambda _: seen.append([f.done() for f in futures]))
    executor.run_all()
    assert seen == [[True, False, False], [True, True, False], [True, True, True]]
    executor.end()


def test_callbacks_may_use_the_executor() -> None:
    """A callback may submit, mark, cancel and kill; it may not wait for what comes after it."""
    executor = HandExecutor(1)
    follow: list[Future[Any]] = []
    refused: list[str] = []
    victim = executor.submit(nothing)
    last = executor.submit(nothing)

    def callback(_: object) -> None:
        follow.append(executor.submit(nothing))
        follow.append(executor.mark("mark"))
        last.cancel()
        waits: list[Callable[[], Any]] = [
            follow[0].result,
            lambda: next(executor.results(follow=True)),
            lambda: next(mapped),
        ]
        for wait in waits:
            with pytest.raises(RuntimeError) as caught:
                wait()
            refused.append(str(caught.value))

    mapped = executor.map(abs, [1])
    victim.add_done_callback(callback)
    executor.run_all()
    assert len(refused) == 3
    assert all("done-callback" in text for text in refused)
    assert last.cancelled()
    assert [future.result(timeout=0) for future in follow] == [None, "mark"]
    assert list(mapped) == [1]
    executor.end()


# ------------------------------------------------------------------------------------- who wakes it, and in between


class Turn:
    """One turn of a scheduler that sleeps until it is woken, played against an intruder.

    Its points: before it says that it is asleep, and each look at the posts.  Its sleep: the backend's `wait`.
    """

    def __init__(self, executor: HandExecutor, intruder: Intruder) -> None:
        self.executor = executor
        self.intruder = intruder
        self.woken = False
        self.slept = False
        posts = LyingDeque(executor.scheduler.inbox.posts)
        posts.intruder = intruder
        executor.scheduler.inbox.posts = posts
        executor.backend.wake = self.wake  # type: ignore[method-assign]
        self.wait_before = executor.backend.wait
        executor.backend.wait = self.wait  # type: ignore[method-assign]

    def wake(self) -> None:
        self.woken = True

    def wait(self, timeout: float | None) -> list[Any]:
        self.intruder.pass_by()
        if timeout != 0 and not self.woken:
            self.slept = True
            self.intruder.wake()
            assert self.woken, "it came, and did not wake the scheduler"
        self.woken = False
        return self.wait_before(0)

    def play(self) -> None:
        self.intruder.pass_by()
        with self.executor.as_scheduler():
            self.executor.scheduler.step(None)


def act_as_a_user(what: str, executor: HandExecutor, futures: list[Future[Any]], called: list[str]) -> None:
    """What a user thread does meanwhile; `called` says when it has had its effect."""
    if what == "post":
        executor.scheduler.inbox.post(lambda: called.append("post"))
    elif what == "claim":
        executor.mark("x").add_done_callback(lambda _: called.append("claim"))
    elif what == "cancel":
        futures[0].add_done_callback(lambda _: called.append("cancel"))
        futures[0].cancel()
    else:
        executor.shutdown(wait=False)


@pytest.mark.parametrize("what", ["post", "claim", "cancel", "shutdown"])
def test_a_wake_up_is_never_lost(what: str) -> None:
    """The scheduler never sleeps over a post or a claim.

    1. It says that it sleeps, looks whether something is to be done, and goes to sleep; 2. at any point a user thread
    posts or claims. It has seen it, or is woken.
    """
    slept = 0
    for intruder in intruders():
        executor = HandExecutor(1)
        futures: list[Future[Any]] = [executor.submit(nothing)] if what == "cancel" else []
        executor.step()
        called: list[str] = []
        intruder.act = bind(act_as_a_user, what, executor, futures, called)
        turn = Turn(executor, intruder)
        turn.play()
        if not intruder.came:
            intruder.come()
        for _ in range(2):
            if executor.quiet():
                break
            turn.play()
        assert executor.quiet()
        assert called == [what] or executor.backend.closed
        assert executor.statistics().in_flight == 0
        slept += turn.slept
    assert slept == 1


def test_an_interrupted_wake_up_leaves_the_scheduler_awake_to_others() -> None:
    """Ctrl-C in the middle of a wake-up does not make the scheduler deaf.

    1. It sleeps; 2. a user thread posts, and Ctrl-C stops it before it has woken the scheduler; 3. another post still
    wakes it.
    """
    executor = HandExecutor(1)
    wakes: list[str] = []

    def interrupted_wake() -> None:
        wakes.append("interrupted")
        raise KeyboardInterrupt

    executor.scheduler.inbox.asleep = True  # step 1
    executor.backend.wake = interrupted_wake  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        executor.mark(1)  # step 2
    executor.backend.wake = lambda: wakes.append("woken")  # type: ignore[method-assign]
    executor.shutdown(wait=False)  # step 3
    assert "woken" in wakes
    executor.end()


@pytest.mark.parametrize("what", ["submit", "map", "post"])
def test_an_interrupted_submit_still_wakes_the_scheduler(what: str) -> None:
    """Ctrl-C between the claim and the wake-up: what was claimed does not wait for the next submit."""
    executor = HandExecutor(1)
    wakes: list[str] = []

    def wake() -> None:
        wakes.append("woken")
        if len(wakes) == 1:
            raise KeyboardInterrupt

    calls: dict[str, Callable[[], object]] = {
        "submit": lambda: executor.submit(nothing),
        "map": lambda: executor.map(abs, [1]),
        "post": lambda: executor.scheduler.inbox.post(nothing),
    }
    executor.scheduler.inbox.asleep = True
    executor.backend.wake = wake  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        calls[what]()
    assert len(wakes) == (3 if what == "map" else 2)  # a map that nobody gets is cancelled
    executor.open_lanes(1)
    executor.run_all()
    executor.end()


def test_a_thread_that_cannot_be_started_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The constructor raises, and the end of the program does not wait for an executor that never was."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    executor = HandExecutor(1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        executor.scheduler.start()
    assert executor.scheduler.inbox.finished.is_set()


def test_cancel_in_the_turn_of_the_claim() -> None:
    """Cancel against the turn.

    1. the scheduler has taken the claims of this turn and works on the posts; 2. a user thread submits and cancels at
    once; 3. the scheduler meets the skip of a ticket that it has not taken. It takes it, and ends.
    """
    executor = HandExecutor(1)
    futures: list[Future[Any]] = []

    def submit_and_cancel() -> None:
        futures.append(executor.submit(nothing))
        futures[0].cancel()
        futures.append(executor.mark("behind"))

    executor.scheduler.inbox.post(submit_and_cancel)
    executor.step()
    executor.step()
    assert futures[0].cancelled()
    assert futures[1].result(timeout=0) == "behind"
    executor.end()


@pytest.mark.parametrize("kind", ["submit", "mark"])
def test_an_interrupted_claim_is_in_order(kind: str) -> None:
    """Ctrl-C just after the claim.

    1. the ticket is issued; 2. the interrupt comes; 3. the head goes past that ticket, and the backlog counts it
    once.
    """
    executor = HandExecutor(1, backlog=1)
    executor.scheduler.inbox.poke, before = interrupted, executor.scheduler.inbox.poke  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        executor.submit(nothing) if kind == "submit" else executor.mark(None)
    executor.scheduler.inbox.poke = before  # type: ignore[method-assign]
    executor.run_all()
    assert executor.statistics().head == 1
    assert list(executor.results()) == [None]
    assert executor.scheduler.inbox.backlog.unread == 0
    executor.end()


def interrupted() -> None:
    """Ctrl-C comes here."""
    raise KeyboardInterrupt


def test_an_interrupt_in_a_claim_claims_nothing_or_all() -> None:
    """Ctrl-C at each place of a claim: the ticket is issued and taken, or neither.  None is missing afterwards."""
    for interruption in interruptions():
        claims, entry = Claims(5), Entry()
        interruption.press(lambda: claims.claim(entry))  # noqa: B023 (called at once)
        taken = claims.take()
        assert (entry.first, claims.tail, taken) in [(-1, 5, []), (5, 6, [entry])], interruption.where


class Entry:
    """One ticket's."""

    first = -1
    count = 1


def test_after_the_end_nothing_is_claimed() -> None:
    """1. Two are claimed; 2. the claims are closed, twice; 3. no ticket is issued, and the two can be taken."""
    claims, entries = Claims(5), [Entry(), Entry()]
    for entry in entries:
        claims.claim(entry)
    claims.close(RuntimeError("shut down"))
    claims.close(RuntimeError("once more"))
    with pytest.raises(RuntimeError, match="shut down"):
        claims.claim(Entry())
    claims.close(BrokenProcessPool("broken"))
    with pytest.raises(BrokenProcessPool, match="broken"):
        claims.claim(Entry())
    assert claims.waiting()
    assert claims.take() == entries
    assert claims.tail == 7
    assert not claims.waiting()
    assert claims.take() == []


def test_claim_against_take_with_threads() -> None:
    """Many threads claim while the scheduler takes: tickets are dense, each is taken once, in order."""
    claims = Claims(0)
    start = threading.Barrier(5)
    done: deque[None] = deque()

    def submitter() -> None:
        start.wait(PATIENCE)
        for _ in range(500):
            claims.claim(Entry())
        done.append(None)

    threads = [threading.Thread(target=submitter) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait(PATIENCE)
    taken: list[int] = []
    while len(done) < 4 or claims.waiting():
        taken += [entry.first for entry in claims.take()]
    for thread in threads:
        thread.join(PATIENCE)
    assert taken == list(range(2000))


# -------------------------------------------------------------------------------------------------- kill and shutdown


def test_kill_stops_one_task() -> None:
    """A killed task ends with `TaskKilledError` at its place; what stood behind it on the lane runs elsewhere."""
    executor = HandExecutor(1)
    executor.backend.task_seconds = 1e-4
    futures = [executor.submit(nothing) for _ in range(8)]
    (lane,) = executor.open_lanes(1)
    executor.finish(0, "0")
    lane = executor.backend.lane_of(1)
    assert futures[1].kill()
    assert not futures[0].kill()
    executor.step()
    assert lane.killed()
    executor.run_all()
    with pytest.raises(TaskKilledError) as caught:
        futures[1].result(timeout=0)
    assert caught.value.ticket == 1
    assert [future.result(timeout=0) for future in futures[2:]] == [None] * 6
    executor.end()


def test_kill_against_return() -> None:
    """A task that is to be killed is not run again.

    1. A task is sent in a batch; 2. it is to be killed; 3. its lane hands the batch back before the kill can hit. It
    ends with `TaskKilledError`.
    """
    executor = HandExecutor(1)
    executor.backend.task_seconds = 1e-4
    executor.backend.knows = False  # else it is cancelled
    futures = [executor.submit(nothing) for _ in range(4)]
    (lane,) = executor.open_lanes(1)
    executor.finish(0, "0")
    assert lane.tickets[:2] == [1, 2]
    lane.finish("1", flush=False)
    lane.hand_back()
    futures[2].kill()
    executor.run_all()
    with pytest.raises(TaskKilledError):
        futures[2].result(timeout=0)
    assert futures[3].result(timeout=0) is None
    executor.end()


def test_kill_that_comes_too_late_keeps_the_outcome() -> None:
    """1. A task ends; 2. its outcome is early, or on its way; 3. it is killed: it keeps its value."""
    executor = HandExecutor(2)
    futures = [executor.submit(nothing) for _ in range(2)]
    executor.open_lanes(2)
    executor.finish(1, "early")
    assert futures[1].kill()
    executor.backend.finish(0, "on its way")
    assert futures[0].kill()
    executor.settle()
    assert [future.result(timeout=0) for future in futures] == ["on its way", "early"]
    executor.end()


def test_shutdown_finishes_what_was_submitted() -> None:
    """`shutdown()` takes no more, runs what it has, and then closes the backend without killing."""
    executor = HandExecutor(1)
    future = executor.submit(nothing)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(nothing)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.mark(1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [1])
    executor.settle()
    assert not executor.backend.closed
    executor.run_all()
    assert future.result(timeout=0) is None
    assert executor.backend.closed
    assert not executor.backend.killing
    executor.shutdown(wait=False)
    executor.settle()


def test_shutdown_cancels_what_no_worker_has() -> None:
    """`cancel_futures`: what runs goes on, what waits is cancelled, futures and maps."""
    executor = HandExecutor(1)
    futures = [executor.submit(nothing) for _ in range(3)]
    mapped = executor.map(abs, [1, 2])
    executor.open_lanes(1)
    executor.shutdown(wait=False, cancel_futures=True)
    executor.step()
    assert [future.cancelled() for future in futures] == [False, True, True]
    executor.finish(0, "0")
    assert futures[0].result(timeout=0) == "0"
    with pytest.raises(CancelledError):
        next(mapped)
    assert list(mapped) == []
    assert list(executor.results()) == ["0"]
    executor.settle()
    assert executor.backend.closed


def test_shutdown_kills_what_runs() -> None:
    """`kill_workers`: everything unfinished ends with an error of its own, in order; what is early keeps its value."""
    executor = HandExecutor(2)
    futures = [executor.submit(nothing) for _ in range(4)]
    executor.open_lanes(2)
    executor.finish(1, "early")
    executor.shutdown(wait=False, kill_workers=True)
    executor.settle()
    errors = [future.exception(timeout=0) for future in futures]
    assert [type(error) for error in errors] == [TaskKilledError, type(None), TaskKilledError, TaskKilledError]
    assert len({id(error) for error in errors}) == 4
    assert executor.backend.closed
    assert executor.backend.killing


def test_a_timed_shutdown_tells_what_is_unfinished() -> None:
    """`timeout`: the report names the tickets; nothing is lost, and a later call ends it."""
    executor = ThreadedExecutor(1)
    future = executor.submit(nothing)
    executor.submit(nothing)
    with pytest.raises(ShutdownTimeoutError) as caught:
        executor.shutdown(timeout=0)
    assert caught.value.unfinished == (0, 1)
    assert isinstance(caught.value, TimeoutError)
    executor.shutdown(kill_workers=True)
    assert type(future.exception(timeout=0)) is TaskKilledError
    assert executor.backend.released


def test_break_down_fails_what_is_pending_in_order() -> None:
    """When there will be no workers: all that is pending fails in order with the reason, each with its own copy."""
    executor = HandExecutor(2)
    order: list[int] = []
    futures = [executor.submit(nothing) for _ in range(4)]
    for future in futures:
        future.add_done_callback(lambda f: order.append(f.ticket))
    mapped = executor.map(abs, [1, 2])
    executor.open_lanes(2)
    executor.finish(1, "early")
    futures[3].cancel()
    executor.backend.break_down(BrokenProcessPool("the reason"))
    executor.settle()
    errors = [future.exception(timeout=0) for future in (futures[0], futures[2])]
    assert [str(error) for error in errors] == ["the reason", "the reason"]
    assert errors[0] is not errors[1]
    assert futures[1].result(timeout=0) == "early"
    assert order == [3, 0, 1, 2]
    with pytest.raises(BrokenProcessPool, match="the reason"):
        next(mapped)
    with pytest.raises(BrokenProcessPool, match="the reason"):
        executor.submit(nothing)
    assert executor.backend.closed


# ------------------------------------------------------------------------------------------------------------- deaths


@pytest.mark.parametrize("retries", [0, 2])
def test_a_task_that_kills_its_worker_runs_once_and_its_retries(retries: int) -> None:
    """It is executed exactly `1 + retries` times and fails alone; its neighbours are charged nothing."""
    executor = HandExecutor(1, retries=retries)
    executor.backend.task_seconds = 1e-4
    futures = [executor.submit(nothing) for _ in range(6)]
    executor.open_lanes(1)
    executor.finish(0, "0")
    for _ in range(1 + retries):
        lane = executor.backend.lane_of(1)
        lane.lose()
        executor.settle()
        executor.open_lanes(1)
    assert type(futures[1].exception(timeout=0)) is WorkerDied
    executor.run_all()
    assert [future.result(timeout=0) for future in futures[2:]] == [None] * 4
    assert [future.losses for future in futures] == [0, 1 + retries, 0, 0, 0, 0]
    executor.end()


def test_lost_against_arrived() -> None:
    """A death costs the task that ran, not those finished before it.

    1. Two of a batch are finished and in the worker's memory; 2. it dies of the third; 3. the two arrive, the third
    is charged, the fourth runs elsewhere.
    """
    executor = HandExecutor(1)
    executor.backend.task_seconds = 1e-4
    futures = [executor.submit(nothing) for _ in range(12)]
    executor.open_lanes(1)
    executor.finish(0, "0")
    lane = executor.backend.lane_of(1)
    while lane.batches[0].count < 4:
        for ticket in lane.tickets:
            executor.finish(ticket, str(ticket))
    first = lane.batches[0].first
    lane.finish(str(first), flush=False)
    lane.finish(str(first + 1), flush=False)
    lane.lose()
    executor.run_all()
    assert [future.result(timeout=0) for future in futures[: first + 2]] == [str(n) for n in range(first + 2)]
    assert type(futures[first + 2].exception(timeout=0)) is WorkerDied
    assert [future.result(timeout=0) for future in futures[first + 3 :]] == [None] * (12 - first - 3)
    executor.end()


def test_lost_against_returned() -> None:
    """A lane that dies after it has handed its batch back charges nobody.

    1. A lane hands its batch back; 2. it dies; 3. the parent hears of both in one turn. What it had not started runs
    elsewhere, once.
    """
    executor = HandExecutor(2)
    executor.backend.task_seconds = 1e-4
    futures = [executor.submit(nothing) for _ in range(40)]
    executor.open_lanes(1)
    for ticket in range(7):
        executor.finish(ticket, str(ticket))
    lane = executor.backend.lane_of(7)
    assert len(lane.tickets) >= 4
    lane.finish("7", flush=False)
    lane.hand_back()
    lane.lose(blame=False)
    executor.run_all()
    assert [future.result(timeout=0) for future in futures] == [str(n) for n in range(8)] + [None] * 32
    assert all(future.losses == 0 for future in futures)
    executor.end()


def test_an_outcome_at_the_gate_survives_its_worker() -> None:
    """A small outcome that waits at the gate survives its worker.

    1. A worker waits at the gate with its outcome; 2. it is killed there; 3. the outcome is read from its memory,
    outside the window, and counts as early nowhere; a large one costs its task.
    """
    for value, lost in (("small", False), (("large", b"." * 40000), True)):
        executor = HandExecutor(2, window=1)
        head, gated = executor.submit(nothing), executor.submit(nothing)
        executor.open_lanes(2)
        executor.finish(1, value)
        lane = executor.backend.lane_of(1)
        assert (lane.gated, executor.statistics().gated) == (1, 1)
        lane.lose()
        executor.settle()
        assert executor.statistics().early == executor.statistics().peak_early == 0
        executor.finish(0, "head")
        assert head.result(timeout=0) == "head"
        assert type(gated.exception(timeout=0)) is (WorkerDied if lost else type(None))
        executor.end()


def test_a_batch_that_cannot_be_loaded_is_sent_again_one_by_one() -> None:
    """An argument that kills whoever loads it costs its call alone.

    1. A worker dies while it loads the arguments of a map's batch; 2. they are packed apart and sent again; 3. it
    dies of the one: that one is charged.
    """
    executor = HandExecutor(1)
    mapped = executor.map(abs, range(8), chunksize=4)
    (lane,) = executor.open_lanes(1)
    assert lane.tickets == [0, 1, 2, 3]
    lane.lose(suspect=True)
    executor.settle()
    (lane,) = executor.open_lanes(1)
    assert (lane.tickets, lane.batches[0].apart) == ([0, 1, 2, 3], True)
    lane.work()
    lane.lose()
    executor.run_all()
    assert next(mapped) == 0
    with pytest.raises(WorkerDied):
        next(mapped)
    assert list(mapped) == [2, 3, 4, 5, 6, 7]
    executor.end()


def test_workers_that_die_in_vain_break_the_executor() -> None:
    """Workers that die again and again before they send anything home, with or without a batch, break it."""
    executor = HandExecutor(1)
    future = executor.submit(nothing)
    for death in range(DEATHS_IN_VAIN):
        assert not future.done()
        executor.backend.open_lane()
        if death % 2:
            executor.step()
        executor.backend.lanes[0].lose(blame=False)
        executor.settle()
    error = future.exception(timeout=0)
    assert isinstance(error, BrokenProcessPool)
    assert "died before they had finished anything" in str(error)
    executor.settle()
    assert executor.backend.closed


def test_one_blow_that_hits_many_does_not_break_the_executor() -> None:
    """Workers that had nothing to do yet, all killed at once, however many: others take their place."""
    executor = HandExecutor(3 * DEATHS_IN_VAIN)
    future = executor.submit(nothing)
    for blow in range(DEATHS_IN_VAIN - 1):
        lanes = executor.open_lanes(3 * DEATHS_IN_VAIN)
        for lane in reversed(lanes):
            lane.lose(blame=False)
        executor.settle()
        assert not future.done(), blow
    executor.open_lanes(1)
    executor.run_all()
    assert future.result(timeout=0) is None
    executor.end()


def test_idle_workers_that_had_worked_may_die() -> None:
    """Workers that have done something and are killed while idle cost nothing, however many they are."""
    executor = HandExecutor(DEATHS_IN_VAIN)
    for _ in range(DEATHS_IN_VAIN):
        executor.submit(nothing)
    lanes = executor.open_lanes(DEATHS_IN_VAIN)
    executor.run_all()
    for lane in lanes:
        lane.lose(blame=False)
    executor.settle()
    future = executor.submit(nothing)
    executor.run_all()
    assert future.result(timeout=0) is None
    executor.end()


def test_a_worker_is_replaced_after_its_quota() -> None:
    """With so many tasks per worker, each runs exactly so many, and the order does not notice."""
    executor = HandExecutor(1)
    executor.backend.task_seconds = 1e-4
    futures = [executor.submit(int, n) for n in range(10)]
    ran: list[int] = []
    while executor.statistics().in_flight:
        lane = executor.backend.open_lane(quota=3)
        executor.settle()
        while lane.alive and lane.running is not None:
            lane.work()
            executor.settle()
        ran.append(lane.ran)
    assert ran == [3, 3, 3, 1]
    assert [future.result(timeout=0) for future in futures] == list(range(10))
    executor.end()


# ---------------------------------------------------------------------------------------------------- one ticket only


class BadNotes(Exception):
    """An exception to which no note can be added."""

    __notes__: Any = ()


class Unloadable:
    """Pickles, and raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return raise_bad_notes, ()


def raise_bad_notes() -> None:
    """Be loaded, and raise it."""
    raise BadNotes("on purpose")


class Refusal(BaseException):
    """What lying things raise: no `except Exception` catches it."""


class Evil:
    """A value whose class lies about everything that a message might ask for."""

    def __format__(self, _: str) -> str:
        raise Refusal

    def __repr__(self) -> str:
        raise Refusal

    def __eq__(self, _: object) -> bool:
        raise Refusal

    __hash__ = None  # type: ignore[assignment]


def hostile_module() -> None:
    """A task whose `__module__` is not a string."""


hostile_module.__module__ = Evil()  # type: ignore[assignment]


class partial:  # noqa: N801  # it pretends to be the standard one
    """A callable that is called as `functools.partial` and has its attributes."""

    @property
    def func(self) -> Any:
        raise Refusal

    def __call__(self) -> None:
        """Do nothing."""


class Nameless(type):
    """Classes that will not tell their names."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__"):
            raise Refusal
        return super().__getattribute__(name)


@pytest.mark.parametrize("what", ["module", "partial", "class"])
def test_a_hostile_callable_costs_its_ticket_only(what: str) -> None:
    """The note on an error runs no code of the user's: a callable that cannot be described is not described."""
    executor = HandExecutor(1)
    task: Any = {"module": hostile_module, "partial": partial(), "class": Nameless("Hostile", (), {})}[what]
    bad, good = executor.submit(task), executor.submit(nothing)
    executor.open_lanes(1)
    executor.fail(0, ValueError("x"))
    executor.finish(1, "good")
    assert type(bad.exception(timeout=0)) is ValueError
    assert good.result(timeout=0) == "good"
    executor.end()


def test_a_result_that_cannot_be_loaded_costs_its_ticket_only() -> None:
    """Whatever unpickling raises, the ticket gets it, and the next one is unharmed."""
    executor = HandExecutor(1)
    bad, good = executor.submit(nothing), executor.submit(nothing)
    executor.open_lanes(1)
    executor.finish(0, Unloadable())
    executor.finish(1, "good")
    assert type(bad.exception(timeout=0)) is BadNotes
    assert good.result(timeout=0) == "good"
    executor.end()


def test_an_argument_that_cannot_be_packed_costs_its_ticket_only() -> None:
    """What cannot be packed costs its ticket only.

    It goes its way as an empty call and ends with the error of packing; order and neighbours are unharmed.
    """
    executor = HandExecutor(1)
    executor.backend.task_seconds = 1e-4
    executor.backend.refuses = lambda call: TypeError("cannot pickle it") if call[1] == ("bad",) else None
    futures = [executor.submit(str, word) for word in ("a", "b", "bad", "c", "bad", "d")]
    mapped = executor.map(str, ["x", "bad", "y"], chunksize=3)
    executor.run_all()
    errors = [future.exception(timeout=0) for future in futures]
    assert [str(error) if error else None for error in errors] == [
        None,
        None,
        "cannot pickle it",
        None,
        "cannot pickle it",
        None,
    ]
    assert next(mapped) == "x"
    with pytest.raises(TypeError, match="cannot pickle it"):
        next(mapped)
    assert next(mapped) == "y"
    executor.end()


def test_a_defect_of_ours_fails_everything_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    """If the scheduler itself breaks down, nobody waits for ever: all that is pending fails, and shutdown returns."""
    executor = ThreadedExecutor(1)

    def defect() -> None:
        raise ZeroDivisionError("a defect")

    futures = [executor.submit(nothing) for _ in range(3)]
    executor.scheduler.inbox.post(defect)
    errors = [future.exception(timeout=PATIENCE) for future in futures]
    assert all(isinstance(error, BrokenProcessPool) and "ZeroDivisionError" in str(error) for error in errors)
    executor.shutdown()
    assert executor.backend.released
    assert "broke down" in caplog.text


def test_what_a_defect_has_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A worker is lost; 2. a defect comes when only those who wait know what it had; 3. they hear of it."""
    executor = HandExecutor(1)
    first = executor.submit(nothing)
    mapped = executor.map(abs, range(3), chunksize=3)
    last = executor.submit(nothing)
    (lane,) = executor.open_lanes(1)
    executor.finish(0, "first")
    assert lane.tickets == [1, 2, 3]

    def defect(dispatcher: Any, event: Any) -> None:
        dispatcher.close_lane(event.lane)
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("ordered_executor._core.scheduler.settle_loss", defect)
    lane.lose(blame=False)
    executor.scheduler.run()
    assert first.result(timeout=0) == "first"
    for _ in range(3):
        with pytest.raises(BrokenProcessPool, match="ZeroDivisionError"):
            next(mapped)
    assert list(mapped) == []
    assert isinstance(last.exception(timeout=0), BrokenProcessPool)
    assert executor.backend.released


def test_a_defect_in_delivery_loses_that_segment_only(caplog: pytest.LogCaptureFixture) -> None:
    """If an outcome cannot be delivered, those behind it still are, and everybody's wait ends."""
    caplog.set_level(logging.CRITICAL)
    executor = ThreadedExecutor(1)
    scheduler: Any = executor.scheduler
    scheduler._deliver = defective(scheduler._deliver)
    lost = executor.mark("lost")
    behind = executor.submit(nothing)
    assert isinstance(behind.exception(timeout=PATIENCE), BrokenProcessPool)
    assert isinstance(lost.exception(timeout=PATIENCE), BrokenProcessPool)
    executor.shutdown()
    assert executor.statistics().in_flight == 0


def defective(deliver: Callable[[Any], None]) -> Callable[[Any], None]:
    """A `_deliver` that fails once."""
    failed: list[bool] = []

    def deliver_or_fail(segment: Any) -> None:
        if not failed:
            failed.append(True)
            raise ZeroDivisionError("a defect")
        deliver(segment)

    return deliver_or_fail
