"""The idle workers, which wait for the next executor.

A lane is lent again only to an executor that would make the same one: same context, environment, initializer and
arguments (by identity), working directory, `os.environ` and `sys.path`.

No thread watches them.  A worker that was idle for `idle_timeout` seconds ends by itself.  The parent lets go of its
part of that worker at the next use of this module: when an executor takes or gives a lane, in `end_idle_workers`, or at
the exit of the interpreter.  So after an executor was shut down, the program may fork, and may end in any way, as if
there had been none.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from typing import Any

from ordered_executor._base import exit_hook
from ordered_executor._base.checks import check_seconds
from ordered_executor._base.locks import Lock
from ordered_executor._channel import frames
from ordered_executor._processes.worker_handle import ENDING, Lane, LaneKind, kill
from ordered_executor._script import plan as plan_module

# What no worker needs to end; more than that, the system does not take.
LONGEST_SECONDS = 1_000_000.0

# Of the memory for large arguments; the next executor finds it warm.  For results, the worker gives back by itself.
KEPT_BYTES = 4 * 1024 * 1024

_lock = Lock()
_lanes: list[tuple[Any, Lane]] = []  # guarded by: _lock.  (key, lane), in the order given


def _key(kind: LaneKind) -> tuple[Any, ...]:
    return (
        None if kind.context is None else kind.context.get_start_method(),
        id(kind.context),
        id(kind.initializer),
        tuple(map(id, kind.initargs)),
        None if kind.env is None else tuple(sorted(kind.env.items())),
        _directory(),
        _environment(),
        tuple(sys.path),
        multiprocessing.get_start_method(allow_none=True),
        os.getpid(),
    )


def _environment() -> dict[str, str]:
    while True:
        with contextlib.suppress(KeyError, RuntimeError):  # another thread has just changed it
            return dict(os.environ)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def take(kind: LaneKind) -> Lane | None:
    """Take an idle lane of this kind, if there is one that lives."""
    if not _lanes:
        return None
    key, lock = _key(kind), _lock
    +lock
    try:
        _bury_the_dead_locked()
        for place in range(len(_lanes) - 1, -1, -1):  # the warmest first
            its_key, lane = _lanes[place]
            if its_key == key and _same(lane.kind, kind) and lane.lives():
                del _lanes[place]
                return lane
        return None
    finally:
        -lock


def _same(one: LaneKind, other: LaneKind) -> bool:
    # The key compared identities; with the lane's own kind alive, they cannot have been used again.
    return (
        one.context is other.context
        and one.initializer is other.initializer
        and len(one.initargs) == len(other.initargs)
        and all(a is b for a, b in zip(one.initargs, other.initargs, strict=True))
    )


def give(lane: Lane, idle_timeout: float | None) -> None:
    """Keep an idle, healthy lane, or one that is starting, for `idle_timeout` seconds."""
    assert lane.state != ENDING and not lane.sent_batches.busy, lane
    plan_module.sweep()  # nothing of the script's is kept for an idle worker that the script itself does not keep
    lane.sent_batches.give_back(KEPT_BYTES)
    lane.writer.put(lane.frame(frames.IDLE, frames.pack((idle_timeout,))))
    lock = _lock
    +lock
    try:
        _bury_the_dead_locked()
        _lanes.append((_key(lane.kind), lane))
    finally:
        -lock


def _bury_the_dead_locked() -> None:
    """Let go of those that have ended by themselves."""
    for entry in tuple(_lanes):
        if entry[1].process.gone():
            _lanes.remove(entry)
            entry[1].close()


def end_idle_workers(patience: float | None = 5.0) -> None:
    """End the idle workers that wait for the next executor, and wait until they are gone.

    Use it in suites that check for left-over processes, and in programs that want the memory back at once.  It waits
    about `patience` seconds for the workers to end by themselves, and then kills them.  `None` means without a limit.

    Raises `ValueError` or `TypeError`, before it ends anything, if `patience` is not a number of seconds.
    """
    global _lanes
    limit = check_seconds("patience", patience, zero=True)
    patience = LONGEST_SECONDS if limit is None else min(limit, LONGEST_SECONDS)
    nothing: list[tuple[Any, Lane]] = []
    +_lock  # nothing is called meanwhile: the scheduler comes here too, and a handler may wait for it (`_core.claims`)
    try:
        over, _lanes = _lanes, nothing
    finally:
        -_lock
    _end([lane for _, lane in over], patience)


def _end(lanes: list[Lane], patience: float) -> None:
    for lane in lanes:
        lane.writer.put(lane.frame(frames.END))
    until = time.monotonic() + patience
    late = [lane for lane in lanes if not lane.process.wait(until - time.monotonic())]
    kill(late)
    for lane in late:
        lane.process.wait(patience)
    for lane in lanes:
        lane.close()
    multiprocessing.active_children()  # joins what has ended


def _in_forked_child() -> None:
    global _lock
    _lock = Lock()
    _lanes.clear()


os.register_at_fork(after_in_child=_in_forked_child)
exit_hook.at_the_very_end(end_idle_workers)
