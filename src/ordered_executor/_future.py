"""The future: a real `concurrent.futures.Future`, made lighter.

Most of a standard future's price is its `Condition`, which only somebody who waits needs.  Here it is made when
somebody first asks for it.  The race between "somebody asks" and "the releaser finishes the task" is decided by one
atomic operation on the key `_lock` of the instance's dictionary:

1. whoever needs the condition does `setdefault("_lock", Condition())`;
2. the releaser does `setdefault("_lock", SETTLED)`, with the result already stored.

If the releaser wins, the future is finished from that instant, and nobody can have looked before.  If it loses,
somebody may be looking, and it takes the standard path under that condition.  (A shared condition for all finished
futures would be cheaper still and is wrong: `wait()` takes many at once, in an order of its own, and would deadlock.)

Two more decisions by one atomic operation on the same dictionary: `setdefault("_fate", …)` (the dispatcher starts the
task, or `cancel()` cancels it: never both), and `pop("_unread")` (somebody has read the outcome: once).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import (  # private module, public protocol: CPython's own executors import these
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ._errors import TaskKilledError
from ._ticket import Options

logger = logging.getLogger("ordered_executor")

T = TypeVar("T")
SETTLED = "settled without a condition"
_DONE = (FINISHED, CANCELLED_AND_NOTIFIED)


class Owner(Protocol):
    """What a future asks of the executor that made it, from any thread."""

    unseen_errors: str

    def skip(self, future: Future[Any]) -> None: ...
    def kill(self, future: Future[Any]) -> bool: ...
    def note_read(self, future: Future[Any]) -> None: ...
    def must_not_wait(self) -> str | None: ...
    def on_releaser(self) -> bool: ...


class _InCallback(threading.local):
    """Whether this thread is in a done-callback: what is read there stays unread for the stream."""

    depth = 0

    def __bool__(self) -> bool:
        return self.depth > 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


in_callback = _InCallback()


class _Lazy(Generic[T]):
    """An attribute made when first asked for.  `setdefault` makes it once, whoever asks at the same time."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        made: T = instance.__dict__.setdefault(self._name, self._make())
        return made


