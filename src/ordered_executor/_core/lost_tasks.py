"""The fate of tickets whose worker is gone, or that nobody will run any more.  Pure, as the dispatcher is.

A worker that died costs the task it ran: that task is charged.  Tasks that it had not started are sent again.  Outcomes
that are made here are returned as segments, and the caller puts them into order.
"""

from __future__ import annotations

from typing import Any

from ordered_executor._base.error_tools import copy_error
from ordered_executor._base.errors import TaskKilledError
from ordered_executor._base.tasks import Failure, Segment
from ordered_executor._core.backend import Lost
from ordered_executor._core.batches import CoreBatch, Slice
from ordered_executor._core.dispatcher import Dispatcher


def settle_loss(dispatcher: Dispatcher, event: Lost) -> tuple[list[Segment], list[Any]]:
    """Take back what a lane had that is gone: the segments of those tickets that it has failed; what is cancelled."""
    failed: list[Segment] = []
    cancelled: list[Any] = []
    for batch in dispatcher.close_lane(event.lane).batches:
        start = batch.home
        begun = batch.number == event.begun or (event.blame is not None and batch.number == event.blame.number)
        if start == batch.kept:
            pass  # the rest was taken back before: it is elsewhere, and is not what the lane died of
        elif batch.cancelled(start):
            begun = False
        elif _fails(batch, start, event):
            failed.append(Segment(batch.first + start, 1, batch.owners(start, 1), [Failure(event.reason)]))
            start, begun = start + 1, False
        batch.apart = batch.apart or batch.number == event.suspect
        cancelled += dispatcher.put_back(batch, start, begun)
    return failed, cancelled


def _fails(batch: CoreBatch, start: int, event: Lost) -> bool:
    """Whether the first ticket that is not home ends with the lane: charged, and its retries do not cover that."""
    blame = event.blame
    if blame is not None and batch.number == blame.number:
        assert blame.index == start, (blame, batch)
        return event.deliberate or not batch.charge(start)
    suspect = batch.number == event.suspect and (batch.apart or batch.count == 1)
    return suspect and not batch.charge(start)


def fail_everything(dispatcher: Dispatcher, reason: BaseException) -> tuple[list[Segment], list[Any]]:
    """Take back all that waits or is with a lane, and fail it; and what of it turned out to be cancelled."""
    entries: list[Any] = []
    for lane in list(dispatcher.lanes.values()):
        for batch in dispatcher.close_lane(lane.key).batches:
            entries += batch.take_from(batch.home)
    failed: list[Segment] = []
    cancelled: list[Any] = []
    for entry in entries + dispatcher.clear():
        # a future that has begun, or may have, is never pending again
        if type(entry) is Slice or (entry.leave() and entry.start()):
            failed.append(Segment(entry.first, entry.count, [entry], failures(reason, entry.first, entry.count)))
        else:
            cancelled.append(entry)
    return failed, cancelled


def failures(reason: BaseException, first: int, count: int) -> list[Any]:
    """Each ticket gets an exception object of its own."""
    errors = [copy_error(reason) for _ in range(count)]
    for ticket, error in enumerate(errors, first):
        if isinstance(error, TaskKilledError):
            error.ticket = ticket
    return [Failure(error) for error in errors]
