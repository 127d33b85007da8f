"""The stream: every outcome once, in order, to whoever reads; nothing is lost by a timeout or a cancellation."""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import asyncio
import threading
from itertools import chain
from typing import Any

import pytest

from ordered_executor import Future, Outcome, Results, ResultsTimeoutError
from ordered_executor._base import waiting
from ordered_executor._base.tasks import Options
from ordered_executor._core import stream as stream_module
from ordered_executor._core.stream import Stream
from tests.fake import HandExecutor, ThreadedExecutor
from tests.interleave import Intruder, intruders, stepping

PATIENCE = 30.0
JUST_BELOW_THE_WRAP = 2**64 - 3


def nothing() -> None:
    """A task."""


def after(values: list[Any], first: int = 0, **options: Any) -> HandExecutor:
    """An executor that has finished tasks with these values; an exception is raised."""
    executor = HandExecutor(1, first=first, **options)
    for _ in values:
        executor.submit(nothing)
    executor.open_lanes(1)
    for number, value in enumerate(values, first):
        if isinstance(value, BaseException):
            executor.fail(number, value)
        else:
            executor.finish(number, value)
    return executor


# ------------------------------------------------------------------------------------------------------- what it yields


@pytest.mark.parametrize("first", [0, JUST_BELOW_THE_WRAP])
def test_values_come_in_ticket_order_and_then_it_ends(first: int) -> None:
    """The stream yields what was submitted, then ends; what is submitted later comes to whoever asks again."""
    executor = after(["a", "b", "c", "d"], first)
    results = executor.results()
    assert results.position == 0
    assert list(results) == ["a", "b", "c", "d"]
    assert results.position == 4
    executor.mark("e")
    executor.settle()
    assert list(results) == ["e"]
    executor.end()


def test_a_failure_raises_at_its_place() -> None:
    """A failed task raises where its value would have come; the next `next()` goes on behind it."""
    executor = after(["a", ValueError("b"), "c"])
    results = executor.results()
    assert next(results) == "a"
    with pytest.raises(ValueError, match="b"):
        next(results)
    assert next(results) == "c"
    assert list(results) == []
    executor.end()


def test_failures_as_values() -> None:
    """With `errors="yield"` the exception is yielded; `outcomes()` says which ticket it was."""
    executor = after(["a", ValueError("b")])
    value, error = executor.results(errors="yield")
    assert value == "a"
    assert type(error) is ValueError
    executor = after(["a", ValueError("b")], first=5)
    first, second = executor.outcomes()
    assert first == Outcome(5, "a", None)
    assert (second.ticket, second.value, type(second.error)) == (6, None, ValueError)


@pytest.mark.parametrize("error", [StopIteration("x"), StopAsyncIteration("x")])
def test_a_task_that_raises_stop_iteration_does_not_end_the_loop(error: Exception) -> None:
    """It comes as the cause of a RuntimeError, and the iteration goes on."""
    results = after([error, "b"]).results()
    with pytest.raises(RuntimeError, match=f"ticket 0 raised {type(error).__name__}") as caught:
        next(results)
    assert type(caught.value.__cause__) is type(error)
    assert list(results) == ["b"]

    async def read() -> list[Any]:
        asynchronous = after([error, "b"]).results()
        with pytest.raises(RuntimeError):
            await asynchronous.__anext__()
        return [value async for value in asynchronous]

    assert asyncio.run(read()) == ["b"]


def test_cancelled_tickets_and_maps_are_not_yielded() -> None:
    """What was cancelled has no outcome; what was mapped comes out of the map."""
    executor = HandExecutor(1)
    first, second = executor.submit(nothing), executor.submit(nothing)
    mapped = executor.map(abs, [1, 2])
    executor.mark("mark")
    first.cancel()
    executor.run_all()
    assert list(executor.outcomes()) == [Outcome(1, None, None), Outcome(4, "mark", None)]
    assert list(mapped) == [1, 2]
    assert second.done()
    executor.end()


def test_several_readers_share_one_stream() -> None:
    """Each outcome goes to one of them, in order, and the position is common."""
    executor = after(list("abcd"))
    one, two = executor.results(), executor.outcomes()
    assert next(one) == "a"
    assert next(two).value == "b"
    assert next(one) == "c"
    assert one.position == two.position == 3
    assert [outcome.value for outcome in two] == ["d"]
    assert list(one) == []


