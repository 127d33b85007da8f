"""The dispatcher: which tickets go to which lane, in batches of what size.  Pure: no process, thread or clock.

Tickets leave in order.  Tickets that were returned or lost leave first, as they are lower than all that wait.

Progress (contract 3) rests on three rules.  *Lowest first*: a lane that takes anything takes the lowest ticket there
is.  *Ascending*: a lane that has a batch is sent only later tickets.  *All or nothing*: a lane that returns a ticket
returns everything it has not started.  So the head ticket is in one of two places.  Either a lane has it, and it is the
first there that is not home; the head is never gated.  Or it is here, because it came back from a lane that returned
everything it had, or died.  Then that lane, or the one that replaces it, is empty, and gets the ticket.  No gated lane
has to become free for that.

A batch is some milliseconds of work.  If it is smaller, the round trip costs more than the work.  If it is larger, its
first outcomes come late, and a slow task holds back the tasks behind it.  While much waits this matters less, and a
batch may be longer: the cost of a batch is taken from the workers if they keep all cores busy.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Any

from ordered_executor._core.batch_sizing import BATCH_MOST, LONG_BATCH_SECONDS, Pace
from ordered_executor._core.batches import CoreBatch, FutureBatch, MapBatch, Slice
from ordered_executor._core.counts import RECORD_SECONDS
from ordered_executor._core.future import Future
from ordered_executor._core.map import Span
from ordered_executor._core.roster import LaneQueue, Roster

# Of many workers each batch may be longer: whoever sends them is one, and has so much time for each.  A Dask scheduler
# takes 0.6 ms: with 512 workers, batches of 0.05 s keep 16 % of them busy (`tests.benchmarks.simulate_cluster`).
SECONDS_A_WORKER = 0.001
# A second batch is sent ahead to a lane while its first is shorter than this, so that no worker idles for a round trip:
# a quarter of a millisecond, which is nothing beside a longer task.  What is sent ahead cannot be cancelled any more.
AHEAD_SECONDS = 0.1
# Not where the window is so small that it matters who sits behind whom.
AHEAD_WINDOW_PER_LANE = 8

# Of batches, ascending.  No two batches of a process have the same: what a batch has left in the memory of a lane is
# never taken for that of another, also after the lane was lent to the next executor.
_numbers = itertools.count()


class Dispatcher:
    """Tickets that wait, tickets that came back, and what each lane has."""

    def __init__(self, window: int, max_lanes: int) -> None:
        self._waiting: deque[Any] = deque()  # futures and slices, in ticket order
        self._returned: list[tuple[int, Any]] = []  # a heap by ticket
        self._grown = 1
        self.pace = Pace()
        self.record_all = False
        self._roster = Roster()
        self.lanes = self._roster.lanes
        self.waiting_tickets = 0
        self.cancel_below = 0  # what comes back of tickets before this is not sent again
        self.resize(window, max_lanes, max_lanes)

    def resize(self, window: int, lanes: int, workers: int, refill: int | None = None) -> None:
        """So many lanes may have something at a time, and so many workers share what waits, from now on."""
        self._most = max(1, min(BATCH_MOST, window // (2 * workers)))
        self._workers = workers
        self.pace.longest = max(LONG_BATCH_SECONDS, SECONDS_A_WORKER * workers)
        self._most_busy = lanes
        self._refill = (workers + lanes) // 2 if refill is None else refill
        self._filling = False  # the lanes beyond the workers get something
        # Where lanes wait for workers, they are what is sent ahead.
        self._may_send_ahead = window >= AHEAD_WINDOW_PER_LANE * workers and lanes <= workers

    def begin_turn(self) -> None:
        """The scheduler is about to hear from the lanes."""
        self._roster.begin_turn()

    # ---------------------------------------------------------------------------------------------------- what waits

    def add(self, entry: Future[Any] | Span) -> None:
        """A newly claimed entry, behind all others."""
        if type(entry) is Span:
            self._waiting.append(Slice(entry, 0, entry.count))
        else:
            self._waiting.append(entry)
        self.waiting_tickets += entry.count

    def put_back(self, batch: CoreBatch, start: int, begun: bool = False) -> list[Any]:
        """The tickets that the lane has from index `start` of the batch on are to be sent again, before all that wait.

        `begun`: the first of them has been, once.  Returns what was cancelled meanwhile, or is to be.
        """
        entries = batch.take_from(start)
        batch.kept = min(start, batch.kept)
        cancelled = []
        for entry in entries:
            if type(entry) is Slice:
                goes = entry.span.cancelled or entry.first < self.cancel_below
            else:
                goes = not entry.take_back(begun) or (not entry.begun and entry.first < self.cancel_below)
            if goes:
                cancelled.append(entry)
            else:
                entry.apart = entry.apart or batch.apart
                heapq.heappush(self._returned, (entry.first, entry))
                self.waiting_tickets += entry.count
            begun = False
        return cancelled

    def drop_span(self, span: Span) -> list[Any]:
        """Forget what no lane has of a span, and return it."""
        return self._drop(lambda entry: type(entry) is Slice and entry.span is span)

    def drop_waiting(self) -> list[Any]:
        """Forget what is before `cancel_below` and no lane has, and return it, but for what `drop_begun` returns."""
        return self._drop(lambda entry: entry.first < self.cancel_below and (type(entry) is Slice or not entry.begun))

    def drop_begun(self) -> list[Any]:
        """The same for futures that had begun when their worker died, and wait to run again."""
        return self._drop(lambda entry: entry.first < self.cancel_below and type(entry) is not Slice and entry.begun)

    def _drop(self, is_dropped: Callable[[Any], bool]) -> list[Any]:
        entries = [entry for _, entry in sorted(self._returned, key=itemgetter(0))]
        dropped = [entry for entry in (*entries, *self._waiting) if is_dropped(entry)]
        if dropped:
            gone = set(map(id, dropped))
            self._returned = [(first, entry) for first, entry in self._returned if id(entry) not in gone]
            heapq.heapify(self._returned)
            self._waiting = deque(entry for entry in self._waiting if id(entry) not in gone)
            self.waiting_tickets -= sum(entry.count for entry in dropped)
        return dropped

    def clear(self) -> list[Any]:
        """Forget everything that waits; return it in ticket order, returned tickets first."""
        return self._drop(lambda _: True)

    # ------------------------------------------------------------------------------------------------------- the lanes

    def open_lane(self, key: Hashable, quota: int | None) -> None:
        self._roster.open(key, quota)

    def close_lane(self, key: Hashable) -> LaneQueue:
        return self._roster.close(key)

    def forget_lanes(self) -> None:
        """At the end."""
        self._roster.clear()

    @property
    def useful(self) -> int:
        """How many lanes would have something to do."""
        busy = self._roster.busy
        wanted = min(self._most_busy, busy + self.waiting_tickets)
        return max(wanted, busy + 1) if self._returned else wanted

    def next_lane(self) -> LaneQueue | None:
        """The lane that should be given a batch now: the one with the least to do, if it wants any."""
        roster = self._roster
        # What came back is not kept waiting by those that are too many, where there are fewer workers than before.
        if roster.busy < self._workers or self._fills_up() or self._returned:
            idle = roster.idle()
            if idle is not None:
                return idle
        if self.pace.seconds is None or not self._may_send_ahead or not self._plenty():
            return None
        return roster.least(self._wants_more)

    def _fills_up(self) -> bool:
        """More lanes than workers: their batches wait for one.  When half of them are gone, all are filled again.

        Near the end one follows for each that ends: what is left can be cancelled, and none comes late.
        """
        busy = self._roster.busy
        if busy <= self._refill:
            self._filling = busy < self._most_busy
        elif busy >= self._most_busy or not self._plenty():
            self._filling = False
        return self._filling

    def _wants_more(self, lane: LaneQueue) -> bool:
        """Whether a lane that has just ended something, and so is not stuck, should have a second batch."""
        if self._next().first < lane.batches[0].first:
            return False  # it would stand behind later tickets, which may be at the gate until it is released
        return (self.pace.seconds or 0.0) * lane.tickets < AHEAD_SECONDS

    def _plenty(self) -> bool:
        """Near the end, leave the rest to whoever is free."""
        return self.waiting_tickets > self._workers

    def _next(self) -> Any:
        """The future or slice with the lowest ticket."""
        return self._returned[0][1] if self._returned else self._waiting[0]

    # ------------------------------------------------------------------------------------------------------ the batches

    def take(self, lane: LaneQueue) -> tuple[CoreBatch | None, list[Any]]:
        """The next batch for a lane, and what turned out to be cancelled on the way."""
        size = min(self.pace.batch_size(self.waiting_tickets // self._workers), self._most, 2 * self._grown)
        if lane.quota is not None:
            size = min(size, lane.quota)
        # Near the end, leave something for the other lanes.
        size = max(1, min(size, -(-self.waiting_tickets // self._workers)))
        again = bool(self._returned)
        batch: CoreBatch | None
        entry = self._next()
        if type(entry) is Slice:
            most = self._most if lane.quota is None else min(self._most, lane.quota)
            batch, cancelled = self._take_slice(lane, entry, size, most)
        else:
            batch, cancelled = self._take_futures(lane, size)
        if batch is not None:
            self._grown = max(self._grown, batch.count)
            batch.again = again
            # The worker notes when each task begins and ends: where that is wanted, or costs nothing.
            seconds = self.pace.seconds
            wanted = batch.is_told_apart or self.record_all
            batch.recorded = wanted or seconds is None or seconds > RECORD_SECONDS
            batch.seconds = min(self.pace.longest, (seconds or 0.0) * batch.count)
            self._roster.give(lane, batch)
        return batch, cancelled

    def _take_futures(self, lane: LaneQueue, size: int) -> tuple[FutureBatch | None, list[Any]]:
        cancelled: list[Any] = []
        batch = FutureBatch(next(_numbers), 0, lane=lane.key)
        futures = batch.futures
        while self.waiting_tickets and len(futures) < size:
            entry = self._next()
            if type(entry) is Slice or (futures and entry.first != futures[-1].first + 1):
                break
            if self._returned:
                heapq.heappop(self._returned)
            else:
                self._waiting.popleft()
            self.waiting_tickets -= 1
            if not futures:
                batch.first = entry.first
            if not entry.start(batch):
                cancelled.append(entry)
                continue
            batch.apart = batch.apart or entry.apart
            futures.append(entry)
        batch.count = batch.kept = len(futures)
        return batch if futures else None, cancelled

    def _take_slice(
        self, lane: LaneQueue, piece: Slice, size: int, size_limit: int
    ) -> tuple[MapBatch | None, list[Any]]:
        returned = bool(self._returned)
        if piece.span.chunksize is not None:
            size = min(size_limit, piece.span.chunksize)
        taken = piece if piece.count <= size else piece.cut(size)
        if taken is piece:
            heapq.heappop(self._returned) if returned else self._waiting.popleft()
        elif returned:
            heapq.heapreplace(self._returned, (piece.first, piece))
        self.waiting_tickets -= taken.count
        batch = MapBatch.of(taken, next(_numbers), lane.key)
        if taken.span.cancelled:  # now that whoever cancels it finds the batch
            batch.forget()
            return None, [taken]
        return batch, []

    def arrived(self, lane: LaneQueue, number: int, start: int, count: int) -> tuple[CoreBatch | None, int]:
        """Outcomes came home.  Returns their batch, and how many of them are known already (a peek was faster)."""
        batch = lane.batches[0] if lane.batches else None
        if batch is None or batch.number != number:
            assert batch is None or number < batch.number, (number, batch)
            return None, count
        known = batch.home - start
        assert known >= 0, (batch, start)
        fresh = max(0, count - known)
        batch.home += fresh
        ended = batch.home == batch.count
        self._roster.hear(lane, fresh, ended=ended)
        if ended:
            batch.forget()
        return batch, min(known, count)

    def take_back(self, lane: LaneQueue, settled: Callable[[CoreBatch], int]) -> list[Any]:
        """The lane was recalled: what begins there no more is here again.  Returns what was cancelled of it.

        The lane is sent nothing before it has handed back, or ended what it has.
        """
        self._roster.recall(lane)
        cancelled: list[Any] = []
        for batch in lane.batches:
            start = max(batch.home, settled(batch))
            if start < batch.kept:
                self._roster.let_go(lane, batch.kept - start)
                cancelled += self.put_back(batch, start)
        return cancelled

    @property
    def hungry(self) -> bool:
        """Whether some lane has nothing to do, nothing waits, and in another lane tasks wait for the one that runs."""
        return not self.waiting_tickets and self._roster.behind and self._roster.idle() is not None

    def returned(
        self, lane: LaneQueue, number: int, start: int, apart: bool = False, recalled: bool = False
    ) -> list[Any]:
        """A lane hands back the batch from `start` on, and everything behind it; what is before it is home.

        Returns what was cancelled of it.
        """
        if not apart and not recalled:
            self.pace.overrun()
        assert lane.batches, number
        lane.recalled = False
        cancelled: list[Any] = []
        while lane.batches:
            batch = lane.batches.pop()
            begin = start if batch.number == number else 0
            assert batch.number >= number and batch.home == begin, (batch, number, start)
            self._roster.let_go(lane, max(0, batch.kept - begin))
            batch.apart = batch.apart or (apart and batch.number == number)
            batch.forget()
            cancelled += self.put_back(batch, begin)
            if batch.number == number:
                break
        self._roster.returned(lane)
        return cancelled
