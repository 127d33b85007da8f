"""Stop, look, kill: how one task is stopped, and no other.

Between the decision to stop a task and the signal, the task may end and the next one begin.  So the process is stopped
first; then it cannot change, and its row says which task it is at; only then it is killed, or goes on.  Killing is a
signal whose handler, in C, writes down the stack and ends the process in the same step: nothing of the task runs any
more.

A task with a time limit is looked at when its time may be over; one that is to be stopped, often, until it runs.
"""

from __future__ import annotations

import time

from . import _os
from ._backend import Blame
from ._errors import TaskTimeoutError
from ._lane import Lane
from ._lane_memory import COUNT_BITS, COUNT_MASK, PROGRESS, RUNNING, SEGMENT, STARTED, STATE
from ._parcels import Sent

# How often to look whether a task that is to be stopped runs now; how often whether one with a time limit has begun.
KILL_SECONDS = 0.002
TIMEOUT_SECONDS = 0.05
# How long a worker may take to write down its stack before it is killed anyway.
STACK_SECONDS = 0.2


def look_at_running(lane: Lane, now: float) -> None:
    """Stop the task that runs if it has overrun its time, or is to be stopped; say when to look again."""
    sent = lane.parcels.current
    assert sent is not None  # it was due
    sent.look_at = now + (KILL_SECONDS if sent.kills else min(sent.shortest, TIMEOUT_SECONDS))
    running = _running(lane)
    begun = lane.memory.words[STARTED] * 1e-9
    if running is None or running[0] != sent.number & COUNT_MASK or running != _running(lane):
        return
    index = running[1]
    if index in sent.kills:
        _stop(lane, sent, index, sent.kills[index])
        return
    timeout = sent.timeouts[index] if sent.timeouts else None
    if timeout is None or not begun:
        return
    if now >= begun + timeout:
        ticket = sent.first + index
        text = f"ticket {ticket} ran longer than its timeout of {timeout} s and was stopped (worker pid {lane.pid})"
        _stop(lane, sent, index, TaskTimeoutError(text, ticket, lane.pid))
    elif not sent.kills:
        sent.look_at = begun + timeout


def _running(lane: Lane) -> tuple[int, int] | None:
    """The batch (its number, modulo) and the index of the task that runs, by the lane's row."""
    words = lane.memory.words
    if words[STATE] != RUNNING:
        return None
    return words[SEGMENT] >> COUNT_BITS, words[PROGRESS] >> COUNT_BITS


def _stop(lane: Lane, sent: Sent, index: int, reason: BaseException) -> None:
    if lane.process is None or lane.doomed is not None:
        return
    if lane.process.stop() and _running(lane) == (sent.number & COUNT_MASK, index):
        lane.doomed = (Blame(sent.number, index), reason)
        lane.heirs = _os.descendants(lane.process.pid)
        lane.kill_at = time.monotonic() + STACK_SECONDS
        lane.process.signal(_os.STACK_SIGNAL)
    lane.process.resume()
