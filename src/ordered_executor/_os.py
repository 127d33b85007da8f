"""What the operating system gives, each with its fallback: memory without a name, process handles, death signals.

Linux has all of it.  Where something is missing the fallback is slower or less exact, never less safe.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import io
import os
import resource
import select
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import loky

# fcntl numbers that Python's fcntl module does not have on 3.10 (Linux, all architectures but a few dead ones)
_F_SETSIG = getattr(fcntl, "F_SETSIG", 10)
# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PIPE_BYTES = 1024 * 1024
_LONGEST_POLL = 24 * 24 * 3600.0  # seconds; what waits longer may as well wait for ever
# what a lane takes in the parent (measured: 7); while it starts, about as many again
DESCRIPTORS_A_LANE = 8


def memory_file(size: int) -> int:
    """A descriptor of `size` bytes of memory that has no name: nothing to leak, whoever dies."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            fd = os.memfd_create("ordered-executor", os.MFD_CLOEXEC)
            try:
                os.ftruncate(fd, size)
            except OSError:
                os.close(fd)
                raise
            return above_streams(fd)
    with tempfile.TemporaryFile() as file:  # unlinked at once
        os.ftruncate(file.fileno(), size)
        return above_streams(os.dup(file.fileno()))


def reserve(fd: int, start: int, size: int) -> bool:
    """Make sure that the pages are there before they are written: a missing page is a SIGBUS, which kills."""
    if not hasattr(os, "posix_fallocate"):
        return False  # macOS: no large buffers in memory; they go through the pipe
    try:
        os.posix_fallocate(fd, start, size)
    except OSError:
        return False
    return True


def keep_freed_memory() -> None:
    """In a worker: have malloc keep what is freed, so that the next task's large objects do not begin with page faults.

    Those cost several times what is done with the memory.  glibc comes to the same settings by itself once a block of
    32 MiB was freed; where they are set in the environment, or the allocator is another one, nothing happens.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 64 * 1024 * 1024)


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


def roomy_pipe() -> tuple[int, int]:
    """A pipe `(read, write)`, with a roomy buffer where that can be had."""
    read, write = pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return read, write


class Process:
    """A handle of a running child: exact where there are pidfds, by number elsewhere.

    It is reaped by `reap`, which returns its exit code, or None while it runs; here it is only watched, stopped and
    killed.
    """

    def __init__(self, pid: int, reap: Callable[[], int | None]) -> None:
        self.pid = pid
        self.exitcode: int | None = None
        self._reap = reap
        self.fd: int | None = None
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.fd = above_streams(os.pidfd_open(pid))

    def signal(self, number: int) -> bool:
        """Send a signal; False if the process is gone."""
        try:
            if self.fd is not None:
                signal.pidfd_send_signal(self.fd, number)
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
        if self.fd is not None:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            ended = bool(poll.poll(0))
        else:
            ended = False
        # A zombie takes signals: without a pidfd it is waitid that tells.  A fork server's child is not ours to ask.
        with contextlib.suppress(OSError, AttributeError):
            status = os.waitid(*self._who(), os.WEXITED | os.WNOHANG | os.WNOWAIT)  # WNOWAIT: leave it to its reaper
            if status is not None:
                self.exitcode = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
                ended = True
        if self.exitcode is None and (ended or self.fd is None):
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
            time.sleep(0.005)
        return True

    def _who(self) -> tuple[int, int]:
        return (os.P_PIDFD, self.fd) if self.fd is not None else (os.P_PID, self.pid)

    def stop(self, patience: float = 0.05) -> bool:
        """SIGSTOP, and wait until it stands: then its memory cannot change.  False if it does not in time."""
        if not self.signal(signal.SIGSTOP):
            return False
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._stands():
                return True
            time.sleep(0.0002)  # there is no way to wait for a stop with a limit but to look again
        return False

    def _stands(self) -> bool:
        try:
            return os.waitid(*self._who(), os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except AttributeError:
            return True  # nobody can tell: believe the signal
        except OSError:  # the child of a fork server
            try:
                return _status(self.pid)[0] in (b"T", b"t")
            except OSError:
                return True

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def die_with_parent(lifeline: int) -> None:
    """Kill this process when the other end of the pipe `lifeline` closes, which only the parent holds.

    On Linux the kernel sends SIGKILL, also while this process is stopped or holds the interpreter lock.  Elsewhere a
    thread waits for the end of the pipe.
    """
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    except (AttributeError, OSError):
        os.set_blocking(lifeline, True)
        threading.Thread(
            target=_watch_lifeline, args=(lifeline,), name="ordered-executor-lifeline", daemon=True
        ).start()
        return
    try:
        if os.read(lifeline, 1) == b"":  # it had closed before anybody watched
            os.kill(os.getpid(), signal.SIGKILL)
    except BlockingIOError:
        pass


def _watch_lifeline(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def sigint_blocked() -> Iterator[None]:
    """What is started meanwhile starts with Ctrl-C held back (it cannot handle it before it stands)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_sigint_here() -> None:
    """Leave Ctrl-C to the parent, in a worker.

    A handler that does nothing, not SIG_IGN: programs that a task starts would inherit that one.
    """
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def read_nothing() -> None:
    """In a worker: the program's standard input is not for it, nor for the programs that tasks start."""
    with contextlib.suppress(OSError):
        fd = os.open(os.devnull, os.O_RDONLY)
        os.dup2(fd, 0)
        if fd:
            os.close(fd)


