"""What the workers of an executor are doing right now: a look at private parts, for aiming and for the watchdog.

Whatever has changed under our eyes is left out: this is a glance, not an account.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ordered_executor._channel import shared_memory
from ordered_executor._processes.worker_handle import ENDING, STARTING

_NAMES = {
    shared_memory.STARTING: "starting",
    shared_memory.INITIALIZING: "starting",
    shared_memory.IDLE: "idle",
    shared_memory.LOADING: "loading",
    shared_memory.RUNNING: "running",
    shared_memory.HOLDING: "holding",
    shared_memory.GATED: "gated",
    shared_memory.SENDING: "sending",
}


class Row(NamedTuple):
    """One worker."""

    pid: int
    state: str
    lane: Any
    details: str = ""


def rows(executor: Any) -> list[Row]:
    """All workers of an executor."""
    found = []
    try:
        for lane in tuple(executor._scheduler.backend._lanes):
            row = _row(lane)
            if row is not None:
                found.append(row)
    except (AttributeError, RuntimeError):  # the set changed, or there is none any more
        pass
    return found


def _row(lane: Any) -> Row | None:
    try:
        words = lane.memory.words
        state = _NAMES[words[shared_memory.STATE]]
        details = f"segment {words[shared_memory.LOG_START]:x} progress {words[shared_memory.PROGRESS]:x}"
        pid = lane.pid
        if lane.state == STARTING:
            state = "starting"
        elif lane.state == ENDING:
            state = "leaving"
    except (AttributeError, ValueError, TypeError, KeyError, RuntimeError):  # it is gone, or going
        return None
    return None if pid is None else Row(pid, state, lane, details)


def send(row: Row, number: int) -> bool:
    """Send a signal to a worker; False if it is gone."""
    try:
        return bool(row.lane.process.signal(number))
    except (AttributeError, OSError, TypeError):
        return False
    return True
