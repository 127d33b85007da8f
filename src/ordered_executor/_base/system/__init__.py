"""The calls of the operating system, each with its fallback: memory without a name, process handles, death signals.

Linux has all of them.  Where one is missing, the fallback is slower or less exact, and never less safe.  Other packages
ask here, and do not know which calls there are: this is the one face of `_base.system.barrier`,
`_base.system.descriptors`, `_base.system.memory`, `_base.system.process`, `_base.system.tree` and
`_base.system.lifeline`.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator

import loky

from ordered_executor._base.system.barrier import barrier, fence, heed_barriers, settle
from ordered_executor._base.system.descriptors import above_streams, can_be_read, pipe
from ordered_executor._base.system.lifeline import die_with_parent, watchdog
from ordered_executor._base.system.memory import memory_file, memory_limits, reserve
from ordered_executor._base.system.process import Process
from ordered_executor._base.system.tree import descendants, kill_all, state

__all__ = [
    "DESCRIPTORS_A_LANE",
    "STACK_SIGNAL",
    "Process",
    "above_streams",
    "barrier",
    "can_be_read",
    "default_workers",
    "descendants",
    "descriptor_limit",
    "descriptors_left",
    "die_with_parent",
    "dump_stack_on_signal",
    "fence",
    "give_back_freed_memory",
    "heed_barriers",
    "ignore_sigint_here",
    "join",
    "keep_freed_memory",
    "kill_all",
    "memory_file",
    "memory_limits",
    "pipe",
    "read_nothing",
    "reserve",
    "roomy_pipe",
    "settle",
    "sigint_blocked",
    "state",
    "watchdog",
]

# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PIPE_BYTES = 1024 * 1024
# what a lane takes in the parent (measured: 7); while it starts, about as many again
DESCRIPTORS_A_LANE = 8


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


def give_back_freed_memory() -> None:
    """Have malloc give the system what it keeps, where it can be asked to."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def roomy_pipe() -> tuple[int, int]:
    """A pipe `(read, write)`, with a roomy buffer where that can be had."""
    read, write = pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return read, write


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


# Ends a worker, which writes down its stack first.  A real-time signal, for programs use the others.
STACK_SIGNAL = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2


def dump_stack_on_signal(fd: int, at: int) -> None:
    """Have STACK_SIGNAL write the stacks of this process's threads into a file, from `at` on, and then end it.

    In C, at once, also while a task holds the interpreter lock.  It ends the process in the same step, by the default
    action: a task that is stuck in a call would go on when a signal only interrupts it.  Nobody else writes at the
    file's position, which all its descriptors share.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        own = os.dup(fd)
        os.lseek(own, at, os.SEEK_SET)
        signal.signal(STACK_SIGNAL, signal.SIG_DFL)
        faulthandler.register(STACK_SIGNAL, own, all_threads=True, chain=True)


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
