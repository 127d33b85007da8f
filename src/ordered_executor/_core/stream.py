"""The stream: outcomes in ticket order, for `results()` and `outcomes()`.

`Stream` is the store, one for each executor.  `Results` is a reader of it; all readers share one stream.

Guarantees: every outcome is delivered once, across all readers and threads, in ticket order.  A reader that times out
or is cancelled loses nothing.

Everything unread is kept.  If the holder of a future has read it, only a weak reference is kept, so that the future
goes when the holder lets it go.  By default more is let go: see `_core.retention`.

Invariants: `_position <= _head`.  Kept outcomes lie in `[_position, _head)`, except for futures that were read after
the stream had passed them.  `_kept` is changed by single dictionary operations only (atomic), because weak references
end at any moment in any thread, also while a lock is held.

The wait of a reader is ended by `publish` (the scheduler, after each release) and by `end` (shutdown, a broken
executor).
"""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ordered_executor._base.atomic import snapshot
from ordered_executor._base.errors import ResultsTimeoutError
from ordered_executor._base.locks import Lock
from ordered_executor._base.waiting import ParkingLot
from ordered_executor._core.future import Future, log_unseen
from ordered_executor._core.retention import CALLED_BACK, HEAVY, Handed, Unread

if TYPE_CHECKING:
    from ordered_executor._core.results import Results


logger = logging.getLogger("ordered_executor")

# How many failures that nobody looked at are logged one by one at the end.
LOGGED_MOST = 10


class End(Exception):
    """Nothing more will come (or nothing more was submitted, for a reader that does not follow)."""


class _Held(weakref.ref[Future[Any]]):
    """A future that was read and is held elsewhere.

    One object a future, with a callback that all share: there may be a million, and the garbage collector walks over
    each.  The callback is a method of a deque, not a function of ours: Python swallows Ctrl-C in one.
    """

    __slots__ = ("ticket",)
    ticket: int


