"""A backend driven by hand: no process, no clock, and no thread of its own.

The test says what happens in the workers, and when the parent hears of it:

    submit -> [lane.batches] -> finish / fail -> (gate) -> [lane.stream] -> flush -> [lane.pipe] -> wait() -> scheduler
                                                   |                                      |
                                        [lane.held] until `open`              in the order the test likes

Each lane is faithful to `_processes.worker.main`: it runs in ticket order, holds one outcome at the gate, sends what
is finished, and keeps it readable for the parent (`peek`, `lose`).  It also asserts what a backend may expect of the
core: batches of consecutive tickets that no other lane has, nothing for a lane that is gone, `open` and `done` in
order.

`HandExecutor` is an executor on it without a thread: `step()` is one turn of the scheduler, made by the test itself.
`ThreadedExecutor` has the thread, for tests of what user threads and the scheduler do to each other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ordered_executor import OrderedExecutor
from ordered_executor._base.tasks import Batch
from ordered_executor._core.backend import (
    ALL,
    Arrived,
    Backend,
    Blame,
    Broken,
    Ended,
    Event,
    Lost,
    Ready,
    Resized,
    Returned,
    Row,
    Slow,
    Snapshot,
)
from ordered_executor._core.scheduler import Scheduler
from ordered_executor._core.window import Window
from ordered_executor._pickling.outcomes import pack_error, pack_value
from ordered_executor._pickling.picklers import BASIC, Large


class WorkerDied(Exception):
    """Why a hand-driven lane was lost."""


class FakeLane:
    """One worker: what it has been sent, what it has finished, and what is on its way home."""

    def __init__(self, backend: FakeBackend, number: int, quota: int | None) -> None:
        self.backend = backend
        self.pid = 1000 + number
        self.after = backend.lost
        self.quota = quota  # how many tasks it may run in its life
        self.ran = 0
        self.batches: deque[Batch] = deque()
        self.done = 0  # outcomes of the first batch that have passed the gate
        self.stream: list[tuple[Any, int]] = []  # the last of those, not yet in the pipe
        self.held: tuple[Any, int] | None = None  # the outcome at the gate
        self.pipe: deque[Event] = deque()  # sent, and not heard yet
        self.unreleased = 0
        self.heard: dict[int, int] = {}  # per batch number: how many outcomes the parent has heard of
        self.kills: dict[tuple[int, int], BaseException] = {}
        self.retired = False
        self.alive = True
        self.started = False  # the ticket it is at has begun; else it loads its batch
        self.generation = self.own_generation = self.recall = (
            0  # the parent's, its own, the word (see `_processes.recall`)
        )
        self.last = (-1, 0)  # which batch it was at, and how far it came there

    def __repr__(self) -> str:
        return f"lane {self.pid - 1000}"

    # ------------------------------------------------------------------------------------------------ what it is doing

    @property
    def ticket(self) -> int | None:
        """The ticket that runs or stands at the gate."""
        return self.batches[0].first + self.done if self.batches else None

    @property
    def running(self) -> int | None:
        """The ticket that runs."""
        return None if self.held is not None or not self.started else self.ticket

    @property
    def loading(self) -> bool:
        """Whether it has a batch of which it has begun nothing."""
        return bool(self.batches) and not self.started and self.held is None

    @property
    def recalled(self) -> bool:
        """Whether it begins nothing more of what it has."""
        return self.recall > self.own_generation

    def begun(self, number: int) -> int:
        """From which index on nothing of the batch has begun."""
        at, index = self.last
        if self.batches:
            at, index = self.batches[0].number, self.done + (self.started or self.held is not None)
        return index if number == at else 0 if number > at else ALL

    @property
    def gated(self) -> int | None:
        """The ticket that stands at the gate."""
        return None if self.held is None else self.ticket

    @property
    def holds_large(self) -> bool:
        """Whether what stands at the gate is too large to be found in the memory of a dead worker."""
        return self.held is not None and type(self.held[0]) is Large

    @property
    def tickets(self) -> list[int]:
        """What it has been sent, and will finish or hand back: once recalled, what has begun."""
        all_of_them = [
            batch.first + index
            for batch in self.batches
            for index in range(min(batch.count, self.begun(batch.number)) if self.recalled else batch.count)
        ]
        return all_of_them[self.done :]

    @property
    def unsent(self) -> range:
        """What it has finished, has passed the gate, and is not in the pipe."""
        ticket = self.batches[0].first + self.done if self.batches else 0
        return range(ticket - len(self.stream), ticket)

    def call(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The call that runs."""
        return self.batches[0].calls()[self.done]

    # ---------------------------------------------------------------------------------------------- what the test says

    def finish(self, value: Any = None, *, size: int | None = None, flush: bool = True) -> None:
        """The task that runs returns."""
        packed = value if type(value) in BASIC else pack_value(value)
        self._end(packed, size, flush)

    def fail(self, error: BaseException, *, size: int | None = None, flush: bool = True) -> None:
        """The task that runs raises."""
        self._end(pack_error(error), size, flush)

    def work(self, *, flush: bool = True) -> None:
        """Really run the task, in this very thread."""
        if self.done in self.batches[0].failed:
            self.finish(flush=flush)  # an empty call, to keep its place
            return
        fn, args, kwargs = self.call()
        try:
            value = fn(*args, **kwargs)
        except Exception as error:
            self.fail(error, flush=flush)
        else:
            self.finish(value, flush=flush)

    def _end(self, packed: Any, size: int | None, flush: bool) -> None:
        assert self.alive, f"{self} is dead"
        assert self.running is not None, f"{self} runs nothing"
        if size is None:
            size = packed.size if type(packed) is Large else len(packed) if type(packed) is bytes else 8
        if self._passes(size):
            self._pass((packed, size))
            if flush or self.done == self.batches[0].count:
                self.flush()
            self.go_on()
        else:
            self.flush()
            self.held = (packed, size)

    def _pass(self, outcome: tuple[Any, int]) -> None:
        self.stream.append(outcome)
        self.done += 1
        self.ran += 1
        self.started = False

    def go_on(self) -> None:
        """It comes to its next ticket, and begins it, unless it must load the batch before, or was recalled."""
        if not self.batches or not self.alive:
            return
        if self.recalled:
            self.hand_back()
        elif self.done or not self.backend.loads_slowly:
            self._begin()

    def load(self) -> None:
        """It has loaded its batch."""
        assert self.loading
        if self.recalled:
            self.hand_back()
        else:
            self._begin()

    def _begin(self) -> None:
        self.started = True
        assert self.ticket is not None
        self.backend.begun_tickets.append(self.ticket)

    def _do_not_begin(self) -> None:
        """It has not begun what it is at after all: it does something in the place of that."""
        if self.started:
            assert self.ticket is not None
            self.backend.begun_tickets.remove(self.ticket)
            self.started = False

    def slow(self) -> None:
        """Its task takes longer than most, as the parent sees, if it looks."""
        if self.backend.hurried:
            self.backend.seen.append(Slow(self))
            self.backend.happened()

    def _passes(self, size: int) -> bool:
        ticket = self.ticket
        assert ticket is not None
        window, backend = self.backend.window, self.backend
        home = self.unreleased + sum(size for _, size in self.stream)
        return window.passes(backend.head, ticket, size, home)

    def flush(self) -> None:
        """What has passed the gate goes into the pipe."""
        if not self.stream:
            return
        batch, start = self.batches[0], self.done - len(self.stream)
        size = sum(size for _, size in self.stream)
        seconds = self.backend.task_seconds * len(self.stream)
        self.unreleased += size
        self.pipe.append(Arrived(self, batch.number, start, [outcome for outcome, _ in self.stream], size, seconds))
        self.stream.clear()
        if self.done == batch.count:
            self.batches.popleft()
            self.last, self.done = (batch.number, ALL), 0
        self.backend.happened()

    def peek(self) -> bool:
        """The parent looks up what is finished and not sent, if the batch has the head.  False if there is nothing."""
        if not self.stream or self.held is not None:
            return False
        batch, start = self.batches[0], self.done - len(self.stream)
        if not batch.first <= self.backend.head < batch.first + batch.count:
            return False
        if start > self.heard.get(batch.number, 0):
            return False  # what is before it is in the pipe still
        self.backend.seen.append(Arrived(self, batch.number, start, [outcome for outcome, _ in self.stream], 0, 0.0))
        self.backend.happened()
        return True

    def hand_back(self, *, apart: bool = False) -> None:
        """What it has not started goes back; `apart`: because it could not even be loaded."""
        assert self.batches
        assert self.held is None
        assert not apart or not self.done
        self.flush()
        if not self.batches:
            return
        self._do_not_begin()
        self.pipe.append(Returned(self, self.batches[0].number, self.done, apart, self.recalled))
        self.own_generation += 1
        self._drop_batches()
        self.backend.happened()

    def _drop_batches(self) -> None:
        self.last = (self.batches[0].number, self.begun(self.batches[0].number)) if self.batches else self.last
        self.batches.clear()
        self.done = 0
        self.started = False

    def lose(
        self,
        *,
        blame: bool = True,
        suspect: bool = False,
        deliberate: bool = False,
        spared: bool = False,
        reason: BaseException | None = None,
    ) -> None:
        """The process dies: of the task it ran (`blame`), of loading its batch (`suspect`), or of nothing it did.

        `spared`: while it ran a task that is not to blame.  What had finished is found in its memory; what stands at
        the gate too, if it is small.
        """
        assert self.alive
        first = self.batches[0] if self.batches else None
        charged: Blame | None = None
        suspected = begun = None
        if first is not None:
            if self.held is not None and not self.holds_large:
                self._pass(self.held)
                self.held = None
                blame = False
            if self.stream:
                start = self.done - len(self.stream)
                outcomes = [outcome for outcome, _ in self.stream]
                self.pipe.append(Arrived(self, first.number, start, outcomes, 0, 0.0, rescued=True))
                self.stream.clear()
            if self.held is not None:
                charged = Blame(first.number, self.done, finished=True)
            elif suspect:
                assert not self.done
                suspected = first.number
            elif self.started and spared:
                begun = first.number
            elif self.started and blame:
                charged = Blame(first.number, self.done)
            else:
                self._do_not_begin()
        elif blame:
            raise AssertionError(f"{self} ran nothing it could be lost with")
        self.alive = False
        self.held = None
        self._drop_batches()
        self.backend.lost += 1
        why = reason or WorkerDied(f"{self} died")
        self.pipe.append(Lost(self, self.after, charged, why, deliberate, suspected, begun))
        self.backend.happened()

    def killed(self) -> bool:
        """Do what `kill` asked for, if its task runs now.  True if so."""
        if self.running is None:
            return False
        reason = self.kills.get((self.batches[0].number, self.done))
        if reason is None:
            return False
        self.lose(deliberate=True, reason=reason)
        return True


