"""The backlog: a bound on tickets submitted and not yet read.

Invariant: `unread` is the number of claimed tickets whose outcome nobody has read (through the stream or through the
future) and that were not cancelled.

Who ends the wait of a `submit`: `leave` (a reader), and `close` (shutdown, broken executor).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ._parking import ParkingLot

logger = logging.getLogger("ordered_executor")

# When a submit has waited so long and everything it waits for is done, it is likely that nobody reads.
EXPLAIN_SECONDS = 5.0


class Backlog:
    """Counts what is unread; lets submitters wait for room."""

    def __init__(self, most: int | None, all_done: Callable[[], bool]) -> None:
        self._most = most
        self._all_done = all_done
        self._lock = threading.RLock()  # reentrant: finalizers and signal handlers read too
        self._unread = 0  # guarded by: _lock
        self._closed = False
        self._room = ParkingLot()
        self._explained = False

    @property
    def bounded(self) -> bool:
        return self._most is not None

    @property
    def unread(self) -> int:
        return self._unread

    def enter(self, may_wait: bool) -> None:
        """Count one more; wait for room first, if that is allowed.  Raises nothing when closed: the claim does."""
        if self._most is None:
            return
        while not self._entered(may_wait):
            self._wait()

    def _entered(self, may_wait: bool) -> bool:
        with self._lock:
            if may_wait and not self._has_room():
                return False
            self._unread += 1
            return True

    def _has_room(self) -> bool:
        assert self._most is not None
        return self._unread < self._most or self._closed

    def _wait(self) -> None:
        """For room.  After some seconds in which nobody can have made any but a reader, and none did, say so, once."""
        while not self._explained:
            if self._room.park(self._has_room, EXPLAIN_SECONDS):
                return
            if self._all_done() and not self._has_room():
                self._explained = True
                logger.warning(
                    "submit() waits: %d outcomes are finished and nobody reads them (backlog=%d). Read results(), "
                    "or the futures, in another thread; or submit and read in turn",
                    self._unread,
                    self._most,
                )
        self._room.park(self._has_room)

    def leave(self) -> None:
        """One less: it was read, or skipped, or not claimed after all."""
        if self._most is None:
            return
        try:
            with self._lock:
                self._unread -= 1
            self._room.unpark_all()
        except BaseException:
            self._room.unpark_all()  # Ctrl-C: there may be room, and nobody told
            raise

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        self._room.unpark_all()
