"""What is kept, and what is let go: users of futures never grow, readers of the stream lose nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import nullcontext
from types import FrameType, TracebackType
from typing import Any

import pytest

from ordered_executor._base.tasks import Segment
from ordered_executor._core.backend import Arrived
from tests.fake import HandExecutor, ThreadedExecutor, WorkerDied
from tests.helpers import fail, until


class Thing:
    """An argument or a result that can be watched."""

    def __init__(self, name: str = "") -> None:
        self.name = name


class Failed(Exception):
    """An error that can be watched."""


class Grabber:
    """A task whose arguments can be watched."""

    def __call__(self, *_: Any) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """What goes must go by itself: a cycle would stay until the collector comes."""
    gc.disable()
    yield
    gc.enable()


def done(executor: HandExecutor, *values: Any) -> list[Any]:
    """Futures of finished tasks."""
    futures = [executor.submit(Thing) for _ in values]
    executor.settle()
    if not executor.backend.lanes:
        executor.open_lanes(1)
    for future, value in zip(futures, values, strict=True):
        if isinstance(value, BaseException):
            executor.fail(future.ticket, value)
        else:
            executor.finish(future.ticket, value)
    return futures


# ----------------------------------------------------------------------------------------------------------- the stream


@pytest.mark.parametrize("value", ["value", ValueError("x")])
def test_users_of_futures_do_not_grow(value: Any) -> None:
    """A future that was read by its holder goes when the holder lets it go; it is not yielded."""
    executor = HandExecutor(1)
    (future,) = done(executor, value)
    future.exception()
    gone = weakref.ref(future)
    assert executor.statistics().unread == 1
    del future
    assert gone() is None
    assert executor.statistics().unread == 0
    assert list(executor.results()) == []
    executor.end()


def test_a_read_future_that_is_held_is_still_yielded() -> None:
    """As long as its holder keeps it, the stream knows it."""
    executor = HandExecutor(1)
    (future,) = done(executor, "value")
    assert future.result() == "value"
    assert list(executor.results()) == ["value"]
    executor.end()


def test_a_read_future_goes_while_others_of_its_batch_run() -> None:
    """The stream does not yield what was read and let go, however the tasks travelled."""
    executor = HandExecutor(1)
    executor.backend.task_seconds = 1e-4
    for _ in range(20):
        executor.submit(Thing)
    executor.run_all()
    assert len(list(executor.results())) == 20
    futures = [executor.submit(Thing) for _ in range(10)]
    executor.settle()
    assert executor.backend.lanes[0].batches[0].count > 1
    executor.finish(futures[0].ticket, "value")
    gone = weakref.ref(futures[0])
    assert str(futures.pop(0).result(timeout=0)) == "value"
    assert gone() is None
    executor.run_all()
    assert len(list(executor.results())) == 9
    executor.end()


def test_a_reader_that_sees_the_head_finds_nothing_that_only_the_scheduler_holds() -> None:
    """A future that was read in the moment it was done, and let go, is not yielded."""
    executor = HandExecutor(1)
    futures = [executor.submit(Thing)]
    gone = weakref.ref(futures[0])
    futures.pop().add_done_callback(lambda future: future.result())
    seen: list[Any] = []
    executor.scheduler.inbox.stream.watch(lambda: seen.append(gone()))
    executor.settle()
    executor.open_lanes(1)
    executor.finish(0, "value")
    assert seen == [None]
    executor.end()


def test_an_unread_future_is_kept_for_the_stream() -> None:
    """Its holder lets it go unread: the stream yields it, and then it goes."""
    executor = HandExecutor(1)
    (future,) = done(executor, "value")
    gone = weakref.ref(future)
    del future
    assert gone() is not None
    assert list(executor.results()) == ["value"]
    assert gone() is None
    executor.end()


def test_run_in_executor_does_not_grow() -> None:
    """The event loop reads each future, in its own thread: nothing is kept of what was awaited."""

    async def main() -> None:
        executor = ThreadedExecutor(1)
        loop = asyncio.get_running_loop()
        executor.work_by_itself()
        for number in range(20):
            assert await loop.run_in_executor(executor, abs, -number) == number
        failed = loop.run_in_executor(executor, int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            await failed
        del failed
        gc.collect()  # asyncio itself ties the failed one to its traceback
        until(lambda: executor.statistics().unread == 0)  # the scheduler's turn in which it finished it may go on
        executor.shutdown()

    asyncio.run(main())


class BringsItsTraceback(Exception):
    """It has a traceback on arrival, as all exceptions have where tblib is installed."""

    def __reduce__(self) -> Any:
        return raised, ()


class NeverArrives:
    """A result whose unpickling raises."""

    def __reduce__(self) -> Any:
        return fail, ("on arrival",)


def raised() -> BringsItsTraceback:
    """One that was raised."""
    try:
        raise BringsItsTraceback
    except BringsItsTraceback as error:
        return error


def raise_it() -> None:
    """A task that fails."""
    raise BringsItsTraceback


@pytest.mark.parametrize("task", [raise_it, NeverArrives])
def test_a_kept_error_keeps_nothing_else(task: Any) -> None:
    """Its traceback leads to the scheduler's frames: what is left in their variables would live as long as it does."""
    executor = HandExecutor(1)
    executor.backend.task_seconds = 1e-4
    futures = [executor.submit(task if number == 10 else Thing) for number in range(20)]
    gone = [weakref.ref(future) for future in futures]
    executor.run_all()
    errors = [future.exception(timeout=0) for future in futures]
    futures.clear()
    error = errors[10]
    assert error is not None
    assert error.__traceback__ is not None
    assert [ref() for ref in gone] == [None] * 20
    assert not [value for value in variables_behind(error.__traceback__) if is_of_results(value)]
    executor.end()


