"""The exceptions a user can meet, and how an error of a worker is dressed for the reader in the parent.

Guarantees: every class derives from the standard one that existing code already catches (`TimeoutError`,
`BrokenProcessPool`, `RuntimeError`); a timeout of ours is never confused with a `TimeoutError` that a task raised.
"""

from __future__ import annotations

import contextlib
import copy
import signal
from collections.abc import Sequence

# The standard library's own class, although its name is private: tools that show remote tracebacks know it.
# tests/test_private_names.py notices when it goes.
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import Any

from loky.process_executor import TerminatedWorkerError as _LokyTerminatedWorkerError


def remote_traceback(text: str) -> Exception:
    """What an error from a worker has as its `__cause__`: the interpreter prints the text."""
    make: Any = _RemoteTraceback
    return make(f'\n"""\n{text}"""')  # type: ignore[no-any-return]


def is_remote_traceback(cause: BaseException | None) -> bool:
    return type(cause) is _RemoteTraceback


class TerminatedWorkerError(_LokyTerminatedWorkerError):  # type: ignore[misc]  # loky ships no types
    """The worker died while it ran this task.  A `concurrent.futures.process.BrokenProcessPool`.

    Only the task that was running gets it; the executor carries on.  Attributes: `ticket`, `pid`, `exitcode`
    (negative: the number of the signal; `None`: unknown).
    """

    def __init__(
        self, message: str, ticket: int | None = None, pid: int | None = None, exitcode: int | None = None
    ) -> None:
        super().__init__(message)
        self.ticket = ticket
        self.pid = pid
        self.exitcode = exitcode


class TaskTimeoutError(TimeoutError):
    """The task ran longer than `task_timeout` and its worker was killed.  Attributes: `ticket`, `pid`."""

    def __init__(self, message: str, ticket: int | None = None, pid: int | None = None) -> None:
        super().__init__(message)
        self.ticket = ticket
        self.pid = pid


class TaskKilledError(BrokenProcessPool):
    """The task was stopped, by `Future.kill()`, or with all others by `kill_workers()`.  Attribute: `ticket`.

    A `concurrent.futures.process.BrokenProcessPool`, which futures of ProcessPoolExecutor get from its `kill_workers`.
    """

    def __init__(self, message: str, ticket: int | None = None) -> None:
        super().__init__(message)
        self.ticket = ticket


class ResultsTimeoutError(TimeoutError):
    """Nothing came out of `results()` or `outcomes()` in time: nothing is lost, ask again.

    From a `map` with a `timeout`: its results did not all come in time.  The map has ended, and cancels what it can.
    """


class ShutdownTimeoutError(TimeoutError):
    """`shutdown(timeout=...)` ran out.  `unfinished` lists the tickets that are; call again, or kill."""

    def __init__(self, message: str, unfinished: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.unfinished = tuple(unfinished)


class RemoteError(Exception):
    """Stands for an exception that cannot travel between processes.

    Attributes: `type_name` (with its module), `message`, `traceback_text` (from the worker).
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


def add_note(error: BaseException, note: str) -> None:
    """`error.add_note(note)`.  Never raises."""
    with contextlib.suppress(Exception):  # a hostile class goes without
        # past the class's own __setattr__, which may refuse
        vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), note]  # a new list: a copy may share the old one


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """`error.__cause__ = cause`, as `raise … from …` does it: past the class's own `__setattr__`, which may refuse."""
    BaseException.__cause__.__set__(error, cause)  # type: ignore[union-attr]  # a descriptor, whatever its type says


def copy_error(error: BaseException) -> BaseException:
    """Another object of the same error, or each who gets it would add to the same traceback."""
    try:
        again = copy.copy(error)
        again.__dict__ = dict(vars(again))  # tblib, which distributed installs, lets a copy share its original's
    except Exception:
        return error
    set_cause(again, error.__cause__)
    return again


def exit_text(exitcode: int | None) -> str:
    """Say in words how a process ended.

    >>> exit_text(-9), exit_text(3), exit_text(None)
    ('SIGKILL', 'exit code 3', 'unknown exit code')
    """
    if exitcode is None:
        return "unknown exit code"
    if exitcode < 0:
        try:
            return signal.Signals(-exitcode).name
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit code {exitcode}"
