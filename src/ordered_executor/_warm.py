"""Warm buffers: where large payloads are copied to on arrival.

Memory fresh from the system costs a page fault for each four kilobytes, which is many times the copy.  So a buffer that
the user has let go of is kept, and used for the next of about its size.

A buffer is private memory of this process, not shared: a forked child gets a copy, as of any other memory.  It is
exported through a ctypes array, which is weakly referenced: whoever uses the memory, through whatever view, keeps that
array alive, and its end says that the memory is free.

Invariant: at most `KEPT_BYTES` of free buffers are kept.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import Any

# Smaller ones come from malloc, which keeps what it has.
LEAST_BYTES = 128 * 1024
KEPT_BYTES = 64 * 1024 * 1024
_STEP = 64 * 1024


class WarmBuffers:
    """Buffers of one process.  All operations on the lists are atomic: buffers end at any moment, in any thread."""

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}
        self._kept = 0  # about; a race makes it wrong by a buffer, and it is set right when a list runs empty
        self._refs: dict[int, Any] = {}

    def copy(self, source: memoryview) -> bytearray | memoryview:
        """A writable copy."""
        size = len(source)
        if size < LEAST_BYTES:
            return bytearray(source)
        room = -(-size // _STEP) * _STEP
        try:
            memory = self._free[room].pop()
            self._kept -= room
        except (KeyError, IndexError):
            memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        exporter = (ctypes.c_char * size).from_buffer(memory)
        self._refs[id(memory)] = weakref.ref(exporter, lambda _: self._ended(memory, room))
        view = memoryview(exporter).cast("B")
        view[:] = source
        return view

    def _ended(self, memory: mmap.mmap, room: int) -> None:
        self._refs.pop(id(memory), None)
        if self._kept + room <= KEPT_BYTES:
            self._kept += room
            self._free.setdefault(room, []).append(memory)
        elif not self._free.get(room):
            self._free.clear()  # kept for sizes that are not used any more: let them go
            self._kept = 0


warm = WarmBuffers()
