"""Outcomes on the cluster that may come home, and those on their way: which are fetched, when, and how many together.

Guarantees: outcomes travel only when all their tickets are before `head + window` and their bytes fit, the lowest
first. If nobody tells the size of an outcome, it is guessed from the last ones, rather too high.

How they travel: a gather costs the cluster as much as a task, so small outcomes wait for others (`rests`).  For large
ones, several gathers are on the way at a time: a single one would use the parts of the way one after the other.

Pure, except for the clock.  All of it runs on the scheduler.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Iterator

from ordered_executor._clusters.parts import Part
from ordered_executor._core.demand import Demand
from ordered_executor._core.window import Window

# How fast a large outcome is forgotten when the size of the next ones is guessed.
FORGET = 0.8
# At most so many bytes, or one part, travel in a gather.  More: fewer are on the way at a time.  Less: more gathers.
GATHER_BYTES = 4 * 1024 * 1024
# So many are worth a gather of their own.
GATHER_LEAST = 256 * 1024


class Homeward:
    """See the module."""

    def __init__(self, window: Window) -> None:
        self.demand = Demand()
        self.held = 0  # parts that are held back because nobody reads
        self.pause = 0.0  # seconds between two gathers of small ones
        self._window = window
        self._ready: list[tuple[int, int, Part]] = []  # a heap: the first of their lanes, and ended
        self._numbers = itertools.count()
        self._unreleased = 0  # bytes that are home and not released
        self._travelling = 0  # bytes expected on their way
        self._gathering = 0  # parts on their way
        self._last = -math.inf  # when a gather set out
        self._each: float | None = None  # bytes of an outcome, guessed from the last ones: rather too many

    # ------------------------------------------------------------------------------------------------- what may come

    def offer(self, part: Part) -> None:
        """It is the first of its lane, and has ended."""
        part.offered = True
        heapq.heappush(self._ready, (part.ticket, next(self._numbers), part))

    def settle(self) -> None:
        """Take note of what was read meanwhile."""
        self.demand.settle()
        self.demand.blocked = False

    def let_in(self, head: int, limit: int) -> list[list[Part]]:
        """What sets out now, the lowest first, by gathers."""
        chosen: list[Part] = []
        while self._ready:
            part = self._ready[0][2]
            if _is_offered(part):
                if not self._passes(part, head, limit):
                    break
                part.guess = self._guess(part)
                self._travelling += part.guess
                chosen.append(part)
            heapq.heappop(self._ready)
        self.held = len(self._ready) if self.demand.blocked else 0
        if chosen:
            self._last = time.monotonic()
            self._gathering += len(chosen)
        return list(_gathers(chosen))

    def _passes(self, part: Part, head: int, limit: int) -> bool:
        before, size = self._unreleased + self._travelling, self._guess(part)
        if part.ticket != head and (part.ticket + part.count > limit or before + size > self._window.bytes):
            return False
        if self._each is None and part.size is None:
            size = 0  # nobody knows; the first comes alone
        self.demand.blocked = not self.demand.allows(part.ticket, before, size)
        return not self.demand.blocked

    def _guess(self, part: Part) -> int:
        """How large its outcomes are."""
        if part.size is not None:
            return part.size
        return int(part.count * (self._window.bytes if self._each is None else self._each))

    def rests(self, busy: int, workers: int, lanes: int, refill: int) -> float:
        """How many seconds what is ready waits for others.

        Only while another gather is under way, or so much else is on the cluster that no worker will miss it; and never
        where all that is sent has a worker.  `busy`: parts on the cluster, with those that have ended.
        """
        if not self._ready or self._each is None or lanes == workers:
            return 0.0
        if len(self._ready) * self._guess(self._ready[0][2]) >= GATHER_LEAST:
            return 0.0
        if busy - len(self._ready) - self._gathering < refill and not self._gathering:
            return 0.0
        return max(0.0, self._last + self.pause - time.monotonic())

    # -------------------------------------------------------------------------------------------------- what has come

    def travelled(self, part: Part) -> None:
        """It is here, or cannot come."""
        assert part.guess is not None
        self._travelling -= part.guess
        self._gathering -= 1
        part.guess = None

    def arrived(self, part: Part, size: int) -> None:
        """It has come home, so large."""
        self._unreleased += size
        self._each = max(size / part.count, FORGET * (self._each or 0.0))

    def released(self, size: int) -> None:
        """So many bytes went on to their futures."""
        self._unreleased -= size

    def count(self) -> int:
        """How many stand there.  From any thread."""
        return sum(_is_offered(part) for _, _, part in self._ready.copy())


def _gathers(parts: list[Part]) -> Iterator[list[Part]]:
    together: list[Part] = []
    size = 0
    for part in parts:
        assert part.guess is not None
        if together and size + part.guess > GATHER_BYTES:
            yield together
            together, size = [], 0
        together.append(part)
        size += part.guess
    if together:
        yield together


def _is_offered(part: Part) -> bool:
    return part.offered and part.task is not None and part.guess is None and not part.gone