class Stream:
    """The released outcomes that nobody has read yet."""

    def __init__(
        self,
        first: int,
        keep: bool | None,
        must_not_wait: Callable[[int], str | None],
        leave: Callable[[Future[Any]], object],
    ) -> None:
        self._keep = keep is not False
        self.lets_go: bool = keep is None  # what somebody else takes; until the stream is asked for
        self._must_not_wait = must_not_wait
        self._leave = leave  # a future is about to be handed out
        self._kept: dict[int, Future[Any] | _Held] = {}
        self._handed = Handed()
        self._unread = Unread()
        self._gone: deque[_Held] = deque()  # whose futures are gone, to be swept from _kept
        self._taking = Lock()
        self._position = first  # guarded by: _taking
        self._route: deque[int] = deque()  # guarded by: _taking; the next tickets, where few are left of many
        self.delivered: int = 0  # guarded by: _taking
        self._readers = ParkingLot()
        self._head = first  # written by the scheduler only
        self._watchers: set[Callable[[], object]] = set()  # single set operations only
        self._ended = False
        self.readers: weakref.WeakSet[Results[Any]] = weakref.WeakSet()  # those that are not at the end
        self.all_readers: weakref.WeakSet[Results[Any]] = weakref.WeakSet()  # those at the end may ask again

    # ------------------------------------------------------------------------------------------ on the scheduler

    def keep(self, future: Future[Any]) -> None:
        """Remember a future that is about to be finished."""
        if self._keep:
            self._kept[future.first] = future

    def publish(self, head: int) -> None:
        """The head has moved: wake the readers."""
        self._head = head
        self._readers.unpark_all()
        if self._watchers:
            for watcher in snapshot(self._watchers):
                watcher()

    def weigh(self, future: Future[Any], size: int) -> None:
        """An outcome came that takes so many bytes."""
        if self.lets_go and size >= HEAVY:
            future.weight = size
            self._unread.bytes += size

    def tidy(self) -> None:
        """Outcomes have been released, and nothing of them is left in the scheduler's hands."""
        if self._handed.used:
            self._handed.sweep()
        if self.lets_go and self._unread.due(len(self._kept)):
            self._sweep()
            for future in self._unread.look(self._kept.copy()):
                self.hand_over(future, CALLED_BACK)

    def end(self) -> None:
        """Nothing more will be submitted."""
        self._ended = True
        self._readers.unpark_all()
        for watcher in snapshot(self._watchers):
            watcher()

    def abandon(self) -> None:
        """In a forked child."""
        self._taking = Lock()
        self._ended = True

    # ------------------------------------------------------------------------------------------- from any thread

    def let_go(self, future: Future[Any]) -> None:
        """Its holder has read it: keep it only as long as the holder does."""
        ticket, kept = future.first, self._kept
        if self._handed.discard(ticket) or ticket in kept:
            held = _Held(future, self._gone.append)
            held.ticket = ticket
            kept[ticket] = held
        self._sweep()

    def hand_over(self, future: Future[Any], why: str) -> bool:
        """Somebody has its outcome in another way: keep it only as long as somebody else does.

        Returns whether that is so.  It is not once the stream was asked for, nor where everything is to be kept.
        """
        if not self.lets_go:
            return False
        ticket, kept = future.first, self._kept
        if ticket in kept and not isinstance(kept[ticket], _Held):
            self._handed.add(future, why)
            if not self.lets_go and self._handed.discard(ticket):
                return False  # asked for just now
            kept.pop(ticket, None)
        return True

    def ask(self) -> None:
        """Somebody wants the stream: from now on it misses nothing."""
        if self.lets_go:
            taking = self._taking  # a forked child has another one
            +taking
            try:
                # The second time for what was handed over before it was known that no more may be.
                self._handed.give_back(self._kept)
                self.lets_go = False
                self._handed.give_back(self._kept)
            finally:
                -taking

    def _sweep(self) -> None:
        """Forget those whose holders have let them go."""
        gone, kept = self._gone, self._kept
        while gone:
            with contextlib.suppress(IndexError):  # another thread was faster
                kept.pop(gone.popleft().ticket, None)

    def orphan(self) -> None:
        """There will be no more readers.  Without any there is nothing to be kept."""
        if not snapshot(self.all_readers):
            self._keep = False
            self._kept.clear()
            self._handed.clear()

    def unread(self) -> int:
        self._sweep()
        return len(self._kept)

    def futures(self) -> list[Future[Any]]:
        """The futures that lie unread."""
        return [f for f in self._kept.copy().values() if isinstance(f, Future)]

    def report_unseen(self, how: str, may_raise: bool) -> None:
        """Failures that nobody looked at: say so before it is too late.

        What a reader has still before it will be looked at: if it is not after all, it is logged when it goes.
        """
        readers = snapshot(self.readers)
        if how == "ignore" or any(reader.follow or how == "log" for reader in readers):
            return
        unseen = [(future, error) for future in self.futures() if (error := future.unseen_error) is not None]
        for future, _ in unseen:
            future.see()
        if how == "raise" and unseen and may_raise:
            raise BaseExceptionGroup("tasks failed and nobody looked at them", [error for _, error in unseen])
        for future, error in unseen[:LOGGED_MOST]:
            log_unseen(future.first, error)
        if len(unseen) > LOGGED_MOST:
            logger.error("… and at the failures of %d more tickets", len(unseen) - LOGGED_MOST)

    def take(self, timeout: float | None, follow: bool, tail: Callable[[], int]) -> Future[Any]:
        """The next outcome's future; waits for it.  Raises `End` or `ResultsTimeoutError`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._keep:
            raise RuntimeError("results() has nothing to yield: the executor was made with keep_results=False")
        if self._handed.used and (lost := self._handed.lost()) is not None:
            raise RuntimeError(
                f"results() cannot yield everything, because it was asked for too late: {lost}, and nobody holds the "
                "future any more. Make the executor with keep_results=True, or call results() before submit(). What "
                "is left comes when you ask again"
            )
        while True:
            ended = self._ended  # before looking: what came before the end is seen
            taking = self._taking  # a forked child has another one
            +taking
            try:
                future = self._next_locked()
            finally:
                -taking
            if future is not None:
                return future
            position = self._position
            if position >= tail() and (ended or not follow):
                raise End
            if (why := self._must_not_wait(position)) is not None:
                raise RuntimeError(f"the next outcome would never come: {why}")
            remaining = None if deadline is None else deadline - time.monotonic()
            if not self._readers.park(lambda: self._head > position or self._ended != ended, remaining):  # noqa: B023 (asked here only)
                raise self.too_late(timeout)

    def too_late(self, timeout: float | None) -> ResultsTimeoutError:
        return ResultsTimeoutError(
            f"no outcome within {timeout} s: ticket {self._position} is not finished. Nothing is lost: ask again"
        )

    def _next_locked(self) -> Future[Any] | None:
        self._sweep()
        kept, head = self._kept, self._head
        while self._position < head:
            if not self._route and 4 * len(kept) < head - self._position:  # sparse: do not walk over what is gone
                # Not back: a holder may put a weak reference where a reader has been.  Not past the head: a future is
                # kept before it is released.
                self._route.extend(sorted(ticket for ticket in kept.copy() if self._position <= ticket < head))
                if not self._route:
                    self._position = head
                    break
            ticket = self._route[0] if self._route else self._position
            future = kept.get(ticket)
            if isinstance(future, _Held):
                future = future()
            if future is not None:
                self._leave(future)
            # Nothing is called from here to the last step: an interrupt finds it handed out, or not at all.
            self._position = ticket + 1
            if future is not None:
                self.delivered += 1
            kept.pop(ticket, None)
            if self._route:
                self._route.popleft()
            if future is not None:
                return future
        return None

    def watch(self, watcher: Callable[[], object]) -> None:
        self._watchers.add(watcher)

    def unwatch(self, watcher: Callable[[], object]) -> None:
        self._watchers.discard(watcher)
