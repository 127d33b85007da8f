"""What the core asks of a backend: something that runs batches and honours the window.

The core knows no process.  `_processes.backend` (loky workers) is one backend, `dask` another; the test suite's is
driven by hand. All calls come from the scheduler, but `wake`, `recall`, `begun` and `settled`, which any thread may
call.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from ordered_executor._base.tasks import Batch
from ordered_executor._base.times import Times
from ordered_executor._core.demand import Demand


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
    times: Times | None = None  # when each task began and ended, where it was recorded
    failures: bool = True  # whether errors may be among the outcomes: who knows that there is none spares a look


@dataclass(slots=True)
class Returned:
    """A lane has not started the batch from `start` on, nor anything behind it.  What is before it has arrived.

    `apart`: it could not be loaded together.  `recalled`: because of `recall`.  Else it took too long.
    """

    lane: Hashable
    number: int
    start: int
    apart: bool = False
    recalled: bool = False


@dataclass(slots=True)
class Slow:
    """The task that the lane runs takes longer than most.  Told while `hurry` is asked for, maybe several times."""

    lane: Hashable


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
    `begun`: the batch whose first ticket that is not home had begun, although nobody is to blame for the death.
    """

    lane: Hashable
    after: int
    blame: Blame | None
    reason: BaseException
    deliberate: bool = False  # killed by us: a timeout, or kill()
    suspect: int | None = None  # the batch that could not even be loaded: any of its tickets may be to blame
    begun: int | None = None


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
    refill: int | None = None  # so many with a batch are few enough to fill up all of them again; None: halfway


@dataclass(slots=True)
class Broken:
    """There will be no lanes any more."""

    reason: BaseException


@dataclass(frozen=True, slots=True)
class Row:
    """What one lane is doing, for `running()`: see `Running`.  `batch` is the lower half of the batch's number."""

    lane: Hashable
    number: int | None
    pid: int | None
    state: str
    seconds: float = 0.0
    batch: int | None = None
    index: int = 0


Event = Ready | Arrived | Returned | Slow | Lost | Ended | Resized | Broken

# How many of a batch have begun, where nobody knows: more than there can be.
ALL = 1 << 32


class Backend(Protocol):
    """See the module.  `send` may raise nothing: what is wrong with a ticket goes into `batch.failed`."""

    @property
    def demand(self) -> Demand | None:
        """How much may lie unread in the parent, where outcomes can be kept elsewhere."""
        ...

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

    def recall(self, lane: Hashable) -> None:
        """Have the lane begin nothing more of what it has been sent: it will hand that back.

        From any thread, also in a signal handler or a finalizer; never blocks.  Where that is not to be had: nothing.
        """
        ...

    def begun(self, lane: Hashable, number: int) -> int:
        """At a glance, from any thread: the tickets of the batch before this index have begun.  It may be less."""
        ...

    def settled(self, lane: Hashable, number: int) -> int:
        """After `recall`, from any thread; never blocks.  From this index on nothing of the batch begins any more.

        `ALL` if nobody knows.  It may be one too many.
        """
        ...

    def hurry(self, on: bool) -> None:
        """Whether to tell which lanes are `Slow`: some have nothing to do, and others tasks behind the one they run."""
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
        """For statistics: `workers`, `gated`, `pids`.  From any thread."""
        ...

    def rows(self) -> list[Row]:
        """What each lane is doing now.  From any thread."""
        ...
