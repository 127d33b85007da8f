"""Tickets and what travels under them: plain values that import nothing of ours but errors.

A *ticket* is a dense sequence number given at submit.  A *segment* is a run of consecutive tickets whose outcomes
came home together: the sequencer orders segments, so that its work is per batch and not per ticket.
"""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(slots=True)
class Batch:
    """Consecutive tickets that travel to one lane together.

    `home` counts the outcomes that have come back: always a prefix.  `failed` holds what the parent found wrong with
    single tickets while packing (they pass through the worker as empty calls, to keep their place).
    `apart`: pack every ticket on its own, because together they could not be loaded.
    `load`: the bytes that were sent.  `seconds`: what it is expected to take, at most what one
    is sized to take.
    `lane`: the key of the lane that has it.  `kept`: the tickets from this index on are not with the lane any more:
    they were taken back.  `settled`: from this index on the lane begins nothing, which was found out when it was
    recalled; whoever finds it out stores it, on any thread.
    """

    number: int
    first: int
    count: int
    owners: Sequence[Any]
    apart: bool = False
    home: int = 0
    load: int = 0
    seconds: float = 0.0
    again: bool = False  # some of it may have been with a worker that died
    recorded: bool = False  # when each task begins and ends is to be known
    failed: dict[int, BaseException] = field(default_factory=dict)
    lane: Any = None
    kept: int = -1
    settled: int | None = None

    def __post_init__(self) -> None:
        self.kept = self.count
