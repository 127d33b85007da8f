"""By default nothing piles up for who uses futures, and nothing is missing for who reads the stream; or it is loud."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait
from typing import Any

import pytest

from ordered_executor import Future
from ordered_executor._core import retention as retention_module
from ordered_executor._core.retention import Handed
from tests.fake import HandExecutor, ThreadedExecutor
from tests.helpers import until

PATIENCE = 30.0

Use = Callable[[HandExecutor, Future[Any]], None]


def nothing() -> None:
    """A task."""


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """What goes must go by itself: a cycle would stay until the collector comes."""
    gc.disable()
    yield
    gc.enable()


# -------------------------------------------------------------------------------------------------- the ways to use one


def finish(executor: HandExecutor, future: Future[Any]) -> None:
    """Its task returns."""
    executor.finish(future.ticket, "value")


def callback(read: Callable[[Future[Any]], Any], *, late: bool = False) -> Use:
    """A done-callback that reads."""

    def use(executor: HandExecutor, future: Future[Any]) -> None:
        if late:
            finish(executor, future)
        future.add_done_callback(read)
        if not late:
            finish(executor, future)

    return use


def wait_before(executor: HandExecutor, future: Future[Any]) -> None:
    """`wait()` gives up, and the task returns."""
    assert not wait([future], timeout=0).done
    finish(executor, future)


def wait_after(executor: HandExecutor, future: Future[Any]) -> None:
    """The task returns, and `wait()` finds it done."""
    finish(executor, future)
    assert wait([future], return_when=FIRST_COMPLETED).done


def wait_meanwhile(executor: HandExecutor, future: Future[Any]) -> None:
    """`wait()` waits while the task returns."""
    thread = threading.Thread(target=wait, args=([future],))
    thread.start()
    until(lambda: future._own_waiters is not None and future._own_waiters.waiters)
    finish(executor, future)
    thread.join(PATIENCE)
    del thread


def complete(executor: HandExecutor, future: Future[Any]) -> None:
    """`as_completed()` yields it, and nobody reads it."""
    finish(executor, future)
    assert next(as_completed([future])) is future


def give_up_running(executor: HandExecutor, future: Future[Any]) -> None:
    """`cancel()` comes too late: it runs."""
    assert not future.cancel()
    finish(executor, future)


def give_up_done(executor: HandExecutor, future: Future[Any]) -> None:
    """`cancel()` comes too late: it is done."""
    finish(executor, future)
    assert not future.cancel()


def wrapped(executor: HandExecutor, future: Future[Any]) -> None:
    """Who waited for it through asyncio waits no longer."""

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0)

    asyncio.run(main())
    finish(executor, future)


USES: dict[str, tuple[str, Use]] = {
    "result in a callback": ("read in a done-callback", callback(lambda f: f.result())),
    "exception in a callback": ("read in a done-callback", callback(lambda f: f.exception())),
    "in a late callback": ("read in a done-callback", callback(lambda f: f.result(), late=True)),
    "wait before": ("waited for", wait_before),
    "wait after": ("waited for", wait_after),
    "wait meanwhile": ("waited for", wait_meanwhile),
    "as_completed": ("waited for", complete),
    "given up while it runs": ("given up", give_up_running),
    "given up when it is done": ("given up", give_up_done),
    "given up through asyncio": ("given up", wrapped),
}
each_use = pytest.mark.parametrize(("why", "use"), USES.values(), ids=USES)


def running(**options: Any) -> tuple[HandExecutor, Future[Any]]:
    """An executor whose only task runs."""
    executor = HandExecutor(1, **options)
    future = executor.submit(nothing)
    executor.open_lanes(1)
    return executor, future


# --------------------------------------------------------------------------------------------------------- what is kept


@each_use
def test_what_is_used_and_dropped_is_let_go(why: str, use: Use) -> None:
    """Nothing piles up, and nothing fills the backlog."""
    executor, future = running(backlog=1)
    use(executor, future)
    assert executor.statistics().unread == 0
    assert executor.scheduler.inbox.backlog.unread == 0
    del future
    executor.submit(nothing)  # does not wait
    executor.settle()
    assert executor.scheduler.inbox.stream._handed._held == {}
    executor.end()


@each_use
def test_a_stream_that_is_asked_for_too_late_says_so(why: str, use: Use) -> None:
    """It names the tickets, the reason and the remedies, once; behind that comes what is left."""
    executor, future = running()
    use(executor, future)
    del future
    executor.mark("left")
    executor.settle()
    results = executor.results()
    with pytest.raises(RuntimeError, match=f"too late: ticket 0 was {why}.*keep_results=True.*results.. before submit"):
        next(results)
    assert list(results) == ["left"]
    assert list(executor.results()) == []
    executor.end()


@each_use
def test_what_somebody_holds_comes_back(why: str, use: Use) -> None:
    """As long as the future is there nothing is lost: the stream yields it, and then keeps nothing of it."""
    executor, future = running()
    use(executor, future)
    assert list(executor.results()) == ["value"]
    del future
    assert list(executor.results()) == []
    assert executor.statistics().unread == 0
    executor.end()


@each_use
def test_a_stream_that_is_asked_for_first_misses_nothing(why: str, use: Use) -> None:
    """From the call of `results()` on, it is the stream that decides; in the backlog too."""
    executor, future = running(backlog=5)
    results = executor.results()
    use(executor, future)
    del future
    assert executor.scheduler.inbox.backlog.unread == 1
    assert list(results) == ["value"]
    assert executor.scheduler.inbox.backlog.unread == 0
    executor.end()


@each_use
def test_a_stream_that_is_asked_for_in_between_misses_nothing(why: str, use: Use) -> None:
    """The same for a future that is dropped only after that."""
    executor, future = running()
    use(executor, future)
    results = executor.results()
    del future
    assert list(results) == ["value"]
    executor.end()


@each_use
def test_everything_unread_is_kept_if_you_say_so(why: str, use: Use) -> None:
    """With `keep_results=True` a late stream has all of it."""
    executor, future = running(keep_results=True, backlog=5)
    use(executor, future)
    del future
    assert executor.statistics().unread == 1
    assert executor.scheduler.inbox.backlog.unread == 1
    assert list(executor.results()) == ["value"]
    executor.end()


@each_use
def test_nothing_is_kept_if_you_say_so(why: str, use: Use) -> None:
    """With `keep_results=False` there is no stream, and no hole that would have to be told."""
    executor, future = running(keep_results=False)
    use(executor, future)
    del future
    assert executor.statistics().unread == 0
    with pytest.raises(RuntimeError, match="keep_results=False"):
        next(executor.results())
    executor.end()


@each_use
def test_a_read_by_the_holder_is_a_read(why: str, use: Use) -> None:
    """Whoever reads a future, and drops it, has had it: that is no hole in the stream."""
    executor, future = running()
    use(executor, future)
    assert future.result(timeout=0) == "value"
    del future
    assert executor.statistics().unread == 0
    assert list(executor.results()) == []
    executor.end()


@pytest.mark.parametrize("use", [repr, Future.done, Future.running, lambda f: f.add_done_callback(lambda _: None)])
def test_a_look_is_no_use(use: Callable[[Any], Any]) -> None:
    """Who prints a future, asks whether it is done, or counts it in a callback, may read the stream later."""
    executor, future = running()
    use(future)
    finish(executor, future)
    use(future)
    del future
    assert list(executor.results()) == ["value"]
    executor.end()


def test_to_kill_is_not_to_give_up() -> None:
    """The stream has the error at its place."""
    executor, future = running()
    assert future.kill()
    del future
    executor.settle()
    executor.backend.lanes[0].killed()
    executor.settle()
    (outcome,) = executor.outcomes()
    assert outcome.error is not None
    executor.end()


def test_a_wait_for_the_first_exception_reads() -> None:
    """It asks each future that is done already for its exception."""
    executor, future = running()
    finish(executor, future)
    wait([future], return_when=FIRST_EXCEPTION)
    del future
    assert executor.statistics().unread == 0
    assert list(executor.results()) == []
    executor.end()


def test_many_are_counted_and_some_are_named() -> None:
    """The error stays short, and what was let go is remembered as a number."""
    executor = HandExecutor(1)
    for number in range(40):
        mark = executor.mark(number)
        mark.add_done_callback(lambda f: f.result())
        del mark
        executor.step()
    assert executor.scheduler.inbox.stream._handed._held == {}
    with pytest.raises(RuntimeError, match=r"tickets 0, 1, .*, 8, 9 and 30 more were read in a done-callback, and"):
        next(executor.results())
    executor.end()


def test_when_the_executor_is_gone_nobody_is_told() -> None:
    """Nobody can ask for the stream: nothing is remembered of it, and users of futures go on."""
    executor, future = running()
    executor.shutdown(wait=False)
    scheduler = executor.scheduler
    del executor
    future.cancel()
    scheduler.backend.finish(0, "value")  # type: ignore[attr-defined]
    while not scheduler.inbox.finished.is_set() and not future.done():
        scheduler.step(0)
    assert future.result(timeout=0) == "value"
    assert scheduler.inbox.stream.unread() == 0


def test_hand_over_against_ask() -> None:
    """1. A future is handed over; 2. in the middle of that the stream is asked for; 3. it is not lost."""
    executor = HandExecutor(1)
    mark = executor.mark("value")
    executor.step()
    handed = executor.scheduler.inbox.stream._handed
    before = Handed.add

    def add(self: Handed, future: Future[Any], why: str) -> None:
        results.append(executor.results())  # its first look is over when this one comes
        before(self, future, why)

    results: list[Any] = []
    handed.add = add.__get__(handed)  # type: ignore[method-assign]
    assert not mark.cancel()
    del mark
    assert list(results[0]) == ["value"]
    executor.end()


# --------------------------------------------------------------------------------------------------------- with asyncio


async def gather(executor: ThreadedExecutor) -> list[int]:
    """Many calls at the same time."""
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(executor, abs, -number) for number in range(40)))


def test_a_loop_does_not_stand_still_at_the_backlog() -> None:
    """In the thread of a loop `submit` waits for ends, not for reads: those come later, in that very thread."""
    executor = ThreadedExecutor(2, backlog=3)
    executor.work_by_itself()
    assert asyncio.run(gather(executor)) == list(range(40))
    until(lambda: executor.scheduler.inbox.backlog.unread == 0)
    executor.shutdown()


def test_a_loop_that_reads_the_stream_does_not_stand_still_either() -> None:
    """The same where the stream was asked for."""

    async def main(executor: ThreadedExecutor) -> list[int]:
        results = executor.results()
        for number in range(40):
            executor.submit(abs, -number)
        return [number async for number in results]

    executor = ThreadedExecutor(2, backlog=3)
    executor.work_by_itself()
    assert asyncio.run(main(executor)) == list(range(40))
    executor.shutdown()


def test_a_loop_waits_for_ends_at_the_backlog() -> None:
    """No more than `backlog` are on their way, whatever lies unread."""
    executor = HandExecutor(1, backlog=2)
    backlog = executor.scheduler.inbox.backlog

    async def main() -> None:
        executor.submit(nothing)
        executor.submit(nothing)
        thread = threading.Thread(target=lambda: asyncio.run(third()))
        thread.start()
        until(lambda: backlog._room.parked)
        executor.open_lanes(1)
        executor.finish(0, "value")
        thread.join(PATIENCE)
        assert not thread.is_alive()

    async def third() -> None:
        executor.submit(nothing)

    asyncio.run(main())
    assert executor.statistics().tail == 3
    assert backlog.unread == 3
    executor.run_all()
    assert len(list(executor.results())) == 3
    executor.end()


# ---------------------------------------------------------------------------------------------------------- many unread


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Bounds that a test meets."""
    monkeypatch.setattr(retention_module, "MANY_UNREAD", 8)
    monkeypatch.setattr(retention_module, "MUCH_UNREAD", 4_000_000)
    caplog.set_level(logging.WARNING, "ordered_executor")
    return caplog


