"""What a lane does with the insides of its loky pool: the threads, the feeder's start, the process.

All names here are private to loky: there is no other way, for the reasons given at each.  tests/test_private_names.py
notices when one goes.  (`_exit` has loky's exit hook, `_semaphores` its names of semaphores.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from loky.process_executor import ProcessPoolExecutor


def start_feeder(pool: ProcessPoolExecutor) -> None:
    """Start the thread that pickles the call for the worker; raises RuntimeError where no thread can be started.

    Loky's manager thread would start it with the first call.  On Python 3.12 no thread can be started any more when the
    program is at its end, and in loky's thread there is nobody to handle that: it prints a traceback.
    """
    start = getattr(getattr(pool, "_call_queue", None), "_start_thread", None)
    if start is not None:
        start()


def manager_thread(pool: ProcessPoolExecutor) -> threading.Thread | None:
    """Loky's thread for a pool, to be joined at the end.

    There is no other way to know that a pool shut down with `wait=False` has let go of everything: with `wait=True` it
    joins under a lock that all pools share.
    """
    thread = getattr(pool, "_executor_manager_thread", None)
    return thread if isinstance(thread, threading.Thread) else None


def threads(manager: threading.Thread | None) -> Iterator[threading.Thread]:
    """Those of loky's threads for a pool that live, in the order in which they end: the manager, then its feeder.

    The feeder may be the last that holds the queue's semaphores.  It is a daemon, and loky does not join it: if the
    program ended while it lets go of them, their tracker would report them as leaked.
    """
    if manager is None:
        return
    if manager.is_alive():
        yield manager
    feeder = getattr(getattr(manager, "call_queue", None), "_thread", None)
    if isinstance(feeder, threading.Thread) and feeder.is_alive():
        yield feeder


def abandon(pool: ProcessPoolExecutor) -> None:
    """End a pool that could not be started wholly.  Waits for its feeder, which has nothing to do.

    Loky starts the process first and its thread second: if that fails, nobody else ends the process.
    """
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        with contextlib.suppress(OSError):  # it may be gone
            os.kill(process.pid, signal.SIGKILL)
    manager = manager_thread(pool)
    if manager is not None and manager.is_alive():
        return  # it ends the rest, now that the process is gone
    queue = getattr(pool, "_call_queue", None)
    feeder = getattr(queue, "_thread", None)
    if queue is not None and isinstance(feeder, threading.Thread) and feeder.is_alive():
        queue.close()
        feeder.join()
