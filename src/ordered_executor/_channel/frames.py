"""Frames on a lane's two pipes: a header (length, kind, lease), then the body.

The worker reads and writes blocking.  The parent never blocks: it parses what has come, and keeps the bytes that the
pipe does not take yet.  Bodies are marshalled plain values and bytes; objects of the user's are bytes already.
"""

from __future__ import annotations

import marshal
import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

HEADER = struct.Struct("=QII")
# in front of a marshalled value that has raw buffers behind it: how long it is
LENGTH = struct.Struct("=Q")

# parent to worker
LEASE, BATCH, OPEN, END, IDLE, DEFINE, BEGIN, TRIM = 1, 2, 3, 4, 5, 6, 7, 8
# worker to parent
READY, DONE, LARGE, ASK, RETURNED, INIT_FAILED, LOG = 16, 17, 18, 19, 20, 21, 22

Body = bytes | bytearray

# DONE: batch, index of the first outcome, how many, of them placed, bytes of credit, nanoseconds of work, bytes of
# times; the times (see `_base.times`); the stream
DONE_HEAD = struct.Struct("=QQQQQQQ")

_MOST_PARTS = 64  # that are written at once; the system has a limit, 1,024 mostly
_MOST_BYTES = 1 << 30  # the same; macOS has one of 2 GiB, and writes nothing of more
_READ_BYTES = 64 * 1024  # more than a pipe mostly holds; a larger buffer costs a system call to make


def pack(body: tuple[Any, ...]) -> bytes:
    return marshal.dumps(body)


def split(body: Body | memoryview) -> tuple[tuple[Any, ...], memoryview]:
    """A marshalled value, and the raw buffers behind it."""
    view = memoryview(body)
    (length,) = LENGTH.unpack_from(view)
    end = LENGTH.size + length
    return unpack(view[LENGTH.size : end]), view[end:]


def unpack(body: Body | memoryview) -> tuple[Any, ...]:
    return marshal.loads(body)  # type: ignore[no-any-return]


def frame(kind: int, lease: int, body: bytes = b"") -> bytes:
    return HEADER.pack(len(body), kind, lease) + body


def _at_once(parts: Sequence[Any]) -> list[Any]:
    """The first parts, as much as the system takes in one call."""
    most, left = list(parts[:_MOST_PARTS]), _MOST_BYTES
    for place, part in enumerate(most):
        if len(part) > left:
            return [*most[:place], memoryview(part)[:left]]
        left -= len(part)
    return most


def write_all(fd: int, parts: list[Any]) -> None:
    """Write, blocking, as few system calls as it takes."""
    total = sum(len(part) for part in parts)
    written = os.writev(fd, _at_once(parts))
    if written == total:
        return
    for part in parts:
        view = memoryview(part)
        if written >= len(view):
            written -= len(view)
            continue
        view = view[written:]
        written = 0
        while len(view):
            view = view[os.write(fd, view[:_MOST_BYTES]) :]


def read_frame(stream: BinaryIO) -> tuple[int, int, Body] | None:
    """Read one frame, blocking; None at the end of the stream."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length, kind, lease = HEADER.unpack(header)
    body: Body
    if kind == DEFINE:  # arrays are made around what came, and can be written to
        body = bytearray(length)
        return (kind, lease, body) if stream.readinto(body) == length else None  # type: ignore[attr-defined]
    body = stream.read(length) if length else b""
    if len(body) < length:
        return None
    return kind, lease, body


class FrameReader:
    """The parent's side of a pipe to read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self.ended = False
        os.set_blocking(fd, False)

    def frames(self) -> Iterator[tuple[int, int, memoryview]]:
        """The frames that are complete.  Each body is valid until the next is asked for."""
        while not self.ended:
            try:
                piece = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                self.ended = True
                break
            self._buffer += piece
            yield from self._parse()
            if len(piece) < _READ_BYTES:
                break  # most likely there is no more; the poller knows

    def _parse(self) -> Iterator[tuple[int, int, memoryview]]:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= HEADER.size:
            length, kind, lease = HEADER.unpack_from(buffer, at)
            end = at + HEADER.size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view, view[at + HEADER.size : end] as body:
                yield kind, lease, body
            at = end
        if at:
            del buffer[:at]


class FrameWriter:
    """The parent's side of a pipe to write: takes everything, keeps what the pipe does not take yet."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parts: deque[memoryview] = deque()
        os.set_blocking(fd, False)

    @property
    def pending(self) -> bool:
        return bool(self._parts)

    def put(self, *parts: bytes) -> None:
        if self._parts:
            self._parts.extend(map(memoryview, parts))
            return  # the poller says when the pipe takes more
        try:
            written = os.writev(self._fd, _at_once(parts))
        except BlockingIOError:
            written = 0
        except OSError:  # nobody reads: the worker is gone, which its handle says too
            return
        if written < sum(map(len, parts)):
            self._parts.extend(map(memoryview, parts))
            self._drop(written)

    def flush(self) -> bool:
        """Write what the pipe takes; True if nothing is left."""
        parts = self._parts
        while parts:
            try:
                written = os.writev(self._fd, _at_once([parts[i] for i in range(min(len(parts), _MOST_PARTS))]))
            except BlockingIOError:
                return False
            except OSError:  # see put
                parts.clear()
                return True
            self._drop(written)
        return True

    def _drop(self, written: int) -> None:
        """So many bytes of what is kept are written; what is left begins with what is not."""
        parts = self._parts
        while parts and written >= len(parts[0]):
            written -= len(parts.popleft())
        if written:
            parts[0] = parts[0][written:]
