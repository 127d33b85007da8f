"""The map: as in Python 3.14, on every Python, in order, bounded, and going on after an error."""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor import ResultsTimeoutError
from ordered_executor._base import waiting
from ordered_executor._core import intake as intake_module
from ordered_executor._core import map as map_module
from ordered_executor._core.map import MapResults
from tests.fake import HandExecutor, ThreadedExecutor
from tests.helpers import until
from tests.interleave import intruders, stepping

PATIENCE = 30.0


class Counted:
    """An endless input that counts how much was taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.taken += 1
            yield number


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No input is slow, whatever else this machine does."""
    monkeypatch.setattr(intake_module, "monotonic", lambda: 0.0)


def read_without_waiting(executor: HandExecutor, mapped: Iterator[Any]) -> list[Any]:
    """What is there of a map: on the scheduler it refuses to wait, and says so."""
    got = []
    with executor.as_scheduler():
        while True:
            try:
                got.append(next(mapped))
            except StopIteration:
                return [*got, "end"]
            except RuntimeError as refusal:
                if "done-callback" not in str(refusal):
                    raise
                return got


# ------------------------------------------------------------------------------------------------------- what it yields


def test_results_in_the_order_of_the_inputs() -> None:
    """`fn(*args)` for what `zip` of the iterables gives, however their ends are distributed over the lanes."""
    executor = HandExecutor(3)
    mapped = executor.map(operator.add, [1, 2, 3, 4], itertools.count(10))
    executor.open_lanes(3)
    executor.backend.lane_of(2).work()
    executor.backend.lane_of(1).work()
    executor.settle()
    assert read_without_waiting(executor, mapped) == []
    executor.run_all()
    assert list(mapped) == [11, 13, 15, 17]
    executor.end()


@pytest.mark.parametrize("iterables", [(), ([],), ([1], [])])
def test_nothing_to_map(iterables: tuple[Any, ...]) -> None:
    """No inputs: no tickets, no results."""
    executor = HandExecutor(1)
    assert list(executor.map(operator.add, *iterables)) == []
    assert executor.statistics().tail == 0
    executor.end()


@given(
    count=st.integers(0, 30),
    buffersize=st.none() | st.integers(1, 20),
    chunksize=st.none() | st.integers(1, 10),
    bad=st.sets(st.integers(0, 30)),
    lanes=st.integers(1, 3),
    task_seconds=st.sampled_from([0.0, 1e-5, 1.0]),
)
def test_every_input_has_its_outcome_at_its_place(
    count: int, buffersize: int | None, chunksize: int | None, bad: set[int], lanes: int, task_seconds: float
) -> None:
    """Whatever the sizes: each value once, in order; each error at its place; and never more open than `buffersize`."""
    executor = HandExecutor(lanes)
    executor.backend.task_seconds = task_seconds

    def fails_if_bad(number: int) -> int:
        if number in bad:
            raise ValueError(number)
        return number

    inputs = Counted()
    mapped = executor.map(fails_if_bad, itertools.islice(inputs, count), buffersize=buffersize, chunksize=chunksize)
    got: list[int | str] = []
    while True:
        executor.run_all()
        assert buffersize is None or inputs.taken <= len(got) + buffersize
        try:
            got.append(next(mapped))
        except ValueError as error:
            got.append(f"error {error}")
        except StopIteration:
            break
    assert got == [f"error {n}" if n in bad else n for n in range(count)]
    executor.end()


