"""The part of a queue that goes to each of its workers once, when the worker starts.

Guarantees: this part may hold locks, events, queues and other primitives of multiprocessing.  Everything else of a
queue's tasks travels later, and may not.

Why: such primitives can be pickled only while a process is being spawned (their own rule), and that is when the
executor pickles its `initargs`.  A primitive made in a *fork* context has no name by which another process could open
it.  So it is refused here, where the message can say what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.context import get_spawning_popen, set_spawning_popen
from multiprocessing.synchronize import SemLock
from typing import Any, cast

from ordered_executor._pickling.picklers import CloudPickler


class _Pickler(CloudPickler):
    """The pickler of everything else, which refuses what no worker could open."""

    def reducer_override(self, obj: Any) -> Any:
        # Nameless: it was unlinked when it was made, since forked processes need no name.
        if isinstance(obj, SemLock) and obj._semlock.name is None:  # type: ignore[attr-defined]
            raise ValueError(
                f"a primitive of multiprocessing ({type(obj).__name__}, by itself or inside an Event, Queue, …) was "
                "made in a 'fork' context, and workers that are not forked cannot open it; make it with "
                "multiprocessing.get_context('spawn'), as in get_context('spawn').Event(), or with loky's context"
            )
        return super().reducer_override(obj)


class _Nowhere:
    """A file that forgets, and a process that is only thought of: for a pickling whose outcome nobody needs."""

    @staticmethod
    def write(part: Any) -> int:
        return len(part)

    @staticmethod
    def duplicate_for_child(fd: int) -> int:
        return fd

    @staticmethod
    def DupFd(fd: int) -> int:  # noqa: N802  # multiprocessing's name
        return fd


def rehearse(what: object) -> None:
    """Pickle it as if a process were being spawned.  Large buffers are not copied.

    Raises `ValueError` for a primitive of a fork context, or what its pickling raises, at once and not in a worker.
    """
    before = get_spawning_popen()
    set_spawning_popen(cast("Any", _Nowhere()))
    try:
        _Pickler(_Nowhere(), lambda _: None).dump(what)
    finally:
        set_spawning_popen(before)


# ------------------------------------------------------------------------------------------------------ in the worker

_task: list[Callable[..., Any]] = []


def begin(init: Callable[[], object] | None, task: Callable[..., Any] | None) -> None:
    """The initializer of a queue's workers: the user's own, then the task."""
    if init is not None:
        init()
    if task is not None:
        _task[:] = [task]


def call(*args: Any, **kwargs: Any) -> Any:
    """The one task of this worker.  What is sent per call is this name, and the arguments."""
    return _task[0](*args, **kwargs)
