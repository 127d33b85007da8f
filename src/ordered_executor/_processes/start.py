"""Starting workers: whether another one should be tried, and what follows if it could not be started.

If an executor cannot have another worker, it goes on with those it has, and tries again after a while: descriptors,
processes or memory may be short for a moment.  It is broken when nobody is left to run the head, neither a worker nor
one that comes back from the gate, and some seconds of trying have not helped.
"""

from __future__ import annotations

import errno
import logging
import time
from concurrent.futures.process import BrokenProcessPool

from ordered_executor._base import system
from ordered_executor._processes.alarms import NEVER
from ordered_executor._processes.worker_handle import Lane, LaneKind

logger = logging.getLogger("ordered_executor")

# When a worker could not be started it is tried again: soon if all wait for it, and so often; else after a while.
SOON_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
START_AGAIN_SECONDS = 1.0
# How long workers that were idle have the first tasks to themselves.  A start takes some 100 ms of a core, so that this
# delays it little; without it a block of a few short tasks would start a worker each time, and end it half started.
HOLD_SECONDS = 0.005
# What may be there again in a moment: descriptors, processes, memory, room in a file system.
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EINTR})


class Starter:
    """Starts the lanes of an executor."""

    def __init__(self, kind: LaneKind) -> None:
        self._kind = kind
        self._failures = 0  # one after the other
        self.again_at: float | None = None
        self._asked = False
        self._hold_until: float | None = None

    def holds_back(self, *, serving: bool) -> bool:
        """Whether no worker is to be started yet; `serving`: others, which were idle, have tasks already."""
        if not self._asked:
            self._asked = True
            if serving:
                self._hold_until = time.monotonic() + HOLD_SECONDS
        return self._hold_until is not None

    def due(self) -> float:
        """When to look at the clock, for `look`."""
        least = NEVER if self.again_at is None else self.again_at
        return least if self._hold_until is None else min(least, self._hold_until)

    def look(self, now: float) -> bool:
        """Whether to try again now.  After holding back nobody has to: the scheduler asks, if anything still waits."""
        if self._hold_until is not None and now >= self._hold_until:
            self._hold_until = None
        if self.again_at is None or now < self.again_at:
            return False
        self.again_at = None
        return True

    def start(self, others: int) -> Lane:
        """Start a lane beside so many others; raises what prevents it."""
        if others and system.descriptors_left() < 2 * system.DESCRIPTORS_A_LANE:
            raise OSError(errno.EMFILE, "the limit on open files leaves no room for it")
        lane = Lane.start(self._kind)
        self._failures = 0
        return lane

    def failed(self, error: Exception, others: int, *, stuck: bool) -> BrokenProcessPool | None:
        """`start` has raised; `stuck`: all others wait at the gate.  Returns why the executor is broken, if it is."""
        self._failures += 1
        if stuck and (self._failures > len(SOON_SECONDS) or not (others or _may_pass(error))):
            reason = BrokenProcessPool(f"no worker can be started: {_describe(error)}")
            reason.__cause__ = error
            return reason
        if self._failures == 1:
            going_on = f"going on with {others}" if others else "trying again"
            one = "another" if others else "a"
            logger.warning("could not start %s worker (%s); %s", one, _describe(error), going_on)
        self.again_at = time.monotonic() + (SOON_SECONDS[self._failures - 1] if stuck else START_AGAIN_SECONDS)
        return None


def _may_pass(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in PASSING)


def _describe(error: Exception) -> str:
    """What is short, and what to do."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        text += (
            f"; a worker takes {system.DESCRIPTORS_A_LANE} descriptors, and as many again while it starts, and of the "
            f"{system.descriptor_limit()} that this program may have {system.descriptors_left()} are left: raise that "
            "limit (ulimit -n), or take fewer workers"
        )
    return text
