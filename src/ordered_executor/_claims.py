"""Claims: where user threads take their tickets.

One `append` is the claim: the ticket follows from what was appended before.  A user thread that is interrupted before
it has claimed nothing; after it the ticket is in order.  The numbers are given for good when the releaser takes the
claims, so that tickets are dense whatever happened in between.
"""

from __future__ import annotations

import threading
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ._errors import copy_error


class Claims:
    """New entries, in the order of their tickets.

    `lock` is reentrant: a finalizer or a signal handler may claim in the middle of a claim.
    """

    def __init__(self, first: int) -> None:
        self.lock = threading.RLock()
        self._entries: list[Any] = []  # guarded by: lock
        self._base = first  # guarded by: lock; the ticket after all that were taken
        self.closed: BaseException | None = None  # guarded by: lock

    @property
    def tail(self) -> int:
        """The next ticket to be issued."""
        with self.lock:
            return self._tail_locked()

    def _tail_locked(self) -> int:
        if not self._entries:
            return self._base
        last = self._entries[-1]
        return int(last.first + last.count)

    def claim(self, entry: Any) -> None:
        """Give the entry the next tickets.  Raises what `close` was given."""
        with self.lock:
            if self.closed is not None:
                raise copy_error(self.closed)
            entries = self._entries
            entry.first = self._tail_locked()
            entries.append(entry)  # the claim
            if len(entries) > 1 and entries[-2].first + entries[-2].count != entry.first:
                self._number_locked()  # a finalizer or a signal handler has claimed in between

    def _number_locked(self) -> int:
        """Number what was claimed; return the tail."""
        number = self._base
        for entry in self._entries:
            entry.first = number
            number += entry.count
        return number

    def take(self) -> list[Any]:
        """On the releaser: all new entries, numbered for good."""
        with self.lock:
            nothing: list[Any] = []  # made before: making it may run a finalizer, which claims
            number = self._number_locked()
            entries, self._entries, self._base = self._entries, nothing, number
        return entries

    def waiting(self) -> bool:
        return bool(self._entries)

    def close(self, reason: BaseException) -> None:
        """Let nobody claim any more.  That the executor is broken outweighs that it was shut down."""
        with self.lock:
            if self.closed is None or isinstance(reason, BrokenProcessPool):
                self.closed = reason
