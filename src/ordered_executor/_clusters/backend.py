"""A backend on a cluster: lanes are slots for batches, and results stay on the cluster until the window reaches them.

    send --> [_unsent] --> start --> a worker runs the part --> its outcomes stay on the cluster
                                                                     |  "ended" (a message, no outcomes)
    scheduler <-- [_posts] <-- fetch <-- inside the window? <---------+

Dask and Ray share this.  The methods of `Site` say what differs.  It imports neither.

Guarantees: outcomes travel to the parent only when all their tickets are before `head + window` and their bytes fit.
The lowest travel first, and those of a lane in the order they were sent.  Outcomes further ahead stay on the cluster,
where they keep no worker from other tasks.  So the head always gets a worker, and nothing can wait in a circle.

Lanes never end here: the cluster replaces its workers by itself, so a loss concerns a part, and never a lane.  There
are more lanes than workers: batches wait on the cluster for a free worker, lowest ticket first.  Several are sent at a
time, when half of the waiting ones are gone: a message costs the cluster as much as some tasks.

All of it runs on the scheduler, except `wake`.  Code that hears of the cluster puts into `_posts`.  Such a post ends
the scheduler's wait, and so does the clock, when it is time to look whether the cluster is there.
"""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from ordered_executor._base.error_tools import copy_error
from ordered_executor._base.errors import TaskTimeoutError, TerminatedWorkerError
from ordered_executor._base.tasks import Batch, Failure
from ordered_executor._clusters.homeward import Homeward
from ordered_executor._clusters.parts import Parcel, Part, Slot
from ordered_executor._clusters.store import Common, Store
from ordered_executor._clusters.task import Home, come_home
from ordered_executor._core.backend import Arrived, Backend, Broken, Event, Ready, Resized, Row, Snapshot
from ordered_executor._core.demand import Demand
from ordered_executor._core.dispatcher import AHEAD_WINDOW_PER_LANE
from ordered_executor._core.window import Window

# How often to look whether the cluster is there, and how large it is, while it has something to do.
LOOK_SECONDS = 0.5
# How often a part is run again after losses that are nobody's fault.
ACCIDENTS_MOST = 10
# Batches that wait on the cluster: so many for each worker, and so many besides.  They are filled up when half is gone.
# Fewer: the cluster's messages cost more than its tasks.  More: what was sent cannot be cancelled any more.
AHEAD_PER_WORKER = 2
AHEAD_LEAST = 8
# Of short ones as many for each worker as it runs in this time: they are sent and fetched together.
AHEAD_SECONDS = 0.1
AHEAD_MOST = 8
# On a cluster that grows with what there is to do, as many as it would run in so many seconds.
GROW_SECONDS = 10.0
LANES_MOST = 4096
HELD_STEP = 16


class Fetched(NamedTuple):
    """A part, its task when it was fetched, and its outcomes or why there are none."""

    part: Part
    task: Any
    home: Home | None
    error: BaseException | None


