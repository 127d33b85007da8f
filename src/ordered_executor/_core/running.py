"""`running()`: a picture of the workers, from their rows in shared memory and from the batches that were sent.

Any thread may ask while the scheduler goes on.  So the parts of the picture may be some microseconds apart.  A part
that does not fit the others is left out, and never guessed.  It costs nothing when nobody asks.
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

    - `number`: 0 to `max_workers - 1`, or `None` while the worker starts.  A worker that replaces a dead one has its
      number.
    - `pid`: its process, or `None` while it starts.
    - `state`: "starting", "loading" (arguments), "running", "packing" (a result), "gated" (it keeps a result until the
      head comes closer), "idle", or, on a cluster, "sent".
    - `ticket`, `function`, `call`: its task, the name of the function, and the call in a few words.  `attempt`: 1 if
      the task runs for the first time.  All four are `None` if the worker has no task.
    - `seconds`: how long it has been in this state.  If it runs one short task after the other, this is the longest
      time that the present one may have been running.
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
    """Return the picture in HTML, for notebooks."""
    head = "".join(f"<th>{field.name}</th>" for field in fields(Running) if field.name != "function")
    rows = ""
    for one in workers:
        cells = (one.number, one.pid, one.state, one.ticket, one.call, one.attempt, f"{one.seconds:.1f}")
        rows += f"<tr>{''.join(f'<td>{html.escape(_cell(cell))}</td>' for cell in cells)}</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def seconds_in_worker(scheduler: Work, ticket: int) -> float | None:
    """Return how long a worker has been at a ticket, or None if no worker is at it."""
    return next((one.seconds for one in take_running(scheduler) if one.ticket == ticket), None)


def take_running(scheduler: Work) -> list[Running]:
    """Return all workers: by ticket, so that the head comes first; then those without a task, by number."""
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
    """Return the batch that the row speaks of, and the index in it."""
    queue = scheduler.dispatcher.lanes.get(row.lane)
    for batch in () if queue is None else snapshot(queue.batches):
        if batch.number & BATCH_BITS == row.batch and row.index < batch.kept:
            return batch, row.index
    return None


def patiently(look: Callable[[], T]) -> T | None:
    """Look at something that the scheduler may change meanwhile.  Return None if it changes every time."""
    for _ in range(10):
        try:
            return look()
        except (RuntimeError, IndexError, KeyError):  # a deque or a dictionary changed while it was copied
            continue
    return None
