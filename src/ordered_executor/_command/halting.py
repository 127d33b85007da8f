"""When failures end the run: `--halt soon|now[,fail=N|N%]`, in GNU parallel's words.

`soon` begins nothing more and lets the running records end; `now` stops these, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Of so few records no percentage means anything; GNU parallel waits for as many.
LEAST_FOR_PERCENT = 3

_FORM = re.compile(r"(never|soon|now)(?:,fail=(\d+)(%?))?", re.ASCII)


@dataclass(frozen=True)
class Halt:
    """A policy.  `limit` failures are too many; or `limit` of a hundred, if `percent`."""

    when: str = "never"
    limit: int = 1
    percent: bool = False

    def reached(self, failed: int, ended: int) -> bool:
        """Whether so many failures among so many records that have ended are too many.

        >>> Halt("now").reached(1, 5), Halt("soon", 50, True).reached(2, 3), Halt("soon", 50, True).reached(1, 3)
        (True, True, False)
        """
        if self.when == "never" or not failed:
            return False
        if not self.percent:
            return failed >= self.limit
        return ended >= LEAST_FOR_PERCENT and failed * 100 >= self.limit * ended


NEVER = Halt()


def parse_halt(text: str) -> Halt:
    """Read a policy; raises `ValueError` that says what is taken."""
    match = _FORM.fullmatch(text)
    if match is None or (match[2] is not None and (not int(match[2]) or match[1] == "never")):
        raise ValueError(f"{text!r} is not of the form soon|now[,fail=N|N%], as in now,fail=1 or soon,fail=10%")
    return Halt(match[1], int(match[2] or 1), bool(match[3]))
