"""The gate: it decides whether a worker may send an outcome home.

`Window` is the parent's side: how far past the head an outcome may travel.  `Gate` is the worker's side: the wait.

A ticket passes if it is the head (or was released already), or if it is inside both bounds:

- `ticket < limit`, where `limit = head + window`;
- the bytes that were sent from this lane's seat and are not released yet, plus its own, are within the credit of the
  seat.

The limit, the head and the bytes given back are words in the lane's memory: passing costs no system call.  A worker
that may not pass *asks*: it sends the ticket and the bytes that it holds, and waits for a frame on its pipe.

No wake-up is lost, and nothing polls:

1. the worker reads the words: it may not pass; it sends ASK; it waits;
2. the parent changes the words, at any moment;
3. the parent reads ASK, later than 1, and judges by the newest words.  It answers OPEN at once if the ticket passes
   now.  Otherwise the lane is on the list of gated lanes, and each later move of the head judges it again.

The worker trusts that OPEN and does not look at the words again.  They may still say no, because the words of a lane
that is to end are not kept up.  Then the worker would ask for ever.

OPEN ends the wait.  It always comes: the head ticket passes everywhere, and stands behind nothing that waits.  The end
of the pipe, or of the process, ends the wait, too.  Why frames and not an Event: `set()` of multiprocessing's and
loky's events waits for an answer of each sleeper, and hangs for ever if one was killed.
"""

from __future__ import annotations

from collections.abc import Callable

from ordered_executor._channel.shared_memory import CREDIT_BACK, HEAD, LIMIT, MASK, LaneMemory, distance


class Seat:
    """A lane's share of the bytes; it outlives the lane, or each new worker would bring a credit of its own.

    `unreleased`: bytes that the lanes in this seat have sent home and that are not released.  `number`: the worker's,
    for those who look.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.unreleased = 0


class Gate:
    """The wait in the worker."""

    def __init__(
        self,
        memory: LaneMemory,
        credit: int,
        unreleased: int,
        ask: Callable[[int, int], None],
        wait: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._words = memory.words
        self._credit = credit
        self._ask = ask
        self._wait = wait
        self.sent = unreleased  # bytes, modulo 2**64 like the word that gives them back

    def passes(self, ticket: int, size: int) -> bool:
        words = self._words
        if distance(ticket, words[LIMIT]) > 0 and distance(words[CREDIT_BACK], self.sent) + size <= self._credit:
            return True
        return distance(ticket, words[HEAD]) >= 0

    def room(self, first: int) -> tuple[int, int]:
        """How many tickets from `first` on, and how many bytes, pass as things are now."""
        words = self._words
        return distance(first, words[LIMIT]), self._credit - distance(words[CREDIT_BACK], self.sent)

    def enter(self, ticket: int, size: int) -> None:
        """Wait until the ticket may pass."""
        if not self.passes(ticket, size):
            self._ask(ticket, size)
            self._wait()  # for the one OPEN that answers it; none is left over for the next

    def count(self, size: int) -> None:
        """So many bytes were sent."""
        self.sent = (self.sent + size) & MASK
