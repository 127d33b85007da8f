"""Counters for those who look: failures, retries, the age of the head, the pace, task times.

Only the scheduler writes them, by a few additions for each batch.  Any thread may read them.
"""

from __future__ import annotations

import time
from collections import deque

from ordered_executor._base.quantiles import Sketch
from ordered_executor._base.times import Times

# The rate is that of the last seconds: a mark a second, so many of them.
MARK_SECONDS = 1.0
MARKS = 10
# Tasks that are shorter, on average, are recorded by their average: one by one, they would cost a hundredth of it.
RECORD_SECONDS = 50e-6


class Counts:
    """See the module."""

    def __init__(self, head: int) -> None:
        self.failed = 0
        self.cancelled = 0
        self.retried = 0
        self.killed = 0
        self.lost_workers = 0
        self.task_seconds = Sketch()
        self.head_since = time.monotonic()  # since when the head is waited for
        self._marks: deque[tuple[float, int]] = deque([(self.head_since, head)], MARKS)

    def head_moved(self, head: int) -> None:
        """Tickets up to `head` were released."""
        self.head_since = now = time.monotonic()
        if now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, head))

    def woke_up(self, head: int) -> None:
        """Nothing was in flight, and now something is: neither the head's age nor the pace counts the pause."""
        self.head_since = now = time.monotonic()
        if now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.clear()
            self._marks.append((now, head))

    def note_times(self, times: Times | None, seconds: float, count: int) -> None:
        """Of `count` tasks that took so many seconds together: one by one, if known and not too short."""
        if times is None or seconds < count * RECORD_SECONDS:
            self.task_seconds.add(seconds / count, count)
        else:
            for each in times.seconds():
                self.task_seconds.add(each)

    def rate(self, head: int, in_flight: int) -> float:
        """Tickets released a second, of late."""
        since, before = self._marks[0]
        until = time.monotonic() if in_flight else self.head_since
        return (head - before) / (until - since) if until > since else 0.0
