"""Buffers that are used again: large payloads are copied into them on arrival.

Fresh memory from the system costs a page fault for each four kilobytes, many times the cost of the copy.  So a buffer
that the user has let go of is kept, and used for the next payload of about its size.

A buffer is private memory of this process, not shared: a forked child gets a copy, as of any other memory.  It is
exported through a ctypes array with a weak reference to it.  Any view of the memory keeps that array alive, and the end
of the array says that the memory is free.

Invariants: at most `KEPT_BYTES` of free buffers are kept, and none when no executor is open.  Kept buffers and those in
use together never exceed the most that was in use at once (but for rounding): a buffer of a new size replaces kept
ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from typing import Any

from ordered_executor._base.atomic import snapshot

# Smaller ones come from malloc, which keeps what it has.
LEAST_BYTES = 128 * 1024
# A reader that lags behind, and then lets go of everything at once, is common: submit first, read then.
KEPT_BYTES = 256 * 1024 * 1024
_STEP = 64 * 1024


class BufferPool:
    """Buffers of one process.  All operations on the lists are atomic: buffers end at any moment, in any thread."""

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}
        self._kept = 0  # about; a race makes it wrong by a buffer, and it is set right when all are let go
        self._refs: dict[int, Any] = {}
        self._users: set[int] = set()

    def hold(self, user: object) -> None:
        """Somebody begins to use them: from now on, free ones are kept."""
        self._users.add(id(user))

    def let_go(self, user: object) -> None:
        """A user ends.  With the last one, what is kept goes."""
        self._users.discard(id(user))
        if not self._users:
            self._clear()

    def trim(self) -> None:
        """Let go of those that are free."""
        self._clear()

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
            self._make_room(room)
            memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        exporter = (ctypes.c_char * size).from_buffer(memory)
        self._refs[id(memory)] = weakref.ref(exporter, lambda _: self._ended(memory, room))
        view = memoryview(exporter).cast("B")
        if source.readonly:
            view[:] = source
        else:
            # The same, without the interpreter lock: meanwhile a reader can take what has come, which else it can only
            # in the instants in which the scheduler lets go of it by itself.
            ctypes.memmove(exporter, type(exporter).from_buffer(source), size)
        return view

    def _ended(self, memory: mmap.mmap, room: int) -> None:
        self._refs.pop(id(memory), None)
        if self._users and self._kept + room <= KEPT_BYTES:
            self._kept += room
            self._free.setdefault(room, []).append(memory)

    def _make_room(self, room: int) -> None:
        """Let go of kept buffers of other sizes, as many bytes as a new one will take."""
        for size, buffers in snapshot(self._free.items()):
            while buffers and room > 0:
                with contextlib.suppress(IndexError):  # another thread was faster
                    buffers.pop()
                    self._kept -= size
                    room -= size

    def _clear(self) -> None:
        self._free.clear()
        self._kept = 0


buffer_pool = BufferPool()
