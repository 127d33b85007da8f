"""The ordering core against a model: every operation, every fault, in any order, without a process or a clock.

The model is a list of what became of each ticket in the workers.  After every step the invariants of the design are
checked; at the end everything that can run is run, which must bring the head to the tail.
"""

# ruff: noqa: D102 (a rule is named as what it does)

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ordered_executor import Future, ResultsTimeoutError, TaskKilledError
from ordered_executor._core.scheduler import DEATHS_IN_VAIN
from tests.fake import FakeLane, HandExecutor, WorkerDied

JUST_BELOW_THE_WRAP = 2**64 - 3


class Boom(Exception):
    """What a failing task raises."""


class BadInput(Exception):
    """What a failing input of a map raises."""


class Ticket:
    """What the model knows of one ticket."""

    def __init__(self, number: int, kind: str, retries: int = 0) -> None:
        self.number = number
        self.kind = kind  # task, mark, call (of a map)
        self.retries = retries
        self.future: Future[Any] | None = None  # None: nobody holds it any more
        self.runs = 0
        self.charges = 0  # workers that died of it
        self.ended: Any = None  # how its last run ended: a str, or a Boom's argument in a list
        self.kill_asked = self.cancelled = self.read = self.yielded = False
        self.seen_done = False

    def end(self, fails: bool) -> str:
        """It ends once more; what it returns, or raises."""
        self.runs += 1
        text = f"{self.number}/{self.runs}"
        self.ended = [text] if fails else text
        return text


class Mapping:
    """What the model knows of one map."""

    def __init__(self, iterator: Iterator[Any], error_at: int | None) -> None:
        self.iterator: Any = iterator
        self.error_at = error_at
        self.tickets: list[int] = []
        self.position = 0
        self.closed = False


def nothing(*_: Any) -> None:
    """The task: what it returns, the test says."""


def picks() -> st.SearchStrategy[int]:
    """Which of those there are, modulo their number."""
    return st.integers(0, 11)


class OrderingMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize(
        lanes=st.integers(1, 3),
        window=st.sampled_from([1, 2, 3, 16, 24, None]),
        window_bytes=st.sampled_from([1, 30, 1000000]),
        first=st.sampled_from([0, JUST_BELOW_THE_WRAP]),
        retries=st.integers(0, 2),
        backlog=st.sampled_from([None, 3, 9]),
        task_seconds=st.sampled_from([0.0, 1e-5, 1.0]),
        knows=st.booleans(),
        loads_slowly=st.booleans(),
    )
    def begin(
        self,
        lanes: int,
        window: int | None,
        window_bytes: int,
        first: int,
        retries: int,
        backlog: int | None,
        task_seconds: float,
        knows: bool,
        loads_slowly: bool,
    ) -> None:
        self.first = first
        self.backlog = backlog
        self.retries = retries
        self.max_lanes = lanes
        self.executor = HandExecutor(
            lanes, window=window, window_bytes=window_bytes, first=first, retries=retries, backlog=backlog
        )
        self.backend = self.executor.backend
        self.backend.task_seconds = task_seconds
        self.backend.knows, self.backend.loads_slowly = knows, loads_slowly
        self.stream = self.executor.outcomes()
        self.tickets: dict[int, Ticket] = {}
        self.maps: list[Mapping] = []
        self.head = first
        self.order: list[int] = []  # as the done-callbacks see it
        self.vain = 0  # workers that died of nothing they did
        self.cancelled_below = first  # what was cancelled all at once
        self.closed = self.kill_all = self.broken = False

    # ------------------------------------------------------------------------------------------------------- helpers

    @property
    def tail(self) -> int:
        return self.first + len(self.tickets)

    def held(self) -> list[Ticket]:
        return [ticket for ticket in self.tickets.values() if ticket.future is not None]

    def lanes(self) -> list[FakeLane]:
        return [lane for lane in self.backend.lanes if lane.alive]

    def running(self) -> list[FakeLane]:
        return [lane for lane in self.lanes() if lane.running is not None]

    def has_begun(self, number: int) -> bool:
        return number in self.backend.begun_tickets

    def is_with_a_lane(self, ticket: Ticket) -> bool:
        return ticket.future is not None and ticket.future.sent is not None

    def add(self, kind: str, future: Future[Any], retries: int, watched: bool) -> None:
        assert future.ticket == self.tail
        ticket = self.tickets[future.ticket] = Ticket(future.ticket, kind, retries)
        ticket.future = future
        if watched:
            future.add_done_callback(lambda f: self.order.append(future_ticket(f)))

    def room(self) -> bool:
        return self.backlog is None or self.executor.scheduler.inbox.backlog.unread < self.backlog

    def note_claims_of(self, mapping: Mapping) -> None:
        for number in range(self.tail, self.executor.scheduler.inbox.claims.tail):
            self.tickets[number] = Ticket(number, "call", self.retries)
            mapping.tickets.append(number)

    # ---------------------------------------------------------------------------------------------------- user threads

    @rule(retries=st.none() | st.integers(0, 2), watched=st.booleans(), in_callback=st.booleans())
    def submit(self, retries: int | None, watched: bool, in_callback: bool) -> None:
        view = self.executor if retries is None else self.executor.options(retries=retries)
        if self.closed or self.executor.scheduler._broken:
            with pytest.raises(BrokenProcessPool if self.executor.scheduler._broken else RuntimeError):
                view.submit(nothing)
        elif in_callback or not self.room():
            with self.executor.as_scheduler():
                self.add("task", view.submit(nothing), self.retries if retries is None else retries, watched)
        else:
            self.add("task", view.submit(nothing), self.retries if retries is None else retries, watched)

    @precondition(lambda self: not self.closed and not self.executor.scheduler._broken and self.room())
    @rule(watched=st.booleans(), count=st.integers(1, 40))
    def submit_many(self, watched: bool, count: int) -> None:
        for _ in range(count):
            if self.room():
                self.add("task", self.executor.submit(nothing), self.retries, watched)

    @precondition(lambda self: not self.closed and not self.executor.scheduler._broken and self.room())
    @rule(watched=st.booleans())
    def mark(self, watched: bool) -> None:
        self.add("mark", self.executor.mark(self.tail), 0, watched)

    @precondition(lambda self: not self.closed and not self.executor.scheduler._broken and len(self.maps) < 4)
    @rule(
        count=st.integers(0, 7) | st.none(),
        buffersize=st.integers(1, 4),
        bounded=st.booleans(),
        chunksize=st.none() | st.integers(1, 3),
        fails=st.booleans(),
    )
    def map(self, count: int | None, buffersize: int, bounded: bool, chunksize: int | None, fails: bool) -> None:
        def inputs() -> Iterator[int]:
            yield from itertools.count() if count is None else range(count)
            if fails:
                raise BadInput

        size = buffersize if bounded or count is None else None
        iterator = self.executor.map(nothing, inputs(), buffersize=size, chunksize=chunksize)
        mapping = Mapping(iterator, count if fails else None)
        self.maps.append(mapping)
        self.note_claims_of(mapping)

    @precondition(lambda self: self.held())
    @rule(pick=picks())
    def cancel(self, pick: int) -> None:
        ticket = self.held()[pick % len(self.held())]
        assert ticket.future is not None
        before, sent = ticket.future.done(), self.is_with_a_lane(ticket)
        if ticket.future.cancel():
            assert not self.has_begun(ticket.number)
            ticket.cancelled = True
            assert ticket.future.cancelled()
            assert ticket.future.done()
        elif not before and ticket.kind != "mark":
            assert self.has_begun(ticket.number) or (sent and not self.backend.knows)

    @rule()
    def cancel_pending_interrupted(self) -> None:
        """Ctrl-C came before the lanes were recalled."""
        self.executor.scheduler.inbox.cancel_below = self.cancelled_below = self.executor.scheduler.inbox.claims.tail
        self.executor.scheduler.inbox.post(self.executor.scheduler.cancel_waiting)

    @precondition(lambda self: self.maps)
    @rule(pick=picks())
    def close_map_interrupted(self, pick: int) -> None:
        """The same for a map that is being closed."""
        mapping = self.maps[pick % len(self.maps)]
        scheduler = self.executor.scheduler
        spans = list(mapping.iterator._intake.spans)
        mapping.iterator._intake.spans.clear()
        mapping.iterator.close()
        mapping.closed = True
        for span in spans:
            span.cancelled = True
            scheduler.inbox.post(lambda span=span: scheduler.drop_span(span))  # type: ignore[misc]

    @rule(kill=st.integers(0, 5))
    def cancel_pending(self, kill: int) -> None:
        self.executor.cancel_pending(kill=kill == 0)
        self.cancelled_below = self.executor.scheduler.inbox.claims.tail
        if kill == 0:
            for ticket in self.tickets.values():
                ticket.kill_asked = True
        if self.backend.knows:  # else what was sent is cancelled when it comes back
            self.executor.step()
            for ticket in self.held():
                assert ticket.future is not None
                begun = self.has_begun(ticket.number)
                assert ticket.kind == "mark" or ticket.future.done() or begun or self.executor.scheduler._broken

    @precondition(lambda self: self.held())
    @rule(pick=picks())
    def kill(self, pick: int) -> None:
        ticket = self.held()[pick % len(self.held())]
        assert ticket.future is not None
        before = ticket.future.done()
        assert ticket.future.kill() == (not before)
        ticket.kill_asked = True
        ticket.cancelled = ticket.future.cancelled()

    @precondition(lambda self: any(t.future.done() for t in self.held()))
    @rule(pick=picks(), in_callback=st.booleans())
    def read_future(self, pick: int, in_callback: bool) -> None:
        done = [ticket for ticket in self.held() if ticket.future is not None and ticket.future.done()]
        ticket = done[pick % len(done)]
        assert ticket.future is not None
        if ticket.future.cancelled():
            with pytest.raises(CancelledError):
                ticket.future.exception()
        elif in_callback:
            ticket.future.add_done_callback(Future.exception)
        else:
            ticket.future.exception()
            ticket.read = True

    @precondition(lambda self: self.held())
    @rule(pick=picks())
    def drop_future(self, pick: int) -> None:
        ticket = self.held()[pick % len(self.held())]
        assert ticket.future is not None
        if ticket.kind == "mark" or ticket.runs or ticket.future.done():  # else it may be cancelled behind our back
            self.is_cancelled(ticket.number)
            ticket.future = None

    @rule(count=st.integers(1, 5))
    def read_log(self, count: int) -> None:
        for _ in range(count):
            expected = self.next_of_the_stream()
            try:
                number, value, error = self.stream.next(timeout=0)
            except ResultsTimeoutError:
                assert expected is None
                assert self.head < self.executor.scheduler.inbox.claims.tail
                break
            except StopIteration:
                assert expected is None
                assert self.head == self.executor.scheduler.inbox.claims.tail
                break
            assert expected is not None
            assert number == expected.number
            expected.yielded = True
            self.check_outcome(expected, value, error)

    def next_of_the_stream(self) -> Ticket | None:
        for number in range(self.first, self.head):
            ticket = self.tickets[number]
            let_go = ticket.read and ticket.future is None
            if ticket.kind != "call" and not (ticket.yielded or ticket.cancelled or let_go):
                return ticket
        return None

    @precondition(lambda self: self.maps)
    @rule(pick=picks(), count=st.integers(1, 5))
    def read_map(self, pick: int, count: int) -> None:
        mapping = self.maps[pick % len(self.maps)]
        for _ in range(count):
            if not self.read_one_of(mapping):
                break

    def read_one_of(self, mapping: Mapping) -> bool:
        """Read one outcome of a map, if it need not wait for it."""
        there = mapping.position < len(mapping.tickets) and mapping.tickets[mapping.position] < self.head
        expected = self.tickets[mapping.tickets[mapping.position]] if there and not mapping.closed else None
        error: BaseException | None = None
        value = None
        try:
            with self.executor.as_scheduler():
                value = next(mapping.iterator)
        except StopIteration:
            assert mapping.closed or (mapping.position == len(mapping.tickets) and expected is None)
            mapping.closed = True
            return False
        except CancelledError:
            assert mapping.tickets[mapping.position] < self.cancelled_below
            mapping.closed = True
            return False
        except BadInput:
            assert expected is None
            assert mapping.position == len(mapping.tickets) == mapping.error_at
            return True
        except RuntimeError as refusal:
            if "done-callback" in str(refusal):
                assert expected is None
                return False
            ended = "after shutdown" in str(refusal) or isinstance(refusal, BrokenProcessPool)
            if ended and expected is None:
                assert mapping.position == len(mapping.tickets)
                return True
            error = refusal
        except Exception as raised:
            error = raised
        finally:
            self.note_claims_of(mapping)
        assert expected is not None, (value, error)
        mapping.position += 1
        self.check_outcome(expected, value, error)
        return True

    @precondition(lambda self: self.maps)
    @rule(pick=picks())
    def close_map(self, pick: int) -> None:
        mapping = self.maps[pick % len(self.maps)]
        mapping.iterator.close()
        mapping.closed = True

    @precondition(lambda self: len(self.tickets) > 3)
    @rule(cancel=st.booleans(), kill=st.integers(0, 5))
    def shutdown(self, cancel: bool, kill: int) -> None:
        self.executor.shutdown(wait=False, cancel_futures=cancel, kill_workers=kill == 0)
        self.closed = True
        if cancel:
            self.cancelled_below = self.executor.scheduler.inbox.claims.tail
        self.kill_all |= kill == 0

    # --------------------------------------------------------------------------------------------------------- workers

    @rule(workers=st.integers(1, 4), ahead=st.integers(0, 2))
    def resize(self, workers: int, ahead: int) -> None:
        self.backend.resize(workers, workers + ahead)

    @precondition(lambda self: self.backend.missing > 0)
    @rule(quota=st.none() | st.integers(1, 4))
    def lane_ready(self, quota: int | None) -> None:
        self.backend.open_lane(quota)

    @precondition(lambda self: self.backend.missing > 0)
    @rule()
    def all_lanes_ready(self) -> None:
        while self.backend.missing > 0:
            self.backend.open_lane()
        self.executor.settle()

    @precondition(lambda self: self.running())
    @rule(
        pick=picks(),
        count=st.integers(1, 8),
        fails=st.booleans(),
        large=st.booleans(),
        size=st.integers(1, 40),
        flush=st.booleans(),
    )
    def finish(self, pick: int, count: int, fails: bool, large: bool, size: int, flush: bool) -> None:
        lane = self.running()[pick % len(self.running())]
        for _ in range(count):
            if lane.running is None:
                break
            text = self.tickets[lane.running].end(fails)
            if fails:
                lane.fail(Boom(text), size=size, flush=flush)
            elif large:
                lane.finish((text, b"." * 40000), size=size)
            else:
                lane.finish(text, size=size, flush=flush)

    @precondition(lambda self: any(lane.loading for lane in self.lanes()))
    @rule(pick=picks())
    def load(self, pick: int) -> None:
        lanes = [lane for lane in self.lanes() if lane.loading]
        lanes[pick % len(lanes)].load()

    @precondition(lambda self: self.running())
    @rule(pick=picks())
    def slow(self, pick: int) -> None:
        self.running()[pick % len(self.running())].slow()

    @precondition(lambda self: self.lanes())
    @rule(pick=picks())
    def flush(self, pick: int) -> None:
        self.lanes()[pick % len(self.lanes())].flush()

    @precondition(lambda self: any(lane.stream for lane in self.lanes()))
    @rule(pick=picks())
    def peek(self, pick: int) -> None:
        lanes = [lane for lane in self.lanes() if lane.stream]
        lanes[pick % len(lanes)].peek()

    @precondition(lambda self: self.running())
    @rule(pick=picks())
    def hand_back(self, pick: int) -> None:
        lane = self.running()[pick % len(self.running())]
        if lane.done:
            lane.hand_back()
        elif self.travels_together(lane):
            lane.hand_back(apart=True)

    def travels_together(self, lane: FakeLane) -> bool:
        """Whether a lane's batch may be in one pickle."""
        batch = lane.batches[0]
        return not batch.apart and (batch.one_function or batch.count > 1)

    @precondition(lambda self: self.lanes())
    @rule(pick=picks(), how=st.sampled_from(["blame", "blame", "suspect", "spared", "idle"]))
    def lose(self, pick: int, how: str) -> None:
        lane = self.lanes()[pick % len(self.lanes())]
        ticket, gated = lane.ticket, lane.gated
        if ticket is None:
            lane.lose(blame=False)
            self.vain += 1
            return
        loads = lane.batches[0].one_function or self.travels_together(lane)
        suspect = how == "suspect" and loads and not lane.done and gated is None and not lane.started
        if gated is not None:
            if lane.holds_large:
                self.tickets[ticket].charges += 1
            lane.lose()
        elif suspect:
            if lane.batches[0].apart or lane.batches[0].count == 1:
                self.tickets[ticket].charges += 1
            lane.lose(suspect=True)
        elif how == "idle" or lane.loading:
            self.vain += 1
            lane.lose(blame=False)
        elif how == "spared":
            self.vain += 1
            lane.lose(spared=True)
        else:
            self.tickets[ticket].runs += 1
            self.tickets[ticket].charges += 1
            lane.lose()

    @precondition(lambda self: any(lane.kills for lane in self.lanes()))
    @rule()
    def stop_what_is_to_be_stopped(self) -> None:
        for lane in self.lanes():
            if lane.kills:
                lane.killed()

    @precondition(lambda self: len(self.tickets) > 12)
    @rule(really=st.integers(0, 5))
    def break_down(self, really: int) -> None:
        if really == 0:
            self.backend.break_down(BrokenProcessPool("no more workers"))
            self.broken = True

    # -------------------------------------------------------------------------------------------------------- scheduler

    @rule()
    def step(self) -> None:
        self.executor.step()

    @rule(order=st.lists(picks(), max_size=4))
    def step_hearing_some(self, order: list[int]) -> None:
        """The scheduler hears only a part of what has happened, in any order between the lanes."""
        for pick in order:
            lanes = [lane for lane in self.backend.lanes if lane.pipe]
            if lanes:
                self.backend.hear(lanes[pick % len(lanes)])
        self.backend.listens = False
        try:
            self.executor.step()
        finally:
            self.backend.listens = True

    # ------------------------------------------------------------------------------------------------------ invariants

    def order_and_bounds(self) -> None:
        scheduler = self.executor.scheduler
        sequencer = scheduler.sequencer
        assert self.head <= sequencer.head <= sequencer.tail <= scheduler.inbox.claims.tail == self.tail
        self.head = sequencer.head
        assert self.backend.head == self.head
        released = [number for number in self.order if not self.is_cancelled(number)]
        assert released == sorted(set(released)), "done-callbacks out of order"
        for ticket in self.tickets.values():
            if ticket.future is not None:
                self.check_future(ticket, ticket.future)

    def is_cancelled(self, number: int) -> bool:
        ticket = self.tickets[number]
        if ticket.future is not None and ticket.future.cancelled():
            ticket.cancelled = True
        return ticket.cancelled

    def check_future(self, ticket: Ticket, future: Future[Any]) -> None:
        if future.cancelled():
            ticket.cancelled = True
            assert not self.has_begun(ticket.number), "cancelled, and a worker has begun it"
            return
        assert future.done() == (ticket.number < self.head), "a future is done before its turn, or not at its turn"
        if future.done() and not ticket.seen_done:
            ticket.seen_done = True
            value, error = future.peek() if not ticket.kill_asked else (future._result, future._exception)
            self.check_outcome(ticket, value, error)

    def check_outcome(self, ticket: Ticket, value: Any, error: BaseException | None) -> None:
        """The outcome is that of its last run, or that of a fault that hit it."""
        if type(error) is TaskKilledError:
            assert ticket.kill_asked or self.kill_all
        elif type(error) is WorkerDied:
            assert ticket.charges == ticket.retries + 1
        elif isinstance(error, BrokenProcessPool):
            assert self.broken or self.vain >= DEATHS_IN_VAIN
        elif error is not None:
            assert type(error) is Boom
            assert [str(error)] == ticket.ended
        elif ticket.kind == "mark":
            assert value == ticket.number
        else:
            assert (value[0] if type(value) is tuple else value) == ticket.ended
        assert ticket.runs <= 1 + ticket.retries, "it ran too often"
        if ticket.kind != "mark" and error is None:
            assert ticket.runs >= 1

    def window(self) -> None:
        """What is early lies inside the window; its bytes too."""
        sequencer, window = self.executor.scheduler.sequencer, self.executor.scheduler.window
        early = 0
        for first, segment in sequencer._waiting.items():
            if segment.passed and first != self.head:
                assert self.head < first <= first + segment.count - 1 < self.head + window.tickets
                early += segment.count
        assert early == sequencer.early < window.tickets
        assert sequencer.early_bytes <= window.bytes

    def backlog_counts(self) -> None:
        if self.backlog is None:
            return
        unread = sum(
            ticket.kind != "call"
            and not ticket.read
            and not ticket.yielded
            and not (ticket.cancelled and ticket.number < self.head)
            for ticket in self.tickets.values()
        )
        assert self.executor.scheduler.inbox.backlog.unread == unread

    def progress(self) -> None:
        """The head can always run, pass the gate, and be released."""
        if not self.executor.quiet() or self.head == self.tail:
            return
        for lane in self.lanes():
            assert lane.gated != self.head, "the head stands at the gate"
            if self.head in lane.unsent:
                return  # finished, in a row: the lane sends it after what it runs, or the parent looks there
            if self.head in lane.tickets:
                assert lane.ticket == self.head, f"the head waits behind {lane.running} in {lane}"
                return
            if lane.recalled and lane.loading:
                return  # it is about to hand back what it has, and will have the head
        assert self.backend.missing > 0, "no lane has the head, and no lane will come"

    # ------------------------------------------------------------------------------------------------------------- end

    def teardown(self) -> None:
        if not hasattr(self, "executor"):
            return
        self.executor.settle()
        self.check()
        for _ in range(10 * len(self.tickets) + 10):
            if self.head == self.tail:
                break
            while self.backend.missing > 0:
                self.backend.open_lane()
            self.executor.settle()
            self.finish_all()
            self.executor.settle()
            self.check()
        assert self.head == self.tail, "not everything came to an end"
        self.read_log(len(self.tickets) + 1)
        assert self.next_of_the_stream() is None
        for mapping in self.maps:
            while mapping.position < len(mapping.tickets) and not mapping.closed and self.read_one_of(mapping):
                if self.executor.scheduler.inbox.claims.tail > self.head:
                    mapping.iterator.close()
                    break
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.cancelled_below = self.tail
        self.executor.settle()
        while self.running() or any(lane.loading for lane in self.lanes()):
            self.finish_all()
            while self.backend.missing > 0:
                self.backend.open_lane()
            self.executor.settle()
        self.check()
        assert self.backend.closed
        statistics = self.executor.statistics()
        assert (statistics.in_flight, statistics.early, statistics.early_bytes, statistics.waiting) == (0, 0, 0, 0)
        assert not self.executor.scheduler.dispatcher.lanes or self.kill_all or self.backend.closed

    def finish_all(self) -> None:
        for lane in self.lanes():
            if lane.loading:
                lane.load()
        for lane in self.running():
            assert lane.running is not None
            lane.finish(self.tickets[lane.running].end(fails=False))

    @invariant()
    def check(self) -> None:
        self.order_and_bounds()
        self.window()
        self.backlog_counts()
        self.progress()


def future_ticket(future: Any) -> int:
    """What a done-callback notes."""
    return int(future.ticket)


TestOrderingMachine = OrderingMachine.TestCase
TestOrderingMachine.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)
