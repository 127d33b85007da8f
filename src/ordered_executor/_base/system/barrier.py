"""A memory barrier that one process makes for another: `membarrier(2)` of Linux.

The side that looks, rarely, pays for the order.  The side that works in a hot loop pays nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

from ordered_executor._base.locks import Lock

# The numbers of the system call, for which the C library has no function, and its commands (of linux/membarrier.h).
_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_BARRIER, _HEED_BARRIERS = 1 << 1, 1 << 2


@cache
def _membarrier() -> Callable[[int], int]:
    """The system call: it returns 0, or anything else where it is not to be had."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32 or (machine := os.uname().machine) not in _MEMBARRIER:
        return lambda _: -1
    try:
        syscall, number = ctypes.CDLL(None).syscall, ctypes.c_long(_MEMBARRIER[machine])
    except (AttributeError, OSError, TypeError):  # another C library
        return lambda _: -1
    return lambda command: int(syscall(number, command, 0, 0))


_fence = Lock()
# Where a processor sees the writes of another in the order in which they were made, and reads in its own.
_IN_ORDER = frozenset({"x86_64", "amd64", "i386", "i486", "i586", "i686", "s390x"})


@cache
def keeps_order() -> bool:
    return os.uname().machine.lower() in _IN_ORDER


def settle() -> bool:
    """Between two reads of memory that another process writes, which heeds barriers.

    What it wrote before something that the first has seen, the second sees.  False: that cannot be had.
    """
    return keeps_order() or barrier()


def fence() -> None:
    """In this thread: what is written from here on is seen by nobody before what was read has been read.

    To take a lock and let it go does both twice over: its own parts are ordered on every processor, and so is what is
    on either side of them.
    """
    if not keeps_order():
        +_fence
        try:
            pass
        finally:
            -_fence


def heed_barriers() -> bool:
    """Let the barriers of other processes hold in this one, too.  Whether they do: before Linux 4.16 there are none."""
    return _membarrier()(_HEED_BARRIERS) == 0


def barrier() -> bool:
    """A full memory barrier in this thread, and at some instant meanwhile in every process that heeds it.

    There what was written before that instant is visible here now; what is read after it sees what was written here
    before.  It takes microseconds, tens of them where that process is busy.  False: there is no such thing.
    """
    return _membarrier()(_BARRIER) == 0
