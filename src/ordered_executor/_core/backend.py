"""What the core asks of a backend: something that runs batches and honours the window.

The core knows no process.  `_processes.backend` (loky workers) is one backend, `_clusters.backend` another; the test
suite has one that is driven by hand, and one on threads (tests/examples/thread_backend.py, which docs/backends.md
explains).  `Backend` says what each call means.  This is what holds for all of them:

*Lanes.*  A lane is a place where one batch runs at a time, ticket by ticket, in order; it may be sent a second one
ahead.  The backend makes the key of a lane, any hashable object.  If it has a `pid` and a `number`, messages, outcomes
and traces name them.

    want --> Ready --send--> Arrived, Arrived, ... --send--> ...  Ended (retire, close)
                       |                                          Lost  (its process is gone)
                       +---> Returned: not begun, goes elsewhere

*Batches.*  A batch stays with its lane until each of its tickets has come home by `Arrived`, was handed back by
`Returned`, or the lane is `Lost`.  What is wrong with single tickets goes into `batch.failed` while it is sent; they
come home like the others, with any outcome, which the core replaces.

*Outcomes* have one of these forms.  `_pickling.outcomes.outcome_of` runs a call and gives the first three.

- A value of a basic type (`_pickling.picklers.BASIC`): itself.
- Any other value: what `pack_value` makes of it.
- An error: what `pack_error` makes of it.
- An error that the parent makes itself: `Failure`.

*The window.*  An outcome comes home only when `Window.passes` says so.  Ask again after `open` and after `give_back`.
The outcome at the head always passes.  Until one passes it stays where it is, and keeps its lane.

*Threads.*  All calls come from the scheduler, but these, which any thread may make at any time: `wake`, `recall`,
`begun`, `settled`, `snapshot`, `rows`.  Those of them that must not block may come in a signal handler or a finalizer,
so they take no lock that the scheduler holds.

*The beginning and the end.*  The core calls `open` once before its thread starts, and registers the executor for the
end of the interpreter and for forks.  The end, in this order:

1. `close(kill=False)` when nothing is left to do; or `close(kill=True)` when the rest has failed.  The second may
   follow the first, and may come again.
2. `wait`, until `closed` is true.
3. `release`, once.  No call follows, but for `wake`, `snapshot` and `rows`, which may come late.

Or, in a forked child, `abandon` alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Snapshot(NamedTuple):
    """For statistics: how many workers there are, how many wait at the gate, and the processes of those ready."""

    workers: int
    gated: int = 0
    pids: tuple[int, ...] = ()


class Backend(ABC):
    """See the module.  What is not abstract need not be there: not every backend can do it."""

    demand: Demand | None = None  # how much may lie unread in the parent, where outcomes can be kept elsewhere

    # ------------------------------------------------------------------------------------------------ lanes and batches

    @abstractmethod
    def want(self, lanes: int) -> None:
        """So many lanes are useful; start what is missing.  Does not wait for them: `Ready` tells of each.

        Called again and again, with what is useful then; more than the executor's `max_workers` it never is.
        """

    @abstractmethod
    def send(self, lane: Any, batch: Batch) -> None:
        """Pack and send a batch.  Does not block, and raises nothing: see *batches*.

        Ask the batch now: its arguments go when its outcomes are home.
        """

    def done(self, lane: Any, batch: Batch) -> None:
        """Everything of the batch is home, or will not come: what was kept for it may go."""

    def retire(self, lane: Any) -> None:
        """The lane will get nothing more: end it when it is idle.  Only for lanes that are `Ready` with a quota."""
        raise AssertionError("a lane without a quota is retired")

    # ------------------------------------------------------------------------------------------------------- the window

    @abstractmethod
    def open(self, head: int, limit: int) -> None:
        """The head has moved; or the window was shared anew."""

    @abstractmethod
    def give_back(self, lane: Any, size: int) -> None:
        """Outcomes of so many bytes of this lane, which may be gone, were released."""

    # ---------------------------------------------------------------------------------------------- stop, and take back

    @abstractmethod
    def kill(self, lane: Any, number: int, index: int, reason: BaseException) -> None:
        """Stop the task, now or when it runs; if that comes too late, it keeps its outcome.

        It ends with the reason: by a `Lost` that blames it, or by an outcome.  What was stopped before it is sent,
        `Batch.killed` names.
        """

    def recall(self, lane: Any) -> None:
        """Have the lane begin nothing more of what it has been sent: it will hand that back.  Never blocks."""

    def begun(self, lane: Any, number: int) -> int:
        """At a glance: the tickets of the batch before this index have begun.  It may be less.  Never blocks.

        `ALL` if nobody knows: then what was sent cannot be cancelled any more.
        """
        return ALL

    def settled(self, lane: Any, number: int, *, may_stop: bool = False) -> int:
        """After `recall`: from this index on nothing of the batch begins any more.  Never blocks.

        `ALL` if nobody knows.  It may be one too many.  `may_stop`: the scheduler asks.  To find out, it may stop the
        worker for an instant.
        """
        return ALL

    def hurry(self, on: bool) -> None:
        """Whether to tell which lanes are `Slow`: some have nothing to do, and others tasks behind the one they run."""

    # --------------------------------------------------------------------------------------------------------- its turn

    @abstractmethod
    def wait(self, timeout: float | None) -> list[Event]:
        """Wait for something to happen, at most so many seconds; also returns when woken, with nothing maybe.

        `_core.event_queue` has this and `wake`, for backends whose events come from threads.
        """

    @abstractmethod
    def wake(self) -> None:
        """Let `wait` return, the present one or the next.  Never blocks."""

    # ---------------------------------------------------------------------------------------------------------- the end

    @abstractmethod
    def close(self, kill: bool) -> None:
        """End all lanes (kill: at once).  Does not wait; `closed` becomes true when all of it is gone.

        When it does, `wait` returns.
        """

    @property
    @abstractmethod
    def closed(self) -> bool:
        """See `close`."""

    def release(self) -> None:
        """After `closed`: let go of the last things.  May wait for what is ending by itself."""

    def abandon(self) -> None:
        """In a forked child: let go without touching what is the parent's."""

    # ----------------------------------------------------------------------------------------------- for those who look

    @abstractmethod
    def snapshot(self) -> Snapshot: ...

    def rows(self) -> list[Row]:
        """What each lane is doing now, where that is known."""
        return []
