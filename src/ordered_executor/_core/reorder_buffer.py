"""The sequencer: puts outcomes back into ticket order.  Pure: no thread, clock, lock or process.

Invariants (all in tickets; numbers never wrap here):

1. `head <= tail`; the head never moves back.
2. Every segment that waits lies in `[head, tail)` and no two overlap.
3. `release()` hands out the segment that starts at the head, and only that one: so tickets end once, in order.
4. `early` counts the tickets of segments that came through the gate and start behind the head.

Why segments and not tickets: a batch of a thousand tickets is one dictionary entry.
"""

from __future__ import annotations

from ordered_executor._base.tasks import SKIP, Segment


class Sequencer:
    """Head, tail, and the segments that came home before their turn."""

    def __init__(self, first: int = 0) -> None:
        self.head = first
        self.tail = first
        self._waiting: dict[int, Segment] = {}
        self.early = 0
        self.early_bytes = 0
        self.peak_early = 0
        self.peak_early_bytes = 0

    def claim(self, count: int) -> int:
        """Issue `count` tickets; return the first."""
        first = self.tail
        self.tail += count
        return first

    def put(self, segment: Segment) -> None:
        """Take a segment home.  It waits until the head reaches it."""
        assert self.head <= segment.first and segment.first + segment.count <= self.tail, (
            self.head,
            segment,
            self.tail,
        )
        assert segment.first not in self._waiting, segment
        self._waiting[segment.first] = segment
        if segment.passed and segment.first != self.head:
            self.early += segment.count
            self.early_bytes += segment.size
            self.peak_early = max(self.peak_early, self.early)
            self.peak_early_bytes = max(self.peak_early_bytes, self.early_bytes)

    def skipped(self) -> set[int]:
        """The tickets that wait for their turn and were cancelled.  From any thread."""
        segments = [segment for segment in self._waiting.copy().values() if segment.outcomes[0] is SKIP]
        return {ticket for segment in segments for ticket in range(segment.first, segment.first + segment.count)}

    def release(self) -> Segment | None:
        """Hand out the segment at the head and move the head behind it; None if the head is not home."""
        segment = self._waiting.pop(self.head, None)
        if segment is None:
            return None
        self.head += segment.count
        following = self._waiting.get(self.head)
        if following is not None and following.passed:
            # It is the head now, so it is not early any more.
            self.early -= following.count
            self.early_bytes -= following.size
        return segment
