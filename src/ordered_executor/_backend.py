"""What the core asks of a backend: something that runs batches and honours the window.

The core knows no process.  `_lanes` (loky workers) is one backend, `dask` another; the test suite's is driven by hand.
All calls come from the releaser, but `wake`, which any thread may call.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from ._ticket import Batch


@dataclass(slots=True)
class Ready:
    """A lane can take batches now; `quota` is how many tasks it may run in its life (None: any number)."""

    lane: Hashable
    quota: int | None = None


@dataclass(slots=True)
class Arrived:
    """Outcomes of a batch, from index `start` on.  `size` is their credit; `seconds` the work they took.

    Both are 0 for what was fetched early: it comes again, and then they are told.
    `rescued`: from the memory of a dead worker, so that they may be outside the window.
    """

    lane: Hashable
    number: int
    start: int
    outcomes: list[Any]
    size: int
    seconds: float
    rescued: bool = False


@dataclass(slots=True)
class Returned:
    """A lane has not started the batch from `start` on, nor anything behind it.  What is before it has arrived."""

    lane: Hashable
    number: int
    start: int
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Blame:
    """Which task a lane died of (`finished`: it had ended, but its outcome was lost with the process)."""

    number: int
    index: int
    finished: bool = False


@dataclass(slots=True)
class Lost:
    """A lane is gone, its process too.  `reason` is what the blamed task gets, if it is not run again.

    `after`: how many had been lost when this one was begun.
    """

    lane: Hashable
    after: int
    blame: Blame | None
    reason: BaseException
    deliberate: bool = False  # killed by us: a timeout, or kill()
    suspect: int | None = None  # the batch that could not even be loaded: any of its tickets may be to blame


@dataclass(slots=True)
class Ended:
    """A lane has ended as it was told to; it had nothing left to do."""

    lane: Hashable


@dataclass(slots=True)
class Resized:
    """So many workers run batches from now on, and so many lanes may have one at a time: as many, or more.

    Where there are more lanes than workers, the batches of the others wait for a worker on its side.
    """

    workers: int
    lanes: int


@dataclass(slots=True)
class Broken:
    """There will be no lanes any more."""

    reason: BaseException


Event = Ready | Arrived | Returned | Lost | Ended | Resized | Broken


class Backend(Protocol):
    """See the module.  `send` may raise nothing: what is wrong with a ticket goes into `batch.failed`."""

    def want(self, lanes: int) -> None:
        """So many lanes are useful; start what is missing.  Does not wait for them."""
        ...

    def send(self, lane: Hashable, batch: Batch) -> None:
        """Pack and send a batch.  Does not block."""
        ...

    def done(self, lane: Hashable, batch: Batch) -> None:
        """Everything of the batch is home, or will not come: what was kept for it may go."""
        ...

    def open(self, head: int, limit: int) -> None:
        """The head has moved."""
        ...

    def give_back(self, lane: Hashable, size: int) -> None:
        """Outcomes of so many bytes were released."""
        ...

    def kill(self, lane: Hashable, number: int, index: int, reason: BaseException) -> None:
        """Stop the task, now or when it runs; if that comes too late, it keeps its outcome.  A `Lost` may follow."""
        ...

    def retire(self, lane: Hashable) -> None:
        """The lane will get nothing more: end it when it is idle."""
        ...

    def wait(self, timeout: float | None) -> list[Event]:
        """Wait for something to happen, at most so many seconds; also returns when woken."""
        ...

    def wake(self) -> None:
        """Let `wait` return.  From any thread, also in a signal handler or a finalizer; never blocks."""
        ...

    def close(self, kill: bool) -> None:
        """End all lanes (kill: at once).  `closed` becomes True when all of it is gone."""
        ...

    @property
    def closed(self) -> bool: ...

    def release(self) -> None:
        """After `closed`: let go of the last things.  May wait for what is ending by itself."""
        ...

    def abandon(self) -> None:
        """In a forked child: let go without touching what is the parent's."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """For statistics: `workers`, `gated`, `pids`."""
        ...
