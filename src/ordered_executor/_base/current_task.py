"""`current_task`: tells a task which one it is.  A module of its own, so that a worker loads it at no cost."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple


class CurrentTask(NamedTuple):
    """A task as it sees itself: its `ticket`, the `attempt` (1, or more after a worker died of it), its `worker`.

    `worker` is a number from 0 to `max_workers - 1`: for a file or a device for each worker, say.
    """

    ticket: int
    attempt: int
    worker: int


_asked: tuple[int, Callable[[], CurrentTask | None]] | None = None


def current_task() -> CurrentTask | None:
    """Which task this is, when called in one, or in a thread of one; else None.

    None in the parent, in an initializer, in a process that a task has started, and on a cluster.
    """
    if _asked is None or _asked[0] != os.getpid():
        return None
    return _asked[1]()


def answer(who: Callable[[], CurrentTask | None]) -> None:
    """In a worker: whom to ask."""
    global _asked
    _asked = os.getpid(), who
