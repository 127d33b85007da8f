"""Claims: the place where user threads take their tickets.

The claim is one step: an entry and its numbers, all at once.  A user thread that is interrupted before the step has
claimed nothing; after it, the ticket is in order.  So tickets are dense whatever happens in between.

A signal handler or a finalizer may run in a user's thread between any two calls, and wait there for the scheduler, for
instance in `shutdown`.  So a user's thread calls nothing while it holds the lock, and does not branch: Python runs
handlers and finalizers, and releases its own lock, only at calls, jumps back and new containers.
(tests/unit/test_architecture.py checks the statements under these locks; tests/processes/test_interrupts.py has a
handler wait at each place there is.)
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ordered_executor._base.error_tools import copy_error
from ordered_executor._base.locks import Lock


class Claims:
    """New entries, in the order of their tickets."""

    def __init__(self, first: int) -> None:
        self.lock = Lock()  # reentrant: a debugger's trace function may claim where nothing else can
        self._open: list[Any] | None = []  # guarded by: lock; None when closed: adding to it raises
        self._rest: list[Any] = []  # guarded by: lock; what was claimed and not taken when it was closed
        self._tail = first  # guarded by: lock
        self._reason: BaseException | None = None  # guarded by: lock
        self._broken: BaseException | None = None  # guarded by: lock

    @property
    def tail(self) -> int:
        """The next ticket to be issued."""
        return self._tail

    @property
    def closed(self) -> BaseException | None:
        """Why nothing can be claimed.  That the executor is broken outweighs that it was shut down."""
        return self._broken or self._reason

    def claim(self, entry: Any) -> None:
        """Give the entry the next tickets.  Raises what `close` was given."""
        entries = (entry,)  # made before: see the module
        try:
            +self.lock
            try:
                self._open += entries  # type: ignore[operator]  # the claim
                entry.first = self._tail
                self._tail = entry.first + entry.count
            finally:
                -self.lock
        except TypeError:
            if self.closed is None:
                raise
            raise copy_error(self.closed) from None

    def take(self) -> list[Any]:
        """On the scheduler: all new entries."""
        nothing: list[Any] = []  # made before: making it may run a finalizer, which claims
        +self.lock
        try:
            if self._open is None:
                entries, self._rest = self._rest, nothing
            else:
                entries, self._open = self._open, nothing
        finally:
            -self.lock
        return entries

    def waiting(self) -> bool:
        return bool(self._open or self._rest)

    def close(self, reason: BaseException) -> None:
        """Let nobody claim any more."""
        broken = reason if isinstance(reason, BrokenProcessPool) else None
        +self.lock
        try:
            self._broken = self._broken or broken
            self._reason = self._reason or reason
            self._rest = self._open or self._rest
            self._open = None
        finally:
            -self.lock
