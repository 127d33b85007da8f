"""The front of the scheduler: the calls that user threads may make, at any time.

They only claim tickets and post requests (cancel, kill, shut down).  The scheduler does the rest, in its own thread.
So Ctrl-C in a user thread leaves nothing half done.

The scheduler's thread shares with them the claims (see `_core.claims`), `posts` (a deque: append and popleft are
atomic), and the flag `asleep`.  No wake-up is lost: the scheduler sets `asleep`, then looks at claims and posts, then
waits; a user thread adds to them, then looks at `asleep`, then wakes the scheduler.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ordered_executor._base import system
from ordered_executor._base.waiting import Latch
from ordered_executor._core.backend import ALL, Backend
from ordered_executor._core.backlog import Backlog
from ordered_executor._core.batches import CoreBatch
from ordered_executor._core.claims import Claims
from ordered_executor._core.dispatcher import Dispatcher
from ordered_executor._core.future import READ_IN_CALLBACK, Future, in_callback
from ordered_executor._core.map import Span
from ordered_executor._core.reorder_buffer import Sequencer
from ordered_executor._core.running import seconds_in_worker
from ordered_executor._core.stream import Stream

# How long the thread may take to end when it has done all it has to: it only returns.
END_SECONDS = 1.0


class Marked:
    """The value of a `mark`, on its way to its place."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Work(Protocol):
    """What the scheduler does when it comes to a request: in its own thread, one after the other."""

    @property
    def backend(self) -> Backend: ...
    @property
    def dispatcher(self) -> Dispatcher: ...
    def skip(self, future: Future[Any]) -> None: ...
    def kill(self, future: Future[Any]) -> None: ...
    def drop_span(self, span: Span) -> None: ...
    def begin_closing(self) -> None: ...
    def cancel_waiting(self) -> None: ...
    def kill_begun(self) -> None: ...
    def kill_all(self, end: Callable[[], None] | None) -> None: ...


