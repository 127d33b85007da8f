"""The releaser: the one private thread, which does everything but run the user's tasks.

It takes claims and posts from user threads, hears from the backend, puts outcomes into order, finishes futures, runs
their callbacks, sends batches.  So nothing of it needs a lock, no lock is held while user code runs, and Ctrl-C in a
user thread cannot interrupt it.

    user threads --claim--> _claims  --+
                 --post---> _posts   --+--> step(): hear, number, release, dispatch --> backend
    backend.wait() ----------events----+

What user threads share with it: the claims (see `_claims`), `_posts` (a deque: append and popleft are
atomic), and the flag `_asleep`.  No wake-up is lost: the releaser sets `_asleep`, then looks at claims and posts, then
waits; a user thread adds to them, then looks at `_asleep`, then wakes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from . import _exit
from ._backend import Arrived, Backend, Broken, Ended, Event, Lost, Ready, Returned
from ._backlog import Backlog
from ._claims import Claims
from ._dispatcher import Dispatcher, LaneQueue, Slice
from ._errors import TaskKilledError
from ._future import Future, in_callback
from ._gate import Window
from ._losses import fail_everything, failures, settle_loss
from ._map import Span
from ._parking import Latch
from ._payload import BASIC, call_name, unpack
from ._results import Stream
from ._sequencer import Sequencer
from ._ticket import SKIP, Batch, Failure, Segment

logger = logging.getLogger("ordered_executor")

# Workers that die so often before anything comes home are not worth starting again.
DEATHS_IN_VAIN = 4


class Releaser:
    """See the module.  `step` is one turn; `run` is the thread."""

    def __init__(
        self,
        backend: Backend,
        window: Window,
        max_lanes: int,
        backlog: int | None = None,
        keep_results: bool = True,
        unseen_errors: str = "log",
        first_ticket: int = 0,
    ) -> None:
        self.backend = backend
        self.window = window
        self.unseen_errors = unseen_errors
        self.keep_results = keep_results
        self.claims = Claims(first_ticket)
        self.sequencer = Sequencer(first_ticket)
        self.dispatcher = Dispatcher(window.tickets, max_lanes)
        self.stream = Stream(first_ticket, keep_results, self.must_not_wait)
        self.backlog = Backlog(backlog, self._all_done)
        self.finished = Latch()
        self.abandoned = False
        self.max_lanes = max_lanes
        self._primed = Latch()
        self._posts: deque[Callable[[], None]] = deque()
        self._asleep = False
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        self._broken: BaseException | None = None
        self._closing = False
        self._backend_closing = False
        self._killed = False
        self._deaths = 0
        backend.open(first_ticket, window.limit(first_ticket))

    # ---------------------------------------------------------------------------------------------- from any thread

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, name="ordered-executor-releaser", daemon=True)
        _exit.watch(self)
        try:
            self._thread.start()
        except BaseException:
            self.finished.set()  # or the end of the program would wait for it
            self.backend.close(kill=True)
            self.backend.release()
            raise

    def on_releaser(self) -> bool:
        return threading.get_ident() == self._ident

    @property
    def head(self) -> int:
        return self.sequencer.head

    def claim(self, entry: Any) -> None:
        """Give it its tickets and wake the releaser."""
        self._hand_over(self.claims.claim, entry)

    def claim_future(self, future: Future[Any]) -> None:
        needs_lane = type(future.call) is not Marked
        self.backlog.enter(may_wait=not self.on_releaser())
        try:
            self.claim(future)
        except BaseException:
            if future.take_unread():  # whoever takes that gives the place back: once, should it be claimed after all
                self.backlog.leave()
            raise
        if needs_lane and not _exit.primed.is_set():
            self._wait_for_first_lane()

    def claim_span(self, span: Span) -> None:
        self.claim(span)
        if not _exit.primed.is_set():
            self._wait_for_first_lane()

    def _wait_for_first_lane(self) -> None:
        """Once in a process: what is submitted at the very end of a program needs the exit hook, which needs a lane.

        Ended by the turn in which the releaser starts a lane, whether that succeeds or not; and by the last turn.
        """
        if self._thread is not None and not self.on_releaser():
            self._primed.wait()

    def post(self, call: Callable[[], None]) -> None:
        """Have the releaser call something.  Never waits."""
        self._hand_over(self._posts.append, call)

    def _hand_over(self, add: Callable[[Any], None], what: Any) -> None:
        """Add it to what waits for the releaser, and wake that."""
        try:
            add(what)
            self._poke()
        except BaseException:
            self._poke()  # Ctrl-C: it may have been added, and nobody woken
            raise

    def _poke(self) -> None:
        # Only the releaser clears the flag: whoever is interrupted between clearing and waking would leave it deaf.
        if self._asleep:
            self.backend.wake()

    def skip(self, future: Future[Any]) -> None:
        self.post(lambda: self._skip(future))

    def kill(self, future: Future[Any]) -> bool:
        if future.done():
            return False
        self.post(lambda: self._kill(future))
        return True

    def note_read(self, future: Future[Any]) -> None:
        """Its holder has read a finished future."""
        future.see()
        if in_callback:
            return  # whoever reads the stream has not seen it
        if future.take_unread():
            self.backlog.leave()
            self.stream.let_go(future)

    def cancel_span(self, span: Span) -> None:
        span.cancelled = True
        self.post(lambda: self._drop_span(span))

    def close_claims(self) -> None:
        """Nothing more will be submitted."""
        self.claims.close(RuntimeError("cannot schedule new futures after shutdown"))
        self.backlog.close()
        self.stream.end()
        self.post(self._begin_closing)

    def cancel_waiting(self) -> None:
        self.post(self._cancel_waiting)

    def kill_all(self) -> None:
        self.post(self._kill_all)

    def abandon(self) -> None:
        """In a forked child: the executor is the parent's.  Its locks may be held by threads that are not here."""
        self.abandoned = True
        self._asleep = False
        self.claims = Claims(0)
        self.claims.close(RuntimeError("this executor belongs to the parent process; make a new one after os.fork()"))
        self.backlog = Backlog(None, self._all_done)
        self.stream.abandon()
        self.finished = Latch()
        self.finished.set()
        self.backend.abandon()

    def must_not_wait(self) -> str | None:
        """Why a wait for something unfinished would never end here, if that is so."""
        if self.abandoned:
            return "it belongs to an executor of the parent process, which finishes it there"
        if self.on_releaser():
            return "it is asked for in a done-callback, and nothing is finished while callbacks run"
        return None

    def unfinished(self) -> list[int]:
        """The first tickets that are not released, for messages."""
        return list(range(self.sequencer.head, min(self.claims.tail, self.sequencer.head + 1000)))

    def _all_done(self) -> bool:
        return self.sequencer.head == self.claims.tail

    # --------------------------------------------------------------------------------------------------- the thread

    def run(self) -> None:
        self._ident = threading.get_ident()
        try:
            while not (self._closing and self.backend.closed):
                self.step(None)
        except BaseException as error:  # a defect of ours: fail what is pending, so that nobody waits for ever
            logger.critical("the executor broke down", exc_info=True)
            reason = BrokenProcessPool(f"a defect of ordered-executor: {type(error).__name__}: {error}")
            reason.__cause__ = error
            self._last_resort(reason)
        finally:
            self._asleep = False
            self.dispatcher.lanes.clear()
            self.backend.release()
            self._primed.set()
            self.finished.set()

    def _last_resort(self, reason: BaseException) -> None:
        steps: list[Callable[[], object]] = [lambda: self._break(reason), self._release_whatever, self._kill_backend]
        for step in steps:
            try:
                step()
            except BaseException:
                logger.critical("the executor could not be taken down", exc_info=True)

    def _release_whatever(self) -> None:
        while self.sequencer.head < self.sequencer.tail:
            head = self.sequencer.head
            try:
                self._release()
            except BaseException:
                logger.critical("ticket %d could not be released", head, exc_info=True)
            if self.sequencer.head == head:
                return

    def _kill_backend(self) -> None:
        self.backend.close(kill=True)
        while not self.backend.closed:
            self.backend.wait(0.1)

    def step(self, timeout: float | None) -> None:
        """One turn: wait for something to happen, at most `timeout` seconds, and do what follows from it."""
        self._asleep = True
        if self._posts or self.claims.waiting():
            timeout = 0
        events = self.backend.wait(timeout)
        self._asleep = False
        self.dispatcher.begin_turn()
        for event in events:
            self._hear(event)
        if self.claims.waiting():
            self._take_claims()
        while self._posts:
            self._posts.popleft()()
        self._release()
        while self.dispatcher.waiting_tickets and self._dispatch():
            self._release()
        if self.dispatcher.waiting_tickets and self.sequencer.head == self.sequencer.tail:
            self.dispatcher.clear()  # all of them were cancelled
        if not self._primed.is_set() and _exit.primed.is_set():
            self._primed.set()
        if self._closing and self.sequencer.head == self.sequencer.tail and not self.claims.waiting():
            self._close_backend()

    # ------------------------------------------------------------------------------------------------------ claims

    def _take_claims(self) -> None:
        for entry in self.claims.take():
            self.sequencer.claim(entry.count)
            if type(entry) is Span:
                if entry.cancelled:
                    self._put(entry.first, entry.count, [entry], [SKIP] * entry.count)
                elif self._broken is not None:
                    self._put(entry.first, entry.count, [entry], failures(self._broken, entry.first, entry.count))
                else:
                    self.dispatcher.add(entry)
            elif type(entry.call) is Marked:
                value = entry.call.value
                if entry.start():
                    self._put(entry.first, 1, [entry], [Marked(value)])
                else:
                    self._skip(entry)
            elif self._broken is not None:
                if entry.start():
                    self._put(entry.first, 1, [entry], failures(self._broken, entry.first, 1))
                else:
                    self._skip(entry)
            else:
                self.dispatcher.add(entry)

    def _put(self, first: int, count: int, owners: list[Any], outcomes: list[Any]) -> None:
        """Outcomes made in the parent."""
        self.sequencer.put(Segment(first, count, owners, outcomes))

    def _skip(self, future: Future[Any]) -> None:
        if future.first >= self.sequencer.tail:
            self._take_claims()  # it was claimed after this turn's claims were taken
        if not future.skipped:
            future.skipped = True
            self._put(future.first, 1, [future], [SKIP])

    def _drop_span(self, span: Span) -> None:
        for first, count in self.dispatcher.drop_span(span):
            self._put(first, count, [span], [SKIP] * count)

    # ------------------------------------------------------------------------------------------------------ release

    def _release(self) -> None:
        sequencer = self.sequencer
        while (segment := sequencer.release()) is not None:
            self._deliver(segment)
            if segment.lane is not None and segment.size:
                self.backend.give_back(segment.lane, segment.size)
            # Only now that it was delivered may others come closer.
            self.backend.open(sequencer.head, self.window.limit(sequencer.head))
            self.stream.publish(sequencer.head)

    def _deliver(self, segment: Segment) -> None:
        owner = segment.owners[0]
        if type(owner) is not Future:
            span = owner.span if type(owner) is Slice else owner
            span.delivery.put(segment.first, segment.outcomes)
            return
        keep, basic = self.stream.keep, BASIC
        for future, outcome in zip(segment.owners, segment.outcomes, strict=True):
            value, error, cls = outcome, None, type(outcome)
            if cls not in basic:
                if outcome is SKIP:
                    if future.take_unread():
                        self.backlog.leave()
                    continue
                if cls is Marked:
                    value = outcome.value
                else:
                    value, error = unpack(outcome, partial(_describe, future, segment))
            keep(future)
            future.finish(value, error)
            value = error = None
        if not self.keep_results and self.backlog.bounded:
            for future in segment.owners:
                if future.take_unread():
                    self.backlog.leave()

    # ----------------------------------------------------------------------------------------------------- dispatch

    def _dispatch(self) -> bool:
        """Send batches to the lanes that want some.  True if a cancelled ticket was met, so that the head may move."""
        dispatcher, skipped = self.dispatcher, False
        while dispatcher.waiting_tickets and not self._killed:
            lane = dispatcher.next_lane()
            if lane is None:
                break
            batch, cancelled = dispatcher.take(lane)
            for future in cancelled:
                self._skip(future)
                skipped = True
            if batch is not None:
                self.backend.send(lane.key, batch)
                dispatcher.pace.learn_load(batch.count, batch.load)
        if dispatcher.waiting_tickets and self._broken is None and not self._killed:
            busy = sum(1 for lane in dispatcher.lanes.values() if lane.tickets)
            self.backend.want(min(self.max_lanes, busy + dispatcher.waiting_tickets))
        return skipped

    # ------------------------------------------------------------------------------------------------------- events

    def _hear(self, event: Event) -> None:
        if type(event) is Arrived:
            self._on_arrived(event)
        elif type(event) is Ready:
            self.dispatcher.open_lane(event.lane, event.quota)
        elif type(event) is Returned:
            lane = self.dispatcher.lanes.get(event.lane)
            if lane is not None:
                self.dispatcher.returned(lane, event.number, event.start, event.apart)
        elif type(event) is Lost:
            self._on_lost(event)
        elif type(event) is Ended:
            if event.lane in self.dispatcher.lanes:
                self.dispatcher.close_lane(event.lane)
        else:
            assert type(event) is Broken
            self._break(event.reason)

    def _on_arrived(self, event: Arrived) -> None:
        lane = self.dispatcher.lanes.get(event.lane)
        if lane is None:  # the executor is broken, and has failed these tickets
            return
        self._deaths = 0
        batch, known = self.dispatcher.arrived(lane, event.number, event.start, len(event.outcomes))
        if event.seconds:
            self.dispatcher.pace.learn(len(event.outcomes), event.seconds, event.size)
        if batch is None or known == len(event.outcomes):
            if event.size:
                self.backend.give_back(event.lane, event.size)
        else:
            self._take_home(batch, event.start + known, event.outcomes[known:] if known else event.outcomes, event)
        if batch is not None and batch.home == batch.count:
            self.backend.done(event.lane, batch)
            self._retire(lane)

    def _take_home(self, batch: Batch, start: int, outcomes: list[Any], event: Arrived) -> None:
        count = len(outcomes)
        for index, error in batch.failed.items():
            if start <= index < start + count:
                outcomes[index - start] = Failure(error)
        owner = batch.owners[0]
        if type(owner) is Slice:
            begin = owner.start + start
            owner.span.args[begin : begin + count] = [None] * count
            owners: Any = batch.owners
        else:
            owners = batch.owners if count == batch.count else batch.owners[start : start + count]
            for future in owners:  # the arguments may go; the function is for messages
                call = future.call
                future.call = call[:1] if type(call) is tuple else (call.fn,)
        self.sequencer.put(
            Segment(batch.first + start, count, owners, outcomes, event.lane, event.size, not event.rescued)
        )

    def _retire(self, lane: LaneQueue) -> None:
        if lane.quota == 0 and not lane.batches:
            self.backend.retire(lane.key)

    def _on_lost(self, event: Lost) -> None:
        """A lane is gone.  Its running task is charged; what it had not started goes to others."""
        lane = self.dispatcher.lanes.get(event.lane)
        if lane is not None:
            self._put_all(settle_loss(self.dispatcher, event))
        if lane is None or (lane.heard < 0 and event.blame is None and event.suspect is None and not event.deliberate):
            self._died_in_vain(event)  # one that never sent anything home

    def _died_in_vain(self, event: Lost) -> None:
        self._deaths += 1
        if self._deaths >= DEATHS_IN_VAIN and not self._closing_now():
            reason = BrokenProcessPool(
                f"{self._deaths} workers in a row died before they had finished anything; the last: {event.reason}"
            )
            reason.__cause__ = event.reason
            self._break(reason)

    def _closing_now(self) -> bool:
        return self._closing and self.sequencer.head == self.sequencer.tail

    # ------------------------------------------------------------------------------------------------- kill and close

    def _kill(self, future: Future[Any]) -> None:
        """Stop one task that was with a worker."""
        if future.done():
            return
        future.killed = TaskKilledError(f"ticket {future.first} was stopped by kill()", future.first)
        found = self.dispatcher.find(future)
        if found is not None:
            self.backend.kill(*found, future.killed)
        # else it is here, to be sent again: it will end with that error instead

    def _break(self, reason: BaseException) -> None:
        """No worker will run anything any more: what is not home fails, in order."""
        if self._broken is not None:
            return
        self._broken = reason
        self.claims.close(reason)
        self.backlog.close()
        self._take_claims()
        self._fail_all(reason)
        self.stream.end()
        self._closing = True

    def _fail_all(self, reason: BaseException) -> None:
        """Everything that waits or is with a lane fails.  What is home early keeps its outcome."""
        segments, cancelled = fail_everything(self.dispatcher, reason)
        self._put_all(segments)
        for future in cancelled:
            self._skip(future)

    def _put_all(self, segments: list[Segment]) -> None:
        for segment in segments:
            self.sequencer.put(segment)

    def _cancel_waiting(self) -> None:
        """shutdown(cancel_futures=True): what no worker has had is cancelled."""
        self._take_claims()
        for entry in self.dispatcher.never_sent():
            if type(entry) is Slice:
                self._put(entry.first, entry.count, [entry], [SKIP] * entry.count)
            else:
                entry.cancel()
                self._skip(entry)

    def _kill_all(self) -> None:
        """shutdown(kill_workers=True)."""
        if self._killed or self.finished.is_set():
            return
        self._killed = True
        self._take_claims()
        self._fail_all(
            TaskKilledError("the executor was shut down with kill_workers=True before this task was finished")
        )
        self.backend.close(kill=True)

    def _begin_closing(self) -> None:
        self._closing = True

    def _close_backend(self) -> None:
        if not self._backend_closing:
            self._backend_closing = True
            self.backend.close(kill=self._broken is not None or self._killed)


class Marked:
    """The value of a `mark`, on its way to its place."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _describe(future: Future[Any], segment: Segment) -> str:
    """For the note on an error: which task, and where it ran."""
    call, pid = future.call, getattr(segment.lane, "pid", None)
    fn = call[0] if type(call) is tuple else getattr(call, "fn", None)
    return f"ticket {future.first}: {call_name(fn)}(…)" + (f", worker pid {pid}" if pid is not None else "")
