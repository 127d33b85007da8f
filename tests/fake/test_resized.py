"""More workers, or fewer, while an executor runs; and a turn that costs the same however many there are."""

from __future__ import annotations

import pytest

from ordered_executor._channel.shared_memory import LaneMemory
from tests.benchmarks.turns import bare, stubbed, turn_cost
from tests.fake import HandExecutor


def resize(executor: HandExecutor, workers: int, lanes: int | None = None) -> None:
    """The backend says so."""
    executor.backend.resize(workers, lanes or workers)
    executor.step()


def busy(executor: HandExecutor) -> list[int]:
    """The tickets that run."""
    return sorted(lane.ticket for lane in executor.backend.lanes if lane.ticket is not None)


def test_new_workers_are_used() -> None:
    """When there are more, more are wanted at once, and run what waits."""
    executor = HandExecutor(2)
    for _ in range(20):
        executor.submit(int)
    executor.open_lanes(2)
    assert busy(executor) == [0, 1]
    resize(executor, 5)
    assert executor.backend.wanted == 5
    executor.open_lanes(3)
    assert busy(executor) == [0, 1, 2, 3, 4]
    assert executor.statistics().max_workers == 5
    executor.end()


def test_workers_that_go_are_not_filled_again() -> None:
    """When there are fewer, those that are too many end what they have and get nothing more."""
    executor = HandExecutor(4)
    for _ in range(20):
        executor.submit(int)
    executor.open_lanes(4)
    resize(executor, 2)
    executor.finish(0)
    executor.finish(1)
    assert busy(executor) == [2, 3]
    executor.finish(2)
    assert busy(executor) == [3, 4]
    executor.end()


def test_what_waits_is_sent_ahead_where_there_are_more_lanes_than_workers() -> None:
    """When half of it is gone, all at once; near the end one for each that ends: till then it can be cancelled."""
    executor = HandExecutor(2)
    futures = [executor.submit(int) for _ in range(11)]
    resize(executor, 2, lanes=6)
    executor.open_lanes(6)
    assert busy(executor) == [0, 1, 2, 3, 4, 5]
    executor.finish(0)
    assert busy(executor) == [1, 2, 3, 4, 5]
    executor.finish(1)
    assert busy(executor) == [2, 3, 4, 5, 6, 7]
    executor.finish(2)
    executor.finish(3)
    executor.finish(4)
    assert busy(executor) == [5, 6, 7, 8, 9]
    assert futures[10].cancel()
    executor.end()


def test_window_and_bytes_are_shared_anew() -> None:
    """A window that nobody set grows with the workers, one that somebody set does not; bytes are shared by all."""
    wide, narrow = HandExecutor(2, window_bytes=1000), HandExecutor(2, window=8, window_bytes=1000)
    before = wide.statistics().window
    for executor in (wide, narrow):
        resize(executor, 8)
        assert executor.scheduler.window.credit == 125
    assert wide.statistics().window == 4 * before
    assert narrow.statistics().window == 8
    assert wide.backend.limit == wide.statistics().window


def test_what_came_back_is_not_kept_waiting_by_those_that_are_too_many() -> None:
    """The head goes to an idle lane, although more are busy than there should be.

    1. Three lanes run 0, 1 and 2, in a window of one; 2. there is to be one worker; 3. 1 and 2 end, and are gated; 4.
    the lane of 0 dies: 0 goes to the lane that takes its place.
    """
    executor = HandExecutor(3, window=1, retries=1)
    futures = [executor.submit(int) for _ in range(3)]
    executor.open_lanes(3)
    executor.backend.finish(1)
    executor.backend.finish(2)
    resize(executor, 1)
    executor.backend.lane_of(0).lose()
    executor.step()
    assert executor.backend.missing > 0
    executor.open_lanes(1)
    executor.finish(0)
    executor.settle()
    assert all(future.done() for future in futures)
    executor.end()


@pytest.mark.slow  # it measures, and more than once, as other programs disturb it
def test_a_turn_does_not_grow_with_the_lanes() -> None:
    """A thousand lanes that say nothing cost nothing: the median turn is that of two lanes, or little more."""
    assert min(turn_cost(bare, 1024, 100) for _ in range(3)) < 3 * min(turn_cost(bare, 2, 100) for _ in range(3))
    memory = LaneMemory.create()
    make = stubbed(memory)
    assert min(turn_cost(make, 1024, 100) for _ in range(3)) < 3 * min(turn_cost(make, 2, 100) for _ in range(3))
    memory.close()


def test_batches_are_longer_where_there_are_many_workers() -> None:
    """Whoever sends them is one: a batch may take a millisecond for each worker, if that is more than usual."""
    executor = HandExecutor(2)
    pace = executor.scheduler.dispatcher.pace
    pace.seconds = 0.01
    assert pace.batch_size(10_000) == 5
    resize(executor, 1000)
    assert pace.batch_size(10_000) == 100
    resize(executor, 10)
    assert pace.batch_size(10_000) == 5
    executor.end()
