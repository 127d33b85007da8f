"""Descriptors: pipes that never get the number of a standard stream, and a wait for one of them."""

from __future__ import annotations

import fcntl
import os
import select

_LONGEST_POLL = 24 * 24 * 3600.0  # seconds; what waits longer may as well wait for ever


def above_streams(fd: int) -> int:
    """The descriptor, or another in its place if it has the number of a standard stream, which may be closed.

    Others would write to that: print(), programs that are started.
    """
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def pipe() -> tuple[int, int]:
    """A pipe `(read, write)`."""
    read, write = os.pipe()
    try:
        read = above_streams(read)
    except OSError:
        os.close(write)
        raise
    try:
        return read, above_streams(write)
    except OSError:
        os.close(read)
        raise


def can_be_read(fd: int, seconds: float | None) -> bool:
    """Wait until there is something to read, or the end, at most so long."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None or seconds > _LONGEST_POLL else seconds * 1000))
