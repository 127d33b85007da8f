"""How workers tell the parent that something has happened in a slot: four bytes on a pipe.

They are a hint to look; the truth is in the slot.  Messages arrive whole, because such short ones are never torn.
"""

from __future__ import annotations

import os
import struct
from multiprocessing.reduction import DupFd
from typing import Any

TURNED, FAILED = range(2)  # the piece is done or given back; a record of it has failed

_MESSAGE = struct.Struct("<HH")


class Telling:
    """Both ends of the pipe.  Picklable while a process is being spawned, and only then: the worker gets its end."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)

    def __getstate__(self) -> Any:
        return DupFd(self.write)

    def __setstate__(self, state: Any) -> None:
        self.read, self.write = -1, state.detach()
        os.set_inheritable(self.write, False)

    def tell(self, what: int, slot: int) -> None:
        os.write(self.write, _MESSAGE.pack(what, slot))

    def heard(self) -> list[tuple[int, int]]:
        """What was told since the last time."""
        data = b""
        try:
            while part := os.read(self.read, 64 * 1024):
                data += part
        except BlockingIOError:
            pass
        return list(_MESSAGE.iter_unpack(data))