def can_be_read(fd: int, seconds: float | None) -> bool:
    """Wait until there is something to read, or the end, at most so long."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None or seconds > _LONGEST_POLL else seconds * 1000))


# Ends a worker, which writes down its stack first.  A real-time signal, for programs use the others.
STACK_SIGNAL = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2


def dump_stack_on_signal(fd: int, at: int) -> None:
    """Have STACK_SIGNAL write the stacks of this process's threads into a file, from `at` on, and then end it.

    In C, at once, also while a task holds the interpreter lock.  It ends the process in the same step, by the default
    action: a task that is stuck in a call would go on when a signal only interrupts it.  Where there is no /proc there
    are no stacks.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)  # with a position of its own
        os.lseek(own, at, os.SEEK_SET)
        signal.signal(STACK_SIGNAL, signal.SIG_DFL)
        faulthandler.register(STACK_SIGNAL, own, all_threads=True, chain=True)


def _status(pid: int) -> list[bytes]:
    """State, parent and more of a process, as the system tells it; raises OSError where it does not."""
    with io.FileIO(f"/proc/{pid}/stat") as file:  # a worker needs no pathlib
        return file.read().rpartition(b")")[2].split()


def descendants(pids: list[int]) -> list[int]:
    """The processes that these have started, and those that they have; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    parent = int(_status(int(name))[1])
                    children.setdefault(parent, []).append(int(name))
    found = [child for pid in pids for child in children.get(pid, ())]
    for child in found:  # it grows meanwhile
        found.extend(children.get(child, ()))
    return found


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def join(thread: threading.Thread, seconds: float) -> None:
    """Wait for a thread that is about to end; and, before Python 3.13, for that of the system as well: forks see it."""
    thread.join(seconds)
    until = time.monotonic() + seconds / 100
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < until:  # noqa: PTH110 (see _status)
        time.sleep(0)


def descriptor_limit() -> int:
    """How many descriptors this process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def descriptors_left() -> int:
    """How many more descriptors this process may open."""
    soft = descriptor_limit()
    used = 64
    with contextlib.suppress(OSError):
        used = len(os.listdir("/dev/fd"))
    return max(0, soft - used)


def default_workers() -> int:
    """The CPUs this process may use; fewer if its limit on descriptors does not carry so many lanes."""
    return max(1, min(int(loky.cpu_count()), descriptors_left() // DESCRIPTORS_A_LANE))
