"""The end of the interpreter: everything submitted is finished, and then the workers end.

After Ctrl-C nothing is finished: waiting tasks are cancelled, and running tasks are killed.

`threading._register_atexit` is private, and the only way.  Functions of `atexit` run after the threads have been
joined, which is too late for an executor that needs its threads.  concurrent.futures uses it, too.
tests/unit/test_private_names.py notices when it goes.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ordered_executor._base.atomic import snapshot

_live: weakref.WeakSet[Any] = weakref.WeakSet()  # inboxes of executors that have not finished
_last: list[Callable[[], object]] = []
_registered_in: int | None = None  # the process: a forked child registers again, what it inherits may have been cleared


def at_the_very_end(call: Callable[[], object]) -> None:
    """Have something called when all executors have ended."""
    _last.append(call)


def watch(inbox: Any) -> None:
    """Its executor is to be finished before the interpreter ends."""
    _live.add(inbox)
    _register()


def _register() -> None:
    global _registered_in
    if _registered_in != os.getpid():
        _registered_in = os.getpid()
        with contextlib.suppress(RuntimeError):  # the interpreter is on its way out
            getattr(threading, "_register_atexit", atexit.register)(_at_exit)
        # A child of multiprocessing joins its own children before its threads: there, this comes first.
        multiprocessing.util.Finalize(None, _at_exit, exitpriority=100)


def end_nested() -> None:
    """In a worker that is about to leave: end what its tasks have started.

    Else the process would wait for its children before the threads end that could end them.
    """
    if _registered_in == os.getpid():
        _at_exit()


def _at_exit() -> None:
    inboxes = snapshot(_live)
    # What ended the program, if anything did; an interactive session goes on after its errors.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    for inbox in inboxes:
        inbox.close_claims()
        if interrupted:
            inbox.cancel_waiting()
            inbox.kill_all()
    for inbox in inboxes:
        inbox.finished.wait()
        if not interrupted:
            inbox.report_unseen(may_raise=False)
    for call in _last:
        call()


def _in_forked_child() -> None:
    global _live
    for inbox in snapshot(_live):
        inbox.abandon()
    _live = weakref.WeakSet()


os.register_at_fork(after_in_child=_in_forked_child)
