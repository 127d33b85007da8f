"""What the tests of the queues share: tasks, and reading all that is left."""

from __future__ import annotations

from typing import Any

from ordered_executor.parallel_queue import ParallelQueue, ParallelSingleTaskQueue, ShutDown
from tests.helpers import PATIENCE

AnyQueue = ParallelQueue | ParallelSingleTaskQueue


def drain(results: AnyQueue) -> list[Any]:
    """Everything that is left in a queue that was stopped; an error as itself."""
    left: list[Any] = []
    while True:
        try:
            left.append(results.get(timeout=PATIENCE))
        except ShutDown:
            return left
        except Exception as error:
            left.append(error)


def arguments(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Return what it was called with."""
    return args, kwargs


def raise_bad_value() -> None:
    """A task that fails."""
    raise ValueError("bad value, bad bad value")


class CannotBeUnpickled:
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return raise_bad_value, ()
