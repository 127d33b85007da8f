"""A bounded record of durations that answers quantiles: a DDSketch (Masson, Rim, Lee, VLDB 2019).

Durations are counted in buckets whose borders grow by a constant factor.  So a quantile is right within half a bucket,
`ERROR` of its value, for any durations in any order (tests/unit/test_quantiles.py compares with sorted lists).  The
range, a tenth of a microsecond to a year, bounds the number of buckets: 1,700 at most, and mostly a few dozen.

One thread writes; others may read, because a copy of the dictionary is one step.
"""

from __future__ import annotations

import math

ERROR = 0.01
_FACTOR = (1 + ERROR) / (1 - ERROR)
_SCALE = 1 / math.log(_FACTOR)
_LEAST, _MOST = 1e-7, 3e7


class Sketch:
    """Counts of durations by bucket; `longest` is exact."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.longest = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Record `count` durations of so many seconds."""
        bucket = math.ceil(math.log(min(max(seconds, _LEAST), _MOST)) * _SCALE)
        self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.longest = max(self.longest, seconds)

    def quantiles(self, *shares: float) -> list[float]:
        """For each share, the duration that so many of all do not exceed; shares ascend.  Zeros if there is none.

        >>> sketch = Sketch()
        >>> for milliseconds in range(1, 1001):
        ...     sketch.add(milliseconds / 1000)
        >>> [round(seconds, 2) for seconds in sketch.quantiles(0.5, 0.9)]
        [0.5, 0.9]
        """
        counts = self._counts.copy()
        total = sum(counts.values())
        found: list[float] = []
        seen = 0
        for bucket in sorted(counts):
            seen += counts[bucket]
            while len(found) < len(shares) and seen >= shares[len(found)] * total:
                # between the borders of the bucket, equally far from both in proportion
                found.append(min(2 * _FACTOR**bucket / (_FACTOR + 1), self.longest))
        return found + [0.0] * (len(shares) - len(found))
