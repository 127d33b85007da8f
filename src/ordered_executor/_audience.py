"""Who wants to hear of a future's end: sleepers, waiters of `wait()` and `as_completed()`, callbacks.  Without a lock.

Who joins first adds itself, and then looks whether the future is done; whoever ends the future first stores its state,
and then tells those who are there.  Where both find the other, whoever takes the entry out tells it: once.

`concurrent.futures.wait` and `as_completed` take the conditions of all their futures, look at the states, add a waiter
to each future, and let go: no state may change in between.  `StandIn` gives them that: a thread that has "taken" it
sees the state of that instant, its picture, until it lets go; and a waiter that it adds is told at once if the future
has ended meanwhile.

Invariant: everything is changed by single dictionary operations only (atomic).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from ._parking import Latch, ParkingLot


class Told(Protocol):
    """What is asked of a future here.  Its state changes without a lock, at any time."""

    _audience: Audience | None
    _st: str

    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def _join_audience(self) -> Audience: ...


class Audience:
    """Of one future.  It holds no reference to the future, so that there is no cycle."""

    __slots__ = ("callbacks", "lot", "pictures", "waiters")

    def __init__(self) -> None:
        self.lot = ParkingLot()  # who waits for the outcome
        self.waiters: dict[int, Any] = {}  # of wait() and as_completed(), by their identity
        self.callbacks: dict[object, Callable[[Any], object]] = {}  # in the order they were added
        self.pictures: dict[int, str] = {}  # per thread that has taken the stand-in: the state it sees until it lets go

    def picture(self, state: str) -> str:
        """The state that this thread is to see."""
        return self.pictures.get(get_ident(), state)

    def tell(self, future: Told) -> None:
        """Tell waiters and sleepers that it has ended.  Its callbacks are the future's own affair."""
        for waiter in list(self.waiters.values()):
            self.tell_waiter(waiter, future)
        self.lot.unpark_all()

    def tell_waiter(self, waiter: Any, future: Any) -> None:
        """Tell one waiter how it ended, unless somebody has done so."""
        if self.waiters.pop(id(waiter), None) is None:
            return
        if future.cancelled():
            waiter.add_cancelled(future)
        elif future._exception is None:
            waiter.add_result(future)
        else:
            waiter.add_exception(future)


class StandIn:
    """A future's condition, and its list of waiters.  See the module.

    Made anew whenever it is asked for, and forgotten at once.  A thread that is interrupted while it has taken it
    leaves a picture that nobody sees: it takes a new one before it looks again.
    """

    __slots__ = ("_future",)

    def __init__(self, future: Told) -> None:
        self._future = future

    # as the condition

    def acquire(self) -> bool:
        future = self._future
        if not future.done():
            future._join_audience().pictures[get_ident()] = future._st
        else:  # the state does not change any more
            self.release()
        return True

    def release(self) -> None:
        audience = self._future._audience
        if audience is not None:
            audience.pictures.pop(get_ident(), None)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    # as the list of waiters

    def append(self, waiter: Any) -> None:
        future = self._future
        audience = future._audience
        if future.done() and (audience is None or get_ident() not in audience.pictures):
            return  # as this thread sees it, it is done: the waiter does not count on it
        audience = future._join_audience()
        if type(getattr(waiter, "event", None)) is threading.Event:
            waiter.event = Latch()  # nor may the releaser meet a lock here
        audience.waiters[id(waiter)] = waiter
        if future.done():
            audience.tell_waiter(waiter, future)

    def remove(self, waiter: Any) -> None:
        audience = self._future._audience
        if audience is not None:
            audience.waiters.pop(id(waiter), None)