class ClusterBackend(Backend):
    """See the module, and `_core.backend.Backend`."""

    def __init__(self, window: int | None, window_bytes: int, workers: int) -> None:
        self.first_workers: int = max(1, workers)
        self.window: Window = Window(window, window_bytes, self.first_workers)
        self._homeward = Homeward(self.window)
        self.demand: Demand | None = self._homeward.demand
        self._narrow = False
        self._lanes: dict[Slot, deque[Part]] = {}  # what each has, in ticket order
        self._unsent: list[Part] = []
        self._numbers = itertools.count()
        self._busy = 0  # parts
        self._posts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._events: list[Event] = []
        self._head = 0
        self._limit = 0
        self._seconds: float | None = None  # that a part takes
        self._alarms: list[tuple[float, int, Part, int]] = []  # a heap: when which task will have run too long
        self._stall_seconds = math.inf  # how long the head may stand before somebody looks at the worker that has it
        self._stalled_since = time.monotonic()
        self._workers = workers
        self._elastic = False
        self._size: tuple[int, int, int] | None = None  # as the core was told
        self._looked = 0.0
        self._store = Store()
        self._closing = False
        self._broken = False

    # ----------------------------------------------------------------------------------- what a cluster must be able to

    def _start(self, parts: list[Part]) -> None:
        """Have the cluster run them: set `task`, and post `_on_ended` when it is done with it.  Does not wait."""
        raise NotImplementedError

    def _fetch(self, parts: list[Part]) -> None:
        """Fetch the outcomes of these, which have ended, and post `_on_fetched`.  Does not wait."""
        raise NotImplementedError

    def _forget(self, task: Any) -> None:
        """What has not begun need not begin, what is kept may go.  Does not wait."""
        raise NotImplementedError

    def _put(self, common: Common) -> None:
        """Put a buffer onto the cluster, and post `_on_put`.  Does not wait."""
        raise NotImplementedError

    def _look(self) -> None:
        """See how large the cluster is, and post `_on_workers`.  Does not wait."""
        raise NotImplementedError

    def _why_gone(self) -> str | None:
        """Why nothing will come from the cluster any more, if so."""
        raise NotImplementedError

    def _is_accident(self, error: BaseException) -> bool:
        """Whether a loss is nobody's fault."""
        raise NotImplementedError

    def _own_failure(self, part: Part, error: BaseException) -> BaseException | None:
        """What its only ticket ends with if it is not lost, but could not begin: something it needs has failed."""
        raise NotImplementedError

    def _stop(self, parts: list[Part]) -> None:
        """Stop what runs of them, if the cluster can.  Does not wait."""

    def _look_after(self, tasks: list[Any]) -> None:
        """The head has not moved for long: see whether the workers that have these are alive.  Does not wait."""

    # ------------------------------------------------------------------------------------------------------ the lanes

    def want(self, lanes: int) -> None:
        for number in range(len(self._lanes), lanes):
            slot = Slot(number)
            self._lanes[slot] = deque()
            self._events.append(Ready(slot))

    def send(self, lane: Any, batch: Batch) -> None:
        parcel = Parcel(batch, self._store.share)
        for start, count in parcel.runs():
            part = Part(parcel, lane, start, count)
            self._lanes[lane].append(part)
            self._busy += 1
            self._unsent.append(part)

    def _flush(self) -> None:
        """Send what there is to send."""
        parts, self._unsent = self._unsent, []
        startable = [part for part in parts if not part.gone and part.failure is None and not self._waits(part)]
        if not startable or self._closing:
            return
        try:
            self._start(startable)
        except Exception as error:
            if self._is_gone():
                return
            for part in startable:
                self._give_up(part)
                part.failure = error
                self._advance(part.slot)

    def _waits(self, part: Part) -> bool:
        """Whether a buffer of it is on its way to the cluster: then it is sent when that is there."""
        for common in part.shared():
            if not common.asked:
                common.asked = True
                self._put(common)
            if not common.settled:
                common.waiting.append(part)
                return True
        return False

    def _on_put(self, common: Common, ref: Any) -> None:
        """It lies there; or it could not be put there (`ref` is None), and travels with each task."""
        common.ref, common.settled = ref, True
        self._unsent += common.waiting
        common.waiting = []

    def _again(self, part: Part) -> None:
        part.ended = part.offered = False
        self._unsent.append(part)

    def _give_up(self, part: Part) -> None:
        if part.task is not None:
            self._forget(part.task)
            part.task = None

    # --------------------------------------------------------------------------------------------------- its size

    def _on_workers(self, workers: int, elastic: bool) -> None:
        """So many run at a time; `elastic`: there will be more if there is more to do."""
        self._workers, self._elastic = workers, elastic

    def _resize(self) -> None:
        """Tell the core how many batches may be on the cluster."""
        workers = max(1, self._workers)
        # In a window so narrow that it matters who sits behind whom, nothing waits there.
        short = min(AHEAD_MOST, int(AHEAD_SECONDS / (self._seconds or AHEAD_SECONDS)))
        ahead = 0 if self._narrow_for(workers) else max(AHEAD_PER_WORKER, short) * workers + AHEAD_LEAST
        if self._elastic or not self._workers:
            # What nobody knows, Dask takes for half a second.
            ahead = max(ahead, int(GROW_SECONDS * workers / max(self._seconds or 0.5, 1e-3)))
        # Of what is held back because nobody reads, a lane more for each: the cluster goes on working.
        held = -(-self._homeward.held // HELD_STEP) * HELD_STEP
        size = workers, min(workers + ahead + held, max(LANES_MOST, 2 * workers)), workers + ahead // 2 + held
        if size != self._size:
            self._size = size
            self._events.append(Resized(*size))

    def _narrow_for(self, workers: int) -> bool:
        return not self.window.wide and self.window.tickets < AHEAD_WINDOW_PER_LANE * workers

    # ----------------------------------------------------------------------------------------------------- the window

    def open(self, head: int, limit: int) -> None:
        if head != self._head:
            self._stalled_since = time.monotonic()
        self._head, self._limit = head, limit  # `wait` comes next, and lets in who may

    def give_back(self, lane: Any, size: int) -> None:
        self._homeward.released(size)

    def _advance(self, slot: Hashable) -> None:
        """Something has become of the first of a lane: what has failed goes, what has ended is offered."""
        parts = self._lanes[slot]  # type: ignore[index]
        while parts and parts[0].failure is not None:
            self._busy -= 1
            self._fail(parts.popleft())
        if parts and parts[0].ended and not parts[0].offered:
            self._homeward.offer(parts[0])

    def _let_in(self) -> None:
        """Fetch what is at the front of its lane and inside the window."""
        self._homeward.settle()
        if not self._rests():
            for parts in self._homeward.let_in(self._head, self._limit):
                self._fetch(parts)

    def _rests(self) -> float:
        return 0.0 if self._size is None else self._homeward.rests(self._busy, *self._size)

    def _fail(self, part: Part) -> None:
        assert part.failure is not None
        outcomes = [Failure(copy_error(part.failure)) for _ in range(part.count)]
        # "rescued", as it passed no gate
        self._events.append(Arrived(part.slot, part.parcel.batch.number, part.start, outcomes, 0, 0.0, rescued=True))

    # --------------------------------------------------------------------------------------------- from the cluster

    def wait(self, timeout: float | None) -> list[Event]:
        self._flush()
        self._let_in()
        if self._events:
            timeout = 0
        elif self._busy:
            soon = min(LOOK_SECONDS, max(0.0, self._alarms[0][0] - time.monotonic())) if self._alarms else LOOK_SECONDS
            soon = min(soon, self._rests() or soon)
            timeout = soon if timeout is None else min(timeout, soon)
        try:
            self._posts.get(timeout=timeout)() if timeout != 0 else self._posts.get_nowait()()
            while True:
                self._posts.get_nowait()()
        except queue.Empty:
            pass
        if not self._closing:
            self._look_at_clock(time.monotonic())
        self._resize()
        events, self._events = self._events, []
        return events

    def _look_at_clock(self, now: float) -> None:
        if self._busy and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self._is_gone():
                return
            self._look()
            if now - self._stalled_since >= self._stall_seconds / 2:
                mine = [part.task for parts in self._lanes.values() for part in parts if part.task is not None]
                self._look_after(mine)
        while self._alarms and self._alarms[0][0] <= now:
            _, attempt, part, index = heapq.heappop(self._alarms)
            if part.attempt == attempt and part.task is not None and not part.ended:
                self._overrun(part, index)

    def _on_begun(self, part: Part, attempt: int, index: int) -> None:
        """The worker has begun with this ticket of a part."""
        timeout = part.timeout(index)
        if part.attempt == attempt and timeout is not None:
            heapq.heappush(self._alarms, (time.monotonic() + timeout, attempt, part, index))

    def _overrun(self, part: Part, index: int) -> None:
        ticket = part.ticket + index
        text = f"ticket {ticket} ran longer than its timeout of {part.timeout(index)} s and was stopped"
        self.kill(part.slot, part.parcel.batch.number, part.start + index, TaskTimeoutError(text, ticket))

    def wake(self) -> None:
        self._posts.put(_nothing)

    def _on_ended(self, part: Part, task: Any) -> None:
        if part.task is task:
            part.ended = True
            self._advance(part.slot)

    def _on_fetched(self, fetched: list[Fetched]) -> None:
        for part, task, home, error in fetched:
            self._homeward.travelled(part)
            if part.task is task:  # else it was closed meanwhile, or stopped
                self._give_up(part)
                if home is not None:
                    self._arrive(part, home)
                else:
                    assert error is not None
                    self._on_lost(part, error)

    def _arrive(self, part: Part, home: Home) -> None:
        parts = self._lanes[part.slot]  # type: ignore[index]
        assert parts[0] is part
        parts.popleft()
        self._busy -= 1
        self._homeward.arrived(part, home.size)
        self._seconds = home.seconds if self._seconds is None else 0.8 * self._seconds + 0.2 * home.seconds
        outcomes = [come_home(outcome) for outcome in home.outcomes]
        slot = Slot(part.slot.number, home.pid)  # type: ignore[attr-defined]
        self._events.append(Arrived(slot, part.parcel.batch.number, part.start, outcomes, home.size, home.seconds))
        self._advance(part.slot)

    def _on_lost(self, part: Part, error: BaseException) -> None:
        """The cluster has given it up: its workers died, somebody cancelled it, or it could not be loaded there."""
        if self._is_gone():
            return
        if self._is_accident(error) and part.accidents < ACCIDENTS_MOST:
            part.accidents += 1
            self._store.forget_places()
            self._again(part)
        elif part.count > 1:
            self._take_apart(part)
        else:
            part.failure = self._judge(part, error)
            if part.failure is None:
                self._again(part)
        self._advance(part.slot)

    def _judge(self, part: Part, error: BaseException) -> BaseException | None:
        """What its ticket ends with; None: it is run again."""
        if (killed := part.parcel.killed(part.start)) is not None:
            return killed
        if (own := self._own_failure(part, error)) is not None:
            return own
        part.losses += 1
        if part.losses <= part.parcel.options(part.start).retries:
            return None
        text = f"the task of ticket {part.ticket} was lost on the cluster: {type(error).__name__}: {error}"
        failure = TerminatedWorkerError(text, part.ticket)
        failure.__cause__ = error
        return failure

    def _take_apart(self, part: Part) -> None:
        """From now on each of its tickets is a part; one that was stopped ends with the reason instead."""
        parts = self._lanes[part.slot]  # type: ignore[index]
        place = parts.index(part)
        del parts[place]
        part.gone = True
        self._busy += part.count - 1
        for index in range(part.start, part.start + part.count):
            single = Part(part.parcel, part.slot, index, 1)
            single.accidents = part.accidents
            parts.insert(place + index - part.start, single)
            single.failure = part.parcel.killed(index)
            if single.failure is None:
                self._unsent.append(single)

    def _is_gone(self) -> bool:
        """Whether the cluster is; then all that is not home fails, in order."""
        why = self._why_gone()
        if why is not None and not self._broken and not self._closing:
            self._broken = True
            self._events.append(Broken(BrokenProcessPool(why)))
        return why is not None

    # ------------------------------------------------------------------------------------------------- kill and close

    # A cluster tells nobody which of its tasks have begun, nor which are slow: what was sent is not taken back.

    def kill(self, lane: Any, number: int, index: int, reason: BaseException) -> None:
        for part in self._lanes[lane]:
            if part.parcel.batch.number == number and part.start <= index < part.start + part.count:
                part.parcel.kills[index] = reason
                if not part.ended and part.failure is None:
                    if part.task is not None:
                        self._stop([part])
                    self._give_up(part)
                    self._take_apart(part)
                    self._advance(lane)
                return

    def close(self, kill: bool) -> None:
        self._closing = True
        mine = [part for parts in self._lanes.values() for part in parts]
        if kill and (running := [part for part in mine if part.task is not None and not part.ended]):
            self._stop(running)
        for part in mine:
            self._give_up(part)
        self._lanes.clear()
        self._busy = 0

    @property
    def closed(self) -> bool:
        return self._closing

    def abandon(self) -> None:
        # What names the cluster's tasks stays referenced: letting go of one would tell the parent's cluster.
        self._posts = queue.SimpleQueue()

    def rows(self) -> list[Row]:
        # What a task does over there, the cluster's own dashboard shows.
        sent = [(slot, parts[0]) for slot, parts in list(self._lanes.items()) if parts]
        return [
            Row(slot, slot.number, None, "sent", batch=part.parcel.batch.number & 0xFFFFFFFF, index=part.start)
            for slot, part in sent
        ]

    def snapshot(self) -> Snapshot:
        return Snapshot(self._workers, self._homeward.count())


def _nothing() -> None:
    """What wakes whoever waits for posts."""
