"""The exceptions a user can meet, and how an error of a worker is dressed for the reader in the parent.

Guarantees: every class derives from the standard one that existing code already catches (`TimeoutError`,
`BrokenProcessPool`, `RuntimeError`); a timeout of ours is never confused with a `TimeoutError` that a task raised.
"""

from __future__ import annotations

from collections.abc import Sequence

# The standard library's own class, although its name is private: tools that show remote tracebacks know it.
# tests/unit/test_private_names.py notices when it goes.
from concurrent.futures.process import BrokenProcessPool

from loky.process_executor import TerminatedWorkerError as _LokyTerminatedWorkerError


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
