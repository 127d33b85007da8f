"""The list of processes, with their states and parents: from /proc, or from `ps` where there is no /proc."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess

# How long `ps` may take.
_PS_SECONDS = 2.0


def state(pid: int) -> str:
    """The first letter of a process's state, `T` if it is stopped; raises OSError where nobody can tell."""
    with contextlib.suppress(OSError):
        return _status(pid)[0].decode()
    return _ask_ps("-o", "stat=", "-p", str(pid)).strip()[:1]


def _status(pid: int) -> list[bytes]:
    """State, parent and more of a process, as the system tells it; raises OSError where it does not."""
    with io.FileIO(f"/proc/{pid}/stat") as file:  # a worker needs no pathlib
        return file.read().rpartition(b")")[2].split()


def _ask_ps(*arguments: str) -> str:
    """What `ps` says; raises OSError if it cannot be asked."""
    try:
        done = subprocess.run(["ps", *arguments], capture_output=True, text=True, timeout=_PS_SECONDS, check=False)  # noqa: S607
    except subprocess.SubprocessError as error:
        raise OSError(f"ps: {error}") from error
    if not done.stdout:
        raise OSError(f"ps: {done.stderr or 'there is no such process'}")
    return done.stdout


def descendants(pids: list[int]) -> list[int]:
    """The processes that these have started, and those that they have; none where nobody can tell."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError, ValueError):
        for pid, parent in _by_proc() or _by_ps():
            children.setdefault(parent, []).append(pid)
    found = [child for pid in pids for child in children.get(pid, ())]
    for child in found:  # it grows meanwhile
        found.extend(children.get(child, ()))
    return found


def _by_proc() -> list[tuple[int, int]]:
    """Each process and its parent, if there is a /proc."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    found.append((int(name), int(_status(int(name))[1])))
    return found


def _by_ps() -> list[tuple[int, int]]:
    lines = _ask_ps("-A", "-o", "pid=,ppid=").splitlines()
    return [(int(pid), int(parent)) for pid, parent in (line.split() for line in lines)]


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
