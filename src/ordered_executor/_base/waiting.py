"""Waiting without a lock: a parking lot, and a latch on it.

Ctrl-C raises in the main thread between any two calls, also in the middle of `threading.Condition.__enter__`, which is
Python.  Then the condition's lock is taken, the `with` block was never entered, and the next thread that takes the
lock, perhaps the scheduler, stands still for ever.  (`Event` and the standard `Future` are made of conditions.)  So
nothing is locked where a user's thread waits.  A thread that waits adds itself to the sleepers and then looks once
more.  A thread that changes something does so first and then wakes the sleepers.  So no wake-up is lost.  An
interrupted sleeper leaves only itself among the sleepers, where one more wake-up does no harm.

Plain locks are taken in a form that no interrupt can part: see `_base.locks` (docs/design.md lists them all).

Invariant: `_sleepers` is changed by single dictionary operations only (atomic).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable


class ParkingLot:
    """Where threads wait until something is so."""

    __slots__ = ("_sleepers",)

    def __init__(self) -> None:
        self._sleepers: dict[threading.Lock, None] = {}

    def park(self, is_so: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `is_so()`, at most `timeout` seconds.  Returns whether it is.

        It is asked before each sleep, in this thread.  Ended by `unpark_all`, which whoever makes it so must call.
        """
        if is_so():
            return True
        if timeout is not None and timeout <= 0:
            return False
        deadline = None if timeout is None else time.monotonic() + timeout
        mine = threading.Lock()
        mine.acquire()
        self._sleepers[mine] = None
        try:
            while not is_so():  # only now that a wake-up finds this thread
                remaining = -1.0
                if deadline is not None and (remaining := deadline - time.monotonic()) <= 0:
                    return False
                mine.acquire(timeout=min(remaining, threading.TIMEOUT_MAX))
            return True
        finally:
            self._sleepers.pop(mine, None)

    @property
    def parked(self) -> int:
        """How many threads wait."""
        return len(self._sleepers)

    def unpark_all(self) -> None:
        """Have everybody who waits look again.  After what they wait for is so.  Never waits.

        Where Ctrl-C can come in between, call it again before that goes on.
        """
        if self._sleepers:
            for sleeper in list(self._sleepers):
                try:  # noqa: SIM105 (each outcome that somebody waits for passes here)
                    sleeper.release()
                except RuntimeError:
                    pass  # it is awake already, and has not looked yet


class Latch:
    """What `threading.Event` is for, safe against interrupts."""

    def __init__(self) -> None:
        self._flag = False
        self._lot = ParkingLot()
        self._watchers: deque[Callable[[], object]] = deque()

    def is_set(self) -> bool:
        return self._flag

    def set(self) -> None:
        self._flag = True
        self._lot.unpark_all()
        self._tell()

    def tell(self, watcher: Callable[[], object]) -> None:
        """Have `watcher` called once it is set: once, by whoever sets it, or here and now."""
        self._watchers.append(watcher)
        if self._flag:
            self._tell()

    def _tell(self) -> None:
        while self._watchers:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._watchers.popleft()()

    def clear(self) -> None:
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._lot.park(self.is_set, timeout)
