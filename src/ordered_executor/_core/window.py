"""The window: how far past the head an outcome may travel, in tickets and in bytes."""

from __future__ import annotations

# A window that no one set: wide enough that batches are never cut short by it; the bytes bound memory.
WIDE_WINDOW_PER_LANE = 4 * 4096


class Window:
    """How far past the head an outcome may travel, as the parent enforces it."""

    def __init__(self, tickets: int | None, max_bytes: int, max_lanes: int) -> None:
        self.wide: bool = tickets is None
        self.tickets: int = tickets or 0
        self.credit: int
        self.bytes = max_bytes
        self.share(max_lanes)

    def share(self, lanes: int) -> None:
        """Share it among so many lanes.  Of those that have sent more than that is now, nothing passes for a while."""
        if self.wide:
            self.tickets = WIDE_WINDOW_PER_LANE * lanes
        self.credit = self.bytes // lanes

    def limit(self, head: int) -> int:
        return head + self.tickets

    def passes(self, head: int, ticket: int, size: int, unreleased: int) -> bool:
        """Whether an outcome of `size` bytes may come home, when so many bytes of its lane are unreleased."""
        # Before the head: it was fetched by a peek and released, and the worker does not know yet.
        return ticket <= head or (ticket < self.limit(head) and unreleased + size <= self.credit)