def is_of_results(value: Any) -> bool:
    """Whether it has results in it; a single byte is the kind of one."""
    return type(value) in {list, Arrived, Segment} or (type(value) is bytes and len(value) > 1)


def variables_behind(trace: TracebackType) -> Iterator[Any]:
    """What is left in the frames of ours that a traceback leads to."""
    frame: FrameType | None = trace.tb_frame
    while frame is not None:
        if "ordered_executor" in frame.f_code.co_filename:
            yield from frame.f_locals.values()
        frame = frame.f_back


def test_a_million_read_futures_cost_the_stream_nothing() -> None:
    """The store holds what is unread, and a late reader does not walk over what was let go."""
    executor = HandExecutor(1)
    for number in range(3000):
        future = executor.mark(number)
        executor.step()
        if number % 1000 != 999:
            future.result()
        del future
    assert executor.statistics().unread == 3
    assert list(executor.results()) == [999, 1999, 2999]
    executor.end()


def test_a_failure_read_through_the_stream_goes_by_itself() -> None:
    """A failed future is in no cycle with the traceback that its reader sees."""
    executor = HandExecutor(1)
    (future,) = done(executor, ValueError("x"))
    gone = weakref.ref(future)
    del future
    results = executor.results()
    with pytest.raises(ValueError, match="x") as caught:
        next(results)
    del caught
    assert gone() is None
    executor.end()


def test_without_keeping_a_future_goes_with_its_holder() -> None:
    """With `keep_results=False` an unread future goes as soon as nobody holds it."""
    executor = HandExecutor(1, keep_results=False)
    (future,) = done(executor, "value")
    gone = weakref.ref(future)
    del future
    assert gone() is None
    executor.end()


# -------------------------------------------------------------------------------------------------------------- results


def test_yielded_results_are_not_kept() -> None:
    """A value that the stream has yielded is the reader's alone."""
    executor = HandExecutor(1)
    done(executor, Thing("a"), Thing("b"))
    gone = []
    for thing in executor.results():
        gone.append(weakref.ref(thing))
        del thing
        assert gone[-1]() is None
    assert len(gone) == 2
    executor.end()


@pytest.mark.parametrize("chunksize", [1, 3])
def test_yielded_results_of_a_map_are_not_kept(chunksize: int) -> None:
    """A value that a map has yielded is the reader's alone, also while the rest of its batch is there."""
    executor = HandExecutor(1)
    mapped = executor.map(Thing, "abc", chunksize=chunksize)
    executor.run_all()
    for name in "abc":
        thing = next(mapped)
        assert thing.name == name
        gone = weakref.ref(thing)
        del thing
        assert gone() is None
    executor.end()


@pytest.mark.parametrize("kind", [Failed, WorkerDied])
def test_a_failure_of_a_map_goes_by_itself(kind: type[Exception]) -> None:
    """The error that a map raises is in no cycle with its traceback, whether it came from the worker or is ours."""
    executor = HandExecutor(1)
    mapped = executor.map(int, "x")
    (lane,) = executor.open_lanes(1)
    lane.fail(Failed("x")) if kind is Failed else lane.lose()
    executor.settle()
    gone: Any = None
    try:
        next(mapped)
    except kind as error:
        gone = weakref.ref(error)
    assert gone() is None
    executor.end()


class Source:
    """An input that is no generator, and fails once."""

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.given += 1
        if self.given == 2:
            raise Failed
        if self.given > 3:
            raise StopIteration
        return self.given


def generated() -> Iterator[int]:
    """An input that fails, and that is its end."""
    yield 1
    raise Failed


INPUTS = {"a generator": generated, "an iterator": Source, "a chain": lambda: iter(map(abs, Source()))}


@pytest.mark.parametrize("end", ["read", "closed", "cancelled", "dropped"])
@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("buffersize", [None, 8])
def test_an_error_of_the_input_goes_by_itself(buffersize: int | None, inputs: Any, end: str) -> None:
    """Its traceback leads to the input alone, so the map goes when nobody holds it; and it goes with the map."""

    def start() -> tuple[Any, weakref.ref[Thing]]:
        thing = Thing()
        return executor.map(Grabber(), inputs(), buffersize=buffersize), weakref.ref(thing)

    executor = HandExecutor(1)
    mapped, gone = start()
    assert gone() is None
    ((_, kept),) = mapped._intake.errors
    error, whole = weakref.ref(kept.error), weakref.ref(mapped)
    del kept
    if end == "cancelled":
        executor.shutdown(wait=False, cancel_futures=True)
    executor.run_all()
    with pytest.raises(CancelledError) if end == "cancelled" else nullcontext():
        next(mapped)
    if end == "read":
        with pytest.raises(Failed):
            next(mapped)
    elif end != "dropped":
        mapped.close()
    if end != "dropped":
        assert error() is None
    del mapped
    assert error() is None
    assert whole() is None
    executor.end()