class FakeBackend(Backend):
    """See the module.  `_core.backend.Backend` says what each call means."""

    def __init__(self, window: Window, max_lanes: int) -> None:
        self.window = window
        self.max_lanes = max_lanes
        self.lanes: list[FakeLane] = []  # in the order they came
        self.wanted = 0
        self.head = self.limit = -1
        self.seen: deque[Event] = deque()  # heard before everything in the pipes
        self.closing = self.released = self.abandoned = self.killing = False
        self.open_by_itself = False  # a lane that is wanted is there
        self.refuses: Callable[[Any], BaseException | None] = lambda _: None  # why a call cannot be packed
        self.sent: list[range] = []  # the tickets of each batch ever sent
        self.task_seconds = 0.0  # how long a task is said to have taken; 0: nothing is learned from it
        self.listens = True  # False: `wait` returns only what is in `seen`
        self.lost = 0  # lanes
        self.knows = True  # False: nobody can see what has begun
        self.loads_slowly = False  # True: a batch is loaded when the test says so
        self.hurried = False
        self.begun_tickets: list[int] = []  # the tickets that have begun, each time they did
        self._numbers = 0
        self._woken = threading.Condition()
        self._wake = False

    # ---------------------------------------------------------------------------------------------- what the test says

    @property
    def missing(self) -> int:
        """How many lanes the core waits for."""
        return 0 if self.closing else self.wanted - sum(not lane.retired for lane in self.lanes)

    def open_lane(self, quota: int | None = None) -> FakeLane:
        """A worker is ready, wanted or not."""
        assert sum(not lane.retired for lane in self.lanes) < max(self.max_lanes, self.wanted)
        lane = FakeLane(self, self._numbers, quota)
        self._numbers += 1
        self.lanes.append(lane)
        lane.pipe.append(Ready(lane, quota))
        self.happened()
        return lane

    def lane_of(self, ticket: int) -> FakeLane:
        """The lane that runs the ticket, or stands at the gate with it."""
        for lane in self.lanes:
            if lane.alive and lane.ticket == ticket:
                return lane
        raise AssertionError(f"no lane is at ticket {ticket}: {[(lane, lane.ticket) for lane in self.lanes]}")

    def finish(self, ticket: int, value: Any = None, *, size: int | None = None, flush: bool = True) -> None:
        """The task with that ticket returns."""
        self.lane_of(ticket).finish(value, size=size, flush=flush)

    def fail(self, ticket: int, error: BaseException) -> None:
        """The task with that ticket raises."""
        self.lane_of(ticket).fail(error)

    def resize(self, workers: int, lanes: int) -> None:
        """There are more workers from now on, or fewer."""
        self.max_lanes = lanes
        self.seen.append(Resized(workers, lanes))
        self.happened()

    def break_down(self, reason: BaseException) -> None:
        """There will be no lanes any more."""
        self.seen.append(Broken(reason))
        self.happened()

    def happened(self) -> None:
        """Let a scheduler that has a thread look."""
        with self._woken:
            self._woken.notify_all()

    # ------------------------------------------------------------------------------------------- what the core asks for

    def want(self, lanes: int) -> None:
        """Remember how many lanes are useful."""
        assert lanes > 0
        self.wanted = lanes
        if self.open_by_itself:
            while self.missing > 0:
                self.open_lane()

    def send(self, lane: Any, batch: Batch) -> None:
        """Give the lane a batch, if it can still be given one."""
        assert lane in self.lanes, f"a batch for {lane}, which is gone"
        assert not lane.retired, f"a batch for {lane}, which is to end"
        assert batch.count > 0
        assert batch.home == 0
        if lane.quota is not None:
            assert lane.ran + len(lane.tickets) + batch.count <= lane.quota, "more tasks than the lane may run"
        tickets = range(batch.first, batch.first + batch.count)
        for other in self.lanes:
            if other.alive:
                assert not set(tickets) & set(other.tickets), f"{other} has it already"
        if lane.tickets:
            assert lane.tickets[-1] < batch.first, "a lane runs in ticket order"
        self._look_at_calls(batch)
        self.sent.append(tickets)
        if lane.alive and lane.generation == lane.own_generation:
            lane.batches.append(batch)
            if len(lane.batches) == 1:
                lane.go_on()
        # else: it is dead, or has handed everything back, and the parent has not heard of it yet

    def _look_at_calls(self, batch: Batch) -> None:
        calls = batch.calls()
        assert len(calls) == batch.count
        for index, call in enumerate(calls):
            error = self.refuses(call)
            if error is not None:
                batch.failed[index] = error
        batch.failed.update(batch.killed())

    def done(self, lane: Any, batch: Batch) -> None:
        """Check that everything of the batch was heard."""
        assert batch.home == batch.count
        assert lane.heard.pop(batch.number) == batch.count, "told twice, or too early"

    def open(self, head: int, limit: int) -> None:
        """Move the window; whoever may pass the gate now, does."""
        assert head >= self.head, "the head moved back"
        assert limit == head + self.window.tickets
        self.head, self.limit = head, limit
        self._judge()

    def give_back(self, lane: Any, size: int) -> None:
        """Credit comes back; whoever may pass the gate now, does."""
        lane.unreleased -= size
        assert lane.unreleased >= 0, "more credit than was taken"
        self._judge()

    def _judge(self) -> None:
        for lane in self.lanes:
            if lane.alive and lane.held is not None and lane._passes(lane.held[1]):
                lane._pass(lane.held)
                lane.held = None
                lane.flush()
                lane.go_on()

    def recall(self, lane: Any) -> None:
        """The word is written; the lane looks when it comes to its next ticket."""
        lane.recall = lane.generation + 1

    def begun(self, lane: Any, number: int) -> int:
        """What the worker's words say."""
        return int(lane.begun(number)) if self.knows else 0

    def settled(self, lane: Any, number: int, *, may_stop: bool = False) -> int:
        """The same, for good."""
        handed_back = lane.own_generation > lane.generation
        assert lane.recall > lane.generation or handed_back or not lane.alive, "settled before it was recalled"
        return int(lane.begun(number)) if self.knows else ALL

    def hurry(self, on: bool) -> None:
        """Whether `FakeLane.slow` is heard."""
        assert on != self.hurried
        self.hurried = on

    def kill(self, lane: Any, number: int, index: int, reason: BaseException) -> None:
        """Remember whom to kill: the test says when (`FakeLane.killed`)."""
        assert lane in self.lanes
        lane.kills[number, index] = reason

    def retire(self, lane: Any) -> None:
        """End the lane, which is idle, or gone already: then the scheduler hears of that next."""
        if lane not in self.lanes:
            assert not lane.alive
            return
        assert not lane.tickets, f"{lane} has something to do"
        lane.retired = True
        lane.alive = False
        lane.pipe.append(Ended(lane))
        self.happened()

    def wait(self, timeout: float | None) -> list[Event]:
        """What has happened: `seen` first, then pipe by pipe."""
        with self._woken:
            if timeout != 0:
                self._woken.wait_for(lambda: self._wake or self.seen or any(lane.pipe for lane in self.lanes), timeout)
            self._wake = False
        events: list[Event] = []
        while self.seen:
            events.append(self._hear(self.seen.popleft()))
        for lane in tuple(self.lanes):
            while lane.pipe and self.listens:
                events.append(self._hear(lane.pipe.popleft()))
        return events

    def hear(self, lane: FakeLane) -> None:
        """Have the next `wait` return the next event of this lane before those of the others."""
        self.seen.append(lane.pipe.popleft())

    def _hear(self, event: Event) -> Event:
        if type(event) is Arrived:
            lane: Any = event.lane
            lane.heard[event.number] = max(lane.heard.get(event.number, 0), event.start + len(event.outcomes))
        elif type(event) is Returned:
            returned: Any = event.lane
            returned.heard.pop(event.number, None)
            returned.generation += 1
        elif isinstance(event, (Lost, Ended)):
            gone: Any = event.lane
            if gone in self.lanes:
                self.lanes.remove(gone)
        return event

    def wake(self) -> None:
        """Let `wait` return."""
        with self._woken:
            self._wake = True
            self._woken.notify_all()

    def close(self, kill: bool) -> None:
        """End all lanes at once."""
        if not kill:
            assert not any(lane.tickets for lane in self.lanes), "closed, and something is unfinished"
        self.closing = True
        self.killing = kill
        for lane in self.lanes:
            lane.alive = False
        self.lanes.clear()

    @property
    def closed(self) -> bool:
        """Whether all lanes are gone."""
        return self.closing and not self.lanes

    def release(self) -> None:
        """The end."""
        assert self.closed
        self.released = True

    def abandon(self) -> None:
        """The end, in a forked child."""
        self.abandoned = True

    def rows(self) -> list[Row]:
        """What each lane is doing."""
        rows = []
        for lane in self.lanes:
            state = "idle" if lane.ticket is None else "running" if lane.held is None else "gated"
            batch = lane.batches[0].number & 0xFFFFFFFF if lane.batches else None
            rows.append(Row(lane, lane.pid - 1000, lane.pid, state, 0.5, batch, lane.done))
        return rows

    def snapshot(self) -> Snapshot:
        """For statistics."""
        return Snapshot(
            len(self.lanes), sum(lane.held is not None for lane in self.lanes), tuple(lane.pid for lane in self.lanes)
        )


