"""The backlog: a bound on tickets that are submitted and not yet read.

Invariant: `_unread` holds the claimed tickets whose outcome nobody has read (through the stream or through the future)
and that were not cancelled.  It holds the tickets themselves, not their number, so that to leave twice is to leave
once: if a read is interrupted in the middle, its ticket may have left or not, and the next read sets that right.

A thread that runs an asyncio loop waits only until fewer tickets than the bound are not done.  If it waited for reads,
the loop would stand still, together with the reader in it.

A submit that waits and a done-callback may want the same lock of the user's.  So the wait also ends when the scheduler
has been at one turn for long (`_wait`).

The wait of a `submit` is ended by `leave` (a reader), by `close` (shutdown, a broken executor), and in a loop's thread
by `ended` (the scheduler).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from ordered_executor._base.locks import Lock
from ordered_executor._base.waiting import ParkingLot

logger = logging.getLogger("ordered_executor")

# When a submit has waited so long and everything it waits for is done, it is likely that nobody reads.
EXPLAIN_SECONDS = 5.0
# When the scheduler is at one turn for so long while a submit waits, it is likely that they wait for each other.
# Shorter: a slow callback lets more in than the bound says.  Longer: clients that hold a lock meanwhile are slower.
STUCK_SECONDS = 0.1


class Backlog:
    """Counts what is unread; lets submitters wait for room."""

    def __init__(
        self,
        most: int | None,
        all_done: Callable[[], bool],
        may_leave: Callable[[Any], bool] = lambda _: False,
        busy_turn: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._most = most
        self._all_done = all_done
        self._may_leave = may_leave  # whether one that is done needs no reader
        self._busy_turn = busy_turn  # what the scheduler is at, a number; None if it sleeps
        self._lock = Lock()  # reentrant: finalizers and signal handlers submit too
        # Who has looked for room adds under _lock; who need not, and who takes out, by one atomic operation.
        self._unread: dict[Any, None] = {}
        self._undone: dict[Any, None] = {}  # those of them that are not done; single operations only
        self._closed = False
        self._room = ParkingLot()
        self._explained = False

    @property
    def bounded(self) -> bool:
        return self._most is not None

    @property
    def unread(self) -> int:
        return len(self._unread)

    def enter(self, ticket: Any, may_wait: bool) -> None:
        """Admit a ticket (a future); wait for room first, if that is allowed.  When closed, only the claim raises."""
        if self._most is None:
            return
        if not may_wait:  # the scheduler does not: no lock that a user's thread may be interrupted with
            self._admit(ticket)
            return
        has_room = self._has_room
        while not self._entered(ticket, has_room):
            if runs_event_loop():
                has_room = self._has_undone_room
                self._room.park(has_room)
            elif not self._wait():
                self._admit(ticket)
                return

    def _entered(self, ticket: Any, has_room: Callable[[], bool]) -> bool:
        +self._lock
        try:
            if room := has_room():
                self._admit(ticket)
            return room
        finally:
            -self._lock

    def _admit(self, ticket: Any) -> None:
        self._undone[ticket] = None
        self._unread[ticket] = None

    def _has_room(self) -> bool:
        assert self._most is not None
        return len(self._unread) < self._most or self._closed or self._made_room()

    def _made_room(self) -> bool:
        """Nobody has read enough: those leave that somebody was told of in a done-callback, and did not read."""
        assert self._most is not None
        for ticket in [one for one in self._unread.copy() if one not in self._undone and self._may_leave(one)]:
            self._unread.pop(ticket, None)
        return len(self._unread) < self._most

    def _has_undone_room(self) -> bool:
        assert self._most is not None
        return len(self._undone) < self._most or self._closed

    def _wait(self) -> bool:
        """For room.  After some seconds in which nobody can have made any but a reader, and none did, say so, once.

        False if the ticket is to be admitted without: a done-callback does not return.  It may want what the thread
        that waits here holds (a scheduler's lock, say); then nothing would ever be released.
        """
        until = time.monotonic() + EXPLAIN_SECONDS
        while True:
            turn = self._busy_turn()
            if self._room.park(self._has_room, STUCK_SECONDS):
                return True
            if turn is not None and turn == self._busy_turn():
                return False
            if not self._explained and time.monotonic() >= until and self._all_done() and not self._has_room():
                self._explained = True
                logger.warning(
                    "submit() waits: %d outcomes are finished and nobody reads them (backlog=%d). Read results(), "
                    "or the futures, in another thread; or submit and read in turn",
                    self.unread,
                    self._most,
                )

    def ended(self, ticket: Any) -> None:
        """It is done, and may be unread.  On the scheduler."""
        if self._most is not None:
            self._undone.pop(ticket, None)
            self._room.unpark_all()

    def leave(self, ticket: Any) -> None:
        """It was read, or skipped, or not claimed after all.  Again: nothing happens."""
        if self._most is None:
            return
        try:
            self._undone.pop(ticket, None)
            self._unread.pop(ticket, None)
            self._room.unpark_all()
        except BaseException:
            self._room.unpark_all()  # Ctrl-C: there may be room, and nobody told
            raise

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        self._room.unpark_all()


def runs_event_loop() -> bool:
    """Whether this thread runs an asyncio loop now."""
    asyncio: Any = sys.modules.get("asyncio.events")  # nobody runs a loop before it is imported
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except (AttributeError, RuntimeError):  # it is being imported; there is none
        return False
