"""Alarms: when each lane must be looked at, without a walk over all lanes.  Pure.

A lane's `due()` says when that is.  Code that has done something with a lane *touches* it, and the lane is asked again
before the next wait.  Its answer is in a heap.  Most lanes are due later than they said, because something was heard of
them; they are asked again when that time has come.

Invariant: no lane is due before the next alarm, unless it was touched.  `lane.alarm` is the time of its one entry that
counts.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Protocol

NEVER = float("inf")
_FORGOTTEN = -NEVER


class Watched(Protocol):
    """What is asked of a lane here."""

    alarm: float  # owned by `Alarms`

    def due(self) -> float: ...


class Alarms:
    """See the module."""

    def __init__(self) -> None:
        self._numbers = itertools.count()  # so that the heap never compares lanes
        self._heap: list[tuple[float, int, Watched]] = []
        self._touched: dict[Watched, None] = {}

    def add(self, lane: Watched) -> None:
        """Begin with a lane."""
        lane.alarm = NEVER
        self.touch(lane)

    def touch(self, lane: Watched) -> None:
        """It may be due earlier than it said.  Nothing, if it was forgotten."""
        if lane.alarm != _FORGOTTEN:
            self._touched[lane] = None

    def forget(self, lane: Watched) -> None:
        """It is gone.  What it said may be due long after that, and would keep it till then."""
        self._touched.pop(lane, None)
        lane.alarm = _FORGOTTEN
        self._heap = [entry for entry in self._heap if entry[2] is not lane]
        heapq.heapify(self._heap)

    def next(self) -> float:
        """When the first must be looked at."""
        asked: dict[Watched, float] = {}
        while self._touched:
            lane, _ = self._touched.popitem()
            asked[lane] = due = lane.due()
            if due < lane.alarm:
                self._set(lane, due)
        heap = self._heap
        while heap:
            at, _, lane = heap[0]
            if at != lane.alarm:
                heapq.heappop(heap)
                continue
            due = asked[lane] if lane in asked else lane.due()
            if due <= at:
                return at
            heapq.heappop(heap)
            self._set(lane, due)
        return NEVER

    def _set(self, lane: Watched, due: float) -> None:
        lane.alarm = due
        if due < NEVER:
            heapq.heappush(self._heap, (due, next(self._numbers), lane))

    def take(self, now: float) -> list[Watched]:
        """Those that must be looked at now.  They are asked again afterwards."""
        found: list[Watched] = []
        while self.next() <= now:
            _, _, lane = heapq.heappop(self._heap)
            lane.alarm = NEVER
            found.append(lane)
        for lane in found:
            self.touch(lane)
        return found
