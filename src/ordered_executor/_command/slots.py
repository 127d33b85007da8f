"""Slots: shared memory in which pieces travel, one piece a slot.

    near file  | words | slot 0: notes, output, input | slot 1: … |       memory, of a fixed size
    far file   | slot 0: input, output | slot 1: … |                      on disk, sparse, unlinked

Input and output of a slot are as long as they must be: the first `area` bytes are near, the rest is far.  Little of it
ever is: pieces are cut to fit, and only a single record can be larger.  Both files are nameless, so nothing is left
whoever is killed, and the parent maps the words only, so what waits in the slots does not count as its memory.

Words are eight aligned bytes each; a read never tears.  `COMMIT` holds two numbers, how many records have ended and how
long their output is, so that both always agree; what it counts is complete in the slot.  The worker writes a slot's
words while it has the piece, the parent while no worker has it.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterator
from multiprocessing.reduction import DupFd
from typing import Any

from ordered_executor._base import system

HEADER_BYTES = 64 * 1024
GRAIN = 64 * 1024  # areas are multiples of it: where a mapping may begin, on any system
NOTES_BYTES = 64 * 1024
MOST_AREA = 256 * 1024
MOST_SLOTS = 256
FAR_BYTES = 16 * 1024**3  # the longest record, and the longest output of one

STOP = 0  # the first word: no worker begins another record
_EACH = 8
COMMIT, NOTES, WORKER, PROGRAM, STATE, BEGAN, SECONDS = range(7)
WAITING, BEGUN, FINISHED, REST = range(4)  # STATE

_POSITION_BITS = 40
_POSITION_MASK = (1 << _POSITION_BITS) - 1

INPUT, OUTPUT = 0, 1


def pack_commit(done: int, position: int) -> int:
    return done << _POSITION_BITS | position


def unpack_commit(word: int) -> tuple[int, int]:
    """Records that have ended, and the length of their output."""
    return word >> _POSITION_BITS, word & _POSITION_MASK


def layout(window_bytes: int, workers: int) -> tuple[int, int]:
    """How many slots, with areas of what size: together about the window, never too few for the workers."""
    least = min(4 * workers, HEADER_BYTES // (8 * _EACH) - 1)
    area = max(GRAIN, min(MOST_AREA, window_bytes // (2 * least) // GRAIN * GRAIN))
    return max(least, min(MOST_SLOTS, window_bytes // (2 * area))), area


class Slots:
    """Either side's view.  Picklable while a process is being spawned, and only then."""

    def __init__(self, near: int, far: int, count: int, area: int) -> None:
        self.near, self.far, self.count, self.area = near, far, count, area
        self._stride = NOTES_BYTES + 2 * area
        self._header = mmap.mmap(near, HEADER_BYTES)
        self.words = memoryview(self._header).cast("Q")
        self._maps: dict[int, mmap.mmap] = {}
        self._reserved: set[int] = set()

    @classmethod
    def create(cls, window_bytes: int, workers: int) -> Slots:
        count, area = layout(window_bytes, workers)
        near = system.memory_file(HEADER_BYTES + count * (NOTES_BYTES + 2 * area))
        with tempfile.TemporaryFile(buffering=0) as file:
            far = os.dup(file.fileno())
        return cls(near, far, count, area)

    def __getstate__(self) -> tuple[Any, ...]:
        return DupFd(self.near), DupFd(self.far), self.count, self.area

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        near, far, count, area = state
        self.__init__(near.detach(), far.detach(), count, area)  # type: ignore[misc]
        for fd in (self.near, self.far):
            os.set_inheritable(fd, False)

    # ---------------------------------------------------------------------------------------------------------- words

    @property
    def stopped(self) -> bool:
        return bool(self.words[STOP])

    def stop(self) -> None:
        """No worker begins another record from here on."""
        self.words[STOP] = 1

    def get(self, slot: int, word: int) -> int:
        return self.words[(slot + 1) * _EACH + word]

    def set(self, slot: int, word: int, value: int) -> None:
        self.words[(slot + 1) * _EACH + word] = value

    @staticmethod
    def index(slot: int, word: int) -> int:
        """Of the word, among all."""
        return (slot + 1) * _EACH + word

    # ------------------------------------------------------------------------------------------------ input and output

    def _parts(self, slot: int, which: int, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Where a range lies: file, offset, size."""
        if begin < self.area:
            middle = min(end, self.area)
            at = HEADER_BYTES + slot * self._stride + NOTES_BYTES
            yield self.near, at + (self.area if which == INPUT else 0) + begin, middle - begin
            begin = middle
        if end > begin:
            yield self.far, (2 * slot + which) * FAR_BYTES + begin, end - begin

    def read(self, slot: int, which: int, begin: int, end: int) -> bytes:
        """A range of the input or the output."""
        parts = [_pread(fd, size, at) for fd, at, size in self._parts(slot, which, begin, end)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, slot: int, which: int, begin: int, data: bytes | bytearray | memoryview) -> None:
        """Put data there; raises `OSError` if the disk is full, or a record is too long for any."""
        if begin + len(data) > FAR_BYTES:
            raise OSError(f"a record of more than {FAR_BYTES >> 30} GiB, or its output, is too long")
        view = memoryview(data)
        for fd, at, size in self._parts(slot, which, begin, begin + len(data)):
            _pwrite(fd, view[:size], at)
            view = view[size:]

    def map_output(self, slot: int) -> mmap.mmap:
        """Notes and near output, mapped.  In a worker."""
        mapped = self._maps.get(slot)
        if mapped is None:
            size = NOTES_BYTES + self.area
            self._maps[slot] = mapped = mmap.mmap(self.near, size, offset=HEADER_BYTES + slot * self._stride)
        return mapped

    # ---------------------------------------------------------------------------------------------------------- notes

    def read_notes(self, slot: int, begin: int, end: int) -> bytes:
        return _pread(self.near, end - begin, HEADER_BYTES + slot * self._stride + begin)

    def write_notes(self, slot: int, begin: int, data: bytes) -> None:
        _pwrite(self.near, memoryview(data), HEADER_BYTES + slot * self._stride + begin)

    # ------------------------------------------------------------------------------------------------------ the parent

    def reserve(self, slot: int) -> None:
        """Before a slot is first used.  A page that is missing when a worker writes it would kill that."""
        if slot in self._reserved:
            return
        at, size = HEADER_BYTES + slot * self._stride, NOTES_BYTES + self.area
        if hasattr(os, "posix_fallocate") and not system.reserve(self.near, at, size):
            raise OSError("no memory: the system would not give another slot of shared memory")
        self._reserved.add(slot)

    def clear(self, slot: int, input_size: int, output_size: int) -> None:
        """Give back what lies far."""
        for which, size in ((INPUT, input_size), (OUTPUT, output_size)):
            if size > self.area:
                _punch_hole(self.far, (2 * slot + which) * FAR_BYTES, size)


def _pread(fd: int, size: int, at: int) -> bytes:
    data = os.pread(fd, size, at)
    while len(data) < size:  # one call gives two gigabytes at most
        more = os.pread(fd, size - len(data), at + len(data))
        if not more:
            raise OSError("shared memory of the command is shorter than it was")
        data += more
    return data


def _pwrite(fd: int, view: memoryview, at: int) -> None:
    while view:
        written = os.pwrite(fd, view, at)
        at += written
        view = view[written:]


def _punch_hole(fd: int, at: int, size: int) -> None:
    """Give disk space back, where the system can; else it is used again by the slot's next long record."""
    keep_size_punch_hole = 3
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fallocate(fd, keep_size_punch_hole, ctypes.c_int64(at), ctypes.c_int64(size))
