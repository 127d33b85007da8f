"""`--progress`: a bar on the standard error, drawn by tqdm.

It counts bytes of input, because nobody knows the number of records before the end.  Of a pipe nobody knows the number
of bytes either; then there is a rate, and no time left.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

# Seconds between two pictures.
SHOW_SECONDS = 0.1


class Progress:
    """The bar."""

    def __init__(self, files: tuple[str, ...]) -> None:
        from tqdm import tqdm  # noqa: PLC0415 (an extra, and most runs have no bar)

        tqdm.monitor_interval = 0  # no thread: the run shows it in time
        width: dict[str, Any] = {"dynamic_ncols": True} if _has_width() else {"ncols": 80}
        self._bar: Any = tqdm(total=total_bytes(files), unit="B", unit_scale=True, mininterval=0, **width)
        self._next = 0.0

    def update(self, size: int, records: int, failed: int, head: int) -> None:
        """So many bytes and records have ended; the head is the record whose turn it is."""
        bar, now = self._bar, time.monotonic()
        if now < self._next:
            return
        self._next = now + SHOW_SECONDS
        bar.n = size
        bar.set_postfix_str(f"{records} done, {failed} failed, head {head}", refresh=False)
        bar.refresh()

    def due_in(self) -> float:
        """Seconds until it should be updated."""
        return max(0.0, self._next - time.monotonic())

    def clear(self) -> None:
        self._bar.clear()

    def show(self) -> None:
        self._bar.refresh()

    def close(self, size: int, records: int, failed: int, head: int) -> None:
        self._next = 0.0
        self.update(size, records, failed, head)
        self._bar.close()


def _has_width() -> bool:
    """Whether the standard error is a terminal that knows how wide it is."""
    try:
        return os.get_terminal_size(2).columns > 0
    except OSError:
        return False


def total_bytes(files: tuple[str, ...]) -> int | None:
    """Of the input; None if nobody knows."""
    total = 0
    for name in files:
        try:
            kind = os.fstat(0) if name == "-" else Path(name).stat()
        except OSError:
            continue
        if not stat.S_ISREG(kind.st_mode):
            return None
        total += kind.st_size - (os.lseek(0, 0, os.SEEK_CUR) if name == "-" else 0)
    return total
