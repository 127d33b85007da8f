"""A snapshot of an executor, for users and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._releaser import Releaser


@dataclass(frozen=True)
class Statistics:
    """What `statistics()` saw.

    `head`: lowest ticket not yet released.  `tail`: the next ticket to be issued.  `in_flight`: tickets between them.
    `waiting`: those of them that no worker has.  `early`, `early_bytes`: outcomes home before their turn, and the bytes
    they travelled as; `peak_early`, `peak_early_bytes`: the most there ever were.  `gated`: workers that wait at the
    gate.  `unread`: finished outcomes kept for `results()`.  `delivered`: outcomes that `results()` and `outcomes()`
    have yielded.  `workers`: processes that live or start; `pids`: of those that are ready.  `max_workers`, `window`
    (tickets) and `window_bytes`: the bounds in force.
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


def take_statistics(releaser: Releaser) -> Statistics:
    sequencer, backend = releaser.sequencer, releaser.backend.snapshot()
    head = sequencer.head
    tail = max(head, releaser.claims.tail)
    return Statistics(
        head=head,
        tail=tail,
        in_flight=tail - head,
        waiting=releaser.dispatcher.waiting_tickets + tail - sequencer.tail,
        early=sequencer.early,
        early_bytes=sequencer.early_bytes,
        peak_early=sequencer.peak_early,
        peak_early_bytes=sequencer.peak_early_bytes,
        gated=backend["gated"],
        unread=releaser.stream.unread(),
        delivered=releaser.stream.delivered,
        workers=backend["workers"],
        pids=backend["pids"],
        max_workers=releaser.max_lanes,
        window=releaser.window.tickets,
        window_bytes=releaser.window.bytes,
    )