class Inbox:
    """See the module.  A part of the scheduler, which is the `work`."""

    def __init__(
        self,
        work: Work,
        backend: Backend,
        sequencer: Sequencer,
        backlog: int | None,
        keep_results: bool | None,
        unseen_errors: str,
    ) -> None:
        self._work = work
        self._backend = backend
        self._sequencer = sequencer
        self.unseen_errors = unseen_errors
        first = sequencer.head
        self.claims = Claims(first)
        self.backlog = Backlog(backlog, self._all_done, self._may_leave, self._busy_turn)
        self.stream = Stream(first, keep_results, self.must_not_wait, self._leave)
        self.demand = backend.demand
        self.finished = Latch()
        self.abandoned = False
        self.posts: deque[Callable[[], None]] = deque()
        self.cancel_below = first  # what was submitted before this ticket does not begin any more
        self.asleep = False
        self.turn = 0  # of the scheduler
        self.thread: threading.Thread | None = None
        self.ident: int | None = None

    def on_scheduler(self) -> bool:
        return threading.get_ident() == self.ident

    def claim(self, entry: Any) -> None:
        """Give it its tickets and wake the scheduler."""
        self._hand_over(self.claims.claim, entry)

    def claim_future(self, future: Future[Any]) -> None:
        try:
            self.backlog.enter(future, may_wait=not (self.on_scheduler() or in_callback))
            self.claim(future)
        except BaseException:
            self.backlog.leave(future)  # refused; or interrupted, and then it may have been claimed after all
            raise

    def claim_span(self, span: Span) -> None:
        self.claim(span)

    def report_unseen(self, may_raise: bool) -> None:
        """When all is finished: failures that nobody looked at are raised or logged, as `unseen_errors` says."""
        self.stream.report_unseen(self.unseen_errors, may_raise)

    def wait(self, timeout: float | None) -> bool:
        """Wait until all is finished, and the thread is gone: a fork warns of those that are there."""
        if not self.finished.wait(timeout):
            return False
        if self.thread is not None and not self.on_scheduler():
            system.join(self.thread, END_SECONDS)
        return True

    def post(self, call: Callable[[], None]) -> None:
        """Have the scheduler call something.  Never waits."""
        self._hand_over(self.posts.append, call)

    def _hand_over(self, add: Callable[[Any], None], what: Any) -> None:
        """Add it to what waits for the scheduler, and wake that."""
        try:
            add(what)
            self.poke()
        except BaseException:
            self.poke()  # Ctrl-C: it may have been added, and nobody woken
            raise

    def poke(self) -> None:
        # Only the scheduler clears the flag: whoever is interrupted between clearing and waking would leave it deaf.
        if self.asleep:
            self._backend.wake()

    def seconds_in_worker(self, ticket: int) -> float | None:
        return seconds_in_worker(self._work, ticket)

    def skip(self, future: Future[Any]) -> None:
        self.post(lambda: self._work.skip(future))

    def recall(self, batch: CoreBatch, index: int) -> bool:
        """Whether the task with that index has not begun, and does not begin in that batch any more.

        The first time for a batch its lane is recalled: what else it has not begun comes back, and is sent again.
        """
        if batch.settled is None:
            if index < self._backend.begun(batch.lane, batch.number):
                return False
            self._backend.recall(batch.lane)
            settled = self._backend.settled(batch.lane, batch.number)
            if settled == ALL:
                return False  # nobody knows; the scheduler may find out
            batch.settled = settled
        return index >= batch.settled

    def settled(self, batch: CoreBatch) -> int:
        """From which index on nothing of a batch begins any more, of a lane that was recalled.  On the scheduler."""
        if batch.settled is None:
            batch.settled = self._backend.settled(batch.lane, batch.number, may_stop=True)
        return batch.settled

    def kill(self, future: Future[Any]) -> bool:
        if future.done():
            return False
        self.post(lambda: self._work.kill(future))
        return True

    def note_read(self, future: Future[Any]) -> None:
        """Its holder has read a finished future."""
        future.see()
        if in_callback:
            self.note_handed(future, READ_IN_CALLBACK)
            return
        self._leave(future)
        self.stream.let_go(future)
        future.take_unread()

    def note_handed(self, future: Future[Any], why: str) -> None:
        """Somebody has the outcome of a finished future in another way than by reading it: see `_core.retention`."""
        if self.stream.hand_over(future, why):
            self.backlog.leave(future)

    def orphan(self) -> None:
        """Nobody holds the executor any more: what was submitted is finished, and nobody can ask for the stream."""
        self.close_claims()
        self.stream.orphan()

    def cancel_span(self, span: Span) -> None:
        """Nothing of it begins any more.

        No batch slips through.  One that is sent before the scheduler sees the flag is in `sent` by then, so its lane
        is recalled here; and the post, being there before the recall, is done before a lane that was recalled is sent
        anything else.
        """
        span.cancelled = True
        self.post(lambda: self._work.drop_span(span))
        for batch in list(span.sent.values()):
            self._backend.recall(batch.lane)

    def close_claims(self) -> None:
        """Nothing more will be submitted."""
        self.claims.close(RuntimeError("cannot schedule new futures after shutdown"))
        self.backlog.close()
        self.stream.end()
        self.post(self._work.begin_closing)

    def cancel_waiting(self) -> None:
        """Nothing that has been submitted begins any more.  None slips through: see `cancel_span`."""
        self.cancel_below = self.claims.tail
        self.post(self._work.cancel_waiting)
        for lane in list(self._work.dispatcher.lanes):
            self._backend.recall(lane)

    def kill_begun(self) -> None:
        """Behind `cancel_waiting`: stop what runs, too."""
        self.post(self._work.kill_begun)

    def wait_for_turn(self, timeout: float) -> None:
        """Wait until what was posted is done: at most `timeout` seconds, and not in a callback.

        The scheduler may be in one, which may wait for whoever waits here.  Ended by the scheduler, and by the clock.
        """
        if self.thread is None or self.on_scheduler() or in_callback or self.finished.is_set():
            return
        done = Latch()
        self.post(done.set)
        done.wait(timeout)

    def kill_all(self, end: Callable[[], None] | None = None) -> None:
        """Everything unfinished fails, and the workers are killed; by `end`, if it is given, on the scheduler."""
        self.post(lambda: self._work.kill_all(end))

    def abandon(self) -> None:
        """In a forked child: the executor is the parent's.  Its locks may be held by threads that are not here."""
        self.abandoned = True
        self.asleep = False
        self.claims = Claims(0)
        self.claims.close(RuntimeError("this executor belongs to the parent process; make a new one after os.fork()"))
        self.backlog = Backlog(None, self._all_done)
        self.stream.abandon()
        self.finished = Latch()
        self.finished.set()
        self._backend.abandon()

    def must_not_wait(self, ticket: int | None = None) -> str | None:
        """Why a wait for something unfinished would never end here, if that is so.  Else it waits for this ticket."""
        if self.abandoned:
            return "it belongs to an executor of the parent process, which finishes it there"
        if self.on_scheduler():
            return "it is asked for in a done-callback, and nothing is finished while callbacks run"
        if ticket is not None:
            self.note_wanted(ticket)
        return None

    def unfinished(self) -> list[int]:
        """The tickets that have not ended, nor were cancelled as far as the scheduler has come."""
        cancelled = self._sequencer.skipped()
        return [ticket for ticket in range(self._sequencer.head, self.claims.tail) if ticket not in cancelled]

    def _leave(self, future: Future[Any]) -> None:
        self.backlog.leave(future)  # asked for anew each time: a forked child gets another one
        if self.demand is not None:
            self.demand.read(future.first)
            if self.demand.blocked:
                self.poke()

    def note_wanted(self, ticket: int) -> None:
        """Somebody waits for this ticket."""
        if self.demand is not None and ticket >= self.demand.wanted:
            self.demand.ask(ticket)
            self.poke()

    def _may_leave(self, future: Future[Any]) -> bool:
        return future.called_back and self.stream.lets_go

    def _busy_turn(self) -> int | None:
        return None if self.asleep else self.turn

    def _all_done(self) -> bool:
        return self._sequencer.head == self.claims.tail
