"""All who want to hear of a future's end: sleepers, waiters of `wait()` and `as_completed()`, callbacks.

There is no lock.  A waiter first adds itself, and then looks whether the future is done.  The thread that ends the
future first stores the state, and then tells the waiters that are there.  If both find each other, the one that takes
the entry out tells it: once.

`concurrent.futures.wait` and `as_completed` take the conditions of all their futures, look at the states, add a waiter
to each future, and release the conditions.  No state may change in between.  `ConditionShim` gives them that: a thread
that has "taken" it sees the state of that instant, its picture, until it releases it.  A waiter that it adds is told at
once if the future has ended meanwhile.  (So waiters are told in no order at first; `_Inbox` puts that right before
anybody looks.)

Invariant: everything is changed by single operations of dictionaries and deques only (atomic).
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED  # see `_core.future`
from threading import get_ident
from typing import Any, Protocol

from ordered_executor._base.waiting import Latch, ParkingLot

# Why an outcome need not be kept for the stream (see `_core.retention`).  After "tickets 3, 5 were …".
WAITED_FOR = "waited for by wait() or as_completed()"

DONE = (FINISHED, CANCELLED_AND_NOTIFIED)


class Waitable(Protocol):
    """What is asked of a future here.  Its state changes without a lock, at any time."""

    _own_waiters: Waiters | None
    _st: str

    @property
    def _state(self) -> str: ...

    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def hand_over(self, why: str) -> None: ...
    def _join_waiters(self) -> Waiters: ...


class Waiters:
    """Of one future.  It holds no reference to the future, so that there is no cycle."""

    __slots__ = ("callbacks", "caller", "lot", "pictures", "waiters")

    def __init__(self) -> None:
        self.lot = ParkingLot()  # who waits for the outcome
        self.waiters: dict[int, Any] = {}  # of wait() and as_completed(), by their identity
        self.callbacks: dict[object, Callable[[Any], object]] = {}  # in the order they were added
        self.caller: object = None  # who runs the callbacks now: one at a time
        # Per thread that has taken the condition shim: the states it sees until it lets go.  Several where a signal
        # handler takes it, too, in the middle of that.
        self.pictures: dict[int, list[str]] = {}

    def picture(self, state: str) -> str:
        """The state that this thread is to see."""
        pictures = self.pictures.get(get_ident())
        return pictures[-1] if pictures else state

    def tell(self, future: Waitable) -> None:
        """Tell waiters and sleepers that it has ended.  Its callbacks are the future's own affair."""
        for waiter in list(self.waiters.values()):
            self.tell_waiter(waiter, future)
        self.lot.unpark_all()

    def tell_waiter(self, waiter: Any, future: Any) -> None:
        """Tell one waiter how it ended, unless somebody has done so."""
        if self.waiters.pop(id(waiter), None) is None:
            return
        inbox = getattr(waiter, "event", None)
        if type(inbox) is _Inbox:
            inbox.put(future)
        else:
            _add(waiter, future)


def _add(waiter: Any, future: Any) -> None:
    if future.cancelled():
        waiter.add_cancelled(future)
    elif future._exception is None:
        waiter.add_result(future)
    else:
        waiter.add_exception(future)


class _Inbox(Latch):
    """In the place of a waiter's event: what has ended lies here until the thread that waits takes it to the waiter.

    So nobody else takes the waiter's own lock, which Ctrl-C may leave taken (on Python 3.14, see `_base.locks`), nor
    the one an event has; the scheduler may not meet any.  And what comes together comes in the order of tickets.
    """

    def __init__(self, waiter: Any) -> None:
        super().__init__()
        self._waiter = weakref.ref(waiter)  # no cycle; whoever calls `wait` holds it
        self._ended: deque[Any] = deque()

    def put(self, future: Any) -> None:
        """From any thread, also in a signal handler."""
        self._ended.append(future)
        self._lot.unpark_all()

    def _has_some(self) -> bool:
        return bool(self._ended) or self._flag

    def wait(self, timeout: float | None = None) -> bool:
        """Until the waiter has set it: with the first future, or with the last."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._lot.park(self._has_some, None if deadline is None else deadline - time.monotonic()):
            ended = [self._ended.popleft() for _ in range(len(self._ended))]
            for future in sorted(ended, key=lambda future: future.first):
                _add(self._waiter(), future)
            if self._flag:
                return True
        return False


class ConditionShim:
    """A future's condition, and its list of waiters.  See the module.

    Made anew whenever it is asked for, and forgotten at once.  A thread that is interrupted while it has taken it
    leaves a picture that nobody sees: it takes a new one before it looks again.
    """

    __slots__ = ("_future",)

    def __init__(self, future: Waitable) -> None:
        self._future = future

    # as the condition

    def acquire(self) -> bool:
        """Take it.  `wait()` and `as_completed()` do it by this name; others, `repr` say, by a `with` block."""
        self._future.hand_over(WAITED_FOR)
        return self.__enter__()

    def __enter__(self) -> bool:
        future = self._future
        waiters, me = future._own_waiters, get_ident()
        if waiters is not None and me in waiters.pictures:
            waiters.pictures[me].append(future._st)
        elif not future.done():  # else the state does not change any more
            future._join_waiters().pictures[me] = [future._st]
        return True

    def release(self) -> None:
        waiters, me = self._future._own_waiters, get_ident()
        if waiters is not None and (pictures := waiters.pictures.get(me)):
            pictures.pop()
            if not pictures:
                waiters.pictures.pop(me, None)

    def __exit__(self, *_: object) -> None:
        self.release()

    # as the list of waiters

    def append(self, waiter: Any) -> None:
        future = self._future
        if future._state in DONE:
            return  # as this thread sees it, it is done: the waiter does not count on it
        waiters = future._join_waiters()
        if type(getattr(waiter, "event", None)) is threading.Event:
            waiter.event = _Inbox(waiter)
        waiters.waiters[id(waiter)] = waiter
        if future.done():
            waiters.tell_waiter(waiter, future)

    def remove(self, waiter: Any) -> None:
        waiters = self._future._own_waiters
        if waiters is not None:
            waiters.waiters.pop(id(waiter), None)