def drop_marks(executor: HandExecutor, count: int) -> None:
    """So many finished futures that nobody holds, one a turn."""
    for number in range(count):
        executor.mark(number)
        executor.step()


def test_many_unread_outcomes_are_mentioned_once(low: pytest.LogCaptureFixture) -> None:
    """Many that nobody holds and nobody asked for are logged, once, with both remedies.  It is no warning.

    That might be raised on the scheduler.
    """
    executor = HandExecutor(1)
    drop_marks(executor, 7)
    assert low.text == ""
    drop_marks(executor, 1)
    assert low.text.count("8 outcomes") == 1
    assert "keep_results=False" in low.text
    assert "keep_results=True" in low.text
    drop_marks(executor, 20)
    assert low.text.count("outcomes") == 1
    assert list(executor.results()) == [*range(7), 0, *range(20)]
    executor.end()


def test_much_unread_is_mentioned(low: pytest.LogCaptureFixture) -> None:
    """A few large outcomes are as bad as many small ones."""
    executor = HandExecutor(1)
    executor.open_lanes(1)
    for ticket in range(4):
        assert low.text == ""
        executor.submit(nothing)
        executor.settle()
        executor.finish(ticket, b"x" * 1_000_000)
    assert low.text.count("4 outcomes (3 MiB at least)") == 1
    executor.end()


