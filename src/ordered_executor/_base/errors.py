"""The exceptions that a user can meet.

Guarantee: each class but `RemoteError` derives from the standard class that existing code catches (`TimeoutError`,
`BrokenProcessPool`).
"""

from __future__ import annotations

from collections.abc import Sequence

# The standard library's own class, although its name is private: tools that show remote tracebacks know it.
# tests/unit/test_private_names.py notices when it goes.
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _LokyTerminatedWorkerError = BrokenProcessPool  # loky ships no types
else:
    from loky.process_executor import TerminatedWorkerError as _LokyTerminatedWorkerError


class TerminatedWorkerError(_LokyTerminatedWorkerError):
    """The worker died while it ran this task.  A `concurrent.futures.process.BrokenProcessPool`.

    Only the task that was running gets this error; the executor carries on.  Attributes: `ticket`, `pid` and
    `exitcode`.  A negative `exitcode` is the number of a signal; `None` means that it is not known.
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
    """The task was stopped: by `Future.kill()`, or together with others by a call that kills.  Attribute: `ticket`.

    It is a `concurrent.futures.process.BrokenProcessPool`: futures of ProcessPoolExecutor get that one from
    `kill_workers`.
    """

    def __init__(self, message: str, ticket: int | None = None) -> None:
        super().__init__(message)
        self.ticket = ticket


class ResultsTimeoutError(TimeoutError):
    """Nothing came out of `results()` or `outcomes()` in time.  Nothing is lost: ask again.

    A `map` with a `timeout` raises it if its results did not all come in time.  That map has ended, and cancels the
    calls that no worker has begun.
    """


class ShutdownTimeoutError(TimeoutError):
    """`shutdown(timeout=...)` was not done in time.  `unfinished` lists the unfinished tickets; call again, or kill."""

    def __init__(self, message: str, unfinished: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.unfinished: tuple[int, ...] = tuple(unfinished)


class RemoteError(Exception):
    """Stands in for an exception that cannot travel between processes.

    Attributes: `type_name` (with its module), `message`, and `traceback_text` (from the worker).
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"
