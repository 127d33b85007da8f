"""The input of a map: its errors keep their places, it is asked again, and a slow one holds nothing back."""

from __future__ import annotations

import itertools
import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._base import waiting
from ordered_executor._base.waiting import ParkingLot
from ordered_executor._core import intake as intake_module
from ordered_executor._core import map as map_module
from tests.fake import HandExecutor, ThreadedExecutor
from tests.helpers import until
from tests.interleave import intruders, stepping

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No input is slow, whatever else this machine does."""
    monkeypatch.setattr(intake_module, "monotonic", lambda: 0.0)


class Source:
    """An input that fails where it is told to, and goes on.  It counts how often it was asked."""

    def __init__(self, count: float, bad: Callable[[int], bool]) -> None:
        self.count = count
        self.bad = bad
        self.asked = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.asked >= self.count:
            raise StopIteration
        number = self.asked
        self.asked += 1
        if self.bad(number):
            raise KeyError(number)
        return number


def fails_at(numbers: Iterable[int]) -> Callable[[int], int]:
    """A task that doubles, but fails for some."""
    bad = frozenset(numbers)

    def task(number: int) -> int:
        if number in bad:
            raise ValueError(number)
        return number * 2

    return task


def take(executor: HandExecutor, mapped: Iterator[Any]) -> Any:
    """The next of a map: it draws, and where it would wait, everything runs that can."""
    while True:
        executor.run_all()
        try:
            with executor.as_scheduler():
                return next(mapped)
        except RuntimeError as refusal:
            if "never end" not in str(refusal):
                raise


def read(executor: HandExecutor, mapped: Iterator[Any], seen: Callable[[int], object] = lambda _: None) -> list[Any]:
    """All of a map: results, and errors as they were raised (`KeyError` of the input) or yielded."""
    got: list[Any] = []
    while True:
        seen(len(got))
        try:
            got.append(take(executor, mapped))
        except (KeyError, ValueError) as error:
            got.append(error)
        except StopIteration:
            return [f"{type(one).__name__} {one.args[0]}" if isinstance(one, BaseException) else one for one in got]


# ----------------------------------------------------------------------------------------------------------- its errors


@given(
    count=st.integers(0, 25),
    bad=st.sets(st.integers(0, 25)),
    ill=st.sets(st.integers(0, 25)),
    buffersize=st.none() | st.integers(1, 20),
    chunksize=st.none() | st.integers(1, 10),
    lanes=st.integers(1, 3),
    errors=st.sampled_from(["raise", "yield", "pass"]),
)
def test_each_error_comes_at_its_place(
    count: int,
    bad: set[int],
    ill: set[int],
    buffersize: int | None,
    chunksize: int | None,
    lanes: int,
    errors: str,
) -> None:
    """Of the input or of a task: the map goes on behind it; and no more is drawn than the buffer holds, errors too."""
    executor = HandExecutor(lanes)
    source = Source(count, bad.__contains__)
    mapped = executor.map(fails_at(ill), source, buffersize=buffersize, chunksize=chunksize, errors=errors)

    def seen(got: int) -> None:
        assert buffersize is None or source.asked <= got + buffersize

    expected = [f"KeyError {n}" if n in bad else f"ValueError {n}" if n in ill else n * 2 for n in range(count)]
    assert read(executor, mapped, seen) == expected
    executor.end()


@pytest.mark.parametrize("buffersize", [None, 1, 5])
@pytest.mark.parametrize("errors", ["raise", "yield"])
def test_an_input_that_always_fails_is_not_run_away_with(buffersize: int | None, errors: str) -> None:
    """It is asked as it is read, not faster."""
    source = Source(float("inf"), lambda _: True)
    executor = HandExecutor(1)
    mapped = executor.map(abs, source, buffersize=buffersize, errors=errors)
    ahead = 2 if buffersize is None else buffersize
    for number in range(50):
        assert source.asked <= number + ahead
        if errors == "yield":
            assert next(mapped).args == (number,)
        else:
            with pytest.raises(KeyError, match=str(number)):
                next(mapped)
    executor.end()


@pytest.mark.parametrize("buffersize", [None, 3])
def test_a_generator_that_fails_has_ended(buffersize: int | None) -> None:
    """So it says itself, when it is asked again."""

    def inputs() -> Iterator[int]:
        yield from range(4)
        raise KeyError("input")

    executor = HandExecutor(1)
    assert read(executor, executor.map(abs, inputs(), buffersize=buffersize)) == [0, 1, 2, 3, "KeyError input"]
    executor.end()


@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_errors_of_one_input_among_several(buffersize: int | None) -> None:
    """As with `zip`: whatever was taken from those before it is gone with it."""
    executor = HandExecutor(1)
    bad = Source(5, lambda number: number == 2)
    mapped = executor.map(lambda a, b: (a, b), itertools.count(10), bad, buffersize=buffersize)
    assert read(executor, mapped) == [(10, 0), (11, 1), "KeyError 2", (13, 3), (14, 4)]
    executor.end()


def test_an_interrupt_has_no_place() -> None:
    """Ctrl-C while the input is read is raised at once; nothing that was drawn is lost."""
    pressed = False

    def inputs() -> Iterator[int]:
        nonlocal pressed
        yield from range(3)
        if not pressed:
            pressed = True
            raise KeyboardInterrupt

    executor = HandExecutor(1)
    mapped = executor.map(abs, inputs(), buffersize=2)
    assert take(executor, mapped) == 0
    with pytest.raises(KeyboardInterrupt):
        take(executor, mapped)
    assert read(executor, mapped) == [1, 2]
    executor.end()


def test_an_interrupt_in_the_call_leaves_nothing_behind() -> None:
    """Nobody gets the map: what it had claimed is cancelled."""

    def inputs() -> Iterator[int]:
        yield from range(3)
        raise KeyboardInterrupt

    executor = HandExecutor(1)
    with pytest.raises(KeyboardInterrupt):
        executor.map(abs, inputs(), buffersize=8)
    executor.step()
    assert executor.statistics().in_flight == 0
    executor.end()


# --------------------------------------------------------------------------------------------------------------- stages


@pytest.mark.parametrize("first", ["raise", "yield", "pass"])
@pytest.mark.parametrize("second", ["raise", "yield", "pass"])
@pytest.mark.parametrize("buffersize", [None, 1, 7])
def test_chained_maps_lose_nothing(first: str, second: str, buffersize: int | None) -> None:
    """Errors of the first stage come out of the second at their places; it is not called with them."""
    one, two = ThreadedExecutor(2), ThreadedExecutor(2)
    one.work_by_itself()
    two.work_by_itself()
    inner = one.map(fails_at([0, 3, 4, 29]), range(30), buffersize=buffersize, errors=first)
    outer = two.map(fails_at([20]), inner, buffersize=buffersize, errors=second)
    got: list[Any] = []
    while True:
        try:
            got.append(next(outer))
        except ValueError as error:
            got.append(error)
        except StopIteration:
            break
    texts = [f"error {one.args[0]}" if isinstance(one, ValueError) else one for one in got]
    assert texts == [f"error {n}" if n in {0, 3, 4, 29} else "error 20" if n == 10 else n * 4 for n in range(30)]
    one.shutdown()
    two.shutdown()


@pytest.mark.parametrize("errors", ["yield", "pass"])
def test_errors_through_what_is_in_between(errors: str) -> None:
    """A generator between two stages: `"pass"` hands on any exception; `"yield"` calls the function with it."""
    executor = HandExecutor(1)
    between = (one for one in [1, ValueError("x"), 2])
    mapped = executor.map(lambda one: f"called with {one}", between, errors=errors)
    expected = "ValueError x" if errors == "pass" else "called with x"
    assert read(executor, mapped) == ["called with 1", expected, "called with 2"]
    executor.end()


def test_an_error_among_several_inputs_is_handed_on() -> None:
    """The first of them."""
    executor = HandExecutor(1)
    mapped = executor.map(pow, [1, KeyError("a"), 3], [1, KeyError("b"), ValueError("c")], errors="pass")
    assert read(executor, mapped) == [1, "KeyError a", "ValueError c"]
    executor.end()


def test_exceptions_are_values_unless_you_say_so() -> None:
    """A map over exceptions calls its function with them."""
    executor = HandExecutor(1)
    assert read(executor, executor.map(str, [ValueError("x")])) == ["x"]
    executor.end()


def test_a_task_that_raises_stop_iteration_is_yielded() -> None:
    """As any error."""

    def stop() -> None:
        raise StopIteration(5)

    executor = HandExecutor(1)
    mapped = executor.map(lambda _: stop(), range(2), errors="yield")
    executor.run_all()
    assert [str(one) for one in mapped] == ["5", "5"]
    executor.end()


# --------------------------------------------------------------------------------------------------------- slow inputs


class Clock:
    """Time goes on when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("ordered_executor._core.intake.monotonic", lambda: self.now)

    def slow(self, numbers: Iterable[int], seconds: Callable[[int], float]) -> Iterator[int]:
        """An input whose numbers take so long to come."""
        for number in numbers:
            self.now += seconds(number)
            yield number


