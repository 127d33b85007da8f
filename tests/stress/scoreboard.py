"""What the workers of an executor are doing right now: a look at private parts, for aiming and for the watchdog.

Whatever has changed under our eyes is left out: this is a glance, not an account.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ordered_executor import _lane_memory as lane_memory
from ordered_executor._lane import ENDING, STARTING

_NAMES = {
    lane_memory.STARTING: "starting",
    lane_memory.INITIALIZING: "starting",
    lane_memory.IDLE: "idle",
    lane_memory.LOADING: "loading",
    lane_memory.RUNNING: "running",
    lane_memory.HOLDING: "holding",
    lane_memory.GATED: "gated",
    lane_memory.SENDING: "sending",
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
        for lane in tuple(executor._releaser.backend._lanes):
            row = _row(lane)
            if row is not None:
                found.append(row)
    except (AttributeError, RuntimeError):  # the set changed, or there is none any more
        pass
    return found


def _row(lane: Any) -> Row | None:
    try:
        words = lane.memory.words
        state = _NAMES[words[lane_memory.STATE]]
        details = f"segment {words[lane_memory.SEGMENT]:x} progress {words[lane_memory.PROGRESS]:x}"
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
