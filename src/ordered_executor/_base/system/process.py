"""A handle of a running process: it tells of the end, stops and kills.

The end is told by a descriptor that can be read then: a pidfd on Linux, a kqueue on macOS and the BSDs.  A Python that
was built for older systems lacks the functions for pidfds although the kernel has them; then `ctypes` calls them.
Without either, the owner of the handle looks by the clock.  This is later and no less right: `gone` asks the system
each time.  Signals go through the pidfd.  Without one they go by number, which is sound as long as nobody has taken
note of the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ordered_executor._base.system.descriptors import above_streams, can_be_read
from ordered_executor._base.system.tree import state

T = TypeVar("T")

# On all architectures of Linux but one that is gone (alpha).
_PIDFD_SEND_SIGNAL, _PIDFD_OPEN = 424, 434
_P_PIDFD = getattr(os, "P_PIDFD", 3)
# How often to look for an end, or for a stop, that nothing tells of.
_LOOK_SECONDS, _STOP_LOOK_SECONDS = 0.005, 0.0002


def _syscall(number: int, *arguments: int) -> int:
    """A system call that Python has no function for; raises OSError."""
    try:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except (AttributeError, OSError, TypeError) as error:
        raise OSError("there are no system calls by number") from error
    result: int = syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result < 0:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))
    return result


def _pidfd_open(pid: int) -> int:
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    if sys.platform != "linux":
        raise OSError("pidfds are Linux's")
    fd = _syscall(_PIDFD_OPEN, pid, 0)
    os.set_inheritable(fd, False)
    return fd


def _pidfd_send_signal(fd: int, number: int) -> None:
    if hasattr(signal, "pidfd_send_signal"):
        signal.pidfd_send_signal(fd, number)
    else:
        _syscall(_PIDFD_SEND_SIGNAL, fd, number, 0, 0)


def _kqueue_of(pid: int) -> Any:
    """A kqueue that can be read when the process has ended; None where there is none, or the process is gone."""
    system: Any = select  # a type checker knows what there is here
    if not hasattr(system, "kqueue"):
        return None
    with contextlib.suppress(OSError):
        queue = system.kqueue()
        try:
            end = system.kevent(pid, system.KQ_FILTER_PROC, system.KQ_EV_ADD, system.KQ_NOTE_EXIT)
            queue.control([end], 0)
        except BaseException:
            queue.close()
            raise
        return queue
    return None


class Process:
    """See the module.

    It is reaped by `reap`, which returns its exit code, or None while it runs.
    """

    def __init__(self, pid: int, reap: Callable[[], int | None]) -> None:
        self.pid = pid
        self.exitcode: int | None = None
        self.fd: int | None = None  # it can be read when the process has ended
        self._reap = reap
        self._pidfd: int | None = None
        self._kqueue: Any = None
        with contextlib.suppress(OSError):
            self.fd = self._pidfd = above_streams(_pidfd_open(pid))
        if self.fd is None and (queue := _kqueue_of(pid)) is not None:
            self._kqueue, self.fd = queue, queue.fileno()

    def signal(self, number: int) -> bool:
        """Send a signal; False if the process is gone."""
        try:
            if self._pidfd is not None:
                _pidfd_send_signal(self._pidfd, number)
            elif self.gone():
                return False  # its number may be another's
            else:
                os.kill(self.pid, number)
        except OSError:
            return False
        return True

    def signal_main_thread(self, number: int) -> bool:
        """Send a signal to the main thread, which runs the tasks, of a process that stands (see `stop`).

        One to the process is taken by whichever thread wakes up first, and while that one goes about it the main thread
        runs on.  By number: a process that stands is not reaped, and nobody else gets its number.
        """
        try:
            tgkill = ctypes.CDLL(None).tgkill  # glibc has it from 2.30 on
        except (AttributeError, OSError, TypeError):
            return self.signal(number)
        return bool(tgkill(self.pid, self.pid, int(number)) == 0)

    def gone(self) -> bool:
        """Whether the process has ended.  Notes its exit code, if that is to be had here."""
        if self.exitcode is not None:
            return True
        ended = self._pidfd is not None and can_be_read(self._pidfd, 0)
        # A zombie takes signals: without a pidfd it is waitid that tells.  A fork server's child is not ours to ask.
        with contextlib.suppress(OSError, AttributeError):
            status = os.waitid(*self._who(), os.WEXITED | os.WNOHANG | os.WNOWAIT)  # WNOWAIT: leave it to its reaper
            if status is not None:
                self.exitcode = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
                ended = True
        if self.exitcode is None and (ended or self._pidfd is None):
            self.exitcode = self._reap()
        return ended or self.exitcode is not None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it has ended."""
        if self.fd is not None:
            can_be_read(self.fd, max(0.0, seconds))
        until = time.monotonic() + seconds
        while not self.gone():
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _who(self) -> tuple[int, int]:
        return (_P_PIDFD, self._pidfd) if self._pidfd is not None else (os.P_PID, self.pid)

    def stop(self, patience: float = 0.05) -> bool:
        """SIGSTOP, and wait until it stands: then its memory cannot change.  False if it does not in time."""
        if not self.signal(signal.SIGSTOP):
            return False
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._stands():
                return True
            time.sleep(_STOP_LOOK_SECONDS)  # there is no way to wait for a stop with a limit but to look again
        return False

    def _stands(self) -> bool:
        with contextlib.suppress(AttributeError, OSError):  # no such function; the child of a fork server
            return os.waitid(*self._who(), os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        try:
            return state(self.pid) in {"T", "t"}
        except OSError:
            return True  # nobody can tell: believe the signal

    def look(self, look: Callable[[], T]) -> T | None:
        """Stop it, look, and let it go on; None if it does not stand in time.

        One thread at a time: another would let it go on meanwhile.
        """
        try:
            return look() if self.stop() else None
        finally:
            self.resume()

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._kqueue is not None:
            self._kqueue.close()
        elif self._pidfd is not None:
            os.close(self._pidfd)
        self.fd = self._pidfd = self._kqueue = None
