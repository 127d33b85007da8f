"""`--trace FILE`: which worker ran what, and when, for chrome://tracing and ui.perfetto.dev.

One event for each piece that a worker ran.  The file can be read at any moment: the format needs no closing bracket.
"""

from __future__ import annotations

import json
import os

from .ends import WRONG, EarlyEnd
from .pieces import Piece
from .sink import reason, write_all
from .slots import BEGAN, SECONDS, WORKER, Slots


class Trace:
    """The file."""

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            write_all(self._fd, b"[\n")
        except OSError as error:
            raise EarlyEnd(f"the trace {path} cannot be written: {reason(error)}", WRONG) from None

    def add(self, slots: Slots, piece: Piece, first: int, last: int) -> None:
        """A worker ran the records `first` up to `last` of a piece."""
        get = slots.get
        event = {
            "name": f"{piece.name}: records {piece.number + first} to {piece.number + last - 1}",
            "ph": "X",
            "ts": get(piece.slot, BEGAN) / 1000,
            "dur": get(piece.slot, SECONDS) / 1000,
            "pid": os.getpid(),
            "tid": get(piece.slot, WORKER),
            "args": {"slot": piece.slot, "bytes": piece.end - piece.begin},
        }
        write_all(self._fd, json.dumps(event).encode() + b",\n")
