"""Plans: what a pipeline is made of.  Plain frozen data, drawn from a seed and a number, and printable.

The draw is by halves: settings and habits first (how long tasks take, how large payloads are, which faults there may
be), then the tasks; so that some pipelines are all alike, some wild, and most somewhere in between.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task: what it is given, how long it takes, what it answers, what goes wrong with it."""

    uid: int
    seconds: float = 0.0
    answer: str = "int"
    size: int = 0
    argument: str = ""  # the kind of a payload for it, if any
    argument_size: int = 0
    call: str = "function"  # or "closure", "partial", "method", "mark"
    fault: str = ""
    retries: int = 0
    timeout: float | None = None
    pause: float = 0.0  # before it is submitted


@dataclass(frozen=True)
class Map:
    """One `map`: its tasks, and how it is read."""

    tasks: tuple[Task, ...]
    chunksize: int | None = None
    buffersize: int | None = None
    stop_after: int | None = None  # close the iterator there
    input_fails: tuple[int, ...] = ()  # the input raises before these tasks (or behind the last), and goes on
    errors: str = "raise"
    prefetch: bool = False  # a thread reads the input


@dataclass(frozen=True)
class Mischief:
    """A fault from outside: when (seconds from the start), what, and which of those it may hit (0 … 1)."""

    at: float
    what: str
    pick: float


@dataclass(frozen=True)
class Plan:
    """One pipeline."""

    seed: int
    number: int
    max_workers: int
    context: str | None = None
    reuse: bool = True
    idle_timeout: float = 10.0
    max_tasks_per_child: int | None = None
    window: int | None = None
    window_bytes: int = 64 * 1024 * 1024
    backlog: int | None = None
    retries: int = 0
    task_timeout: float | None = None
    keep_results: bool | None = None
    unseen_errors: str = "log"
    initializer: str = ""  # one of INITIALIZERS
    tasks: tuple[Task, ...] = ()
    maps: tuple[Map, ...] = ()
    submitters: int = 1
    stream: str = ""  # one of STREAMS
    readers: int = 1  # threads that read the stream
    follow: bool = True
    futures: str = ""  # one of FUTURES
    callbacks: bool = True
    hold: bool = True  # keep the futures
    mischief: tuple[Mischief, ...] = ()
    ending: str = "with"  # one of ENDINGS
    ending_at: float = 0.0  # for those that come half way
    signal: str = ""  # run it as a program and send it that; one of SIGNALS
    signal_at: float = 0.0
    look_for_leaks: bool = False

    def describe(self) -> str:
        """All of it, without what is as usual: a few lines for the head, one for each task that is special."""
        lines = [f"pipeline {self.number} of seed {self.seed}: {len(self.tasks)} tasks, {len(self.maps)} maps"]
        lines.append("  " + _differences(self, {"seed", "number", "tasks", "maps", "mischief"}))
        lines += [f"  at {m.at:.3f}: {m.what} ({m.pick:.2f})" for m in self.mischief]
        lines += [f"  {_differences(task, set())}" for task in self.tasks if task.fault]
        for number, one in enumerate(self.maps):
            lines.append(f"  map {number}: {len(one.tasks)} tasks, {_differences(one, {'tasks'})}")
            lines += [f"    {_differences(task, set())}" for task in one.tasks if task.fault]
        return "\n".join(lines)


def _differences(it: Any, without: set[str]) -> str:
    shown = []
    for part in fields(it):
        value = getattr(it, part.name)
        if part.name not in without and value != part.default:
            shown.append(f"{part.name}={value!r}")
    return ", ".join(shown) or "as usual"


# ------------------------------------------------------------------------------------------------------- the menu

DEATHS = ("dies by SIGKILL", "dies by SIGSEGV", "dies by SIGABRT", "dies by os._exit", "dies with a child alive")
DIES_ONCE = "dies the first time"
STUCK = ("is stuck", "is stuck in C", "stops its process")
ARGUMENT_FAULTS = ("argument cannot be pickled", "argument cannot be unpickled", "argument kills its loader")
RESULT_FAULTS = ("result cannot be pickled", "result cannot be unpickled", "result kills its packer")
RAISES = (
    "raises",
    "raises with an odd __init__",
    "raises with a lock in it",
    "raises what cannot be pickled",
    "raises what cannot be unpickled",
    "raises what cannot be printed",
    "raises with a cause",
    "raises a group",
)
# What tasks do that a worker may stumble over; the task itself goes well.
HARMLESS = ("forks a child that goes on", "leaves a child behind", "nests an executor")
# These end more than the task if somebody awaits them: asyncio has no place for them.
RAISES_NOT_FOR_ASYNC = ("raises StopIteration", "raises KeyboardInterrupt", "raises SystemExit")
KILLERS = (*DEATHS, DIES_ONCE, "argument kills its loader", "result kills its packer")

STATES = ("starting", "idle", "loading", "running", "holding", "gated", "sending", "leaving")
KILLS = tuple(f"{how} while {state}" for state in STATES for how in ("SIGKILL", "SIGSEGV"))
CANCELS = ("cancel", "cancel many", "cancel pending", "cancel pending and kill")
OTHER_MISCHIEF = (*CANCELS, "cancel many", "kill", "fork", "stopped for a while", "look")
FOR_EVER = "stopped for ever"

STREAMS = ("", "results", "results, errors yielded", "outcomes", "async", "async, impatient")
FUTURES = ("", "result", "as_completed", "wait", "wrap_future")
INITIALIZERS = ("", "works", "raises", "dies", "dies the first time", "hangs")
FATAL_INITIALIZERS = ("raises", "dies", "hangs")
ENDINGS = (
    "with",
    "shutdown",
    "shutdown without waiting",
    "dropped",
    "half way: shutdown",
    "half way: with a timeout, then again",
    "half way: cancel_futures",
    "half way: kill_workers",
    "half way: cancel_futures and kill_workers",
    "half way: from a callback",
    "half way: twice, from two threads",
    "half way: interrupted",
)
EXIT = "the end of the program"
SIGNALS = ("SIGKILL", "SIGINT", "SIGTERM", "SIGKILL to the group", EXIT)