def test_a_slow_input_holds_back_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call draws one; and while there is something to hand out, no more is drawn."""
    clock = Clock(monkeypatch)
    executor = HandExecutor(1)
    mapped = executor.map(abs, clock.slow(range(10), lambda _: 1.0), buffersize=10)
    assert executor.scheduler.inbox.claims.tail == 1
    for number in range(10):
        assert take(executor, mapped) == number
        assert executor.scheduler.inbox.claims.tail == number + 1
    assert list(mapped) == []
    executor.end()


def test_what_was_drawn_runs_while_the_next_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the input was fast many times, each is claimed before the next is drawn: bursts do not stand still."""
    clock = Clock(monkeypatch)
    claimed: list[int] = []

    def burst(number: int) -> float:
        claimed.append(executor.scheduler.inbox.claims.tail)
        return 1.0 if number in {20, 40} else 0.0

    executor = HandExecutor(1)
    mapped = executor.map(abs, clock.slow(range(60), burst), buffersize=100)
    assert len(claimed) == 21  # the call has met a slow one
    assert read(executor, mapped) == list(range(60))
    assert claimed == list(range(60))
    executor.end()


def test_a_fast_input_is_drawn_in_steps() -> None:
    """Spans get longer, up to an eighth of the buffer."""
    executor = HandExecutor(1)
    mapped: Any = executor.map(abs, range(10_000), buffersize=1000)
    sizes = [span.count for span in mapped._intake.spans]
    assert sum(sizes) == 1000
    assert sizes == sorted(sizes[:-1]) + sizes[-1:] or max(sizes) > 8  # but for a pause of this machine
    mapped.close()
    executor.end()


