"""Observers, which are told of events: the log, and traces.

They get a few calls for each batch, on the scheduler, and none for a task.

Levels of the logger `ordered_executor`:

- DEBUG: workers that are ready, batches that are sent, tickets that are taken back;
- INFO: workers that died, were stopped (a time limit, `kill()`) or replaced, and tasks that run again;
- WARNING: something costs speed or memory, or does not work as it was asked for; each once, with the remedy;
- ERROR: failures that nobody looked at, callbacks that raised;
- CRITICAL: a defect of ours.
"""

from __future__ import annotations

import logging
from typing import Any

from ordered_executor._base.tasks import Batch
from ordered_executor._core.backend import Ended, Event, Lost, Ready, Returned

logger = logging.getLogger("ordered_executor")


class Observer:
    """Hears of everything, and must not raise."""

    def heard(self, event: Event) -> None:
        """The backend said so; the scheduler has not acted on it yet."""

    def sent(self, lane: Any, batch: Batch) -> None:
        """A lane has got a batch."""

    def released(self, before: int, head: int, early: int) -> None:
        """The head has moved; so many outcomes wait at home."""

    def close(self) -> None:
        """The executor has ended."""


class Observers:
    """All who are told, in turn."""

    def __init__(self) -> None:
        self._all: tuple[Observer, ...] = (Log(),)

    def add(self, observer: Observer) -> None:
        self._all = (*self._all, observer)

    def discard(self, observer: Observer) -> None:
        self._all = tuple(each for each in self._all if each is not observer)

    def heard(self, event: Event) -> None:
        for each in self._all:
            each.heard(event)

    def sent(self, lane: Any, batch: Batch) -> None:
        for each in self._all:
            each.sent(lane, batch)

    def released(self, before: int, head: int, early: int) -> None:
        for each in self._all:
            each.released(before, head, early)

    def close(self) -> None:
        for each in self._all:
            each.close()


class Log(Observer):
    """See the levels above."""

    def heard(self, event: Event) -> None:
        if type(event) is Lost:
            again = "" if event.deliberate else "; what it had not begun goes to others"
            logger.info("%s is gone: %s%s", name_of(event.lane), event.reason, again)
        elif type(event) is Ended:
            logger.info("%s has ended as it was told", name_of(event.lane))
        elif type(event) is Ready:
            logger.debug("%s is ready", name_of(event.lane))
        elif type(event) is Returned:
            logger.debug("%s hands back what it has not begun of batch %d", name_of(event.lane), event.number)

    def sent(self, lane: Any, batch: Batch) -> None:
        if batch.losses():
            logger.info("some of the tickets from %d to %d run again", batch.first, batch.first + batch.count - 1)
        if logger.isEnabledFor(logging.DEBUG):
            last = batch.first + batch.count - 1
            logger.debug("%s gets the tickets from %d to %d", name_of(lane), batch.first, last)


def name_of(lane: Any) -> str:
    """A worker, as it is called in messages."""
    number, pid = getattr(lane, "number", None), getattr(lane, "pid", None)
    return f"worker {number}" + (f" (pid {pid})" if pid is not None else "")
