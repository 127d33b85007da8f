"""`current_task`: tells a task which one it is.  A module of its own, so that a worker loads it at no cost."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple


class CurrentTask(NamedTuple):
    """A task as it sees itself: its `ticket`, its `attempt` and its `worker`.

    `attempt` is 1, or more if workers died while they ran the task.  `worker` is a number from 0 to `max_workers - 1`;
    use it to give each worker a file or a device.
    """

    ticket: int
    attempt: int
    worker: int


_asked: tuple[int, Callable[[], CurrentTask | None]] | None = None


def current_task() -> CurrentTask | None:
    """Return the task that calls this, also from a thread of the task.

    Returns None in the parent, in an initializer, in a process that a task has started, and on a cluster.
    """
    if _asked is None or _asked[0] != os.getpid():
        return None
    return _asked[1]()


def answer(who: Callable[[], CurrentTask | None]) -> None:
    """Say whom to ask.  In a worker."""
    global _asked
    _asked = os.getpid(), who
