"""A backend on threads: each lane is a thread that runs one task after the other.

For docs/backends.md, which explains it, and for the tests of all backends, which it passes.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Any

from ordered_executor import OrderedExecutor
from ordered_executor._base.tasks import Batch, Failure
from ordered_executor._core.backend import Arrived, Backend, Blame, Ended, Event, Lost, Ready, Snapshot
from ordered_executor._core.event_queue import EventQueue
from ordered_executor._core.window import Window
from ordered_executor._pickling.outcomes import outcome_of, packed_size


class Lane:
    """A thread, and what it was given."""

    def __init__(self, after: int) -> None:
        self.calls: SimpleQueue[tuple[int, int, int, Any] | None] = SimpleQueue()
        self.kills: dict[tuple[int, int], BaseException] = {}
        self.at: tuple[int, int] | None = None  # the batch and the index of the task that runs
        self.gated = self.gone = False
        self.unreleased = 0
        self.after = after  # how many lanes had been lost before it


class ThreadBackend(Backend):
    """See `Backend`: what it does not say here, that does."""

    def __init__(self, window: Window, most: int) -> None:
        self._window, self._most = window, most
        self._lanes: set[Lane] = set()
        self._head = self._lost = 0
        self._closing = False
        self._events = EventQueue()
        self._changed = threading.Condition()  # guards the head, and what lanes know of themselves

    def want(self, lanes: int) -> None:
        while len(self._lanes) < min(lanes, self._most):
            lane = Lane(self._lost)
            self._lanes.add(lane)
            threading.Thread(target=self._work, args=(lane,), daemon=True).start()
            self._events.put(Ready(lane))

    def send(self, lane: Any, batch: Batch) -> None:
        with self._changed:  # some may have been stopped before: they only end
            lane.kills.update({(batch.number, index): reason for index, reason in batch.killed().items()})
        for index, call in enumerate(batch.calls()):
            lane.calls.put((batch.number, batch.first, index, call))

    def _work(self, lane: Lane) -> None:
        while (given := lane.calls.get()) is not None:
            number, first, index, call = given
            with self._changed:
                if lane.gone:
                    return
                lane.at = number, index
                killed = lane.kills.get(lane.at)
            begun = time.perf_counter()
            outcome = outcome_of(*call) if killed is None else Failure(killed)
            seconds, size = time.perf_counter() - begun, packed_size(outcome)
            with self._changed:
                lane.at = None
                while not self._may_go_on(lane, first + index, size):
                    lane.gated = True
                    self._changed.wait()
                lane.gated = False
                if lane.gone:
                    return
                lane.unreleased += size
                self._events.put(Arrived(lane, number, index, [outcome], size, seconds))
            del given, call, outcome  # nothing of a task outlives it here
        self._events.put(Ended(lane))

    def _may_go_on(self, lane: Lane, ticket: int, size: int) -> bool:
        return lane.gone or self._window.passes(self._head, ticket, size, lane.unreleased)

    def open(self, head: int, limit: int) -> None:
        with self._changed:
            self._head = head
            self._changed.notify_all()

    def give_back(self, lane: Any, size: int) -> None:
        with self._changed:
            lane.unreleased -= size
            self._changed.notify_all()

    def kill(self, lane: Any, number: int, index: int, reason: BaseException) -> None:
        with self._changed:
            lane.kills[number, index] = reason
            if lane.at == (number, index):  # a thread cannot be stopped: it is left behind, and another comes
                self._leave(lane)
                self._lost += 1
                self._events.put(Lost(lane, lane.after, Blame(number, index), reason, deliberate=True))

    def _leave(self, lane: Lane) -> None:
        lane.gone = True
        lane.calls.put(None)
        self._lanes.discard(lane)
        self._changed.notify_all()

    def close(self, kill: bool) -> None:
        self._closing = True
        with self._changed:
            for lane in tuple(self._lanes):
                self._leave(lane) if kill else lane.calls.put(None)

    @property
    def closed(self) -> bool:
        return self._closing and not self._lanes

    def wait(self, timeout: float | None) -> list[Event]:
        events = self._events.take(timeout)
        self._lanes -= {event.lane for event in events if type(event) is Ended}
        return events

    def wake(self) -> None:
        self._events.wake()

    def snapshot(self) -> Snapshot:
        lanes = self._lanes.copy()
        return Snapshot(len(lanes), sum(lane.gated for lane in lanes))


class OrderedThreadExecutor(OrderedExecutor):
    """Tasks run in threads of this process, and their outcomes come in order."""

    in_process = True  # for the tests of backends

    def __init__(self, max_workers: int = 2, *, window: int | None = None, **settings: Any) -> None:
        bounds = Window(window, 64 * 1024 * 1024, max_workers)
        super().__init__(ThreadBackend(bounds, max_workers), bounds, max_workers, **settings)
