"""The dispatcher: lowest ticket first, batches of the right size, and what happens to what comes back."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from ordered_executor import Future
from ordered_executor._base.tasks import Options
from ordered_executor._core.backend import Blame, Lost
from ordered_executor._core.batch_sizing import (
    BATCH_BYTES,
    BATCH_MOST,
    BATCH_SECONDS,
    LONG_BATCH_LEAST,
    LONG_BATCH_SECONDS,
    LONG_QUEUE_BATCHES,
    Pace,
)
from ordered_executor._core.batches import CoreBatch, Slice
from ordered_executor._core.dispatcher import Dispatcher
from ordered_executor._core.lost_tasks import settle_loss
from ordered_executor._core.map import Delivery, Span
from ordered_executor._core.roster import LaneQueue

WIDE = 10**6


def futures(count: int, first: int = 0) -> list[Future[Any]]:
    """Claimed futures of nobody."""
    made = []
    for number in range(first, first + count):
        future: Future[Any] = Future(mock.Mock(), (len, (), {}), Options())
        future.first = number
        made.append(future)
    return made


def span(count: int, first: int = 0, chunksize: int | None = None) -> Span:
    """A claimed span."""
    made = Span(Delivery(), len, [(n,) for n in range(count)], False, Options(), chunksize)
    made.first = first
    return made


def with_lanes(count: int, *entries: Any, window: int = WIDE, quota: int | None = None) -> Dispatcher:
    """A dispatcher with idle lanes 0, 1, … and what waits."""
    dispatcher = Dispatcher(window, count)
    for number in range(count):
        dispatcher.open_lane(number, quota)
    for entry in entries:
        dispatcher.add(entry)
    return dispatcher


def fast(dispatcher: Dispatcher, size: int = 4) -> Dispatcher:
    """One that has learned that so many tasks make a batch."""
    dispatcher.pace.seconds = BATCH_SECONDS / size
    dispatcher._grown = size
    return dispatcher


def take(dispatcher: Dispatcher, lane: int = 0) -> CoreBatch:
    """Give the lane its next batch."""
    batch, _ = dispatcher.take(dispatcher.lanes[lane])
    assert batch is not None
    return batch


def tickets(batch: CoreBatch) -> list[int]:
    """Its tickets."""
    return list(range(batch.first, batch.first + batch.count))


def arrive(dispatcher: Dispatcher, lane: int, batch: CoreBatch, start: int, count: int) -> tuple[CoreBatch | None, int]:
    """Outcomes of a batch come home."""
    return dispatcher.arrived(dispatcher.lanes[lane], batch.number, start, count)


# ------------------------------------------------------------------------------------------------------- what is taken


def test_tickets_leave_in_order() -> None:
    """Each lane that takes anything takes the lowest tickets there are."""
    dispatcher = fast(with_lanes(2, *futures(8)))
    assert [tickets(take(dispatcher, lane)) for lane in (0, 1)] == [[0, 1, 2, 3], [4, 5]]
    assert dispatcher.waiting_tickets == 2


def test_cancelled_futures_are_passed_over() -> None:
    """A cancelled ticket is reported and not sent; a batch holds consecutive tickets only."""
    waiting = futures(6)
    dispatcher = fast(with_lanes(1, *waiting))
    waiting[0].cancel()
    waiting[3].cancel()
    batch, cancelled = dispatcher.take(dispatcher.lanes[0])
    assert batch is not None
    assert tickets(batch) == [1, 2]
    assert cancelled == [waiting[0], waiting[3]]
    assert all(future.running() for future in batch.owners(0, batch.count))


def test_nothing_but_cancelled_is_no_batch() -> None:
    """When all that waits was cancelled, there is nothing to send, and nothing waits any more."""
    waiting = futures(3)
    dispatcher = with_lanes(1, *waiting)
    for future in waiting:
        future.cancel()
    assert dispatcher.take(dispatcher.lanes[0]) == (None, waiting)
    assert dispatcher.waiting_tickets == 0
    assert not dispatcher.lanes[0].batches


def test_futures_and_spans_do_not_share_a_batch() -> None:
    """A batch is of futures or of one slice of a map."""
    dispatcher = fast(with_lanes(1, *futures(2), span(2, 2), span(2, 4), *futures(2, 6)))
    assert [tickets(take(dispatcher)) for _ in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_returned_tickets_leave_first() -> None:
    """What was sent before is lower than all that waits, and goes first, in order."""
    dispatcher = fast(with_lanes(2, *futures(12)))
    one, two = take(dispatcher, 0), take(dispatcher, 1)
    dispatcher.returned(dispatcher.lanes[1], two.number, 0)
    dispatcher.returned(dispatcher.lanes[0], one.number, 0)
    dispatcher.pace.seconds = BATCH_SECONDS / 4
    assert tickets(take(dispatcher, 1))[0] == 0
    while dispatcher.waiting_tickets:
        before = dispatcher.lanes[0].tickets
        assert take(dispatcher, 0).count + before == dispatcher.lanes[0].tickets


# --------------------------------------------------------------------------------------------------------- their sizes


def test_the_first_task_goes_alone() -> None:
    """As long as nobody knows how long a task takes, a batch is one task."""
    dispatcher = with_lanes(1, *futures(100))
    assert take(dispatcher).count == 1


def test_batches_double_at_most() -> None:
    """A batch is at most twice as large as the largest before it."""
    dispatcher = with_lanes(1, *futures(1000))
    dispatcher.pace.seconds = 1e-6
    assert [take(dispatcher).count for _ in range(5)] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("window", [1, 2, 8, 40])
def test_a_batch_is_a_part_of_the_window(window: int) -> None:
    """A batch is at most half of each lane's share of the window, and at least one task."""
    dispatcher = fast(with_lanes(2, *futures(1000), window=window), 1000)
    assert take(dispatcher).count == max(1, window // 4)


def test_the_end_is_shared() -> None:
    """What is left is spread over the lanes, however short the tasks are."""
    dispatcher = fast(with_lanes(4, *futures(10)), 1000)
    assert [take(dispatcher, lane).count for lane in range(4)] == [3, 2, 2, 1]


def test_batches_follow_the_length_of_the_tasks() -> None:
    """About as many tasks as make a batch's time; large results make smaller batches."""
    pace = Pace()
    assert pace.batch_size(0) == 1
    pace.learn(1, BATCH_SECONDS / 10, 0)
    assert pace.batch_size(0) in (9, 10)
    pace.seconds = 1e-9
    assert pace.batch_size(0) == BATCH_MOST
    pace.bytes = BATCH_BYTES / 3
    assert pace.batch_size(0) == 3
    pace.bytes = 10.0 * BATCH_BYTES
    assert pace.batch_size(0) == 1
    pace.seconds = 10.0
    assert pace.batch_size(0) == 1


@pytest.mark.parametrize("seconds", [1e-6, 1e-4, 1e-3, 0.01, 0.0125])
def test_batches_are_longer_while_the_queue_is(seconds: float) -> None:
    """They grow to the longer time with what waits for each lane, and so become small again towards the end."""
    pace = Pace()
    pace.seconds = seconds
    sizes = [pace.batch_size(waiting) for waiting in range(30_000)]
    assert sizes == sorted(sizes)
    short, long = sizes[0], sizes[-1]
    assert short * seconds <= max(seconds, BATCH_SECONDS)
    assert (long + 1) * seconds > min(LONG_BATCH_SECONDS, BATCH_MOST * seconds)
    assert long * seconds <= max(seconds, LONG_BATCH_SECONDS)
    for waiting, size in enumerate(sizes):
        assert size == short or size * LONG_QUEUE_BATCHES <= waiting


def test_a_long_batch_is_of_several_tasks() -> None:
    """Else the first of two or three would wait long for the last."""
    pace = Pace()
    pace.seconds = LONG_BATCH_SECONDS / LONG_BATCH_LEAST * 1.01
    assert pace.batch_size(10_000) == 1


def test_a_batch_says_how_long_it_should_take() -> None:
    """So that its worker knows when it overruns, and the parent which task is slow; never longer than the longest."""
    dispatcher = with_lanes(1, *futures(2), span(100, 2, chunksize=50))
    assert take(dispatcher).seconds == 0.0  # nobody knows
    dispatcher.pace.seconds = 0.002
    assert take(dispatcher).seconds == 0.002
    assert take(dispatcher).seconds == LONG_BATCH_SECONDS  # 0.1 by its size, which was asked for


def test_what_is_sent_bounds_a_batch() -> None:
    """One large argument makes the next batch small; many small ones make it large again."""
    pace = Pace()
    pace.seconds = 1e-6
    pace.learn_load(1, BATCH_BYTES // 4)
    assert pace.batch_size(0) == 4
    for _ in range(40):
        pace.learn_load(4, 4 * 10)
    assert pace.batch_size(0) == BATCH_MOST


def test_one_long_task_does_not_make_all_batches_small() -> None:
    """The estimate is of the typical task: one in fifty that is a hundred times as long hardly moves it."""
    pace = Pace()
    for _ in range(20):
        for _ in range(49):
            pace.learn(1, 0.0001, 0)
        pace.learn(1, 0.01, 0)
    assert pace.seconds is not None
    assert pace.seconds < 0.0003
    for _ in range(50):
        pace.learn(1, 0.01, 0)
    assert pace.seconds > 0.005


def test_chunksize_bounds_the_batches_of_a_map() -> None:
    """With a chunksize that many calls go together, be they long or short, but not more than lane and window allow."""
    dispatcher = with_lanes(1, span(100, chunksize=7))
    assert [take(dispatcher).count for _ in range(2)] == [7, 7]
    assert take(with_lanes(1, span(100, chunksize=7), window=8)).count == 4
    assert take(with_lanes(1, span(100, chunksize=7), quota=3)).count == 3
    assert take(with_lanes(1, span(5, chunksize=7))).count == 5


# ----------------------------------------------------------------------------------------------------------- the lanes


def test_the_lane_with_the_least_to_do_is_next() -> None:
    """Idle lanes come first; a busy one that has said nothing gets nothing."""
    dispatcher = fast(with_lanes(2, *futures(100)))
    take(dispatcher, 0)
    lane = dispatcher.next_lane()
    assert lane is not None
    assert lane.key == 1
    take(dispatcher, 1)
    assert dispatcher.next_lane() is None


def test_a_second_batch_goes_to_a_lane_that_has_just_spoken() -> None:
    """While tasks are short a lane gets its next batch before it is idle; a third it does not."""
    dispatcher = fast(with_lanes(1, *futures(100)))
    batch = take(dispatcher)
    dispatcher.begin_turn()
    assert dispatcher.next_lane() is None
    arrive(dispatcher, 0, batch, 0, 1)
    lane = dispatcher.next_lane()
    assert lane is not None
    dispatcher.take(lane)
    assert dispatcher.next_lane() is None
    assert len(lane.batches) == 2


def test_nothing_is_sent_ahead_where_it_could_harm() -> None:
    """No second batch behind long tasks, in a narrow window, or near the end."""
    for harm in ("long", "narrow", "end"):
        window = 4 if harm == "narrow" else WIDE
        dispatcher = fast(with_lanes(1, *futures(5 if harm == "end" else 100), window=window))
        batch = take(dispatcher)
        if batch.count == 1:
            take(dispatcher)
        dispatcher.begin_turn()
        arrive(dispatcher, 0, batch, 0, 1)
        if harm == "long":
            dispatcher.pace.seconds = 1.0
        if not dispatcher.lanes[0].batches:
            take(dispatcher)
        assert dispatcher.next_lane() is None, harm


def test_a_lane_is_not_sent_ahead_what_is_earlier_than_what_it_has() -> None:
    """The head never stands behind a ticket that may be gated.

    1. Lane 0 has tickets 0 … 3, lane 1 has 4 … 7; 2. lane 0 dies, and its tickets come back; 3. lane 1 has just ended
    one, and would take a second batch: not this one, behind its own; 4. the lane that replaces lane 0 gets it.
    """
    dispatcher = fast(with_lanes(2, *futures(32)))
    one, two = take(dispatcher, 0), take(dispatcher, 1)
    dispatcher.begin_turn()
    arrive(dispatcher, 1, two, 0, 1)
    dispatcher.close_lane(0)
    assert dispatcher.next_lane() is dispatcher.lanes[1]
    dispatcher.put_back(one, 0)
    assert dispatcher.next_lane() is None
    dispatcher.open_lane(2, None)
    lane = dispatcher.next_lane()
    assert lane is dispatcher.lanes[2]
    assert tickets(take(dispatcher, 2)) == [0, 1, 2, 3]


def test_a_lane_runs_exactly_its_quota() -> None:
    """A lane that may run so many tasks is never sent more, and gets back what it did not run."""
    dispatcher = fast(with_lanes(1, *futures(16), quota=6))
    first, second = take(dispatcher), take(dispatcher)
    assert (first.count, second.count) == (4, 2)
    assert dispatcher.lanes[0].quota == 0
    assert dispatcher.next_lane() is None
    arrive(dispatcher, 0, first, 0, 1)
    dispatcher.returned(dispatcher.lanes[0], first.number, 1)
    assert dispatcher.lanes[0].quota == 5
    assert dispatcher.lanes[0].tickets == 0


# --------------------------------------------------------------------------------------------------- what comes back


def test_outcomes_come_home_piece_by_piece() -> None:
    """A batch stays with its lane until the last of it is home."""
    dispatcher = fast(with_lanes(1, *futures(4)))
    batch = take(dispatcher)
    assert arrive(dispatcher, 0, batch, 0, 3) == (batch, 0)
    assert dispatcher.lanes[0].tickets == 1
    assert arrive(dispatcher, 0, batch, 3, 1) == (batch, 0)
    assert not dispatcher.lanes[0].batches


def test_a_frame_behind_a_peek_counts_once() -> None:
    """Peek against DONE: what a peek has fetched comes again by frame, and is known.

    1. The parent looks up outcomes 0 and 1.  2. The frame with 0 … 2 arrives: one is new.  3. The parent looks up
    3, the last.  4. The frame with 3 arrives when the batch is over: all of it is known.
    """
    dispatcher = fast(with_lanes(1, *futures(9)))
    batch = take(dispatcher)
    assert arrive(dispatcher, 0, batch, 0, 2) == (batch, 0)
    assert arrive(dispatcher, 0, batch, 0, 3) == (batch, 2)
    assert batch.home == 3
    assert arrive(dispatcher, 0, batch, 3, 1) == (batch, 0)
    following = take(dispatcher)
    assert arrive(dispatcher, 0, batch, 3, 1) == (None, 1)
    assert dispatcher.lanes[0].tickets == following.count


def test_a_frame_that_says_nothing_new_changes_nothing() -> None:
    """A peek twice over the same outcomes, and a frame shorter than the peek before it, count nothing."""
    dispatcher = fast(with_lanes(1, *futures(4)))
    batch = take(dispatcher)
    arrive(dispatcher, 0, batch, 0, 3)
    assert arrive(dispatcher, 0, batch, 0, 3) == (batch, 3)
    assert arrive(dispatcher, 0, batch, 0, 2) == (batch, 2)
    assert (batch.home, dispatcher.lanes[0].tickets) == (3, 1)


def test_a_gap_is_refused() -> None:
    """Outcomes of a lane come in order: one that would leave a hole before it is a defect of the backend."""
    dispatcher = fast(with_lanes(1, *futures(4)))
    batch = take(dispatcher)
    with pytest.raises(AssertionError):
        arrive(dispatcher, 0, batch, 1, 1)


def test_a_lane_returns_everything_it_has_not_started() -> None:
    """Return against arrived.

    1. the lane ends two of its first batch, 2. hands the rest back, with the batch behind it.
    """
    waiting = futures(16)
    dispatcher = fast(with_lanes(1, *waiting))
    first, second = take(dispatcher), take(dispatcher)
    assert (first.count, second.count) == (4, 4)
    arrive(dispatcher, 0, first, 0, 2)
    dispatcher.returned(dispatcher.lanes[0], first.number, 2)
    assert dispatcher.lanes[0].tickets == 0
    assert not dispatcher.lanes[0].batches
    assert dispatcher.waiting_tickets == 14
    again: list[int] = []
    while dispatcher.waiting_tickets:
        again += tickets(take(dispatcher))
    assert again == list(range(2, 16))
    assert all(future.running() for future in waiting)


def test_a_return_leaves_the_batches_before_it() -> None:
    """A lane that hands back its second batch keeps the first, whose last outcome is on its way."""
    dispatcher = fast(with_lanes(1, *futures(16)))
    first, second = take(dispatcher), take(dispatcher)
    dispatcher.returned(dispatcher.lanes[0], second.number, 0)
    assert list(dispatcher.lanes[0].batches) == [first]
    assert dispatcher.lanes[0].tickets == 4


def test_a_slice_comes_back_as_a_slice() -> None:
    """The rest of a map's batch goes again, before the rest of the map, and each ticket once."""
    dispatcher = fast(with_lanes(1, span(10, chunksize=4)))
    batch = take(dispatcher)
    arrive(dispatcher, 0, batch, 0, 1)
    dispatcher.returned(dispatcher.lanes[0], batch.number, 1)
    again = [take(dispatcher) for _ in range(3)]
    assert [tickets(one) for one in again] == [[1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [one.owners(0, 1)[0].start for one in again] == [1, 4, 8]


def test_what_could_not_be_loaded_together_travels_apart() -> None:
    """Returned as unloadable, the slice is packed ticket by ticket when it is sent again, in every part of it."""
    dispatcher = fast(with_lanes(1, span(10, chunksize=4)))
    batch = take(dispatcher)
    dispatcher.returned(dispatcher.lanes[0], batch.number, 0, apart=True)
    dispatcher.lanes[0].quota = 3
    parts = [take(dispatcher)]
    dispatcher.lanes[0].quota = None
    parts += [take(dispatcher), take(dispatcher)]
    assert [(tickets(one), one.apart) for one in parts] == [([0, 1, 2], True), ([3], True), ([4, 5, 6, 7], False)]


def test_futures_that_could_not_be_loaded_together_travel_apart_whenever_they_are_sent() -> None:
    """A function that no worker can load must not travel to and fro for ever."""
    dispatcher = fast(with_lanes(1, *futures(6)))
    for _ in range(2):
        batch = take(dispatcher)
        dispatcher.returned(dispatcher.lanes[0], batch.number, 0, apart=True)
    dispatcher.lanes[0].quota = 2
    parts = [take(dispatcher)]
    dispatcher.lanes[0].quota = None
    parts.append(take(dispatcher))
    assert [(tickets(one), one.apart) for one in parts] == [([0, 1], True), ([2, 3, 4, 5], True)]


def test_the_batches_of_a_dead_lane_are_sent_again() -> None:
    """Lost against returned: what a dead lane had goes before what waits, and what another lane hands back between."""
    dispatcher = fast(with_lanes(2, *futures(12)))
    one, two = take(dispatcher, 0), take(dispatcher, 1)
    arrive(dispatcher, 1, two, 0, 1)
    for batch in dispatcher.close_lane(1).batches:
        dispatcher.put_back(batch, batch.home)
    dispatcher.returned(dispatcher.lanes[0], one.number, 0)
    again: list[int] = []
    while dispatcher.waiting_tickets:
        again += tickets(take(dispatcher))
    assert again == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]


# ------------------------------------------------------------------------------------------------- what is given up


def test_closing_a_map_drops_what_no_lane_has() -> None:
    """The rest of a span is forgotten, other spans and futures stay, and what is with a lane stays there."""
    mine, other = span(6, chunksize=2), span(2, 7)
    dispatcher = with_lanes(1, mine, *futures(1, 6), other)
    batch = take(dispatcher)
    assert [(piece.first, piece.count) for piece in dispatcher.drop_span(mine)] == [(2, 4)]
    assert dispatcher.waiting_tickets == 3
    assert [tickets(take(dispatcher)) for _ in range(2)] == [[6], [7]]
    assert dispatcher.lanes[0].batches[0] is batch
    assert dispatcher.drop_span(mine) == []


def test_closing_a_map_drops_what_came_back() -> None:
    """What a lane had and handed back is forgotten, too."""
    mine, other = span(6, chunksize=2), span(2, 6)
    dispatcher = with_lanes(1, mine, other)
    batch = take(dispatcher)
    arrive(dispatcher, 0, batch, 0, 1)
    assert dispatcher.returned(dispatcher.lanes[0], batch.number, 1) == []
    assert [(piece.first, piece.count) for piece in dispatcher.drop_span(mine)] == [(1, 1), (2, 4)]
    assert dispatcher.waiting_tickets == 2
    assert mine.sent == {}


def test_what_comes_back_of_a_closed_map_is_cancelled() -> None:
    """It never waits again: it is returned to whoever skips it."""
    mine = span(6, chunksize=4)
    dispatcher = with_lanes(1, mine)
    batch = take(dispatcher)
    arrive(dispatcher, 0, batch, 0, 1)
    mine.cancelled = True
    (piece,) = dispatcher.returned(dispatcher.lanes[0], batch.number, 1)
    assert (piece.first, piece.count) == (1, 3)
    assert dispatcher.waiting_tickets == 2


def test_a_map_that_is_closed_while_a_batch_is_cut_is_not_sent() -> None:
    """The batch is where whoever closes the map looks for it; then the flag is looked at."""
    mine = span(6, chunksize=4)
    dispatcher = with_lanes(1, mine)
    mine.cancelled = True
    batch, (piece,) = dispatcher.take(dispatcher.lanes[0])
    assert batch is None
    assert (piece.first, piece.count) == (0, 4)
    assert mine.sent == {}
    assert not dispatcher.lanes[0].batches


def test_waiting_and_returned_tickets_are_dropped_up_to_one() -> None:
    """But for one that had begun when its worker died."""
    dispatcher = fast(with_lanes(1, *futures(8)))
    batch = take(dispatcher)
    dispatcher.close_lane(0)
    dispatcher.put_back(batch, 0, begun=True)
    dispatcher.cancel_below = 6
    assert [entry.first for entry in dispatcher.drop_waiting()] == [1, 2, 3, 4, 5]
    assert dispatcher.waiting_tickets == 3
    assert [entry.first for entry in dispatcher.drop_begun()] == [0]
    assert [entry.first for entry in dispatcher.clear()] == [6, 7]
    assert dispatcher.waiting_tickets == 0


# -------------------------------------------------------------------------------------------------------- taking back


def test_taking_back() -> None:
    """What begins no more is here again, in order; the lane gets nothing until it has handed back, or is done."""
    dispatcher = fast(with_lanes(1, *futures(8)))
    lane: LaneQueue = dispatcher.lanes[0]
    batch = take(dispatcher)
    assert tickets(batch) == [0, 1, 2, 3]
    sent = list(batch.owners(0, batch.count))
    assert dispatcher.take_back(lane, lambda _: 2) == []
    assert not {*sent[2:]} & {*batch.owners(0, batch.count)}  # they go with their holders, wherever they run
    assert (lane.tickets, dispatcher.waiting_tickets, batch.kept) == (2, 6, 2)
    assert dispatcher.next_lane() is None
    assert [future.running() for future in sent] == [True, True, False, False]
    dispatcher.arrived(lane, batch.number, 0, 1)
    assert dispatcher.returned(lane, batch.number, 1, recalled=True) == []
    assert [entry.first for entry in dispatcher.clear()] == [1, 2, 3, 4, 5, 6, 7]


def test_taking_back_from_a_lane_whose_last_task_runs() -> None:
    """There is nothing to be handed back: it is free when it is done."""
    dispatcher = fast(with_lanes(1, *futures(8)))
    lane: LaneQueue = dispatcher.lanes[0]
    batch = take(dispatcher)
    assert dispatcher.take_back(lane, lambda _: 4) == []
    assert dispatcher.next_lane() is None
    dispatcher.arrived(lane, batch.number, 0, 4)
    assert dispatcher.next_lane() is lane


def test_taking_back_leaves_a_quota_what_it_was() -> None:
    """What was not run does not count; once, however it comes back."""
    dispatcher = Dispatcher(1000, 1)
    for future in futures(4):
        dispatcher.add(future)
    dispatcher.open_lane(0, 10)
    fast(dispatcher)
    lane: LaneQueue = dispatcher.lanes[0]
    batch = take(dispatcher)
    taken = batch.count
    assert lane.quota == 10 - taken
    dispatcher.take_back(lane, lambda _: 1)
    assert lane.quota == 9
    dispatcher.returned(lane, batch.number, 0, recalled=True)
    assert lane.quota == 10


def test_somebody_is_hungry_while_tasks_stand_behind_another() -> None:
    """Nothing waits, one lane has nothing, another has more than it runs, and was not recalled."""
    dispatcher = fast(with_lanes(2, *futures(4)))
    while dispatcher.waiting_tickets:
        assert not dispatcher.hungry
        take(dispatcher, 0)
    lane: LaneQueue = dispatcher.lanes[0]
    assert dispatcher.hungry
    dispatcher.take_back(lane, lambda _: 4)
    assert not dispatcher.hungry


def test_clear_gives_everything_in_order() -> None:
    """What was returned and what waits, slices and futures, in ticket order."""
    dispatcher = fast(with_lanes(2, span(6, chunksize=3), *futures(3, 6)))
    lanes: list[LaneQueue] = [dispatcher.lanes[0], dispatcher.lanes[1]]
    batches = [take(dispatcher, lane) for lane in (0, 1)]
    for lane, batch in zip(lanes[::-1], batches[::-1], strict=True):
        dispatcher.returned(lane, batch.number, 0)
    entries = dispatcher.clear()
    assert [(entry.first, entry.count) for entry in entries] == [(0, 3), (3, 3), (6, 1), (7, 1), (8, 1)]
    assert [type(entry) is Slice for entry in entries] == [True, True, False, False, False]


# ---------------------------------------------------------------------------------------------------- and then it dies


def test_nobody_is_charged_whose_ticket_was_taken_back() -> None:
    """1. A lane is recalled; 2. its row says of a ticket that was taken back that it runs; 3. it dies.

    The worker was about to see the recall. The ticket is elsewhere, and only there.
    """
    dispatcher = fast(with_lanes(2, *futures(8)))
    batch = take(dispatcher)
    dispatcher.take_back(dispatcher.lanes[0], lambda _: 1)
    arrive(dispatcher, 0, batch, 0, 1)
    lost = Lost(0, 0, Blame(batch.number, 1), ValueError(), begun=batch.number)
    assert settle_loss(dispatcher, lost) == ([], [])
    assert [entry.first for entry in dispatcher.clear()] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("suspect", [False, True])
def test_a_cancelled_ticket_is_not_charged(suspect: bool) -> None:
    """It was cancelled while its batch was loaded; then the worker died. It is skipped, and does not fail."""
    dispatcher = with_lanes(1, *futures(1))
    batch = take(dispatcher)
    (future,) = batch.owners(0, 1)
    future._owner.recall.return_value = True
    assert future.cancel()
    blame = None if suspect else Blame(batch.number, 0)
    lost = Lost(0, 0, blame, ValueError(), suspect=batch.number if suspect else None)
    assert settle_loss(dispatcher, lost) == ([], [future])
    assert future.losses == 0


def test_what_ran_when_its_worker_died_is_not_cancelled_later() -> None:
    """Although nobody is to blame; what stood behind it can be."""
    dispatcher = fast(with_lanes(1, *futures(4)))
    batch = take(dispatcher)
    sent = list(batch.owners(0, batch.count))
    assert settle_loss(dispatcher, Lost(0, 0, None, ValueError(), begun=batch.number)) == ([], [])
    assert [future.cancel() for future in sent] == [False] + [True] * (batch.count - 1)
