"""By default the stream need not keep outcomes that somebody takes, or has given up, through their futures.

The rule (`keep_results=None`): an outcome is kept until somebody reads it, waits for it or gives it up through its
future *and* lets that future go.  After the stream was asked for, reads in done-callbacks, waits and `cancel()` do not
count.  `Handed` has the futures that fell under the rule before: weakly, so that they go with their holders.  If the
stream is asked for later, the futures that somebody still holds come back, and those that are gone are an error: a
reader of the stream misses nothing without being told.

If an outcome lies unread and nobody holds its future, a reader may still come for it.  If none ever comes, such
outcomes pile up, and `Unread` says so early.  A done-callback that did not read its future may belong to a library that
has no use for it any more (joblib's, after an error).  Or it may count for a progress bar, while a reader of the stream
is still to come.  So such an outcome is kept, too; but not so many that a warning would be due.

Invariants: any thread changes `_held`, by single dictionary operations only (atomic).  Only the scheduler changes the
counts in `_lost`.  A future that is gone is in `_gone` before it is counted and until it was counted: a look at both
misses none.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Iterable
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from ordered_executor._base.atomic import snapshot

if TYPE_CHECKING:
    from ordered_executor._core.future import Future


logger = logging.getLogger("ordered_executor")

# So much that nobody holds lies unread, and nobody ever asked for the stream: it is likely that nobody will.
MANY_UNREAD = 10_000
MUCH_UNREAD = 64 * 1024 * 1024
# What is smaller meets the bound in number first: its size need not be known.
HEAVY = MUCH_UNREAD // MANY_UNREAD

SAMPLE = 10  # tickets that are named

# Why an outcome need not be kept.  After "tickets 3, 5 were …".
CALLED_BACK = "left to a done-callback, and many lay there"


class _Weak(weakref.ref["Future[Any]"]):
    """A future that somebody else has.  Its callback is a method of a deque, for all (see `_core.stream._Held`)."""

    __slots__ = ("ticket", "why")
    ticket: int
    why: str


class _Lost:
    """How many futures are gone for one reason, and the first of their tickets."""

    def __init__(self) -> None:
        self.count = 0
        self.tickets: list[int] = []

    def add(self, ticket: int) -> None:
        self.count += 1
        if len(self.tickets) < SAMPLE:
            self.tickets.append(ticket)


class Handed:
    """The futures whose outcomes need not be kept, as long as nobody has asked for the stream."""

    def __init__(self) -> None:
        self._held: dict[int, _Weak] = {}
        self._gone: deque[_Weak] = deque()
        self._lost: dict[str, _Lost] = {}  # written by the scheduler only
        self._count = 0  # of all that are in _lost
        self._told = 0  # of those that are lost
        self.used = False

    def add(self, future: Future[Any], why: str) -> None:
        self.used = True
        weak = _Weak(future, self._gone.append)
        weak.ticket = future.first
        weak.why = why
        self._held[future.first] = weak

    def discard(self, ticket: int) -> bool:
        """Forget one.  Returns whether it was there."""
        return self._held.pop(ticket, None) is not None

    def give_back(self, kept: dict[int, Any]) -> None:
        """Put those that are not gone into `kept`."""
        for ticket, weak in self._held.copy().items():
            future = weak()
            if future is not None:
                kept[ticket] = future
                self._held.pop(ticket, None)

    def clear(self) -> None:
        """Nobody can ask for the stream any more."""
        self._held.clear()
        self._gone.clear()

    def sweep(self) -> None:
        """Count those that are gone.  On the scheduler."""
        while self._gone:
            weak = self._gone[0]
            self._lost.setdefault(weak.why, _Lost()).add(weak.ticket)
            self._count += 1
            self._held.pop(weak.ticket, None)
            self._gone.popleft()

    def lost(self) -> str | None:
        """Once: which outcomes are gone, and why."""
        found = len(self._gone) + self._count
        if found <= self._told:
            return None
        self._told = found
        whys: dict[str, _Lost] = {}
        for why, lost in snapshot(self._lost.items()):
            whys[why] = again = _Lost()
            again.count, again.tickets = lost.count, lost.tickets.copy()
        for weak in snapshot(self._gone):
            whys.setdefault(weak.why, _Lost()).add(weak.ticket)
        return "; ".join(f"{_name(lost)} {why}" for why, lost in whys.items())


def _name(lost: _Lost) -> str:
    """For example "tickets 3, 5 (were)"."""
    one = lost.count == 1
    more = f" and {lost.count - len(lost.tickets)} more" if lost.count > len(lost.tickets) else ""
    return f"ticket{'' if one else 's'} {', '.join(map(str, sorted(lost.tickets)))}{more} {'was' if one else 'were'}"


class Unread:
    """When a warning is due.  On the scheduler."""

    def __init__(self) -> None:
        self.bytes = 0  # of the heavy outcomes that came so far
        self._next_count = MANY_UNREAD
        self._next_bytes = MUCH_UNREAD
        self.warned = False

    def due(self, count: int) -> bool:
        """Whether it is time to look.  Looking costs some nanoseconds for each outcome."""
        return not self.warned and (count >= self._next_count or self.bytes >= self._next_bytes)

    def look(self, futures: dict[int, Any]) -> list[Future[Any]]:
        """Warn, once, if too many of these futures, or too large ones, are held by nobody else.

        Returns those that need not be kept any more before they are too many: see the module.
        """
        alone = [
            future
            for future, count in zip(futures.values(), _references(futures), strict=True)
            if count <= _ALONE and not isinstance(future, weakref.ref)
        ]
        weight = sum(future.weight for future in alone)
        if len(alone) >= MANY_UNREAD or weight >= MUCH_UNREAD:
            called_back = [future for future in alone if future.called_back]
            if called_back:
                return called_back  # and look again next time
        if len(alone) < MANY_UNREAD and weight < MUCH_UNREAD:
            # Not again before it can have changed, nor so often that it costs more than what is looked at.
            self._next_count = len(futures) + max(MANY_UNREAD - len(alone), len(futures) // 4)
            self._next_bytes = self.bytes + max(MUCH_UNREAD - weight, MUCH_UNREAD // 8)
            return []
        self.warned = True
        # not warnings.warn: where warnings are errors, it would be raised on the scheduler
        logger.warning(
            "%d outcomes (%d MiB at least) lie unread that nobody holds: they are kept for results(), which nobody has "
            "called. If nobody will, say OrderedProcessPoolExecutor(keep_results=False); if somebody will, call "
            "results() before that, or say keep_results=True",
            len(alone),
            weight >> 20,
        )
        return []


def _references(futures: dict[int, Any]) -> Iterable[int]:
    """How many references there are to each."""
    return [getrefcount(future) for future in futures.values()]


def _alone() -> int:
    """How many there are to an object that is in such a dictionary and nowhere else."""
    futures = {0: object()}
    (count,) = _references(futures.copy())
    return count


_ALONE = _alone()