class Future(StandardFuture[T]):
    """The outcome of one task, in its place of the order.

    Everything of `concurrent.futures.Future`, and: `ticket`, and `kill()`.  It becomes done only after every future
    submitted before it; done-callbacks run in that order too.  A cancelled future is done at once.
    """

    count = 1  # tickets; a span of a map has more
    apart = False  # it travelled with others and could not be loaded: from now on by itself; owned by the releaser

    _result: Any = None
    _exception: BaseException | None = None
    skipped = False  # its skip is with the sequencer; owned by the releaser
    killed: BaseException | None = None  # what it ends with, should it be about to run; owned by the releaser

    def __init__(self, owner: Owner, call: Any, options: Options) -> None:
        # Not the standard __init__: that would make the condition and the lists.
        self.first = -1
        self.call = call  # (fn, args, kwargs); once packed, a PackedCall; once home, (fn,); None when done
        self.options = options
        self.losses = 0
        self._owner = owner
        self._st = PENDING
        self._unread = True

    # ------------------------------------------------------------------------------------ what the base class sees

    if not TYPE_CHECKING:  # for a type checker they are what the base class says
        _waiters = _Lazy[list[Any]](list)
        _done_callbacks = _Lazy[list[Any]](list)

        @property
        def _condition(self) -> threading.Condition:
            attributes = self.__dict__
            lock = attributes.get("_lock")
            if lock is None:
                lock = attributes.setdefault("_lock", threading.Condition())
            if lock is SETTLED:
                lock = attributes.setdefault("_late_lock", threading.Condition())
            return lock

        @property
        def _state(self) -> str:
            if self.__dict__.get("_lock") is SETTLED:
                return FINISHED
            return self._st

        @_state.setter
        def _state(self, state: str) -> None:
            self._st = state

    # ------------------------------------------------------------------------------------------------- for the user

    @property
    def ticket(self) -> int:
        """Its place in the order, from 0 on for the first task submitted."""
        return self.first

    def kill(self) -> bool:
        """Stop this task, even while it runs: its worker is killed, no other task notices.

        A task that has not started is cancelled.  Returns False if the future is done already.  Does not wait: the
        future gets `TaskKilledError` at its place in the order.  A task that ends by itself at that moment keeps its
        outcome.
        """
        return not self.done() and (self.cancel() or self._owner.kill(self))

    def cancel(self) -> bool:
        """Cancel the task if it is not with a worker yet; its ticket is skipped.  Returns whether it is cancelled.

        A cancelled future is done at once: waiters wake, callbacks run, here and now.
        """
        if self.__dict__.setdefault("_fate", CANCELLED) is not CANCELLED:
            return False
        try:
            self.become_cancelled()  # the first call does it, and a later one completes one that was interrupted
        finally:
            self._owner.skip(self)
        return True

    def done(self) -> bool:
        return self._state in _DONE

    def result(self, timeout: float | None = None) -> T:
        """The value of the task, or its exception raised.  Waits until it is done, at most `timeout` seconds.

        Raises `CancelledError`, `TimeoutError` (not done in time), or what the task raised.
        """
        error = self.exception(timeout)
        if error is None:
            return self._result  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            self = error = None  # type: ignore[assignment]  # no cycle through the traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None.  Waits and raises as `result` does."""
        if self.__dict__.get("_lock") is not SETTLED:
            if timeout is None and not self.done() and (why := self._owner.must_not_wait()) is not None:
                raise RuntimeError(f"waiting for ticket {self.first} would never end: {why}")
            super().exception(timeout)
        if "_unread" in self.__dict__:
            self._owner.note_read(self)
        return self._exception

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have `fn(self)` called when the future is done: in ticket order, on the executor's own thread.

        If it is done already: here and now.  What a callback reads counts as unread for the stream.
        """
        with in_callback:
            super().add_done_callback(fn)  # type: ignore[arg-type]  # it is called with this future

    # ----------------------------------------------------------------------------------------------- for the releaser

    def start(self) -> bool:
        """Pending to running, unless it is cancelled.  On the releaser."""
        if self.__dict__.setdefault("_fate", RUNNING) is not RUNNING:
            if self._st != CANCELLED_AND_NOTIFIED:
                self.become_cancelled()  # whoever cancelled was interrupted half way
            return False
        self._st = RUNNING
        return True

    @property
    def begun(self) -> bool:
        return self._st == RUNNING

    def become_cancelled(self) -> None:
        """To cancelled, waiters and callbacks included.  The first call does it; any thread."""
        with self._condition:
            if self._st == CANCELLED_AND_NOTIFIED:
                return
            self._st = CANCELLED_AND_NOTIFIED
            self.call = None
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._run_callbacks()

    def finish(self, value: Any, error: BaseException | None) -> None:
        """To finished: state, waiters, then callbacks.  On the releaser, in ticket order."""
        attributes = self.__dict__
        self.call = None
        if error is None:
            self._result = value
        else:
            self._exception = error
        if attributes.setdefault("_lock", SETTLED) is SETTLED:
            return
        with self._condition:
            self._st = FINISHED
            for waiter in attributes.get("_waiters", ()):
                waiter.add_result(self) if error is None else waiter.add_exception(self)
            self._condition.notify_all()
        if "_done_callbacks" in attributes:
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        callbacks = self.__dict__.pop("_done_callbacks", ())
        for callback in callbacks:
            try:
                with in_callback:
                    callback(self)
            except BaseException as error:
                # On the releaser SystemExit too, which ends a thread elsewhere: the order must go on.
                if not isinstance(error, Exception) and not self._owner.on_releaser():
                    raise
                logger.exception("a done-callback of ticket %d raised", self.first)

    # ------------------------------------------------------------------------------------------------------- the stream

    def take_unread(self) -> bool:
        """Claim being the first to read the outcome."""
        return self.__dict__.pop("_unread", None) is not None

    def peek(self) -> tuple[Any, BaseException | None]:
        """The outcome of a finished future, without counting as a read."""
        self._seen = True
        return self._result, self._exception

    @property
    def unseen_error(self) -> BaseException | None:
        """The task's exception, if nobody has looked at it.  Whoever kills a task knows of it."""
        error = self._exception
        return None if "_seen" in self.__dict__ or isinstance(error, TaskKilledError) else error

    def see(self) -> None:
        self._seen = True

    def __del__(self) -> None:
        if self._exception is not None and (error := self.unseen_error) is not None:
            owner = self.__dict__.get("_owner")
            if owner is not None and owner.unseen_errors != "ignore":  # "raise": it is too late for that
                log_unseen(self.first, error)


def log_unseen(ticket: int, error: BaseException) -> None:
    """Log a failure that nobody looked at."""
    logger.error("nobody looked at the failure of ticket %d", ticket, exc_info=error)
