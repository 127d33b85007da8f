"""The lanes that a move of the head concerns: a few, however many lanes there are.  Pure.

`Reach` finds the lanes whose words (limit, head) must be written anew.  A lane is told both with each batch.  These
values are enough for all tickets below that limit.  The other tickets are *ahead*, and their lane is told again when
the limit has come to them.  Batches do not overlap, so at most one lies across the limit: a move of the head by a batch
concerns about one lane.  The lane that has the head is told of each move, because the head passes whatever its size.  A
lane that was not told, and asks at the gate, is answered by the newest numbers: old words cost a question, never more.

`Gated` finds the lanes that have asked and may pass now: by the ticket when the limit has come to it, by the bytes when
some of the lane's own were released, and in any case when the ticket is the head.

Both keep lanes of which nothing is asked any more until their ticket is passed; then these entries are thrown away.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Any


class Reach:
    """See the module."""

    def __init__(self) -> None:
        self._numbers = itertools.count()  # so that heaps never compare lanes
        self._ahead: list[tuple[int, int, int, Any]] = []  # the first ticket its words do not let in, …, the end, lane
        self._firsts: list[tuple[int, int, int, Any]] = []  # the first ticket of the batch, …, the end, lane
        self._at_head: tuple[Any, int] | None = None  # and the end of its batch

    def sent(self, lane: Any, first: int, count: int, head: int, limit: int) -> None:
        """A lane was told these words, and given a batch."""
        end = first + count
        if first <= head:
            self._at_head = lane, end
        else:
            heapq.heappush(self._firsts, (first, next(self._numbers), end, lane))
        if end > limit:
            heapq.heappush(self._ahead, (max(first, limit), next(self._numbers), end, lane))

    def moved(self, head: int, limit: int) -> Iterator[Any]:
        """The lanes that must be told: some twice, some that are gone."""
        ahead, firsts = self._ahead, self._firsts
        while ahead and ahead[0][0] < limit:
            _, number, end, lane = heapq.heappop(ahead)
            if end > limit:
                heapq.heappush(ahead, (limit, number, end, lane))
            yield lane
        while firsts and firsts[0][0] <= head:
            _, _, end, lane = heapq.heappop(firsts)
            if end > head:
                self._at_head = lane, end
        if self._at_head is not None:
            lane, end = self._at_head
            if head >= end:
                self._at_head = None
            else:
                yield lane


class Gated:
    """The lanes that wait at the gate."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._tickets: dict[Any, int] = {}
        self._by_limit: list[tuple[int, int, Any]] = []
        self._by_head: list[tuple[int, int, Any]] = []

    def __contains__(self, lane: object) -> bool:
        return lane in self._tickets

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, lane: Any, ticket: int) -> None:
        """It was judged, and must wait.  Again: it still must."""
        if self._tickets.get(lane) != ticket:
            self._tickets[lane] = ticket
            heapq.heappush(self._by_limit, (ticket, next(self._numbers), lane))
            heapq.heappush(self._by_head, (ticket, next(self._numbers), lane))

    def discard(self, lane: Any) -> None:
        self._tickets.pop(lane, None)

    def moved(self, head: int, limit: int) -> Iterator[Any]:
        """The lanes that must be judged anew."""
        yield from self._take(self._by_limit, limit)
        yield from self._take(self._by_head, head + 1)

    def _take(self, heap: list[tuple[int, int, Any]], below: int) -> Iterator[Any]:
        while heap and heap[0][0] < below:
            ticket, _, lane = heapq.heappop(heap)
            if self._tickets.get(lane) == ticket:
                yield lane
