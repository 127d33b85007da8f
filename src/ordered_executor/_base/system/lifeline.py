"""A worker ends when its parent ends, even if it is stopped, or stuck in C code that holds the interpreter lock.

It has one end of a pipe, the lifeline; only the parent holds the other end.  When that end closes, the system kills the
worker: on Linux it sends SIGKILL for us (F_SETSIG).  On other systems a thread of the worker could wait for the end of
the pipe.  But it could not act while the worker is stopped or stuck, and tasks could not fork beside it.  So there a
process waits, the watchdog.  A program has one for all its workers; it knows their process numbers, and does nothing
else.

The parent tells the watchdog of a worker before it sends the worker anything to do.  It tells of the worker's end
before the number can belong to another process.  A worker looks once, when it begins, whether its parent is still
there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys

from loky.backend.fork_exec import fork_exec

from ordered_executor._base.locks import Lock
from ordered_executor._base.system.descriptors import can_be_read, pipe

# By name: its number is that of another command on the BSDs.
_F_SETSIG: int | None = getattr(fcntl, "F_SETSIG", None)

# Reads numbers, above zero of a process to be killed at the end of its input, below zero of one that is gone.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_WATCHDOG = """
import os, signal
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(each, signal.SIG_IGN)
pids = set()
with open({fd}, "rb") as lines:
    for line in lines:
        pid = int(line)
        pids.add(pid) if pid > 0 else pids.discard(-pid)
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""


def die_with_parent(lifeline: int) -> None:
    """Have this process killed when the other end of the pipe `lifeline` closes, which only the parent holds.

    Where the system does not do it the watchdog will: see the module.
    """
    ask_for_signal(lifeline)
    if can_be_read(lifeline, 0):  # it had closed before anybody watched: nothing is ever written there
        os.kill(os.getpid(), signal.SIGKILL)


def ask_for_signal(fd: int) -> bool:
    """Have the system send SIGKILL to this process when there is something to read, or the end; False if it cannot."""
    if not _choose_signal(fd, signal.SIGKILL):
        return False
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    return True


def _choose_signal(fd: int, number: int) -> bool:
    if _F_SETSIG is None:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, _F_SETSIG, number)
    except OSError:
        return False
    return True


class Watchdog:
    """The parent's side: what it tells the process that waits for its end.  Nothing, where the system needs no such."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pids: set[int] = set()  # guarded by: _lock
        self._fd: int | None = None  # guarded by: _lock; to the watchdog

    def watch(self, pid: int) -> None:
        """The process goes when this one goes.  Raises OSError if that cannot be had."""
        if _system_kills():
            return
        lock = self._lock
        +lock
        try:
            self._pids.add(pid)
            if self._fd is None or not self._tell_locked(pid):
                self._start_locked()
        finally:
            -lock

    def start(self) -> None:
        """Have it run from now on, as long as this process: for whoever counts processes."""
        if _system_kills():
            return
        lock = self._lock
        +lock
        try:
            if self._fd is None:
                self._start_locked()
        finally:
            -lock

    def forget(self, pid: int) -> None:
        """The process is gone."""
        lock = self._lock
        +lock
        try:
            if pid in self._pids:
                self._pids.discard(pid)
                self._tell_locked(-pid)
        finally:
            -lock

    def _tell_locked(self, number: int) -> bool:
        try:
            return self._fd is not None and os.write(self._fd, b"%d\n" % number) > 0
        except OSError:  # somebody has killed it
            return False

    def _start_locked(self) -> None:
        """Start one, for all there are."""
        if self._fd is not None:
            os.close(self._fd)
        read, self._fd = pipe()
        os.set_blocking(self._fd, False)  # one that is stopped does not hold us up: it gets a successor
        # It inherits that they are blocked: Ctrl-C may come before it ignores it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
        try:
            fork_exec([sys.executable, "-I", "-S", "-c", _WATCHDOG.format(fd=read)], [read])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(read)
        for pid in self._pids:
            self._tell_locked(pid)

    def in_forked_child(self) -> None:
        """The child must not keep it from noticing its parent's end."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self.__init__()  # type: ignore[misc]


_checked: bool | None = None


def _system_kills() -> bool:
    """Whether the system sends a signal of our choice for a pipe; tried once, on one of our own."""
    global _checked
    if _checked is None:
        read, write = pipe()
        try:
            _checked = _choose_signal(read, signal.SIGURG)
        finally:
            os.close(read)
            os.close(write)
    return _checked


watchdog = Watchdog()
os.register_at_fork(after_in_child=watchdog.in_forked_child)
