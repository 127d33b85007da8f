"""The roster: the lanes, the batches of each, and the lane that gets the next batch.  Pure.

A lane of which nothing was heard costs a turn nothing, however many there are: nobody walks over all of them.

- Lanes without a batch stand in a heap by age.  The oldest is next, so that the same few lanes do the work if there is
  little.
- Lanes that were heard in this turn, and have one batch left, stand in a heap by the size of the rest.  The next turn
  begins with an empty heap.

Invariants: a lane without a batch is in the heap of idle lanes exactly once (`idling`), until it is given something or
closed.  An entry that does not hold any more is thrown away when it comes to the top.  `busy` counts the lanes that
have a batch.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable

from ordered_executor._core.batches import CoreBatch


class LaneQueue:
    """What one lane has been given and has not sent home."""

    def __init__(self, key: Hashable, quota: int | None, number: int = 0) -> None:
        self.key = key
        self.quota = quota  # tasks it may still start; None: any number
        self.number = number  # its age: lower is older
        self.batches: deque[CoreBatch] = deque()
        self.tickets = 0
        self.heard = -1  # the turn in which outcomes came from it last
        self.closed = False
        self.recalled = False  # it hands back whatever it is sent now
        self.idling = False  # it stands among the idle ones

    def add(self, batch: CoreBatch) -> None:
        self.batches.append(batch)
        self.tickets += batch.count
        if self.quota is not None:
            self.quota -= batch.count

    @property
    def spent(self) -> bool:
        """It has started all the tasks it may run in its life."""
        return self.quota is not None and self.quota <= 0


class Roster:
    """See the module."""

    def __init__(self) -> None:
        self.lanes: dict[Hashable, LaneQueue] = {}
        self.busy = 0
        self._turn = 0
        self._numbers = itertools.count()
        self._idle: list[tuple[int, LaneQueue]] = []
        self._heard: list[tuple[int, int, LaneQueue]] = []  # by the tickets it had when it was put here
        self._behind: set[LaneQueue] = set()

    def begin_turn(self) -> None:
        """The scheduler is about to hear from the lanes."""
        self._turn += 1
        self._heard.clear()

    def open(self, key: Hashable, quota: int | None) -> None:
        lane = self.lanes[key] = LaneQueue(key, quota, next(self._numbers))
        self._rest(lane)

    def close(self, key: Hashable) -> LaneQueue:
        lane = self.lanes.pop(key)
        lane.closed = True
        if lane.batches:
            self.busy -= 1
        self._behind.discard(lane)
        return lane

    def clear(self) -> None:
        """Let go of all lanes, and of what stands in the heaps for some that are gone."""
        self.lanes.clear()
        self._idle.clear()
        self._heard.clear()
        self._behind.clear()
        self.busy = 0

    # ------------------------------------------------------------------------------------------- what becomes of a lane

    def give(self, lane: LaneQueue, batch: CoreBatch) -> None:
        if not lane.batches:
            self.busy += 1
        lane.add(batch)
        self._note(lane)
        if lane.heard == self._turn:
            self._may_have_more(lane)

    def hear(self, lane: LaneQueue, tickets: int, *, ended: bool) -> None:
        """So many of its tickets came home; `ended`: its first batch is complete."""
        lane.tickets -= tickets
        lane.heard = self._turn
        if ended:
            lane.batches.popleft()
            lane.recalled = lane.recalled and bool(lane.batches)
        self._note(lane)
        if not lane.batches:
            if ended:
                self.busy -= 1
            self._rest(lane)
        else:
            self._may_have_more(lane)

    def returned(self, lane: LaneQueue) -> None:
        """Batches were taken off its end, one at least."""
        self._note(lane)
        if not lane.batches:
            self.busy -= 1
            self._rest(lane)

    def recall(self, lane: LaneQueue) -> None:
        """It is sent nothing before it has handed back, or ended what it has."""
        lane.recalled = True
        self._note(lane)

    def let_go(self, lane: LaneQueue, count: int) -> None:
        """So many tickets are not the lane's any more, and it has not run them."""
        lane.tickets -= count
        if lane.quota is not None:
            lane.quota += count
        self._note(lane)

    @property
    def behind(self) -> bool:
        """Whether in some lane tasks wait for the one that runs, and may be taken back."""
        return bool(self._behind)

    def _note(self, lane: LaneQueue) -> None:
        if lane.tickets > 1 and not lane.recalled and not lane.closed:
            self._behind.add(lane)
        else:
            self._behind.discard(lane)

    def _rest(self, lane: LaneQueue) -> None:
        if not lane.idling:
            lane.idling = True
            heapq.heappush(self._idle, (lane.number, lane))

    def _may_have_more(self, lane: LaneQueue) -> None:
        if len(lane.batches) == 1:
            heapq.heappush(self._heard, (lane.tickets, lane.number, lane))

    # ------------------------------------------------------------------------------------------------ which one is next

    def idle(self) -> LaneQueue | None:
        """The oldest lane that has nothing to do."""
        heap = self._idle
        while heap:
            lane = heap[0][1]
            if not lane.closed and not lane.batches and not lane.spent:
                return lane
            heapq.heappop(heap)
            lane.idling = False
        return None

    def least(self, wants: Callable[[LaneQueue], bool]) -> LaneQueue | None:
        """Of the lanes that were heard in this turn and have one batch left, the one with the least to do."""
        heap = self._heard
        while heap:
            tickets, _, lane = heap[0]
            fresh = not lane.closed and lane.tickets == tickets and len(lane.batches) == 1 and not lane.recalled
            if fresh and not lane.spent and wants(lane):
                return lane
            heapq.heappop(heap)
        return None