def test_calls_that_run_are_given_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is there, and the input is slow: before it draws, it waits for the calls that run.

    At first as long as the input took, and then a quarter of that, so that little is lost where they take longer.
    """
    clock = Clock(monkeypatch)
    executor = HandExecutor(1)
    mapped: Any = executor.map(abs, clock.slow(range(5), lambda _: 1.0), buffersize=9)
    waits: list[float | None] = []

    class Counting(ParkingLot):
        def park(self, is_so: Callable[[], bool], timeout: float | None = None) -> bool:
            waits.append(timeout)
            if timeout is None:
                executor.run_all()
            else:
                mapped._intake.patience = 0.0  # all of it was spent
            return is_so()

    mapped._delivery.reader = Counting()
    assert list(mapped) == list(range(5))
    assert waits[:-1] == pytest.approx([1.0, 0.25, 0.25, 0.25, 0.25], abs=0.1)
    assert waits[-1] is None
    executor.end()


# -------------------------------------------------------------------------------------------------------- in a thread


def fed(feed: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """A live input: it gives what it is fed; an exception it raises; None is its end."""

    class Live:
        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> Any:
            one = feed.get()
            if one is None:
                raise StopIteration
            if isinstance(one, BaseException):
                raise one
            return one

    return Live()


def input_threads() -> int:
    """How many threads of ours read inputs."""
    return sum(thread.name == "ordered-executor-map-input" for thread in threading.enumerate())


def test_a_thread_hands_out_while_the_input_is_awaited() -> None:
    """Each result is read before the next input is there; errors have their place; the end is noticed."""
    executor = ThreadedExecutor(1)
    executor.work_by_itself()
    feed: queue.SimpleQueue[Any] = queue.SimpleQueue()
    mapped = executor.map(abs, fed(feed), buffersize=4, prefetch=True)
    for number in range(1, 20):
        feed.put(-number)
        assert next(mapped) == number
    for error in (KeyError("x"), KeyboardInterrupt(), SystemExit(3)):
        feed.put(error)
        with pytest.raises(type(error)):
            next(mapped)
    feed.put(-20)
    feed.put(None)
    assert list(mapped) == [20]
    executor.shutdown()
    until(lambda: input_threads() == 0)


@pytest.mark.parametrize("buffersize", [1, 2, 50])
def test_a_thread_draws_no_more_than_the_buffer_holds(buffersize: int) -> None:
    """And all of that, whether somebody reads or not."""
    executor = ThreadedExecutor(2)
    executor.work_by_itself()
    source = Source(300, lambda number: number % 7 == 3)
    mapped = executor.map(abs, source, buffersize=buffersize, prefetch=True, errors="yield")
    for number in range(300):
        until(lambda number=number: source.asked >= min(300, number + buffersize))  # type: ignore[misc]
        assert source.asked <= number + buffersize
        got = next(mapped)
        assert (got.args[0] if number % 7 == 3 else got) == number
    assert list(mapped) == []
    executor.shutdown()


@pytest.mark.parametrize("how", ["closed", "dropped", "dropped at once", "shut down"])
def test_a_thread_ends_with_its_map(how: str) -> None:
    """As soon as the input gives what is awaited: it is not asked again."""
    executor = ThreadedExecutor(1)
    executor.work_by_itself()
    feed: queue.SimpleQueue[Any] = queue.SimpleQueue()
    feed.put(1)
    mapped: Any = executor.map(abs, fed(feed), buffersize=4, prefetch=True)
    if how != "dropped at once":
        assert next(mapped) == 1
    if how == "closed":
        mapped.close()
        assert list(mapped) == []
    elif how == "shut down":
        executor.shutdown()
    gone = weakref.ref(mapped)
    if how != "shut down":
        del mapped
        assert gone() is None
    feed.put(2)
    if how == "shut down":
        with pytest.raises(RuntimeError, match="after shutdown"):
            next(mapped)
        assert list(mapped) == []
    until(lambda: input_threads() == 0)
    executor.shutdown()
    assert feed.empty()


def test_a_thread_that_waits_for_room_ends_with_its_map() -> None:
    """Its input gives all it can: it waits for the reader, who goes."""
    executor = ThreadedExecutor(1)
    executor.work_by_itself()
    source = Source(float("inf"), lambda _: False)
    mapped: Any = executor.map(abs, source, buffersize=4, prefetch=True)
    assert next(mapped) == 0
    until(lambda space=mapped._intake.space: source.asked == 5 and space.parked)  # type: ignore[misc]
    del mapped
    until(lambda: input_threads() == 0)
    executor.shutdown()


@pytest.mark.parametrize("what", ["an input", "an error", "the end"])
def test_a_reader_goes_to_wait_while_the_thread_draws(what: str) -> None:
    """1. The reader looks, finds nothing, goes to wait; 2. at any point of that the thread draws; 3. it goes on."""
    for intruder in intruders():
        executor = HandExecutor(1)
        feed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        mapped: Any = executor.map(abs, fed(feed), buffersize=4, prefetch=True)

        def draw(feed: Any = feed, mapped: Any = mapped, executor: HandExecutor = executor) -> None:
            before = mapped._intake.drawn
            feed.put({"an input": -1, "an error": KeyError("x"), "the end": None}[what])
            until(lambda: mapped._intake.ended or mapped._intake.drawn > before)
            if what == "an input":
                until(executor.scheduler.inbox.claims.waiting)
            executor.run_all()

        intruder.act = draw
        with stepping(intruder, map_module, waiting):
            if what == "an input":
                assert next(mapped) == 1
            else:
                with pytest.raises(KeyError if what == "an error" else StopIteration):
                    next(mapped)
        feed.put(None)
        until(lambda: input_threads() == 0)
        executor.end()


def test_prefetch_needs_a_buffersize() -> None:
    """Or it would read ahead without a limit."""
    executor = HandExecutor(1)
    with pytest.raises(ValueError, match="prefetch needs a buffersize"):
        executor.map(abs, range(3), prefetch=True)
    executor.end()
