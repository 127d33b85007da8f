"""What was seen of a pipeline: written by many threads while it runs (single appends only), checked afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ordered_executor import Statistics

from .journal import Line
from .plan import Plan


class Final(NamedTuple):
    """How a task ended, wherever that was seen: in its future, in a stream, in a map."""

    value: Any = None
    error: BaseException | None = None
    cancelled: bool = False


class Delivery(NamedTuple):
    """One thing that a reader of the stream was given.  `ticket` is None where the reader is not told."""

    ticket: int | None
    value: Any
    error: BaseException | None


class Shot(NamedTuple):
    """A signal that was sent to a worker, and what the worker was doing, as far as that could be seen."""

    pid: int
    what: str
    kills: bool


@dataclass
class MapRecord:
    """What one map yielded, in the order of its inputs."""

    finals: list[Final] = field(default_factory=list)
    started: bool = False
    ended: bool = False  # it said so itself, by StopIteration
    cut_short: BaseException | None = None  # what ended it that was not the outcome of a task
    input_errors: list[int] = field(default_factory=list)  # before which outcomes errors of its input arrived


@dataclass
class Record:
    """All that was seen."""

    plan: Plan
    tickets: dict[int, int] = field(default_factory=dict)  # uid -> ticket, of what was submitted
    later_tickets: dict[int, int] = field(default_factory=dict)  # the same, asked again at the end
    refusals: list[BaseException] = field(default_factory=list)  # what submit raised
    finals: dict[int, Final] = field(default_factory=dict)  # uid -> how its future ended
    unfinished: list[int] = field(default_factory=list)  # uids whose future was not done at the end
    released: list[int] = field(default_factory=list)  # tickets, in the order of the callbacks on the scheduler
    called_back: list[int] = field(default_factory=list)  # uids, once for each callback
    streams: list[list[Delivery]] = field(default_factory=list)  # one for each reader
    reads: dict[int, Final] = field(default_factory=dict)  # uid -> what a reader of futures got
    cancelled_all: bool = False  # cancel_pending() was called
    killed_all: bool = False  # with kill=True
    cancelled: set[int] = field(default_factory=set)  # uids whose cancel() returned True
    killed: set[int] = field(default_factory=set)  # uids whose kill() returned True
    maps: list[MapRecord] = field(default_factory=list)
    shots: list[Shot] = field(default_factory=list)
    mischief_done: Counter[str] = field(default_factory=Counter)
    lines: list[Line] = field(default_factory=list)  # the journal
    statistics: Statistics | None = None  # at the end
    cut: bool = False  # the ending came half way
    complaints: list[str] = field(default_factory=list)  # what was wrong while it ran

    def complain(self, text: str) -> None:
        """Something is wrong."""
        self.complaints.append(text)
