"""A program of the user's, run for a record: its output whole, its standard input empty or the record.

The program is the head of a process group of its own, so that it can be ended with all it has started: when it takes
too long, and by the parent when the run ends (`Crew.stop`).  By `posix_spawn`, which costs less than `subprocess`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from ordered_executor._base import system

IN_MEMORY = 1024 * 1024  # output of one program that is kept in memory; the rest goes to disk
_CHUNK = 64 * 1024
# Seconds between the polite signal and the other.
GRACE = 0.2
# Seconds between two looks for the end of a program, where nothing tells of it: at first, and at most.
_LOOK, _MOST_LOOK = 0.001, 0.1
# Signals that Python ignores, and that a program expects as they are elsewhere.
_DEFAULTS = [s for s in (getattr(signal, name, None) for name in ("SIGPIPE", "SIGXFSZ", "SIGINT")) if s is not None]
NOT_RUN = 127  # the exit status that a shell has for a program that cannot be started


def spool() -> IO[bytes]:
    """A file that is in memory while it is small."""
    return tempfile.SpooledTemporaryFile(IN_MEMORY)


@dataclass
class Ran:
    """What came of a program."""

    exit: int = 0
    signal: int = 0
    error: str | None = None
    out: IO[bytes] = field(default_factory=spool)
    err: IO[bytes] = field(default_factory=spool)


def run_program(
    arguments: list[bytes], data: bytes | None, timeout: float | None, note: Callable[[int], object]
) -> Ran:
    """Run it to its end.  `data`: its standard input.  `note` is told its process, and 0 when that is no more."""
    ran = Ran()
    stdin = _input(data)
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    try:
        moves = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, out_end, 1), (os.POSIX_SPAWN_DUP2, err_end, 2)]
        pid = os.posix_spawnp(arguments[0], arguments, os.environ, file_actions=moves, setpgroup=0, setsigdef=_DEFAULTS)
    except (OSError, ValueError) as error:
        ran.exit = NOT_RUN
        reason = error.strerror if isinstance(error, OSError) else str(error)
        ran.error = f"{type(error).__name__}: {os.fsdecode(arguments[0])}: {reason}"
        return ran
    finally:
        for fd in (stdin, out_end, err_end):
            os.close(fd)
        if ran.error is not None:
            os.close(out)
            os.close(err)
    note(pid)
    try:
        late = _collect(pid, {out: ran.out, err: ran.err}, timeout)
        _wait_for_end(pid)
    finally:
        note(0)  # while nobody else can have its number
        os.close(out)
        os.close(err)
        _, status = os.waitpid(pid, 0)
    _judge(ran, os.waitstatus_to_exitcode(status), late, timeout)
    return ran


def _input(data: bytes | None) -> int:
    """A descriptor to read the data from: a file without a name, which nobody needs to feed."""
    if data is None:
        return os.open(os.devnull, os.O_RDONLY)
    fd = system.memory_file(0)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _collect(pid: int, pipes: dict[int, IO[bytes]], timeout: float | None) -> bool:
    """Read what it writes until it has ended; whether it had to be ended."""
    deadline = None if timeout is None else time.monotonic() + timeout
    late = False
    poll = select.poll()
    for fd in pipes:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    process = system.Process(pid, lambda: None)
    handle = process.fd  # tells of its end, where there are such
    if handle is not None:
        poll.register(handle, select.POLLIN)
    try:
        left = set(pipes)
        while left or handle is not None:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if handle is None:
                wait = _MOST_LOOK * 1000 if wait is None else min(wait, _MOST_LOOK * 1000)
            events = poll.poll(wait)
            if not events and deadline is not None and time.monotonic() >= deadline:
                _signal_group(pid, signal.SIGKILL if late else signal.SIGTERM)
                deadline, late = (None if late else time.monotonic() + GRACE), True
                continue
            for fd, _ in events:
                if fd != handle and not _pump(fd, pipes[fd]):
                    poll.unregister(fd)
                    left.discard(fd)
            if any(fd == handle for fd, _ in events) or (handle is None and not events and _state(pid) == "Z"):
                # It has ended.  What it has left running in the background may hold the pipes: that is not waited for.
                for fd in left:
                    _pump(fd, pipes[fd])
                break
    finally:
        process.close()
    if late:
        _signal_group(pid, signal.SIGKILL)  # what it has started
    return late


def _wait_for_end(pid: int) -> None:
    """Wait until it has ended, and leave it to be reaped: until then nobody else gets its number."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return
    pause = _LOOK  # by the clock; mostly it has ended already, as its outputs have
    while _state(pid) not in {"Z", None}:
        time.sleep(pause)
        pause = min(2 * pause, _MOST_LOOK)


def _state(pid: int) -> str | None:
    """`Z` if it waits to be reaped; None if nobody can tell."""
    with contextlib.suppress(OSError):
        return system.state(pid)
    return None


def _pump(fd: int, file: IO[bytes]) -> bool:
    """Read all there is; False at the end."""
    while True:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if not data:
            return False
        file.write(data)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _judge(ran: Ran, code: int, late: bool, timeout: float | None) -> None:
    ran.exit, ran.signal = (code, 0) if code >= 0 else (0, -code)
    if late:
        ran.error = f"TimeoutError: the program took longer than {timeout:g} s and was ended"
        ran.signal = ran.signal or int(signal.SIGTERM)
    elif code > 0:
        ran.error = f"ExitStatus: the program ended with exit status {code}"
    elif code < 0:
        with contextlib.suppress(ValueError):
            ran.error = f"Signal: the program was ended by {signal.Signals(-code).name}"
        ran.error = ran.error or f"Signal: the program was ended by signal {-code}"
