"""When the tasks of a run of tickets began and ended, by the clock that all processes of a machine share.

A worker writes the end of each task into its lane's memory.  It writes a start only if this is not the end of the
previous task: for the first task of a batch, and for a task after a wait at the gate.  So the hot loop has one more
store for each task, and only in batches that are to be recorded.
"""

from __future__ import annotations

from array import array


class Times:
    """Starts and ends of consecutive tasks, in seconds of `time.monotonic`."""

    __slots__ = ("ends", "starts")

    def __init__(self, starts: array[float], ends: array[float]) -> None:
        assert len(starts) == len(ends)
        self.starts: array[float] = starts  # 0.0: the end of the one before
        self.ends: array[float] = ends

    @classmethod
    def read(cls, raw: bytes | memoryview, count: int) -> Times:
        """What a frame has of `count` tasks: all starts, then all ends.

        >>> Times.read(array("d", [1.0, 0.0, 1.5, 2.0]).tobytes(), 2).at(1)
        (1.5, 2.0)
        """
        both = array("d")
        both.frombytes(raw)
        return cls(both[:count], both[count:])

    def __len__(self) -> int:
        return len(self.ends)

    def at(self, index: int) -> tuple[float, float]:
        """Start and end of one task."""
        return self.starts[index] or self.ends[index - 1], self.ends[index]

    def seconds(self) -> list[float]:
        """How long each took."""
        return [end - start for start, end in map(self.at, range(len(self)))]

    def behind(self, begin: int) -> Times:
        """Those from index `begin` on."""
        if not begin or begin == len(self):
            return self if not begin else Times(self.starts[begin:], self.ends[begin:])
        rest = Times(self.starts[begin:], self.ends[begin:])
        rest.starts[0] = self.at(begin)[0]
        return rest

    def join(self, other: Times) -> None:
        """Those of the tasks behind these."""
        self.starts.extend(other.starts)
        self.ends.extend(other.ends)
