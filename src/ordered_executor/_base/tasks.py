"""Tickets and the values that travel under them: plain values that import nothing of ours but errors.

A *ticket* is a dense sequence number given at submit.  A *segment* is a run of consecutive tickets whose outcomes came
home together.  The sequencer orders segments, so that its work is per batch and not per ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ordered_executor._base.times import Times


class Options(NamedTuple):
    """What one task may differ in from its neighbours."""

    retries: int = 0
    timeout: float | None = None
    extra: Any = None  # what only the backend understands; can be compared


class Failure(NamedTuple):
    """An outcome that the parent made itself: no worker could."""

    error: BaseException


class Skip(NamedTuple):
    """The outcome of a cancelled ticket."""


SKIP = Skip()


@dataclass(slots=True)
class Run:
    """Where and when the tasks of a segment ran: for outcomes, and for traces.  Times by `time.monotonic`."""

    pid: int | None
    number: int | None  # of the worker
    first: int
    times: Times | None
    home_at: float
    released_at: float = 0.0


@dataclass(slots=True)
class Segment:
    """Outcomes of the tickets `first .. first + count`, home in the parent.

    `outcomes` holds, per ticket, a plain value of a basic type, packed bytes, a `Failure`, … (see
    `_pickling.picklers`).
    `lane` and `size` say to whom how many bytes of credit go back when it is released.  `passed`: it came through the
    gate, and so counts as early while it waits; what the parent made (a mark, a skip, an error) or took from a dead
    worker did not.
    """

    first: int
    count: int
    owners: Sequence[Any]
    outcomes: list[Any]
    lane: Any = None
    size: int = 0
    passed: bool = False
    run: Run | None = None


class Alike(NamedTuple):
    """Calls of one function, with positional arguments only: `fn(*args[i])`, or `fn(args[i])` if `single`."""

    fn: Callable[..., Any]
    args: list[Any]
    single: bool


@dataclass(slots=True)
class Batch:
    """Consecutive tickets that travel to one lane together, as a backend sees them.

    A backend asks it for everything it needs, by the index of a ticket in it, and knows nothing else of the core's: not
    whether futures or a map wait for the outcomes.  `_core.batches` has the two kinds.

    `number`: batches ascend, and no two of a process have the same.  `first`: the first ticket.  `count`: how many.
    `home`: how many outcomes have come back, always a prefix.
    `apart`: pack every ticket on its own, because together they could not be loaded.
    `seconds`: what it is expected to take, at most what one is sized to take.
    `recorded`: when each task begins and ends is to be known.

    The backend fills in two things while it packs.  `load`: the bytes that it sends.  `failed`: what is wrong with
    single tickets; they pass through the worker as empty calls, to keep their place.
    """

    number: int
    first: int
    count: int = 0
    home: int = 0
    apart: bool = False
    seconds: float = 0.0
    recorded: bool = False
    load: int = 0
    failed: dict[int, BaseException] = field(default_factory=dict)

    def calls(self) -> list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]:
        """Function, arguments and keywords of each ticket."""
        raise NotImplementedError

    def alike(self) -> Alike | None:
        """The same for all of them together, where that says it; None: it does not, or there is only one to say."""
        raise NotImplementedError

    @property
    def one_function(self) -> bool:
        """Whether its calls share one copy of their function, whatever state that has: those of a map do."""
        raise NotImplementedError

    def packed(self, index: int) -> Any:
        """What `keep_packed` was given for a ticket, in this batch or an earlier one; else None."""
        raise NotImplementedError

    def keep_packed(self, index: int, packed: Any) -> None:
        """Keep the packed form of a call with its ticket: sent again, its arguments are what they were the first time.

        It has `fn`, `args` and `kwargs`, for messages.  Of a map nothing is kept: its calls are packed anew.
        """
        raise NotImplementedError

    def options(self, index: int) -> Options:
        raise NotImplementedError

    def timeouts(self) -> list[float | None]:
        """The time limit of each ticket; nothing if none has one."""
        raise NotImplementedError

    def losses(self) -> dict[int, int]:
        """By index, how often a worker has died of the ticket: of most batches, of none."""
        raise NotImplementedError

    def killed(self) -> dict[int, BaseException]:
        """By index, what tickets end with in place of a run: those that were stopped before they were sent."""
        raise NotImplementedError

    def functions(self) -> list[Callable[..., Any]]:
        """The function of each ticket, for messages; one alone stands for all of them."""
        raise NotImplementedError
