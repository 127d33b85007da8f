"""Starting workers: whether another should be tried, and what follows when it could not be started.

An executor that cannot have another worker goes on with those it has, and tries again after a while: descriptors,
processes or memory may be short for a moment.  It is broken when nobody is left to run the head: without any worker, or
when all there are wait at the gate and trying again has not helped (at the end of the program it cannot help).
"""

from __future__ import annotations

import logging
import time
from concurrent.futures.process import BrokenProcessPool

from . import _exit, _os
from ._lane import Lane, LaneKind

logger = logging.getLogger("ordered_executor")

# When a worker could not be started, it is tried again; if all others wait for it, so often.
START_AGAIN_SECONDS = 1.0
START_TRIES = 10


class Starter:
    """Starts the lanes of an executor."""

    def __init__(self, kind: LaneKind) -> None:
        self._kind = kind
        self._failures = 0  # one after the other
        self._refused = False  # by the interpreter, which is on its way out
        self.again_at: float | None = None  # set here, cleared by whoever tries again

    def over(self) -> bool:
        """Whether no lane should be tried beside others: at the end of the program it would fail."""
        return self._refused or not _os.can_start_threads()

    def start(self, others: int) -> Lane:
        """Start a lane beside so many others; raises what prevents it."""
        try:
            if others and _os.descriptors_left() < _os.DESCRIPTORS_A_LANE:
                raise OSError("the limit on open files leaves no room for it")
            lane = Lane.start(self._kind)
        finally:
            _exit.register()
        self._failures = 0
        return lane

    def failed(self, error: Exception, others: int, *, stuck: bool) -> BrokenProcessPool | None:
        """`start` has raised; `stuck`: all others wait at the gate.  Returns why the executor is broken, if it is."""
        if others and "shutdown" in str(error):  # what the interpreter says to whoever starts a thread too late
            self._refused = True
            return None
        self._failures += 1
        if not others or (stuck and self._failures > START_TRIES):
            reason = BrokenProcessPool(f"no worker can be started: {type(error).__name__}: {error}")
            reason.__cause__ = error
            return reason
        if self._failures == 1:
            logger.warning("could not start another worker (%s); going on with %d", error, others)
        self.again_at = time.monotonic() + START_AGAIN_SECONDS
        return None
