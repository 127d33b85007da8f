"""A snapshot of an executor, for users and for tests."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ordered_executor._core.scheduler import Scheduler


@dataclass(frozen=True)
class Statistics:
    """A snapshot of an executor.  `statistics()` returns it.

    - `head`: the lowest ticket that is not released.  `tail`: the next ticket to be issued.  `in_flight`: the number of
      tickets from the head up to the tail.  `waiting`: how many of these no worker has.
    - `early`, `early_bytes`: outcomes that came home before their turn, and the bytes they travelled as.
      `peak_early`, `peak_early_bytes`: the largest values there have been.  `gated`: workers that wait at the gate.
    - `unread`: finished outcomes that are kept for `results()`.  `delivered`: outcomes that `results()` and
      `outcomes()` have yielded.
    - `workers`: processes that live or start.  `pids`: those of the processes that are ready.
    - `max_workers`, `window` (in tickets), `window_bytes`: the bounds in force.
    - `head_seconds`: how long the head has been the head; 0 if nothing is in flight.
    - `failed`: tickets that came home with an error.  `cancelled`: tickets that were skipped.  `killed`: tasks that
      `kill()`, a time limit or a shutdown stopped.  `retried`: how many times a task was sent again after its worker
      had died.  `lost_workers`: workers that died.
    - `tasks_per_second`: tickets released a second, over the last ten seconds or so.
    - `median_seconds`, `p90_seconds`, `p99_seconds`, `longest_seconds`: of task times.  `longest_seconds` is exact, the
      others are within 1 %.  Short tasks travel in batches; each of them counts with the average of those that came
      home together.
    """

    head: int
    tail: int
    in_flight: int
    waiting: int
    early: int
    early_bytes: int
    peak_early: int
    peak_early_bytes: int
    gated: int
    unread: int
    delivered: int
    workers: int
    pids: tuple[int, ...]
    max_workers: int
    window: int
    window_bytes: int
    head_seconds: float = field(compare=False)
    failed: int
    cancelled: int
    killed: int
    retried: int
    lost_workers: int
    tasks_per_second: float = field(compare=False)
    median_seconds: float
    p90_seconds: float
    p99_seconds: float
    longest_seconds: float

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(each.name)}</td><td>{html.escape(_shown(getattr(self, each.name)))}</td></tr>"
            for each in fields(self)
        )
        return f"<table>{rows}</table>"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def describe(scheduler: Scheduler) -> str:
    """An executor in a few words."""
    now = take_statistics(scheduler)
    closed = ", shut down" if scheduler.inbox.claims.closed is not None else ""
    return f"head {now.head}, tail {now.tail}, {now.workers} of {now.max_workers} workers{closed}"


def take_statistics(scheduler: Scheduler) -> Statistics:
    sequencer, backend = scheduler.sequencer, scheduler.backend.snapshot()
    head = sequencer.head
    tail = max(head, scheduler.inbox.claims.tail)
    counts = scheduler.counts
    median, p90, p99 = counts.task_seconds.quantiles(0.5, 0.9, 0.99)
    return Statistics(
        head=head,
        tail=tail,
        in_flight=tail - head,
        waiting=scheduler.dispatcher.waiting_tickets + tail - sequencer.tail,
        early=sequencer.early,
        early_bytes=sequencer.early_bytes,
        peak_early=sequencer.peak_early,
        peak_early_bytes=sequencer.peak_early_bytes,
        gated=backend.gated,
        unread=scheduler.inbox.stream.unread(),
        delivered=scheduler.inbox.stream.delivered,
        workers=backend.workers,
        pids=backend.pids,
        max_workers=scheduler.max_lanes,
        window=scheduler.window.tickets,
        window_bytes=scheduler.window.bytes,
        head_seconds=max(0.0, time.monotonic() - counts.head_since) if tail > head else 0.0,
        failed=counts.failed,
        cancelled=counts.cancelled,
        killed=counts.killed,
        retried=counts.retried,
        lost_workers=counts.lost_workers,
        tasks_per_second=counts.rate(head, tail - head),
        median_seconds=median,
        p90_seconds=p90,
        p99_seconds=p99,
        longest_seconds=counts.task_seconds.longest,
    )