def test_many_threads_read_each_outcome_once() -> None:
    """Four threads that read while tasks end get all there is, each outcome once, and all of them end."""
    executor = ThreadedExecutor(1)
    got: list[list[int]] = [[] for _ in range(4)]

    def read(mine: list[int]) -> None:
        mine.extend(executor.results(follow=True))

    threads = [threading.Thread(target=read, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for number in range(500):
        executor.mark(number)
    executor.shutdown()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(chain.from_iterable(got)) == list(range(500))
    assert all(mine == sorted(mine) for mine in got)


# ----------------------------------------------------------------------------------------------- when it waits and ends


def test_a_timeout_loses_nothing() -> None:
    """Nothing in time: the error says which ticket is missing; asked again, it comes."""
    executor = HandExecutor(2)
    executor.submit(nothing)
    executor.submit(nothing)
    executor.open_lanes(2)
    executor.finish(1, "b")
    results = executor.results(timeout=0)
    for _ in range(2):
        with pytest.raises(ResultsTimeoutError, match="ticket 0"):
            next(results)
    assert isinstance(ResultsTimeoutError(), TimeoutError)
    executor.finish(0, "a")
    assert list(results) == ["a", "b"]
    executor.end()


def test_next_takes_a_timeout_of_its_own() -> None:
    """`next(timeout)` overrides that of the stream for one outcome."""
    executor = HandExecutor(1)
    executor.submit(nothing)
    with pytest.raises(ResultsTimeoutError):
        executor.results(timeout=PATIENCE).next(timeout=0)
    executor.end()


def test_a_following_reader_ends_with_the_shutdown() -> None:
    """With `follow=True` the stream waits for more until the executor is shut down and all is yielded."""
    executor = after(["a"])
    results = executor.results(timeout=0, follow=True)
    assert next(results) == "a"
    with pytest.raises(ResultsTimeoutError):
        next(results)
    executor.submit(nothing)
    executor.shutdown(wait=False)
    with pytest.raises(ResultsTimeoutError):
        next(results)
    executor.settle()
    executor.finish(1, "b")
    assert list(results) == ["b"]


def test_reading_after_shutdown() -> None:
    """What was not read can be read when all workers are gone."""
    executor = after(["a", "b"])
    executor.end()
    assert list(executor.results(follow=True)) == ["a", "b"]


def test_the_stream_ends_for_a_broken_executor() -> None:
    """A follower gets the failures of what was pending and then the end."""
    executor = HandExecutor(1)
    executor.submit(nothing)
    executor.backend.break_down(RuntimeError("broken"))
    executor.settle()
    outcomes = list(executor.outcomes(follow=True, timeout=0))
    assert [str(outcome.error) for outcome in outcomes] == ["broken"]


def test_without_keeping_there_is_no_stream() -> None:
    """With `keep_results=False` nothing is kept, and asking for it is an error."""
    executor = after(["a"], keep_results=False)
    assert executor.statistics().unread == 0
    with pytest.raises(RuntimeError, match="keep_results=False"):
        next(executor.results())
    executor.end()


# ---------------------------------------------------------------------------------------------------------- interleaved


class Reading:
    """A stream with one future on its way, and a reader of it whose every look is a point for the intruder."""

    def __init__(self, intruder: Intruder, first: int = 0) -> None:
        self.stream = Stream(first, True, self.must_not_wait, self.note_read)
        self.intruder = intruder
        self.first = first
        self.tail = first + 1

    def must_not_wait(self, _: int) -> str | None:
        return None

    def read_tail(self) -> int:
        return self.tail

    def release(self, value: str = "value") -> None:
        """As the scheduler does it."""
        future: Future[Any] = Future(self, (nothing, (), {}), Options())  # type: ignore[arg-type]
        future.first = self.first
        self.stream.keep(future)
        future.finish(value, None)
        self.stream.publish(self.first + 1)

    def take(self, *, follow: bool = False, timeout: float | None = None) -> Any:
        with stepping(self.intruder, stream_module, waiting):
            future = self.stream.take(timeout, follow, self.read_tail)
        return future.result()

    def note_read(self, _: Any) -> None:
        """The owner of the future does not care."""


@pytest.mark.parametrize("timeout", [None, PATIENCE])
@pytest.mark.parametrize("first", [0, JUST_BELOW_THE_WRAP])
def test_an_outcome_released_while_a_reader_goes_to_wait(first: int, timeout: float | None) -> None:
    """Reader against publish.

    1. a reader looks, finds nothing, and goes to wait; 2. at any point of that the scheduler keeps, finishes and
    publishes the outcome; 3. the reader goes on: it has it, or is woken for it.
    """
    rounds = 0
    for intruder in intruders():
        reading = Reading(intruder, first)
        intruder.act = reading.release
        assert reading.take(timeout=timeout) == "value"
        rounds += 1
    assert rounds >= 20


def test_the_end_while_a_reader_goes_to_wait() -> None:
    """Reader against end: 1. a following reader goes to wait; 2. at any point the executor is shut down; 3. it ends."""
    for intruder in intruders():
        reading = Reading(intruder)
        reading.tail = 0
        intruder.act = reading.stream.end
        with pytest.raises(stream_module.End):
            reading.take(follow=True)


def test_the_last_outcome_and_the_end_while_a_reader_goes_to_wait() -> None:
    """Outcome and end against reader: the outcome comes first.

    1. A following reader goes to wait; 2. at any point the last outcome is released and the executor shut down; 3.
    the reader gets the outcome, then the end.
    """
    for intruder in intruders():
        reading = Reading(intruder)
        intruder.act = lambda reading=reading: (reading.release(), reading.stream.end())  # type: ignore[misc]
        assert reading.take(follow=True) == "value"
        intruder.come()
        with pytest.raises(stream_module.End):
            reading.take(follow=True)


def test_letting_go_while_a_reader_takes() -> None:
    """Let go against take.

    1. the holder of a future has read it and makes it weak in the store; 2. at any point of that a reader takes it,
    and all up to the head; 3. the holder goes on. It is yielded once at most, and the position does not move back.
    """
    for intruder in intruders():
        stream = Stream(0, True, lambda _: None, lambda _: None)
        futures = []
        for number in range(30):
            future: Future[Any] = Future(Reading(Intruder(-1)), (nothing, (), {}), Options())  # type: ignore[arg-type]
            future.first = number
            futures.append(future)
        for future in futures[:3]:
            stream.keep(future)
        stream.publish(3)
        yielded: list[int] = []

        def read_all(stream: Stream = stream, yielded: list[int] = yielded) -> None:
            while (future := stream._next_locked()) is not None:
                yielded.append(future.ticket)

        intruder.act = read_all
        with stepping(intruder, stream_module):
            stream.let_go(futures[1])
        intruder.come()
        stream.publish(30)  # sparse now: the reader jumps
        read_all()
        assert yielded == [0, 1, 2]
        assert stream._position == 30


def test_the_position_stays_behind_the_head_while_a_segment_is_delivered() -> None:
    """1. Many futures were read and let go, so that the store is sparse; 2. a segment is being delivered.

    Its futures are kept, and the head is not yet behind them; 3. a reader looks. Its position does not run past the
    head.
    """
    stream = Stream(0, True, lambda _: None, lambda _: None)
    future: Future[Any] = Future(Reading(Intruder(-1)), (nothing, (), {}), Options())  # type: ignore[arg-type]
    future.first = 120
    stream.publish(100)
    stream.keep(future)
    with pytest.raises(ResultsTimeoutError):
        stream.take(0, False, lambda: 200)
    assert stream._position == 100


# --------------------------------------------------------------------------------------------------------- asynchronous


async def read_while_tasks_end(executor: HandExecutor, results: Results[Any]) -> Any:
    """Ask for the next outcome; let the task at the head end only when the reader waits."""
    reader = asyncio.ensure_future(results.__anext__())
    while not results._stream._watchers:  # noqa: ASYNC110 (there is no event: the loop takes turns)
        await asyncio.sleep(0)
    head = executor.statistics().head
    executor.finish(head, str(head))
    return await reader


def test_an_asynchronous_reader_is_woken() -> None:
    """`async for` waits without blocking the loop, and ends as the other does."""

    async def main() -> None:
        executor = HandExecutor(1)
        for _ in range(3):
            executor.submit(nothing)
        executor.open_lanes(1)
        results = executor.results()
        assert [await read_while_tasks_end(executor, results) for _ in range(3)] == ["0", "1", "2"]
        assert [value async for value in results] == []
        assert not results._stream._watchers
        executor.end()

    asyncio.run(main())


def test_a_cancelled_asynchronous_reader_loses_nothing() -> None:
    """1. A reader waits; 2. it is cancelled, or its time is over; 3. the outcome comes, and goes to the next reader."""

    async def main() -> None:
        executor = HandExecutor(1)
        executor.submit(nothing)
        executor.open_lanes(1)
        results = executor.results()
        reader = asyncio.ensure_future(results.__anext__())
        while not results._stream._watchers:  # noqa: ASYNC110 (there is no event: the loop takes turns)
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        with pytest.raises(ResultsTimeoutError):
            await executor.results(timeout=0).__anext__()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(results.__anext__(), 0.001)
        assert not results._stream._watchers
        executor.finish(0, "value")
        assert await results.__anext__() == "value"
        executor.end()

    asyncio.run(main())


def test_a_watcher_of_a_closed_loop_harms_nobody() -> None:
    """A reader whose event loop was closed while it waited does not disturb the scheduler."""
    executor = HandExecutor(1)
    executor.submit(nothing)
    executor.open_lanes(1)
    reader = executor.results().__anext__()
    loop = asyncio.new_event_loop()
    task = loop.create_task(reader)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    executor.finish(0, "value")
    assert list(executor.results()) == ["value"]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    executor.end()
