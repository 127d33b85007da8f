"""Semaphores of a worker's pool, known to their tracker before they exist.

Loky and multiprocessing make a named semaphore first and tell their resource tracker, a process that outlives this
one, second.  Killed in between, this process would leave the name in the system for good; each worker needs half a
dozen of them.  So the tracker is told first, too.  A name that it is told twice does no harm.

`SemLock._make_name`, of both, is private, and the only step before the semaphore is made.  It does what it did for all
but the thread that is in `told_early`.  tests/test_private_names.py notices when it goes.
"""

from __future__ import annotations

import multiprocessing.resource_tracker
import multiprocessing.synchronize
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loky.backend.resource_tracker
import loky.backend.synchronize

# Where Linux has them, by name; to see whether one came into being.
_SYSTEM = Path("/dev/shm")  # noqa: S108 (not to write there)


class _Here(threading.local):
    early = False
    last: tuple[Any, str, str] | None = None  # the tracker, the name, the sort


_here = _Here()


@contextmanager
def told_early() -> Iterator[None]:
    """For the semaphores that this thread makes meanwhile."""
    _here.early, _here.last = True, None
    try:
        yield
    except BaseException:
        if _here.last is not None:
            tracker, name, sort = _here.last
            if _SYSTEM.is_dir() and not (_SYSTEM / f"sem.{name.lstrip('/')}").exists():
                tracker.unregister(name, sort)  # it was not made, and nobody else would say so
        raise
    finally:
        _here.early = False


def _tell_early(cls: Any, tracker: Any, sort: str) -> None:
    make_name: Callable[[], str] = cls._make_name

    def make_known_name() -> str:
        name = make_name()
        if _here.early:
            _here.last = tracker, name, sort
            tracker.register(name, sort)
        return name

    cls._make_name = staticmethod(make_known_name)


_tell_early(loky.backend.synchronize.SemLock, loky.backend.resource_tracker, "semlock")
_tell_early(multiprocessing.synchronize.SemLock, multiprocessing.resource_tracker, "semaphore")
