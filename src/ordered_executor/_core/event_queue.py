"""`Backend.wait` and `Backend.wake`, for backends whose events come from threads."""

from __future__ import annotations

from queue import Empty, SimpleQueue

from ordered_executor._core.backend import Event


class EventQueue:
    """Any thread puts events, also in a signal handler or a finalizer; the scheduler takes them."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Event | None] = SimpleQueue()  # whose `put` may come in the middle of another

    def put(self, event: Event) -> None:
        self._queue.put(event)

    def wake(self) -> None:
        """Let `take` return."""
        self._queue.put(None)

    def take(self, timeout: float | None) -> list[Event]:
        """All events there are; if there is none, wait for one, at most so many seconds."""
        events: list[Event | None] = []
        try:
            events.append(self._queue.get(timeout != 0, timeout))
            while True:
                events.append(self._queue.get_nowait())
        except Empty:
            return [event for event in events if event is not None]
