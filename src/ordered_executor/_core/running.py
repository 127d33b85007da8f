"""What the workers are doing now: a picture put together from their rows in shared memory and from what was sent.

Asked from any thread, while the scheduler goes on.  So the parts may be of moments some microseconds apart; what does
not fit together is left out, never guessed.  Costs nothing when nobody asks.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

from ordered_executor._base.atomic import snapshot
from ordered_executor._core.backend import Row
from ordered_executor._core.batches import CoreBatch
from ordered_executor._pickling.texts import call_name, call_text

if TYPE_CHECKING:
    from ordered_executor._core.inbox import Work


T = TypeVar("T")
BATCH_BITS = 0xFFFFFFFF  # rows know the lower half of a batch's number


@dataclass(frozen=True)
class Running:
    """One worker, as `running()` saw it.

    `number`: 0 to `max_workers - 1`; a worker that takes a dead one's place has its number.  `None` while it starts.
    `pid`: of its process, `None` while it starts.  `state`: "starting", "loading" (arguments), "running", "packing" (a
    result), "gated" (it waits with a result until the head comes closer), "idle", or, on a cluster, "sent".
    `ticket`, `function`, `call`, `attempt`: the task it is at, its function's name, the call in a few words, and for
    the how manieth time the task runs; `None` if it is at none.  `seconds`: how long it has been in this state; if it
    runs one short task after the other, how long the present one may have been running at most.
    """

    number: int | None
    pid: int | None
    state: str
    ticket: int | None = None
    function: str | None = None
    call: str | None = None
    attempt: int | None = None
    seconds: float = 0.0


def table(workers: list[Running]) -> str:
    """The picture in HTML, for notebooks."""
    head = "".join(f"<th>{field.name}</th>" for field in fields(Running) if field.name != "function")
    rows = ""
    for one in workers:
        cells = (one.number, one.pid, one.state, one.ticket, one.call, one.attempt, f"{one.seconds:.1f}")
        rows += f"<tr>{''.join(f'<td>{html.escape(_cell(cell))}</td>' for cell in cells)}</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def seconds_in_worker(scheduler: Work, ticket: int) -> float | None:
    """How long a worker has been at a ticket; None if none is at it."""
    return next((one.seconds for one in take_running(scheduler) if one.ticket == ticket), None)


def take_running(scheduler: Work) -> list[Running]:
    """A picture of all workers: by ticket, so the head comes first; then those without a task, by number."""
    picture = [_describe(scheduler, row) for row in scheduler.backend.rows()]
    return sorted(picture, key=_place)


def _place(worker: Running) -> tuple[bool, int, bool, int]:
    return worker.ticket is None, worker.ticket or 0, worker.number is None, worker.number or 0


def _describe(scheduler: Work, row: Row) -> Running:
    found = None if row.batch is None else patiently(lambda: _find(scheduler, row))
    if found is None:
        return Running(row.number, row.pid, row.state, seconds=row.seconds)
    batch, index = found
    ticket = batch.first + index
    fn, args, kwargs, losses = batch.call_at(index)
    return Running(
        row.number, row.pid, row.state, ticket, call_name(fn), call_text(fn, args, kwargs), losses + 1, row.seconds
    )


def _find(scheduler: Work, row: Row) -> tuple[CoreBatch, int] | None:
    """The batch that the row speaks of, and the index in it."""
    queue = scheduler.dispatcher.lanes.get(row.lane)
    for batch in () if queue is None else snapshot(queue.batches):
        if batch.number & BATCH_BITS == row.batch and row.index < batch.kept:
            return batch, row.index
    return None


def patiently(look: Callable[[], T]) -> T | None:
    """Look at what the scheduler may change meanwhile; None if it changes every time."""
    for _ in range(10):
        try:
            return look()
        except (RuntimeError, IndexError, KeyError):  # a deque or a dictionary changed while it was copied
            continue
    return None
