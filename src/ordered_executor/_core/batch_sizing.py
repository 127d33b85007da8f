"""How many tasks make a batch: learned from the batches that came home.

A batch is some milliseconds of work.  If it is smaller, the round trip costs more than the work.  If it is larger, its
first outcomes come late, and a slow task holds back the tasks behind it.
"""

from __future__ import annotations

# Measured: a batch costs the parent 60 us, and 300 to 600 us where the workers keep all cores busy (cold caches).
BATCH_SECONDS = 0.007
# What one may grow to, while LONG_QUEUE_BATCHES of its size wait for each lane.  With 0.05 s, tasks of 10 ms have 97 %
# of what they have with nothing in between, with 0.007 s 94 %, and with 0.1 s 98 % (`busy-10ms` of the benchmarks).
LONG_BATCH_SECONDS = 0.05
LONG_QUEUE_BATCHES = 4
# Of tasks so long that fewer would make a long batch, the first would wait long for the last, and little be gained.
LONG_BATCH_LEAST = 4
BATCH_MOST = 4096
BATCH_BYTES = 4 * 1024 * 1024


class Pace:
    """How long a task typically takes, and how large its payload is, learned from the batches that came home.

    Typically, not on average: one task in fifty that takes a hundred times as long must not make all batches small (a
    batch that it sits in hands back what stands behind it).  So an observation moves the estimate by a factor at most.
    """

    def __init__(self) -> None:
        self.longest = LONG_BATCH_SECONDS  # seconds that a batch may be sized to take
        self.seconds: float | None = None
        self.bytes = 0.0  # of an outcome
        self.load = 0.0  # of what is sent for a task

    def learn(self, count: int, seconds: float, size: int) -> None:
        each = seconds / count
        if self.seconds is None:
            self.seconds = each
        else:
            step = 2.0 if count > 1 else 1.5
            self.seconds = min(max(each, self.seconds / step), self.seconds * step)
        self.bytes += min(0.5, 0.1 * count) * (size / count - self.bytes)

    def learn_load(self, count: int, load: int) -> None:
        each = load / count
        self.load = max(each, self.load + min(0.5, 0.1 * count) * (each - self.load))  # it may grow at once

    def overrun(self) -> None:
        """A batch took so long that its rest was handed back."""
        if self.seconds is not None:
            self.seconds *= 4

    def batch_size(self, waiting: int) -> int:
        """How many tasks make a batch, if so many wait for each lane."""
        if self.seconds is None:
            return 1
        seconds = max(self.seconds, 1e-7)
        size = int(BATCH_SECONDS / seconds)
        if (long := int(self.longest / seconds)) >= LONG_BATCH_LEAST:
            size = max(size, min(long, waiting // LONG_QUEUE_BATCHES))
        size = min(size, BATCH_MOST)
        if (most := max(self.bytes, self.load)) > 1:
            size = min(size, int(BATCH_BYTES / most))
        return max(1, size)