@pytest.mark.parametrize("why", ["held", "asked", "kept", "not kept", "read", "in callbacks"])
def test_where_nothing_is_wrong_nothing_is_said(why: str, low: pytest.LogCaptureFixture) -> None:
    """Futures in a list that is read at the end; a reader of the stream that is slow; who has said what is wanted."""
    executor = HandExecutor(1, keep_results={"kept": True, "not kept": False}.get(why))
    results = executor.results() if why == "asked" else None
    held = []
    for number in range(50):
        mark = executor.mark(number)
        executor.step()
        if why == "held":
            held.append(mark)
        elif why == "read":
            assert mark.result() == number
        elif why == "in callbacks":
            mark.add_done_callback(lambda f: f.result())
        del mark
    assert low.text == ""
    del results
    held.clear()
    if why == "held":  # and now they are dropped
        drop_marks(executor, 20)
        assert low.text.count("outcomes") == 1
    executor.end()


@pytest.mark.parametrize("asked", [False, True])
def test_outcomes_left_to_callbacks_do_not_pile_up(asked: bool, low: pytest.LogCaptureFixture) -> None:
    """A callback that reads nothing: a few are kept for whoever may ask; many are let go, and said to who asks late."""
    executor = HandExecutor(1)
    results = executor.results() if asked else None
    for number in range(100):
        executor.mark(number).add_done_callback(lambda _: None)
        executor.step()
        assert asked or executor.statistics().unread <= 8
    assert low.text == ""
    if results is None:
        with pytest.raises(RuntimeError, match=r"too late: tickets 0, 1, .* were left to a done-callback"):
            next(executor.results())
    else:
        assert list(results) == list(range(100))
    executor.end()


def test_a_progress_bar_does_not_disturb_a_late_reader(low: pytest.LogCaptureFixture) -> None:
    """It counts in a callback; the stream is read when all is submitted."""
    executor = HandExecutor(1)
    counted: list[int] = []
    for number in range(7):
        executor.mark(number).add_done_callback(lambda future: counted.append(future.ticket))
        executor.step()
    assert list(executor.results()) == counted == list(range(7))
    executor.end()