class _FakeExecutor(OrderedExecutor):
    """An executor on the hand-driven backend; `backend` and `scheduler` for the test to use."""

    def __init__(
        self,
        lanes: int = 2,
        *,
        window: int | None = None,
        window_bytes: int = 1024 * 1024,
        first: int = 0,
        backlog: int | None = None,
        retries: int = 0,
        timeout: float | None = None,
        keep_results: bool | None = None,
        unseen_errors: str = "ignore",
    ) -> None:
        bounds = Window(window, window_bytes, lanes)
        self.backend = FakeBackend(bounds, lanes)
        self._first_ticket = first
        super().__init__(
            self.backend,
            bounds,
            lanes,
            backlog=backlog,
            retries=retries,
            timeout=timeout,
            keep_results=keep_results,
            unseen_errors=unseen_errors,
        )
        self.scheduler = self._scheduler


class HandExecutor(_FakeExecutor):
    """Without a thread: nothing happens but what the test does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with mock.patch.object(Scheduler, "start"):
            super().__init__(*args, **kwargs)

    @contextmanager
    def as_scheduler(self) -> Iterator[None]:
        """What is called here is called on the scheduler, as a done-callback is."""
        before, self.scheduler.inbox.ident = self.scheduler.inbox.ident, threading.get_ident()
        try:
            yield
        finally:
            self.scheduler.inbox.ident = before

    def step(self) -> None:
        """One turn of the scheduler."""
        with self.as_scheduler():
            self.scheduler.step(0)

    def open_lanes(self, count: int, quota: int | None = None) -> list[FakeLane]:
        """So many workers are ready, and have what is for them."""
        lanes = [self.backend.open_lane(quota) for _ in range(count)]
        self.step()
        return lanes

    def finish(self, ticket: int, value: Any = None, **how: Any) -> None:
        """The task returns, and the scheduler hears of it."""
        self.backend.finish(ticket, value, **how)
        self.step()

    def fail(self, ticket: int, error: BaseException) -> None:
        """The task raises, and the scheduler hears of it."""
        self.backend.fail(ticket, error)
        self.step()

    def quiet(self) -> bool:
        """Whether the scheduler has nothing to do."""
        inbox, backend = self.scheduler.inbox, self.backend
        return not (inbox.posts or inbox.claims.waiting() or backend.seen or any(lane.pipe for lane in backend.lanes))

    def settle(self) -> None:
        """Turns of the scheduler until it has nothing to do."""
        while True:
            self.step()
            if self.quiet():
                break

    def run_all(self) -> None:
        """Workers come as they are wanted and really run everything that can run."""
        self.settle()
        while True:
            while self.backend.missing > 0:
                self.backend.open_lane()
            self.settle()
            for lane in self.backend.lanes:
                if lane.alive and lane.loading:
                    lane.load()
            busy = [lane for lane in self.backend.lanes if lane.alive and lane.running is not None]
            if not busy and self.quiet():
                return
            for lane in busy:
                if lane.alive and lane.running is not None:
                    lane.work()
            self.settle()

    def end(self) -> None:
        """Finish everything, shut down, and let go."""
        self.run_all()
        self.shutdown(wait=False)
        self.settle()
        assert self.backend.closed, "the executor did not end"


class ThreadedExecutor(_FakeExecutor):
    """With its thread; workers come as soon as they are wanted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.backend.open_by_itself = True

    def work_by_itself(self) -> None:
        """The lanes run what they have whenever the scheduler goes to wait."""
        backend, before = self.backend, self.backend.wait

        def work_and_wait(timeout: float | None) -> list[Event]:
            for lane in backend.lanes:
                while lane.running is not None:
                    lane.work()
            return before(timeout)

        backend.wait = work_and_wait  # type: ignore[method-assign]
        backend.wake()
