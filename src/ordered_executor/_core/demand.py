"""How much may lie unread in the parent, for backends that can keep outcomes elsewhere (see `_clusters.backend`).

Outcomes are released in order, and their reader may be far behind.  So an outcome comes home only if somebody waits for
its ticket or a later one, or if the unread outcomes leave room for it.  An outcome is unread from its release until it
is read, or until its future (for a map: the list that it came in) is gone.

The hold is ended by a read, which makes room; by a wait, a poll or a callback, which names its ticket; and by the end
of the executor.  A future that nobody reads says nothing; the backend looks from time to time.

Any thread calls `ask` and `read`, which only append to a deque (atomic).  The rest runs on the scheduler.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

# Enough for a reader to find the next outcomes there while others travel.
UNREAD_BYTES = 16 * 1024 * 1024
# What is smaller is not counted.
HEAVY = 1024


class _Sized(weakref.ref[Any]):
    """Something unread.  With a callback that all share, a method of a deque (see `_core.stream._Held`)."""

    __slots__ = ("size", "ticket")
    ticket: int
    size: int


class Weighed(list[Any]):
    """A map's outcomes; a list that weak references can be made to."""


class Demand:
    """See the module."""

    def __init__(self, most: int = UNREAD_BYTES) -> None:
        self.most = most
        self.unread: int = 0  # bytes
        self.wanted: float = 0.0  # tickets before this are waited for
        self.blocked: bool = False  # something is held back; set by the backend
        self._held: dict[int, _Sized] = {}
        self._gone: deque[_Sized] = deque()
        self._asked: deque[float] = deque()

    # ------------------------------------------------------------------------------------------------ from any thread

    def ask(self, ticket: float) -> None:
        """Somebody waits for this ticket."""
        self._asked.append(ticket)

    def read(self, ticket: int) -> None:
        """Its outcome was read.  Again: nothing happens."""
        sized = self._held.get(ticket)
        if sized is not None:
            self._gone.append(sized)

    # ------------------------------------------------------------------------------------------------ on the scheduler

    def want_all(self) -> None:
        """At the end."""
        self._asked.append(math.inf)

    def add(self, thing: Any, ticket: int, size: int) -> None:
        """A future, or a map's outcomes, of so many bytes are released."""
        if size < HEAVY:
            return
        sized = self._held[ticket] = _Sized(thing, self._gone.append)
        sized.ticket, sized.size = ticket, size
        self.unread += size

    def settle(self) -> None:
        """Take note of what was read and asked."""
        while self._gone:
            sized = self._gone.popleft()
            if self._held.get(sized.ticket) is sized:  # else it was read, and is gone now
                del self._held[sized.ticket]
                self.unread -= sized.size
        while self._asked:
            self.wanted = max(self.wanted, self._asked.popleft() + 1)

    def allows(self, ticket: int, before: int, size: int) -> bool:
        """Whether an outcome of `size` bytes may come, when so many are on their way before it."""
        if ticket < self.wanted:
            return True
        there = self.unread + before
        return there == 0 or there + size <= self.most
