"""The scheduler: the one private thread, which does everything but run the user's tasks.

It takes claims and posts from user threads, hears from the backend, puts outcomes into order, finishes futures, runs
their callbacks, and sends batches.  So its data need no lock, no lock is held while user code runs, and Ctrl-C in a
user thread cannot interrupt it.

    user threads --claim--> inbox.claims --+
                 --post---> inbox.posts  --+--> step(): hear, number, release, dispatch --> backend
    backend.wait() ------------events------+
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from ordered_executor._base import exit_hook
from ordered_executor._base.errors import TaskKilledError
from ordered_executor._base.tasks import SKIP, Failure, Run, Segment
from ordered_executor._core.backend import Arrived, Backend, Broken, Ended, Event, Lost, Ready, Resized, Returned, Slow
from ordered_executor._core.batches import CoreBatch, Slice
from ordered_executor._core.counts import Counts
from ordered_executor._core.demand import Weighed
from ordered_executor._core.dispatcher import Dispatcher
from ordered_executor._core.future import Future
from ordered_executor._core.inbox import Inbox, Marked
from ordered_executor._core.last_resort import take_down
from ordered_executor._core.lost_tasks import fail_everything, failures, settle_loss
from ordered_executor._core.map import Span
from ordered_executor._core.observers import Observers
from ordered_executor._core.reorder_buffer import Sequencer
from ordered_executor._core.roster import LaneQueue
from ordered_executor._core.window import Window
from ordered_executor._pickling.outcomes import is_failure, packed_size, unpack
from ordered_executor._pickling.picklers import BASIC
from ordered_executor._pickling.texts import as_call, call_text

logger = logging.getLogger("ordered_executor")

# Workers that die so often before anything comes home, one after the other, are not worth starting again.
DEATHS_IN_VAIN = 4


class Scheduler:
    """See the module.  `step` is one turn; `run` is the thread."""

    def __init__(
        self,
        backend: Backend,
        window: Window,
        max_lanes: int,
        backlog: int | None = None,
        keep_results: bool | None = None,
        unseen_errors: str = "log",
        first_ticket: int = 0,
    ) -> None:
        self.backend = backend
        self.sequencer = Sequencer(first_ticket)
        self.inbox = Inbox(self, backend, self.sequencer, backlog, keep_results, unseen_errors)
        self.keeps_nothing = keep_results is False
        self.keeps_calls = False  # also of tasks that went well
        self.window = window
        self.dispatcher = Dispatcher(window.tickets, max_lanes)
        self.max_lanes = max_lanes
        self.counts = Counts(first_ticket)
        self.observers = Observers()
        self._broken: BaseException | None = None
        self._closing = False
        self._backend_closing = False
        self._killed = False
        self._hurried = False
        self._lost = 0  # lanes
        self._deaths = 0  # in vain
        self._last_in_vain = 0  # how many lanes had been lost with the last of them
        backend.open(first_ticket, window.limit(first_ticket))

    # --------------------------------------------------------------------------------------------------- the thread

    def start(self) -> None:
        self.inbox.thread = threading.Thread(target=self.run, name="ordered-executor-scheduler", daemon=True)
        exit_hook.watch(self.inbox)
        try:
            self.inbox.thread.start()
        except BaseException:
            self.inbox.finished.set()  # or the end of the program would wait for it
            self.backend.close(kill=True)
            self.backend.release()
            raise

    def run(self) -> None:
        self.inbox.ident = threading.get_ident()
        try:
            while not (self._closing and self.backend.closed):
                self.step(None)
        except BaseException as error:  # a defect of ours: fail what is pending, so that nobody waits for ever
            logger.critical("the executor broke down", exc_info=True)
            reason = BrokenProcessPool(f"a defect of ordered-executor: {type(error).__name__}: {error}")
            reason.__cause__ = error
            take_down(self, reason)
        finally:
            self.inbox.asleep = False
            self.dispatcher.forget_lanes()
            self.backend.release()
            self.observers.close()
            self.inbox.finished.set()

    def step(self, timeout: float | None) -> None:
        """One turn: wait for something to happen, at most `timeout` seconds, and do what follows from it."""
        self._listen(timeout)
        if self.inbox.claims.waiting():
            if self.sequencer.head == self.sequencer.tail:
                self.counts.woke_up(self.sequencer.head)
            self._take_claims()
        while self.inbox.posts:
            self.inbox.posts.popleft()()
        self._release()
        while self.dispatcher.waiting_tickets and self._dispatch():
            self._release()
        self._hurry()
        if self.dispatcher.waiting_tickets and self.sequencer.head == self.sequencer.tail:
            self.dispatcher.clear()  # all of them were cancelled
        if self._closing and self.sequencer.head == self.sequencer.tail and not self.inbox.claims.waiting():
            self._close_backend()

    def _listen(self, timeout: float | None) -> None:
        self.inbox.asleep = True
        if self.inbox.posts or self.inbox.claims.waiting():
            timeout = 0
        events = self.backend.wait(timeout)
        self.inbox.turn += 1
        self.inbox.asleep = False
        self.dispatcher.begin_turn()
        for event in events:
            self._hear(event)

    # ------------------------------------------------------------------------------------------------------ claims

    def _take_claims(self) -> None:
        now = time.monotonic()
        for entry in self.inbox.claims.take():
            entry.claimed_at = now
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
                    self.skip(entry)
            elif self._broken is not None:
                if entry.start():
                    self._put(entry.first, 1, [entry], failures(self._broken, entry.first, 1))
                else:
                    self.skip(entry)
            else:
                self.dispatcher.add(entry)

    def _put(self, first: int, count: int, owners: list[Any], outcomes: list[Any]) -> None:
        """Outcomes made in the parent."""
        if outcomes[0] is SKIP:
            self.counts.cancelled += count
        elif type(outcomes[0]) is Failure:
            self.counts.failed += count
        self.sequencer.put(Segment(first, count, owners, outcomes))

    def skip(self, future: Future[Any]) -> None:
        """Whoever waits is told.  It takes its place when it is here: one that a lane has is taken back first."""
        if future.first >= self.sequencer.tail:
            self._take_claims()  # it was claimed after this turn's claims were taken
        future.complete_cancel()
        if future.sent is not None:
            self._take_back(future.sent.lane)
        elif not future.skipped:
            future.skipped = True
            self._put(future.first, 1, [future], [SKIP])

    def _skip_all(self, cancelled: list[Any]) -> None:
        """Futures and slices that are here, and cancelled, or to be."""
        for entry in cancelled:
            if type(entry) is Slice:
                self._put(entry.first, entry.count, [entry], [SKIP] * entry.count)
            else:
                entry.cancel()
                self.skip(entry)

    def drop_span(self, span: Span) -> None:
        for lane in {batch.lane: None for batch in span.sent.values()}:
            self._take_back(lane)
        self._skip_all(self.dispatcher.drop_span(span))

    def _take_back(self, key: Hashable) -> None:
        """Recall a lane (whoever asked for it may have been interrupted): what it has not begun goes to who is free."""
        lane = self.dispatcher.lanes.get(key)
        if lane is not None and lane.batches:
            self.backend.recall(key)
            self._skip_all(self.dispatcher.take_back(lane, self.inbox.settled))

    # ------------------------------------------------------------------------------------------------------ release

    def _release(self) -> None:
        sequencer, head = self.sequencer, self.sequencer.head
        while (segment := sequencer.release()) is not None:
            self._deliver(segment)
            if segment.lane is not None and segment.size:
                self.backend.give_back(segment.lane, segment.size)
            # A reader of the stream that sees the head must not find what only we hold: see `Stream.let_go`.
            del segment
            # Only now that it was delivered may others come closer.
            self.backend.open(sequencer.head, self.window.limit(sequencer.head))
            self.inbox.stream.publish(sequencer.head)
        self.inbox.stream.tidy()
        if sequencer.head != head:
            self.counts.head_moved(sequencer.head)
            self.observers.released(head, sequencer.head, sequencer.early)

    def _deliver_to_map(self, segment: Segment, owner: Any) -> None:
        span, outcomes = owner.span if type(owner) is Slice else owner, segment.outcomes
        if span.outcomes:
            outcomes = span.raw(segment.first, outcomes, segment.run)
        if self.inbox.demand is not None:
            outcomes = Weighed(outcomes)
            self.inbox.demand.add(outcomes, segment.first, segment.size)
        span.delivery.put(segment.first, outcomes)

    def _keep(self, segment: Segment, future: Future[Any]) -> None:
        self.inbox.stream.keep(future)
        if self.inbox.demand is not None:
            self.inbox.demand.add(future, future.first, segment.size // segment.count)

    def _deliver(self, segment: Segment) -> None:
        owner, run = segment.owners[0], segment.run
        if run is not None:
            run.released_at = time.monotonic()
        if type(owner) is not Future:
            self._deliver_to_map(segment, owner)
            return
        keep, basic = self.inbox.stream.keep if self.inbox.demand is None else partial(self._keep, segment), BASIC
        for future, outcome in zip(segment.owners, segment.outcomes, strict=True):
            value, error, cls = outcome, None, type(outcome)
            if cls not in basic:
                if outcome is SKIP:
                    self.inbox.backlog.leave(future)
                    continue
                if cls is Marked:
                    value = outcome.value
                else:
                    self.inbox.stream.weigh(future, packed_size(outcome))
                    value, error = unpack(outcome, partial(_describe, future, segment))
                    if error is not None and not is_failure(outcome):
                        self.counts.failed += 1  # it could not be unpickled
            future.run = run
            if (error is not None or self.keeps_calls) and not self.keeps_nothing:
                future.kept_call = future.call
            keep(future)
            future.finish(value, error)
            value = error = None
        if self.inbox.backlog.bounded:
            done = self.inbox.backlog.leave if self.keeps_nothing else self.inbox.backlog.ended
            for future in segment.owners:
                done(future)
        # The frames behind an error's traceback, if it has one, lead here: see `unpack`.
        del segment, owner, future, outcome, keep  # pyright: ignore[reportPossiblyUnboundVariable]

    # ----------------------------------------------------------------------------------------------------- dispatch

    def _dispatch(self) -> bool:
        """Send batches to the lanes that want some.  True if a cancelled ticket was met, so that the head may move."""
        dispatcher, skipped = self.dispatcher, False
        while dispatcher.waiting_tickets and not self._killed:
            lane = dispatcher.next_lane()
            if lane is None:
                break
            batch, cancelled = dispatcher.take(lane)
            if cancelled:
                self._skip_all(cancelled)
                skipped = True
            if batch is not None:
                self.backend.send(lane.key, batch)
                self.observers.sent(lane.key, batch)
                dispatcher.pace.learn_load(batch.count, batch.load)
        if dispatcher.waiting_tickets and self._broken is None and not self._killed:
            self.backend.want(dispatcher.useful)
        return skipped

    # ------------------------------------------------------------------------------------------------------- events

    def _hear(self, event: Event) -> None:
        self.observers.heard(event)
        if type(event) is Arrived:
            self._on_arrived(event)
        elif type(event) is Ready:
            self.dispatcher.open_lane(event.lane, event.quota)
        elif type(event) is Returned:
            lane = self.dispatcher.lanes.get(event.lane)
            if lane is not None:
                self._skip_all(self.dispatcher.returned(lane, event.number, event.start, event.apart, event.recalled))
        elif type(event) is Slow:
            self._on_slow(event)
        elif type(event) is Lost:
            self._on_lost(event)
        elif type(event) is Ended:
            if event.lane in self.dispatcher.lanes:
                self.dispatcher.close_lane(event.lane)
        elif type(event) is Resized:
            self._on_resized(event)
        else:
            assert type(event) is Broken
            self._break(event.reason)

    def _on_resized(self, event: Resized) -> None:
        """There are more workers, or fewer: window, bytes and what waits are shared anew."""
        self.max_lanes = event.workers
        self.window.share(event.workers)
        self.dispatcher.resize(self.window.tickets, event.lanes, event.workers, event.refill)
        self.backend.open(self.sequencer.head, self.window.limit(self.sequencer.head))

    def _on_arrived(self, event: Arrived) -> None:
        lane = self.dispatcher.lanes.get(event.lane)
        if lane is None:  # the executor is broken, and has failed these tickets
            return
        self._deaths = 0
        batch, known = self.dispatcher.arrived(lane, event.number, event.start, len(event.outcomes))
        if event.seconds:
            self.dispatcher.pace.learn(len(event.outcomes), event.seconds, event.size)
            self.counts.note_times(event.times, event.seconds, len(event.outcomes))
        if batch is None or known == len(event.outcomes):
            if event.size:
                self.backend.give_back(event.lane, event.size)
                self.backend.open(self.sequencer.head, self.window.limit(self.sequencer.head))  # who is gated may pass
        else:
            self._take_home(batch, known, event.outcomes[known:] if known else event.outcomes, event)
        if batch is not None and batch.home == batch.count:
            self.backend.done(event.lane, batch)
            self._retire(lane)

    def _take_home(self, batch: CoreBatch, known: int, outcomes: list[Any], event: Arrived) -> None:
        count, start = len(outcomes), event.start + known
        for index, error in batch.failed.items():
            if start <= index < start + count:
                outcomes[index - start] = Failure(error)
        failed = event.failures or bool(batch.failed)
        if failed:
            self._count_failures(outcomes)
        owners = batch.owners(start, count)
        batch.come_home(start, outcomes, failed=failed, keeps_calls=self.keeps_calls)
        first, lane, times = batch.first + start, event.lane, event.times
        run = Run(
            getattr(lane, "pid", None),
            getattr(lane, "number", None),
            first,
            times.behind(known) if times is not None else None,
            time.monotonic(),
        )
        self.sequencer.put(Segment(first, count, owners, outcomes, lane, event.size, not event.rescued, run))

    def _on_slow(self, event: Slow) -> None:
        """Tasks stand behind one that takes long, and others have nothing to do: they get them."""
        lane = self.dispatcher.lanes.get(event.lane)
        if lane is None or not self._hurried or lane.recalled or lane.tickets < 2:
            return
        self._take_back(event.lane)
        if self.dispatcher.waiting_tickets:
            self.dispatcher.pace.overrun()

    def _hurry(self) -> None:
        """Look for slow tasks only while somebody would take what stands behind them."""
        if self.dispatcher.hungry != self._hurried:
            self._hurried = not self._hurried
            self.backend.hurry(self._hurried)

    def _count_failures(self, outcomes: list[Any]) -> None:
        for outcome in outcomes:
            if is_failure(outcome):
                self.counts.failed += 1
                if type(outcome) is Failure and isinstance(outcome.error, TaskKilledError):
                    self.counts.killed += 1

    def _retire(self, lane: LaneQueue) -> None:
        if lane.quota == 0 and not lane.batches:
            self.backend.retire(lane.key)

    def _on_lost(self, event: Lost) -> None:
        """A lane is gone.  Its running task is charged; what it had not started goes to others."""
        lane = self.dispatcher.lanes.get(event.lane)
        self._lost += 1
        self.counts.lost_workers += not event.deliberate
        if lane is not None:
            failed, cancelled = settle_loss(self.dispatcher, event)
            self.counts.retried += event.blame is not None and not failed
            self.counts.killed += len(failed) if event.deliberate else 0
            self._put_all(failed)
            self._skip_all(cancelled)
        if lane is None or (lane.heard < 0 and event.blame is None and event.suspect is None and not event.deliberate):
            self._died_in_vain(event)  # one that never sent anything home

    def _died_in_vain(self, event: Lost) -> None:
        if event.after < self._last_in_vain:
            return  # begun before the last that did, and gone with it: that is one blow
        self._last_in_vain = self._lost
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

    def kill(self, future: Future[Any]) -> None:
        """Stop one task that was with a worker."""
        if future.done():
            return
        future.killed = TaskKilledError(f"ticket {future.first} was stopped by kill()", future.first)
        batch = future.sent
        if batch is not None:
            self.backend.kill(batch.lane, batch.number, future.first - batch.first, future.killed)
        # else it is here, to be sent again: it will end with that error instead

    def _break(self, reason: BaseException) -> None:
        """No worker will run anything any more: what is not home fails, in order."""
        if self._broken is not None:
            return
        self._broken = reason
        self.inbox.claims.close(reason)
        self.inbox.backlog.close()
        self._take_claims()
        self._fail_all(reason)
        self.inbox.stream.end()
        self._closing = True

    def _fail_all(self, reason: BaseException) -> None:
        """Everything that waits or is with a lane fails.  What is home early keeps its outcome."""
        segments, cancelled = fail_everything(self.dispatcher, reason)
        self._put_all(segments)
        self._skip_all(cancelled)

    def _put_all(self, segments: list[Segment]) -> None:
        for segment in segments:
            self.counts.failed += segment.count
            self.sequencer.put(segment)

    def cancel_waiting(self) -> None:
        """shutdown(cancel_futures=True), cancel_pending(): what no worker has begun is cancelled."""
        self._take_claims()
        self.dispatcher.cancel_below = self.inbox.cancel_below
        for key in list(self.dispatcher.lanes):
            self._take_back(key)
        self._skip_all(self.dispatcher.drop_waiting())

    def kill_begun(self) -> None:
        """cancel_pending(kill=True): what has begun is stopped."""
        for lane in list(self.dispatcher.lanes.values()):
            for batch in lane.batches:
                for index in range(batch.home, min(batch.kept, self.inbox.cancel_below - batch.first)):
                    self.backend.kill(lane.key, batch.number, index, _stopped(batch.first + index))
        for future in self.dispatcher.drop_begun():
            outcomes: list[Any] = [Failure(_stopped(future.first))]
            self._count_failures(outcomes)
            self._put(future.first, 1, [future], outcomes)

    def kill_all(self, end: Callable[[], None] | None = None) -> None:
        """shutdown(kill_workers=True).  Again: whoever is still ending is killed now, if `end` does not spare it."""
        if self.inbox.finished.is_set():
            return
        if not self._killed:
            self._killed = True
            self._take_claims()
            failed = self.counts.failed
            self._fail_all(TaskKilledError("the workers were killed before this task was finished"))
            self.counts.killed += self.counts.failed - failed
        if end is None:
            self.backend.close(kill=True)
        else:
            end()

    def begin_closing(self) -> None:
        self._closing = True
        if self.inbox.demand is not None:
            self.inbox.demand.want_all()

    def _close_backend(self) -> None:
        if not self._backend_closing:
            self._backend_closing = True
            self.backend.close(kill=self._broken is not None or self._killed)


def _stopped(ticket: int) -> TaskKilledError:
    return TaskKilledError(f"ticket {ticket} was stopped by cancel_pending(kill=True)", ticket)


def _describe(future: Future[Any], segment: Segment) -> str:
    """For the note on an error: which task, and where it ran."""
    call, pid = future.call, getattr(segment.lane, "pid", None)
    return f"ticket {future.first}: {call_text(*as_call(call))}" + (f", worker pid {pid}" if pid is not None else "")
