"""What becomes of tickets whose worker is gone, or that nobody will run any more.  Pure, as the dispatcher is.

A worker that died costs the task it ran, which is charged for it, and that only: what it had not started is sent again.
Outcomes that are made here are returned as segments; whoever calls puts them into order.
"""

from __future__ import annotations

from typing import Any

from ordered_executor._base.error_tools import copy_error
from ordered_executor._base.errors import TaskKilledError
from ordered_executor._base.tasks import Batch, Failure, Segment
from ordered_executor._core.backend import Lost
from ordered_executor._core.dispatcher import Dispatcher, Slice


def settle_loss(dispatcher: Dispatcher, event: Lost) -> tuple[list[Segment], list[Any]]:
    """Take back what a lane had that is gone: the segments of those tickets that it has failed; what is cancelled."""
    failed: list[Segment] = []
    cancelled: list[Any] = []
    for batch in dispatcher.close_lane(event.lane).batches:
        start = batch.home
        begun = batch.number == event.begun or (event.blame is not None and batch.number == event.blame.number)
        if start == batch.kept:
            pass  # the rest was taken back before: it is elsewhere, and is not what the lane died of
        elif _cancelled(batch, start):
            begun = False
        elif _fails(batch, start, event):
            failed.append(_fail(batch, start, event.reason))
            start, begun = start + 1, False
        batch.apart = batch.apart or batch.number == event.suspect
        cancelled += dispatcher.put_back(batch, start, begun)
    return failed, cancelled


def _cancelled(batch: Batch, index: int) -> bool:
    """Whether the ticket is cancelled.  If it is not, it cannot be any more."""
    owner = batch.owners[0]
    return owner.span.cancelled if type(owner) is Slice else not batch.owners[index].leave()


def _fails(batch: Batch, start: int, event: Lost) -> bool:
    """Whether the first ticket that is not home ends with the lane: charged, and its retries do not cover that."""
    blame = event.blame
    if blame is not None and batch.number == blame.number:
        assert blame.index == start, (blame, batch)
        return event.deliberate or not _may_run_again(batch, start)
    suspect = batch.number == event.suspect and (batch.apart or batch.count == 1)
    return suspect and not _may_run_again(batch, start)


def _may_run_again(batch: Batch, index: int) -> bool:
    """Charge this ticket with the death of a worker; whether its retries cover that."""
    owner = batch.owners[0]
    if type(owner) is Slice:
        place = owner.start + index
        losses = owner.span.losses[place] = owner.span.losses.get(place, 0) + 1
        return bool(losses <= owner.options.retries)
    future = batch.owners[index]
    future.losses += 1
    return bool(future.losses <= future.options.retries)


def _fail(batch: Batch, index: int, reason: BaseException) -> Segment:
    """The ticket ends with an error that the parent made."""
    owner = batch.owners[0]
    if type(owner) is Slice:
        return Segment(batch.first + index, 1, list(batch.owners), [Failure(reason)])
    return Segment(batch.first + index, 1, [batch.owners[index]], [Failure(reason)])


def fail_everything(dispatcher: Dispatcher, reason: BaseException) -> tuple[list[Segment], list[Any]]:
    """Take back all that waits or is with a lane, and fail it; and what of it turned out to be cancelled."""
    entries: list[Any] = []
    for lane in list(dispatcher.lanes.values()):
        for batch in dispatcher.close_lane(lane.key).batches:
            entries += dispatcher.rest(batch)
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
