"""Says once that something large has to travel again and again, so that nobody is slow without knowing why."""

from __future__ import annotations

import logging

logger = logging.getLogger("ordered_executor")

# Said when one name has cost so much: some tenths of a second, many times what any single transfer should.
NOTICED_BYTES = 64 * 1024 * 1024
LARGE_BYTES = 1024 * 1024
NOTICED_TIMES = 8

SET_ANEW = "it is set anew, or said to be changed, each time; set it once, or give the tasks what they need of it"

_costs: dict[str, tuple[int, int]] = {}
_said: set[str] = set()


def note(what: str, size: int, why: str) -> None:
    """So many bytes of something went to a worker once more.  `why` says so, and what to do."""
    if size < LARGE_BYTES or what in _said:
        return
    times, total = _costs.get(what, (0, 0))
    times, total = times + 1, total + size
    _costs[what] = times, total
    if times >= NOTICED_TIMES and total >= NOTICED_BYTES:
        _said.add(what)
        del _costs[what]
        mib = size / (1024 * 1024)
        logger.warning("%s, of %.0f MiB, was sent to workers %d times: %s", what, mib, times, why)