def test_it_goes_on_after_an_error() -> None:
    """A failed call raises at its place, with its cause, and the next `next()` goes on; StopIteration is wrapped."""

    def fails(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        if number == 2:
            raise StopIteration("two")
        return number

    executor = HandExecutor(1)
    mapped = executor.map(fails, range(4))
    executor.run_all()
    assert next(mapped) == 0
    with pytest.raises(ValueError, match="one") as caught:
        next(mapped)
    assert "fails" in str(caught.value.__cause__)
    assert any("ticket 1" in note for note in caught.value.__notes__)
    with pytest.raises(RuntimeError, match="ticket 2 raised StopIteration"):
        next(mapped)
    assert list(mapped) == [3]
    executor.end()


# ----------------------------------------------------------------------------------------------------------- its bounds


@pytest.mark.parametrize("buffersize", [1, 3, 8, 64])
def test_an_endless_iterable_runs_in_bounded_memory(buffersize: int) -> None:
    """No more than `buffersize` inputs are taken and not yielded, and all of them are used."""
    inputs = Counted()
    executor = HandExecutor(2)
    mapped = executor.map(abs, inputs, buffersize=buffersize)
    assert inputs.taken == buffersize
    most = 0
    for number in range(200):
        executor.run_all()
        assert next(mapped) == number
        most = max(most, inputs.taken - number - 1)
    assert most == buffersize
    assert executor.statistics().tail == inputs.taken
    executor.shutdown(wait=False, cancel_futures=True)
    executor.run_all()


def test_it_does_not_count_for_the_backlog() -> None:
    """A map has a bound of its own: with `backlog=1` its calls do not wait."""
    executor = HandExecutor(1, backlog=1)
    mapped = executor.map(abs, range(10))
    executor.mark("mark")
    executor.run_all()
    assert list(mapped) == list(range(10))
    assert executor.scheduler.inbox.backlog.unread == 1
    executor.end()


# --------------------------------------------------------------------------------------------------------- it is closed


@pytest.mark.parametrize("how", ["close", "let go"])
def test_closing_half_way_cancels_what_no_worker_has(how: str) -> None:
    """What runs ends, what waits is skipped, what comes home is dropped; the rest of the executor goes on."""
    executor = HandExecutor(1)
    mapped: Any = executor.map(abs, range(5))
    behind = executor.submit(abs, -1)
    executor.open_lanes(1)
    executor.finish(0, 0)
    assert next(mapped) == 0
    if how == "close":
        mapped.close()
        assert list(mapped) == []
        mapped.close()
    del mapped
    executor.step()
    assert executor.statistics().waiting == 1
    executor.finish(1, 1)
    executor.run_all()
    assert behind.result(timeout=0) == 1
    executor.end()


def test_closing_before_the_claim_is_taken() -> None:
    """1. A refill claims tickets; 2. the map is closed before the scheduler has taken them: they are skipped."""
    executor = HandExecutor(1)
    mapped: Any = executor.map(abs, range(5), buffersize=2)
    executor.run_all()
    assert [next(mapped), next(mapped)] == [0, 1]
    mapped.close()
    executor.step()
    assert executor.statistics().in_flight == 0
    executor.end()


def test_a_map_nobody_ever_asked_runs_for_its_effects() -> None:
    """As with the standard executors: letting go of a map before its first result does not cancel it."""
    ran: list[int] = []
    executor = HandExecutor(1)
    executor.map(ran.append, range(3))
    executor.run_all()
    assert ran == [0, 1, 2]
    executor.end()


def test_a_timeout_ends_the_map() -> None:
    """Past its `timeout` the map raises, cancels what has not started, and is over."""
    executor = HandExecutor(1)
    mapped = executor.map(abs, range(3), timeout=0)
    with pytest.raises(ResultsTimeoutError):
        next(mapped)
    assert list(mapped) == []
    executor.step()
    assert executor.statistics().in_flight == 0
    executor.end()


def test_a_timeout_does_not_count_while_results_are_there() -> None:
    """What is home can be read at any time."""
    executor = HandExecutor(1)
    mapped = executor.map(abs, range(3), timeout=0)
    executor.run_all()
    assert list(mapped) == [0, 1, 2]
    executor.end()


def test_shutdown_in_the_middle_of_a_bounded_map() -> None:
    """A bounded map yields all that it had claimed before a shutdown.

    1. A bounded map has open inputs; 2. the executor is shut down; 3. its reader gets all that was claimed, then, at
    its place, the error that no more can be; then it ends.
    """
    executor = HandExecutor(1)
    mapped = executor.map(abs, itertools.count(), buffersize=8)
    executor.run_all()
    assert next(mapped) == 0
    executor.shutdown(wait=False)
    executor.run_all()
    claimed = executor.statistics().tail
    assert [next(mapped) for _ in range(1, claimed)] == list(range(1, claimed))
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        next(mapped)
    assert list(mapped) == []


def test_shutdown_that_cancels_ends_a_map() -> None:
    """With `cancel_futures` the reader gets what had run, a `CancelledError`, and the end."""
    executor = HandExecutor(1)
    mapped = executor.map(abs, range(5))
    executor.open_lanes(1)
    executor.finish(0, 0)
    executor.shutdown(wait=False, cancel_futures=True)
    executor.step()
    executor.finish(1, 1)
    assert [next(mapped), next(mapped)] == [0, 1]
    with pytest.raises(CancelledError):
        next(mapped)
    assert list(mapped) == []


def test_a_broken_executor_fails_the_calls_of_a_map() -> None:
    """Each call that was claimed raises the reason, at its place; a bounded map ends with it."""
    executor = HandExecutor(1)
    mapped = executor.map(abs, itertools.count(), buffersize=2)
    executor.run_all()
    executor.backend.break_down(BrokenProcessPool("the reason"))
    executor.settle()
    assert [next(mapped), next(mapped)] == [0, 1]
    with pytest.raises(BrokenProcessPool, match="the reason"):
        next(mapped)
    assert list(mapped) == []


# ---------------------------------------------------------------------------------------------------------- interleaved


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_an_outcome_delivered_while_a_reader_goes_to_wait(timeout: float | None) -> None:
    """Map reader against deliver.

    1. a reader looks, finds nothing, and goes to wait; 2. at any point of that the scheduler delivers the outcomes; 3.
    the reader goes on: it has them, or is woken for them.
    """
    rounds = 0
    for intruder in intruders():
        executor = HandExecutor(1)
        mapped: Any = executor.map(abs, range(2), timeout=timeout)
        assert isinstance(mapped, MapResults)
        intruder.act = executor.run_all
        with stepping(intruder, map_module, intake_module, waiting):
            assert next(mapped) == 0
            assert next(mapped) == 1
        rounds += 1
        executor.end()
    assert rounds >= 20


def test_a_reader_comes_while_an_outcome_is_delivered() -> None:
    """Deliver against map reader.

    1. the scheduler delivers; 2. at any point a reader sees that it would wait, or reads; 3. the scheduler goes on. No
    outcome is lost or doubled.
    """
    for intruder in intruders():
        executor = HandExecutor(1)
        mapped: Any = executor.map(abs, range(2))
        got: list[Any] = []
        intruder.act = lambda got=got, executor=executor, mapped=mapped: (  # type: ignore[misc]
            got.extend(read_without_waiting(executor, mapped))
        )
        with stepping(intruder, map_module, intake_module, waiting):
            executor.run_all()
        intruder.come()
        got += list(mapped)
        assert [value for value in got if value != "end"] == [0, 1]
        executor.end()


def test_closing_a_map_wakes_its_reader() -> None:
    """1. A reader goes to wait; 2. at any point of that the map is closed, in a signal handler, say; 3. it ends."""
    for intruder in intruders():
        executor = HandExecutor(1)
        mapped: Any = executor.map(abs, range(2))
        intruder.act = mapped.close
        with stepping(intruder, map_module, intake_module, waiting):
            assert list(mapped) == []
        executor.end()


def test_a_reader_in_a_thread_is_woken() -> None:
    """With a real scheduler and a reader that waits: it gets everything, in order."""
    executor = ThreadedExecutor(1)
    mapped = executor.map(abs, range(50), buffersize=5)
    executor.work_by_itself()
    assert list(mapped) == list(range(50))
    executor.shutdown()


def test_a_callback_does_not_wait_for_another_reader_of_its_map() -> None:
    """What the other reader waits for is not released while callbacks run.

    1. A thread waits for the next result, and so is the one that may fetch it; 2. a done-callback asks for a result of
    the same map: it is refused, as it is without the thread; 3. the thread gets its result.
    """
    executor = HandExecutor(1)
    mapped: Any = executor.map(abs, [-1])
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.append(next(mapped)))
    reader.start()
    until(lambda: mapped._delivery.reader.parked)
    with executor.as_scheduler(), pytest.raises(RuntimeError, match="never end"):
        next(mapped)
    executor.open_lanes(1)
    executor.run_all()
    reader.join()
    assert got == [1]
    executor.end()
