"""Stop, look, kill: how one task is stopped, and no other.

Between the decision to stop a task and the signal, the task may end and the next one begin.  So the process is stopped
first.  Then it cannot change, and its row says which task it is at.  Only then it is killed, or goes on.  To kill it, a
signal is sent to the thread that runs the task.  Its handler, in C, writes down the stack and ends the process in the
same step, so nothing of the task runs any more.

The signal may have to wait, because the program has blocked it, or because the system cannot send it to a thread.  Then
the process is killed some time later.  If the task has finished meanwhile it keeps its outcome, and a task that runs by
then runs again (`void`).

A task with a time limit is looked at when its time may be over.  A task that is to be stopped is looked at often, until
it runs.

A worker can also stand still outside of a task: stopped by SIGSTOP between two of its steps, or stuck while it
unpickles arguments or pickles a result.  This shows in its row, which does not change, and in its pipe, from which
nothing comes.  Then it is killed, and its remains are read as for any dead worker: nobody is charged for tasks that had
not begun.
"""

from __future__ import annotations

import time

from ordered_executor._base import system
from ordered_executor._base.errors import TaskTimeoutError
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    COUNT_MASK,
    INITIALIZING,
    LOG_START,
    PROGRESS,
    RUNNING,
    STARTED,
    STATE,
    STATE_NAMES,
)
from ordered_executor._core.backend import Blame
from ordered_executor._processes.sent_batches import SentBatch
from ordered_executor._processes.worker_handle import Lane

# How often to look whether a task that is to be stopped runs now; how often whether one with a time limit has begun.
KILL_SECONDS = 0.002
TIMEOUT_SECONDS = 0.05
# How long a worker may take to write down its stack before it is killed anyway.
STACK_SECONDS = 0.2
# How long a worker may at least stand still outside of a task: large arguments and results take their time.
STILL_SECONDS = 2.0
# The same while it unpickles what it needs of the script, or runs its top level: a gigabyte takes six.
SCRIPT_SECONDS = 60.0


def look_at_running(lane: Lane, now: float, *, gated: bool) -> None:
    """Stop the task that runs if it has overrun its time, or is to be stopped; say when to look again."""
    sent = lane.sent_batches.current
    assert sent is not None  # it was due
    sent.look_at = now + (KILL_SECONDS if sent.kills else min(sent.shortest, TIMEOUT_SECONDS))
    running = _running(lane)
    started = lane.memory.words[STARTED]
    begun = started * 1e-9
    if (
        running is not None
        and running[0] == sent.number & COUNT_MASK
        and running[1] < sent.count  # else the last has just ended, and the worker is about to say so
        and running == _running(lane)
    ):
        index = running[1]
        if index in sent.kills:
            _stop(lane, sent, index, sent.kills[index])
            return
        timeout = sent.timeouts[index] if sent.timeouts else None
        if begun or not sent.timeouts:
            if timeout is not None and now >= begun + timeout:
                _stop(lane, sent, index, _overrun(lane, sent, index, timeout), started)
            elif timeout is not None and not sent.kills:
                sent.look_at = begun + timeout
            return
    _look_for_stillness(lane, sent, now, gated)


def _overrun(lane: Lane, sent: SentBatch, index: int, timeout: float) -> TaskTimeoutError:
    ticket = sent.first + index
    text = f"ticket {ticket} ran longer than its timeout of {timeout} s and was stopped (worker pid {lane.pid})"
    return TaskTimeoutError(text, ticket, lane.pid)


def _look_for_stillness(lane: Lane, sent: SentBatch, now: float, gated: bool) -> None:
    """Kill a worker that is in no task, has something to do, and does nothing."""
    words = lane.memory.words
    row = words[STATE], words[LOG_START], words[PROGRESS]
    late = now - sent.looked > STILL_SECONDS / 2  # we stood still ourselves: after Ctrl-Z, say, or in a done-callback
    sent.looked = now
    if row != sent.row or gated or lane.writer.pending or late:
        sent.row, sent.still_since = row, now
    patience = max(sent.shortest, SCRIPT_SECONDS if row[0] == INITIALIZING else STILL_SECONDS)
    if now < max(sent.still_since, lane.heard) + patience or lane.pending_kill is not None:
        return
    ticket = sent.first + sent.home
    text = f"the worker with pid {lane.pid} stood still for {patience} s while it {STATE_NAMES[row[0]]}, and was killed"
    lane.pending_kill = (
        None,
        sent.kills.get(sent.home) or TaskTimeoutError(f"ticket {ticket}: {text}", ticket, lane.pid),
    )
    lane.kill_at = now


def _running(lane: Lane) -> tuple[int, int] | None:
    """The batch (its number, modulo) and the index of the task that runs, by the lane's row."""
    words = lane.memory.words
    if words[STATE] != RUNNING:
        return None
    return words[LOG_START] >> COUNT_BITS, words[PROGRESS] >> COUNT_BITS


def void(lane: Lane) -> bool:
    """Whether a dead lane's condemned task had finished after all: then its death is nobody's fault.

    When all that could be read is home, the first ticket that is not is the one that ran, or was held.
    """
    charged = None if lane.pending_kill is None else lane.pending_kill[0]
    return charged is not None and lane.sent_batches.home(charged.number) != charged.index


def _stop(lane: Lane, sent: SentBatch, index: int, reason: BaseException, started: int | None = None) -> None:
    """`started`: what was taken for the start of the task; it may have been that of the one before (see design.md)."""
    if lane.pending_kill is not None:
        return
    if (
        lane.process.stop()
        and _running(lane) == (sent.number & COUNT_MASK, index)
        and started in {None, lane.memory.words[STARTED]}
    ):
        lane.pending_kill = (Blame(sent.number, index), reason)
        lane.orphans = system.descendants([lane.pid])
        lane.kill_at = time.monotonic() + STACK_SECONDS
        lane.process.signal_main_thread(system.STACK_SIGNAL)
    lane.process.resume()
