"""The future: a real `concurrent.futures.Future`, made lighter, and without a lock.

A standard future is expensive mostly because of its `Condition`, which it needs only while somebody waits.  Ctrl-C can
also part a condition from its `with` block, and would then stop the scheduler (see `_base.waiting`).  So this future
has no condition.  A thread that waits, a callback and a waiter of `wait()` join `Waiters`, which is made for the first
of them, and then look once more whether the future is done.  The scheduler stores the outcome and the state first, and
looks for waiters afterwards.  So one of the two sees the other.

The lock `_deciding` decides whether a task is started or cancelled.  It is held for one statement without a call or a
jump.  No signal handler and no finalizer runs meanwhile (see `_core.claims`), so the scheduler gets it at once.  The
first reader of the outcome is the one whose deletion of `_unread` succeeds.

No future has a `__dict__`.  Python stores attributes without one as long as nobody asks for it, and as long as it has
learned their names from early instances of the class (see `_learn_names`).  With a dictionary, each of a million
futures would take twice the memory and give the garbage collector one more object to visit.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import Future as StandardFuture
from concurrent.futures._base import (  # private module, public protocol: CPython's own executors import these
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ordered_executor._base.errors import TaskKilledError
from ordered_executor._base.locks import Lock
from ordered_executor._base.tasks import Options, Run
from ordered_executor._core.batches import CoreBatch
from ordered_executor._core.waiters import DONE, ConditionShim, Waiters
from ordered_executor._pickling.texts import as_call, call_text, error_text, short

logger = logging.getLogger("ordered_executor")

T = TypeVar("T")
_deciding = Lock()

# Why an outcome need not be kept for the stream (see `_core.retention`).  After "tickets 3, 5 were …".
READ_IN_CALLBACK = "read in a done-callback"
GIVEN_UP = "given up by cancel()"

# What becomes of each state.  A future runs from when it is given to a lane until it ends, or is taken back.
_UNCHANGED = {state: state for state in (PENDING, RUNNING, CANCELLED_AND_NOTIFIED, FINISHED)}
_WHEN_STARTED = {**_UNCHANGED, PENDING: RUNNING}
_WHEN_TAKEN_BACK = {**_UNCHANGED, RUNNING: PENDING}
_WHEN_CANCELLED = {**_UNCHANGED, PENDING: CANCELLED_AND_NOTIFIED}
_WHEN_CANCELLED_SENT = {**_WHEN_CANCELLED, RUNNING: CANCELLED_AND_NOTIFIED}


class Owner(Protocol):
    """The calls that a future makes to its executor, from any thread."""

    unseen_errors: str

    def skip(self, future: Future[Any]) -> None: ...
    def recall(self, batch: CoreBatch, index: int) -> bool: ...
    def kill(self, future: Future[Any]) -> bool: ...
    def note_read(self, future: Future[Any]) -> None: ...
    def seconds_in_worker(self, ticket: int) -> float | None: ...
    def note_handed(self, future: Future[Any], why: str) -> None: ...
    def must_not_wait(self) -> str | None: ...
    def note_wanted(self, ticket: int) -> None: ...
    def on_scheduler(self) -> bool: ...


class _InCallback(threading.local):
    """Whether this thread is in a done-callback."""

    depth = 0

    def __bool__(self) -> bool:
        return self.depth > 0


in_callback = _InCallback()


class _Unseen:
    """A failure that nobody has looked at.  It goes with its future, and is logged then.

    It is an object of its own so that only failures have a finalizer: Python swallows Ctrl-C inside one.
    """

    __slots__ = ("error", "ticket")

    def __init__(self, ticket: int, error: BaseException) -> None:
        self.ticket = ticket
        self.error: BaseException | None = error

    def __del__(self) -> None:
        if self.error is not None:
            log_unseen(self.ticket, self.error)


class Future(StandardFuture[T]):
    """The outcome of one task, at its place in the order.

    It is a `concurrent.futures.Future` with a `ticket` and a method `kill()`.  It is done only after every future that
    was submitted before it, and done-callbacks run in that order, too.  A cancelled future is done at once.
    """

    count = 1  # tickets; a span of a map has more
    losses: int = 0  # how often its worker died; owned by the scheduler
    apart: bool = False  # it could not be loaded together with others: it travels alone; owned by the scheduler

    _result: Any = None
    _exception: BaseException | None = None
    _unseen: _Unseen | None = None
    _unread = False  # of the class: as it reads when the instance's has been deleted
    _own_waiters: Waiters | None = None
    _handed: str | None = None  # why its outcome need not be kept for the stream: see `_core.retention`
    called_back: bool = False  # a done-callback was run: somebody was told of it
    weight: int = 0  # the bytes of a large outcome; owned by the scheduler
    claimed_at: float = 0.0  # when the scheduler took it
    run: Run | None = None  # where and when it ran
    kept_call: Any = None  # of one that failed: what was called
    sent: CoreBatch | None = None  # while a lane has it, and its outcome is not home; owned by the scheduler
    begun: bool = False  # where a worker died: it may run again, and is not cancelled any more; owned by the scheduler
    skipped: bool = False  # its skip is with the sequencer; owned by the scheduler
    killed: BaseException | None = None  # what it ends with, should it be about to run; owned by the scheduler

    def __init__(self, owner: Owner, call: Any, options: Options) -> None:
        # Not the standard __init__: that would make the condition and the lists.
        self.first = -1
        self.call: Any = call  # (fn, args, kwargs); once packed, a PackedCall; once home, (fn,); None when done
        self.options = options
        self._owner = owner
        self._st = PENDING
        self._unread = True

    # ------------------------------------------------------------------------------------ what the base class sees

    if not TYPE_CHECKING:  # for a type checker they are what the base class says

        @property
        def _condition(self) -> ConditionShim:
            return ConditionShim(self)

        _waiters = _condition

        @property
        def _state(self) -> str:
            waiters = self._own_waiters
            return self._st if waiters is None else waiters.picture(self._st)

    def _join_waiters(self) -> Waiters:
        waiters = self._own_waiters
        if waiters is None:
            waiters = Waiters()
            +_deciding
            try:
                self._own_waiters = waiters = self._own_waiters or waiters
            finally:
                -_deciding
        self._owner.note_wanted(self.first)
        return waiters

    # ------------------------------------------------------------------------------------------------- for the user

    @property
    def ticket(self) -> int:
        """The place of the future in the order.  The first one that is submitted has ticket 0."""
        return self.first

    def __repr__(self) -> str:
        return f"<Future {self.first} {self._in_words()}>"

    def _in_words(self) -> str:
        state, call, error = self._st, self.call, self._exception
        if state == FINISHED:
            # not by the error's own text, which is the user's
            return f"finished {short(self._result)}" if error is None else f"failed {error_text(error)}"
        if state != RUNNING:
            return "cancelled" if state == CANCELLED_AND_NOTIFIED else f"pending {call_text(*as_call(call))}"
        seconds = self._owner.seconds_in_worker(self.first)
        since = "(a worker has it)" if seconds is None else f"{seconds:.1f} s"
        return f"running {call_text(*as_call(call))} {since}"

    def kill(self) -> bool:
        """Stop this task, even while it runs: its worker is killed.  Other tasks of that worker run elsewhere.

        A task that no worker has begun is cancelled.  Returns False if the future is done already, else True.  It does
        not wait: the future gets `TaskKilledError` at its place in the order.  A task that ends by itself at that
        moment keeps its outcome.
        """
        return not self.done() and (self._cancel() or self._owner.kill(self))

    def cancel(self) -> bool:
        """Cancel the task if no worker has begun it.  Returns whether the future is cancelled.

        A cancelled future is done at once: threads that wait for its result wake, and its callbacks run in this call.
        Its ticket is skipped.  The call never waits.  If a worker has been sent the task, the call looks at that
        worker, which takes some microseconds, and the tasks that this worker has not begun are sent again.

        If the answer is False, the executor takes the future as given up: it does not keep the outcome for the stream,
        unless you have asked for the stream or still hold the future.
        """
        if self._cancel():
            return True
        self.hand_over(GIVEN_UP)
        return False

    def _cancel(self) -> bool:
        try:
            while not self._decide_cancel():
                pass  # it was sent, or came back, in this very moment
            if self._st != CANCELLED_AND_NOTIFIED:
                return False
            if self.sent is None:  # else it may just be packed
                self.call = None
            if self._own_waiters is not None:
                self._own_waiters.lot.unpark_all()
                self._call_back_all(self._own_waiters)
            return True
        finally:
            if self._st == CANCELLED_AND_NOTIFIED:
                self._owner.skip(self)  # the scheduler completes it: see `complete_cancel`

    def _decide_cancel(self) -> bool:
        """Decide for a task as things are; False if they are not so any more.

        A lock-free loop: it goes round only if the scheduler has sent or taken back this future meanwhile.
        """
        batch, change = self.sent, _WHEN_CANCELLED
        if self.begun:
            change = _UNCHANGED
        elif batch is not None and self._st not in DONE:
            change = _WHEN_CANCELLED_SENT if self._owner.recall(batch, self.first - batch.first) else _UNCHANGED
        changes = (_UNCHANGED, change)  # made before: see `_core.claims`
        +_deciding
        try:
            same = self.sent is batch
            self._st = changes[same][self._st]
        finally:
            -_deciding
        return same

    def cancelled(self) -> bool:
        return self._st == CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        return self._st == RUNNING

    def done(self) -> bool:
        if self._st in DONE:
            return True
        self._owner.note_wanted(self.first)  # whoever asks again and again waits, too
        return False

    def result(self, timeout: float | None = None) -> T:
        """Return the value of the task, or raise its exception.  Waits until it is done, at most `timeout` seconds.

        Raises `TimeoutError` if it is not done in time, and `CancelledError` if it was cancelled.
        """
        error = self.exception(timeout)
        if error is None:
            return self._result  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            self = error = None  # type: ignore[assignment]  # no cycle through the traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception that the task raised, or None.  Waits as `result` does."""
        if self._st not in DONE:
            if timeout is None and (why := self._owner.must_not_wait()) is not None:
                raise RuntimeError(f"waiting for ticket {self.first} would never end: {why}")
            if not self._join_waiters().lot.park(self.done, timeout):
                raise TimeoutError
        if self._st == CANCELLED_AND_NOTIFIED:
            raise CancelledError
        if self._unread:
            self._owner.note_read(self)
        return self._exception

    def _get_snapshot(self) -> tuple[bool, bool, T | None, BaseException | None]:
        """Return (done, cancelled, value, exception).  From Python 3.15 on asyncio calls this instead of `result`.

        It counts as a read, like `exception()`: asyncio hands the outcome to the coroutine that awaits it.  It counts
        in a done-callback, too: if the future is done, asyncio reads it there, on the thread of its loop.  (Until 3.14
        it did so later.)
        """
        if self._st != FINISHED:
            cancelled = self.cancelled()
            return cancelled, cancelled, None, None
        depth, in_callback.depth = in_callback.depth, 0
        try:
            return True, False, self._result, self.exception()
        finally:
            in_callback.depth = depth

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call `fn(self)` when the future is done: in ticket order, on the executor's own thread.

        If the future is done already, `fn` runs in this call.  An outcome that a callback reads counts as read, unless
        somebody has asked for the stream.
        """
        if not self.done():
            callbacks, key = self._join_waiters().callbacks, object()
            callbacks[key] = fn
            if not self.done() or callbacks.pop(key, None) is None:
                return  # whoever finishes it calls
        self._call_back(fn)

    # ----------------------------------------------------------------------------------------------- for the scheduler

    def start(self, batch: CoreBatch | None = None) -> bool:
        """Pending to running, in that batch, unless it is cancelled.  On the scheduler."""
        +_deciding
        try:
            self.sent = batch
            self._st = _WHEN_STARTED[self._st]
        finally:
            -_deciding
        if self._st == RUNNING:
            return True
        self.sent = None
        return False

    def leave(self) -> bool:
        """No lane has it any more, and nobody can cancel it, unless it is taken back.  False if it was cancelled."""
        +_deciding
        try:
            self.sent = None
        finally:
            -_deciding
        return self._st != CANCELLED_AND_NOTIFIED

    def take_back(self, begun: bool = False) -> bool:
        """No lane has it any more; unless it has ever begun it is pending again.  False if it was cancelled."""
        self.begun = self.begun or begun  # before: whoever cancels it looks there
        change = _UNCHANGED if self.begun else _WHEN_TAKEN_BACK
        +_deciding
        try:
            self.sent = None
            self._st = change[self._st]
        finally:
            -_deciding
        return self._st != CANCELLED_AND_NOTIFIED

    def finish(self, value: Any, error: BaseException | None) -> None:
        """To finished: state, waiters, then callbacks.  On the scheduler, in ticket order."""
        assert self._st != CANCELLED_AND_NOTIFIED, "a task was cancelled, and has run"
        self.call = None
        if error is None:
            self._result = value
        else:
            self._exception = error
            # "raise": when a future goes it is too late for that.  Whoever kills a task knows of it.
            if self._owner.unseen_errors != "ignore" and not isinstance(error, TaskKilledError):
                self._unseen = _Unseen(self.first, error)
        self._st = FINISHED
        self._tell_all()
        if self._handed is not None:  # looked at after the state was changed: see `hand_over`
            self._owner.note_handed(self, self._handed)

    def complete_cancel(self) -> None:
        """Tell those whom `cancel` could not: waiters of `wait()`, and, should it have been interrupted, the others.

        Waiters must be told once, and a thread of the user's may be interrupted between claiming that and doing it.
        """
        self.call = None
        self._tell_all()

    def _tell_all(self) -> None:
        """Tell everybody who was there before the state changed; who comes later sees it."""
        waiters = self._own_waiters
        if waiters is not None:
            waiters.tell(self)
            self._call_back_all(waiters)

    def _call_back_all(self, waiters: Waiters) -> None:
        """Run the callbacks, unless somebody else is at it.  Interrupted, it leaves the rest to the next."""
        me = object()
        try:
            +_deciding
            try:
                waiters.caller = waiters.caller or me
            finally:
                -_deciding
            for key in list(waiters.callbacks) if waiters.caller is me else ():
                callback = waiters.callbacks.pop(key, None)
                if callback is not None:  # else whoever added it calls
                    self._call_back(callback)
        finally:
            if waiters.caller is me:
                waiters.caller = None

    def _call_back(self, callback: Callable[[Any], object]) -> None:
        self.called_back = True
        in_callback.depth += 1  # not a `with` block of ours: Ctrl-C could come between entering and leaving it
        try:
            callback(self)
        except BaseException as error:
            # On the scheduler SystemExit too, which ends a thread elsewhere: the order must go on.
            if not isinstance(error, Exception) and not self._owner.on_scheduler():
                raise
            logger.exception("a done-callback of ticket %d raised", self.first)
        finally:
            in_callback.depth -= 1

    # ------------------------------------------------------------------------------------------------------- the stream

    def hand_over(self, why: str) -> None:
        """Its outcome need not be kept for the stream, now or when it comes.  From any thread."""
        self._handed = why
        if self._st == FINISHED:  # else whoever finishes it looks
            self._owner.note_handed(self, why)

    def take_unread(self) -> bool:
        """Claim being the first to read the outcome."""
        try:
            del self._unread
        except AttributeError:
            return False
        return True

    def peek(self) -> tuple[Any, BaseException | None]:
        """The outcome of a finished future, without counting as a read."""
        self.see()
        return self._result, self._exception

    @property
    def unseen_error(self) -> BaseException | None:
        """The task's exception, if nobody has looked at it."""
        return None if self._unseen is None else self._unseen.error

    def see(self) -> None:
        """Somebody has looked at the outcome."""
        if self._unseen is not None:
            self._unseen.error = None


def _learn_names() -> None:
    """Have Python learn all names of attributes from the first future there is.

    A class remembers the names of its instances' attributes, and reserves less room for new ones with each instance
    made.  A name that first comes after some thirty futures (the result, say) would give each future a dictionary.
    """
    first: Any = Future.__new__(Future)
    names = ("first", "call", "options", "_owner", "_st", "_unread", "_result", "_exception", "_unseen", "_own_waiters")
    more = (
        "sent",
        "skipped",
        "killed",
        "losses",
        "apart",
        "begun",
        "_handed",
        "weight",
        "called_back",
        "claimed_at",
        "run",
        "kept_call",
    )
    for name in (*names, *more):
        setattr(first, name, None)


_learn_names()


def _in_forked_child() -> None:
    global _deciding
    _deciding = Lock()


os.register_at_fork(after_in_child=_in_forked_child)


def log_unseen(ticket: int, error: BaseException) -> None:
    """Log a failure that nobody looked at."""
    logger.error("nobody looked at the failure of ticket %d", ticket, exc_info=error)