# ------------------------------------------------------------------------------------------------------------ arguments


def test_arguments_go_when_the_task_is_done() -> None:
    """The arguments of a future are kept until it is finished, and no longer."""
    executor = HandExecutor(1)
    thing = Thing()
    future = executor.submit(Grabber(), thing)
    gone = weakref.ref(thing)
    del thing
    executor.open_lanes(1)
    assert gone() is not None
    executor.finish(0, "value")
    assert gone() is None
    assert future.done()
    executor.end()


def test_arguments_go_when_the_ticket_is_cancelled() -> None:
    """A cancelled future lets its arguments go at once, before its turn."""
    executor = HandExecutor(1)
    thing = Thing()
    future = executor.submit(Grabber(), thing)
    gone = weakref.ref(thing)
    del thing
    future.cancel()
    assert gone() is None
    executor.end()


def test_arguments_of_a_map_go_when_the_call_is_done() -> None:
    """Each argument goes as its outcome comes home, also an early one, and while others of its batch still run."""
    executor = HandExecutor(2)
    things = [Thing() for _ in range(4)]
    gone = [weakref.ref(thing) for thing in things]
    mapped = executor.map(Grabber(), things, chunksize=2)
    del things
    executor.open_lanes(2)
    executor.finish(2, None)
    assert [ref() is None for ref in gone] == [False, False, True, False]
    executor.finish(0, None)
    assert [ref() is None for ref in gone] == [True, False, True, False]
    executor.run_all()
    assert [ref() is None for ref in gone] == [True] * 4
    assert list(mapped) == [None] * 4
    executor.end()


def test_inputs_of_a_bounded_map_are_not_kept() -> None:
    """What a bounded map has yielded leaves nothing of its inputs."""
    gone: list[weakref.ref[Thing]] = []

    def inputs() -> Iterator[Thing]:
        while True:
            thing = Thing()
            gone.append(weakref.ref(thing))
            yield thing
            del thing

    executor = HandExecutor(1)
    mapped = executor.map(Grabber(), inputs(), buffersize=4)
    for _ in range(50):
        executor.run_all()
        next(mapped)
    executor.run_all()
    assert sum(ref() is not None for ref in gone) <= 1  # the one that the generator itself holds
    mapped.close()  # type: ignore[attr-defined]
    executor.end()


# ------------------------------------------------------------------------------------------------------------ the whole


def test_the_core_lets_go_of_a_finished_batch() -> None:
    """When all is done, read and let go, nothing of it is left in the executor."""
    executor = HandExecutor(2)
    executor.backend.task_seconds = 1e-4
    futures = [executor.submit(Grabber(), Thing()) for _ in range(20)]
    gone = [weakref.ref(future) for future in futures]
    futures[7].cancel()
    executor.run_all()
    for future in futures:
        if not future.cancelled():
            future.result(timeout=0)
    futures.clear()
    del future
    assert [ref() for ref in gone] == [None] * 20
    executor.end()


def test_a_future_does_not_keep_those_of_an_executor_that_is_gone() -> None:
    """Nobody can ask for the stream any more: what lies unread there goes, whoever holds a single future."""
    executor = HandExecutor(1)
    futures = [executor.submit(len, "") for _ in range(10)]
    executor.run_all()
    executor.shutdown(wait=False)
    executor.settle()
    held, gone = futures[0], [weakref.ref(future) for future in futures[1:]]
    del futures
    assert all(ref() is not None for ref in gone)
    del executor
    gc.collect()
    assert all(ref() is None for ref in gone)
    assert held.result(timeout=0) == 0


def test_a_reader_at_its_end_may_ask_again_when_the_executor_is_gone() -> None:
    """1. A reader ends, as all was yielded; 2. more is submitted, and the executor let go; 3. the reader gets that."""
    executor = HandExecutor(1)
    reader = executor.results()
    assert list(reader) == []
    held = [executor.submit(len, "x" * number) for number in range(3)]
    executor.run_all()
    executor.shutdown(wait=False)
    executor.settle()
    del executor
    gc.collect()
    assert list(reader) == [0, 1, 2]
    assert list(reader) == []
    assert all(future.done() for future in held)


def test_a_reader_keeps_the_stream_of_an_executor_that_is_gone() -> None:
    """As long as there is a reader, what it has not read is kept for it."""
    executor = HandExecutor(1)
    futures = [executor.submit(len, "x" * number) for number in range(5)]
    reader = executor.results()
    executor.run_all()
    executor.shutdown(wait=False)
    executor.settle()
    held = futures[0]
    del futures, executor
    gc.collect()
    assert list(reader) == [0, 1, 2, 3, 4]
    assert held.done()
