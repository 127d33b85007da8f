"""Takes away what other systems have not got, in every interpreter that the tests start.

`LACKING=all pytest` or `LACKING=pidfd,proc pytest`: the names are those of `LACKS`.  The folder of this file is on the
path of all processes then (see tests/conftest.py), and Python imports a module of this name when it starts.
"""

# ruff: noqa: INP001 (no package: Python imports it by this name)

from __future__ import annotations

import contextlib
import fcntl
import importlib.abc
import importlib.machinery
import mmap
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def without(module: ModuleType, *names: str) -> Callable[[], None]:
    """As if these had never been there."""

    def take_away() -> None:
        for name in names:
            with contextlib.suppress(AttributeError):
                delattr(module, name)

    return take_away


def no_pidfd_by_number(process: Any) -> None:
    """Neither pidfds nor signals to one thread, which Linux has and Python may not know."""

    def refuse(*_: int) -> int:
        raise OSError("no such call")

    process._syscall = refuse
    process.Process.signal_main_thread = process.Process.signal


def no_barrier(barrier: Any) -> None:
    """None that one process makes for another."""
    barrier._membarrier = lambda: lambda _: -1


def no_proc(tree: Any) -> None:
    """As if there were no /proc for us; others may go on."""

    def refuse(_: int) -> list[bytes]:
        raise FileNotFoundError("/proc")

    tree._status, tree._by_proc = refuse, list


def no_shm(memory: Any) -> None:
    """Neither a folder for it, nor POSIX's objects."""
    memory.SHM_FOLDER, memory._posix = "/nowhere", memory._file_on_disk


LACKS: dict[str, list[Callable[[], None]]] = {
    "pidfd": [without(os, "pidfd_open", "P_PIDFD"), without(signal, "pidfd_send_signal")],
    "syscall": [],
    "waitid": [without(os, "waitid")],
    "memfd": [without(os, "memfd_create")],
    "fallocate": [without(os, "posix_fallocate")],
    "eventfd": [without(os, "eventfd", "eventfd_write")],
    "epoll": [without(select, "epoll")],
    "setsig": [without(fcntl, "F_SETSIG")],
    "pipesize": [without(fcntl, "F_SETPIPE_SZ")],
    "madvise": [without(mmap, "MADV_DONTFORK", "MADV_REMOVE")],
    "sigrt": [without(signal, "SIGRTMAX", "SIGRTMIN")],
    "proc": [],
    "shm": [],
}
# What is changed in a module of ours when that was loaded.
LATER: dict[str, dict[str, Callable[[Any], None]]] = {
    "syscall": {
        "ordered_executor._base.system.process": no_pidfd_by_number,
        "ordered_executor._base.system.barrier": no_barrier,
    },
    "proc": {"ordered_executor._base.system.tree": no_proc},
    "shm": {"ordered_executor._base.system.memory": no_shm},
}


class Changing(importlib.abc.MetaPathFinder):
    """Finds what the others find, and changes it when it was loaded."""

    def __init__(self, changes: dict[str, Callable[[Any], None]]) -> None:
        self.changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See the base class."""
        change = self.changes.get(name)
        if change is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            change(module)

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def lacking() -> list[str]:
    """The names of what is to be taken away."""
    names = [name for name in os.environ.get("LACKING", "").split(",") if name]
    return list(LACKS) if names == ["all"] else names


for each in lacking():
    for take in LACKS[each]:
        take()
    if each in LATER:
        sys.meta_path.insert(0, Changing(LATER[each]))
