"""Room for large buffers in the memory of a lane: a ring that is given out and freed in order."""

from __future__ import annotations

from collections import deque

from ordered_executor._base import system
from ordered_executor._channel.shared_memory import _RESERVE_STEP, LaneMemory


class BufferRoom:
    """Where the next large buffer may be written: blocks in one half of a lane's memory, freed in the order made.

    It goes back to low addresses as soon as there is room, so that few pages are ever touched.
    """

    def __init__(self, memory: LaneMemory, half: int) -> None:
        self._memory = memory
        self._at = memory.half_at(half)
        self._blocks: deque[tuple[int, int]] = deque()  # (offset, end), oldest first
        self._reserved = 0
        self.freed = 0

    def take(self, size: int) -> int | None:
        """The place of a free block, from the beginning of the lane's memory; None if there is no room."""
        offset = self._place(size)
        if offset is None or offset + size > self._memory.room:
            return None
        end = offset + size
        if end > self._reserved and not self._reserve(end):
            return None
        self._blocks.append((offset, end))
        return self._at + offset

    def _reserve(self, end: int) -> bool:
        """Have memory up to `end`: some more than that, or, where so much is not to be had, just that."""
        for upto in (min(self._memory.room, -(-end // _RESERVE_STEP) * _RESERVE_STEP), end):
            if system.reserve(self._memory.fd, self._at + self._reserved, upto - self._reserved):
                self._reserved = upto
                return True
        return False

    def _place(self, size: int) -> int | None:
        if not self._blocks:
            return 0
        oldest, newest_end = self._blocks[0][0], self._blocks[-1][1]
        wrapped = newest_end <= oldest
        if wrapped:
            return newest_end if newest_end + size <= oldest else None
        return 0 if size <= oldest else newest_end

    def free(self, count: int) -> None:
        """The oldest `count` blocks are done with."""
        for _ in range(count):
            self._blocks.popleft()
        self.freed += count

    def forget(self) -> None:
        self._blocks.clear()
        self.freed = 0

    def give_back(self, kept: int = 0) -> None:
        """Let the system have the memory that is not used, but for so many bytes, which are used first."""
        if (
            not self._blocks
            and self._reserved > kept
            and self._memory.give_back(self._at + kept, self._reserved - kept)
        ):
            self._reserved = kept
