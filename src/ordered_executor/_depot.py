"""The depot: where warm lanes wait for the next executor.

A lane is lent again only to an executor that would make the same one: same context, environment, initializer and
arguments (by identity), working directory, `os.environ` and `sys.path`.  After `idle_timeout` seconds it is ended.

Who ends what: the depot's thread ends lanes whose time is up; `end_idle_workers` ends all, at the exit of the
interpreter too.

To let go of a lane runs finalizers of multiprocessing's semaphores, which may wait for somebody who waits for the
other lanes: `multiprocessing.resource_tracker` does when it is stopped, as CPython's own tests do.  So a thread that
is about to end lanes leaves the watch over the others to another one.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import time
from typing import Any

from . import _exit, _wire
from ._check import check_seconds
from ._lane import ENDING, Lane, LaneKind
from ._locks import Lock
from ._parking import ParkingLot

_lock = Lock()
_lanes: list[tuple[float, Any, Lane]] = []  # guarded by: _lock.  (deadline, key, lane), in the order given
_threads: list[threading.Thread] = []  # guarded by: _lock; those that may live, to be joined
_watching = False  # guarded by: _lock; whether one of them will look at the lanes again
_changes = 0  # guarded by: _lock; how often the thread had to look again
_watcher = ParkingLot()  # where the thread waits


def _key(kind: LaneKind) -> tuple[Any, ...]:
    return (
        None if kind.context is None else kind.context.get_start_method(),
        id(kind.context),
        id(kind.initializer),
        tuple(map(id, kind.initargs)),
        None if kind.env is None else tuple(sorted(kind.env.items())),
        _directory(),
        dict(os.environ),
        tuple(sys.path),
        os.getpid(),
    )


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def take(kind: LaneKind) -> Lane | None:
    """A warm lane of this kind, if there is one that lives."""
    if not _lanes:
        return None
    key, lock = _key(kind), _lock
    +lock
    try:
        for place in range(len(_lanes) - 1, -1, -1):  # the warmest first
            _, its_key, lane = _lanes[place]
            if its_key != key or not _same(lane.kind, kind):
                continue
            del _lanes[place]
            if lane.lives():
                return lane
            lane.bury()
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


def give(lane: Lane, idle_timeout: float | None) -> bool:
    """Keep an idle, healthy lane, or one that is starting, for `idle_timeout` seconds.

    False if that cannot be, because no thread can be started.
    """
    global _changes
    assert lane.state != ENDING and not lane.parcels.busy, lane
    lock = _lock
    +lock
    try:
        if not _watching and not _start_watching_locked():
            return False
        lane.unwatch()  # if it dies here, `take` sees it
        deadline = math.inf if idle_timeout is None else time.monotonic() + idle_timeout
        _lanes.append((deadline, _key(lane.kind), lane))
        _changes += 1
    finally:
        -lock
    _watcher.unpark_all()
    return True


def _start_watching_locked() -> bool:
    global _watching
    thread = threading.Thread(target=_watch, name="ordered-executor-depot", daemon=True)
    try:
        thread.start()  # it waits for the lock
    except RuntimeError:
        return False
    _threads[:] = [*(old for old in _threads if old.is_alive()), thread]
    _watching = True
    return True


def _watch() -> None:
    """Wait until the time of some lanes is up, and end them.  Somebody else watches the others from then on."""
    global _watching
    while True:
        lock = _lock
        +lock
        try:
            changes = _changes
            now = time.monotonic()
            over = [lane for deadline, _, lane in _lanes if deadline <= now]
            _lanes[:] = [entry for entry in _lanes if entry[0] > now]
            due = min((deadline for deadline, _, _ in _lanes), default=now)
            if not _lanes:
                _watching, relieved = False, True
            else:
                relieved = bool(over) and _start_watching_locked()
        finally:
            -lock
        if over:
            _end(over)
        if relieved:
            return
        _watcher.park(lambda: _changes != changes, due - now)  # noqa: B023 (asked here only)


def end_idle_workers(patience: float | None = 5.0) -> None:
    """End the idle workers that wait for the next executor, and wait until they are gone.

    For suites that check for left-over processes, and for programs that want the memory back at once.  Waits at most
    about `patience` seconds (`None`: as long as it takes) for workers to leave by themselves; then they are killed.

    Raises `ValueError` or `TypeError`, before it ends anything, if `patience` is not a number of seconds.
    """
    global _changes, _lanes
    limit = check_seconds("patience", patience, zero=True)
    patience = threading.TIMEOUT_MAX if limit is None else limit
    nothing: list[tuple[float, Any, Lane]] = []
    +_lock  # nothing is called meanwhile: the releaser comes here too, and a handler may wait for it (`_claims`)
    try:
        over, _lanes = _lanes, nothing
        _changes += 1
    finally:
        -_lock
    threads = _threads.copy()
    _watcher.unpark_all()
    _end([lane for _, _, lane in over], patience)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(patience)


def _end(lanes: list[Lane], patience: float = 5.0) -> None:
    for lane in lanes:
        lane.writer.put(lane.frame(_wire.END))
        lane.end()
    until = time.monotonic() + patience
    for lane in lanes:
        lane.join(until - time.monotonic())  # loky's thread ends when the process has
        if not lane.joined:
            lane.kill_now()
            lane.join(patience)
        lane.bury()
    multiprocessing.active_children()  # joins what has ended


def _in_forked_child() -> None:
    global _lock, _watching
    _lock = Lock()
    _lanes.clear()
    _threads.clear()
    _watching = False


os.register_at_fork(after_in_child=_in_forked_child)
_exit.at_the_very_end(end_idle_workers)
