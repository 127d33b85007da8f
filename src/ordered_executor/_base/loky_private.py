"""Starts a worker as loky does, in any surroundings, and gives tasks the surroundings that loky's own pools need.

Loky's own start needs a standard output that can be flushed, a working folder that exists, and handlers of
multiprocessing's logger that are its own.  And it hands over its standard input.  So the start is done here, with
loky's pickler, main program and trackers.  It needs no pool of loky's: a pool would bring two threads, half a dozen
named semaphores and eight descriptors for each worker, and a lane uses none of them.

All private names of loky are here.  tests/unit/test_private_names.py notices when one goes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import multiprocessing.process
import multiprocessing.resource_tracker
import multiprocessing.spawn
import multiprocessing.util
import os
import sys
from collections.abc import Iterator
from multiprocessing.context import BaseContext, set_spawning_popen
from typing import Any

from loky import process_executor
from loky.backend import context as lokys
from loky.backend import fork_exec, popen_loky_posix, reduction, resource_tracker, spawn
from loky.backend.process import LokyProcess

from ordered_executor._base import system

# Of what `multiprocessing` prepares a process with: not for a worker, unless `_preparation` names it.
_OF_SPAWN = frozenset({"dir", "start_method", "log_level", "log_fmt", "init_main_from_name", "init_main_from_path"})


class _Inherited:
    """A descriptor that has the same number in the worker."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def detach(self) -> int:
        return self._fd


class _Popen(popen_loky_posix.Popen):  # type: ignore[misc]
    """The running process, as `multiprocessing` wants to see one."""

    DupFd = _Inherited

    def __init__(self, process: Any) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # there may be none, or it is closed, or has no such method
                stream.flush()
        self.returncode: int | None = None
        self._fds: list[int] = []
        self._launch(process)

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _launch(self, process_obj: Any) -> None:
        process, data = process_obj, io.BytesIO()
        set_spawning_popen(self)  # pyright: ignore[reportArgumentType]  # it has what is asked of one
        try:
            reduction.dump(_preparation(process, self._fds), data)
            reduction.dump(process, data)
        finally:
            set_spawning_popen(None)
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            read, write = system.pipe()
            theirs.callback(os.close, read)
            with os.fdopen(write, "wb") as to_child:
                self.sentinel, held = system.pipe()
                theirs.callback(os.close, held)
                ours.callback(os.close, self.sentinel)
                self.pid = _run(process.name, read, [*self._fds, read, held], process.env)
                with contextlib.suppress(BrokenPipeError):  # it is gone already
                    to_child.write(data.getbuffer())
                    to_child.flush()
            ours.pop_all()
        self._close = multiprocessing.util.Finalize(self, os.close, (self.sentinel,))

    def close(self) -> None:
        self._close()


def _run(name: str, pipe: int, fds: list[int], env: dict[str, str]) -> int:
    # The worker loads what it needs at once; what its tasks load may be as late as the environment says (see below).
    eager = ["-X", "lazy_imports=normal"] if hasattr(sys, "set_lazy_imports") else []
    command = [
        spawn.get_executable(),
        *eager,
        "-m",
        popen_loky_posix.__name__,
        "--process-name",
        name,
        "--pipe",
        str(pipe),
    ]
    with _standard_descriptors():
        pid: int = fork_exec.fork_exec(command, fds, env)
    return pid


@contextlib.contextmanager
def _standard_descriptors() -> Iterator[None]:
    """Meanwhile there are all three: where one is closed, a file that the worker opens would take its place."""
    with contextlib.ExitStack() as opened:
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            opened.callback(os.close, fd)
            os.set_inheritable(fd, True)
        os.close(fd)
        yield


class _Process(LokyProcess):  # type: ignore[misc]
    """A process of loky's context that is started here."""

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:  # noqa: N802 (multiprocessing calls it so)
        return _Popen(process_obj)


def _preparation(process: Any, fds: list[int]) -> dict[str, Any]:
    """What the new process needs before it can unpickle anything: see `loky.backend.spawn.prepare`."""
    spawn._check_not_importing_main()
    orig_dir = multiprocessing.process.ORIGINAL_DIR  # type: ignore[attr-defined]
    util: Any = multiprocessing.util
    data = {
        "name": process.name,
        "authkey": bytes(multiprocessing.process.current_process().authkey),
        "sys_argv": sys.argv,
        "sys_path": [path if path != "" else orig_dir for path in sys.path],
        "orig_dir": orig_dir,
        "log_to_stderr": util._log_to_stderr,
        "tracker_fd": resource_tracker._resource_tracker.getfd(),
        "mp_tracker_fd": multiprocessing.resource_tracker._resource_tracker.getfd(),
    }
    fds += [data["tracker_fd"], data["mp_tracker_fd"]]
    with contextlib.suppress(OSError):  # the folder may be gone
        data["dir"] = os.getcwd()
    if util._logger is not None:
        data["log_level"] = util._logger.getEffectiveLevel()
        if util._log_to_stderr and (style := _format_of(util._logger)) is not None:
            data["log_fmt"] = style
    if process.init_main_module:
        whole = spawn.get_preparation_data(process.name)
        data |= {key: value for key, value in whole.items() if key.startswith("init_main")}
    return data | _what_others_add(process.name, data)


def _what_others_add(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Coverage puts something among multiprocessing's own, which measures a process once it is unpickled there."""
    standard = multiprocessing.spawn.get_preparation_data
    if standard.__module__ == "multiprocessing.spawn":
        return {}
    with contextlib.suppress(OSError):  # the folder may be gone
        return {key: value for key, value in standard(name).items() if key not in data and key not in _OF_SPAWN}
    return {}


def _format_of(logger: logging.Logger) -> str | None:
    """That of its first handler, if it is one of the usual style: the worker can make no other."""
    for handler in logger.handlers[:1]:
        if handler.formatter is not None and type(handler.formatter._style) is logging.PercentStyle:
            return handler.formatter._fmt
    return None


def start(kind: BaseContext | None, env: dict[str, str] | None, target: Any, args: tuple[Any, ...]) -> Any:
    """Start a process that calls `target(depth, *args)`; returns it when it runs."""
    context: Any = kind or lokys.ctx_loky
    process_executor._check_max_depth(context)
    args = (process_executor._CURRENT_DEPTH + 1, *args)
    name = context.get_start_method()
    if type(context) in {lokys.LokyContext, lokys.LokyInitMainContext}:
        process: Any = _Process(target=target, args=args, env=env, init_main_module=name == "loky_init_main")
    else:
        process = context.Process(target=target, args=args)
    process.start()
    return process


def begin_worker(depth: int) -> None:
    """As a worker of loky's begins: crashes show where they happen, and pools in pools have an end."""
    process_executor._CURRENT_DEPTH = depth
    if (set_lazy_imports := getattr(sys, "set_lazy_imports", None)) is not None:
        set_lazy_imports(os.environ.get("PYTHON_LAZY_IMPORTS", "normal"))
    if "PYTHONFAULTHANDLER" not in os.environ and not faulthandler.is_enabled():
        with contextlib.suppress(Exception):  # there may be no standard error
            faulthandler.enable()


def end_worker() -> None:
    """End the pools of loky's that tasks have made: the process waits for its children before anything else does."""
    process_executor._python_exit()
