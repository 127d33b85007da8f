"""How large a piece should be: learned from the pieces that have run.  Pure.

A piece of some 25 ms costs the parent a hundredth of that, and is so short that no worker idles for long at the end.
Nothing is known at first, so the first pieces have one record each: a slow function must not wait for a full block.
"""

from __future__ import annotations

TARGET_SECONDS = 0.025
# Of a slot's area: records differ, and a piece whose output fills its slot must be sent again.
FILL = 0.75
# How fast sizes follow what was measured: smaller, and one odd piece matters less.
WEIGHT = 0.4
# A piece may be so many times as large as the largest that was measured.
GROWTH = 16


class Pace:
    """Seconds and output per byte and per record, as averages over pieces that lean to the newest."""

    def __init__(self, area: int) -> None:
        self._area = area
        self._byte_seconds: float | None = None
        self._record_seconds = 0.0
        self._ratio = 1.0  # bytes of output for a byte of input
        self._largest = 1

    def learn(self, size: int, records: int, out: int, seconds: float) -> None:
        """So many bytes in so many records took so long."""
        if size < 1 or records < 1:
            return
        byte_seconds, record_seconds, ratio = seconds / size, seconds / records, out / size
        if self._byte_seconds is None:
            self._byte_seconds, self._record_seconds, self._ratio = byte_seconds, record_seconds, ratio
        else:
            self._byte_seconds += WEIGHT * (byte_seconds - self._byte_seconds)
            self._record_seconds += WEIGHT * (record_seconds - self._record_seconds)
            self._ratio = max(ratio, self._ratio + WEIGHT * (ratio - self._ratio))
        self._largest = max(self._largest, size)

    @property
    def size(self) -> int:
        """Bytes of the next piece; 1 stands for a single record, however long that is."""
        if self._byte_seconds is None:
            return 1
        by_time = TARGET_SECONDS / max(self._byte_seconds, 1e-12)
        by_room = FILL * self._area / max(self._ratio, 1.0)
        return max(1, int(min(by_time, by_room, GROWTH * self._largest)))

    @property
    def records(self) -> int:
        """Records of a piece."""
        return max(1, int(TARGET_SECONDS / max(self._record_seconds, 1e-12)))
