"""Ends the programs that run when this process is killed in a way that nobody can catch.

The system ends the workers then, but not their programs, which are heads of process groups of their own.  So a small
process waits for our end, and reads in the slots which programs run.  It needs no word from us before that.
"""

from __future__ import annotations

import os
import sys

from .slots import HEADER_BYTES, PROGRAM, Slots

# Its standard input ends with us; its standard output is the file of the slots.
_KEEPER = f"""
import mmap, os, signal
os.setsid()
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(each, signal.SIG_IGN)
words = memoryview(mmap.mmap(1, {HEADER_BYTES}, prot=mmap.PROT_READ)).cast("Q")
os.read(0, 1)
for group in words[{Slots.index(0, PROGRAM)} :: {Slots.index(1, PROGRAM) - Slots.index(0, PROGRAM)}]:
    try:
        os.killpg(group, signal.SIGKILL) if group else None
    except OSError:
        pass
"""


class Keeper:
    """See the module."""

    def __init__(self, slots: Slots) -> None:
        read, self._fd = os.pipe()
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        moves = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((read, slots.near, nothing))]
        try:
            os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", _KEEPER], os.environ, file_actions=moves)
        finally:
            os.close(read)
            os.close(nothing)

    def close(self) -> None:
        """No program runs any more, or none that is not to be killed."""
        os.close(self._fd)
