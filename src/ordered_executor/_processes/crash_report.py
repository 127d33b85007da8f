"""The remains of a dead worker: finished outcomes in its lane's memory, and the task that it died of.

They are read after the process is known to be gone, so that nothing changes any more.  The order of the worker's writes
(see `_channel.shared_memory`) makes every moment of its death one of these:

| state | the first ticket that is not home |
| --- | --- |
| loading | any ticket of the batch may be to blame: the batch could not even be loaded |
| running | was running: it is to blame |
| holding, or HELD is set | had finished, and its outcome is lost with the process |
| gated, sending | has not begun: finished outcomes are in the log, or were sent |
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ordered_executor._base import system
from ordered_executor._base.error_tools import exit_text, remote_traceback
from ordered_executor._base.errors import TerminatedWorkerError
from ordered_executor._base.times import Times
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    COUNT_MASK,
    HELD,
    HOLDING,
    LEFT,
    LOADING,
    LOG_START,
    PROGRESS,
    RUNNING,
    STATE,
    STATE_NAMES,
    least_bytes,
)
from ordered_executor._core.backend import Blame, Lost
from ordered_executor._processes.sent_batches import SentBatch
from ordered_executor._processes.task_stop import void
from ordered_executor._processes.worker_handle import Lane


class Rescued(NamedTuple):
    """Outcomes from lane memory: of which batch, from which index on, and their bytes."""

    number: int
    start: int
    outcomes: list[Any]
    size: int
    times: Times | None = None


class Findings(NamedTuple):
    rescued: Rescued | None
    blame: Blame | None
    suspect: int | None
    error: TerminatedWorkerError


def examine(lane: Lane) -> Findings:
    """Look at the memory of a dead lane."""
    words = lane.memory.words
    state, progress = words[STATE], words[PROGRESS]
    sent = lane.sent_batches.current
    rescued = blame = suspect = None
    if sent is not None:
        home = sent.home
        found = lane.memory.stream(sent.number)
        if found is not None:
            start, outcomes = found
            known = max(0, home - start)
            size = least_bytes(outcomes[known:])
            times = lane.memory.times(sent.number, start, start + len(outcomes)) if sent.recorded else None
            rescued = Rescued(sent.number, start, lane.fetch(outcomes, known), size, times)
            home = max(home, start + len(outcomes))
        if words[LOG_START] >> COUNT_BITS != sent.number & COUNT_MASK or home == sent.count:
            pass  # it had not begun, or had finished all of it
        elif state == LOADING:
            suspect = sent.number
        elif progress & HELD or (state == HOLDING and not progress):
            if not progress or home == progress >> COUNT_BITS:  # else what was held has been sent, by the last frame
                blame = Blame(sent.number, home, finished=True)
        elif state == RUNNING:
            blame = Blame(sent.number, home)
    return Findings(rescued, blame, suspect, _error(lane, sent, blame, state))


def _error(lane: Lane, sent: SentBatch | None, blame: Blame | None, state: int) -> TerminatedWorkerError:
    code = lane.process.exitcode
    how = exit_text(code)
    ticket = None
    if blame is None or sent is None:
        when = f"while it {STATE_NAMES[state]}"
    else:
        ticket = sent.first + blame.index
        when = f"while it ran ticket {ticket}"
        if blame.finished:
            when = f"after it had finished ticket {ticket} and before it had sent the result, which is lost"
    text = f"the worker with pid {lane.pid} died ({how}) {when}"
    if how == "SIGKILL":
        text += "; the system kills so when memory runs out: does the task need too much?"
    error = TerminatedWorkerError(text, ticket, lane.pid, code)
    if code:  # as ProcessPoolExecutor has it from Python 3.15 on
        error.__cause__ = remote_traceback(f"Process {lane.pid} terminated abruptly with exit code {code}")
    return error


def describe_loss(lane: Lane, blame: Blame | None, suspect: int | None, reason: BaseException) -> Lost:
    """What the scheduler is told of a dead lane, after `examine`: whom it died of, and whether we killed it."""
    deliberate = lane.memory.words[STATE] == LEFT  # nobody's fault: it left when it was lent
    ran = blame
    if lane.pending_kill is not None:
        charged, reason = lane.pending_kill
        deliberate = charged is not None
        blame = ran = charged or blame
        if void(lane):
            blame = suspect = None
        if stack := lane.memory.read_stack():
            reason.__cause__ = remote_traceback(stack)
        system.kill_all(lane.orphans)
    return Lost(lane, lane.after, blame, reason, deliberate, suspect, None if ran is None else ran.number)
