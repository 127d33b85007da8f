"""The backlog: a bound on tickets submitted and not yet read.

Invariant: `unread` is the number of claimed tickets whose outcome nobody has read (through the stream or through the
future) and that were not cancelled.

Who ends the wait of a `submit`: `read` (a reader), and `close` (shutdown, broken executor).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("ordered_executor")

# When a submit has waited so long and everything it waits for is done, it is likely that nobody reads.
EXPLAIN_SECONDS = 5.0


class Backlog:
    """Counts what is unread; lets submitters wait for room."""

    def __init__(self, most: int | None, all_done: Callable[[], bool]) -> None:
        self._most = most
        self._all_done = all_done
        self._changed = threading.Condition(threading.RLock())  # reentrant: finalizers and signal handlers read too
        self._unread = 0  # guarded by: _changed
        self._waiting = 0  # guarded by: _changed
        self._closed = False  # guarded by: _changed
        self._explained = False

    @property
    def bounded(self) -> bool:
        return self._most is not None

    @property
    def unread(self) -> int:
        return self._unread

    def enter(self, may_wait: bool) -> None:
        """Count one more; wait for room first, if that is allowed.  Raises nothing when closed: the claim does."""
        if self._most is None:
            return
        with self._changed:
            if may_wait and self._unread >= self._most and not self._closed:
                self._wait_locked()
            self._unread += 1

    def _wait_locked(self) -> None:
        assert self._most is not None
        explain_at = time.monotonic() + EXPLAIN_SECONDS
        self._waiting += 1
        try:
            while self._unread >= self._most and not self._closed:
                if self._explained:
                    self._changed.wait()
                    continue
                self._changed.wait(max(0.0, explain_at - time.monotonic()))
                if time.monotonic() >= explain_at and self._unread >= self._most and self._all_done():
                    self._explained = True
                    logger.warning(
                        "submit() waits: %d outcomes are finished and nobody reads them (backlog=%d). Read results(), "
                        "or the futures, in another thread; or submit and read in turn",
                        self._unread,
                        self._most,
                    )
                elif time.monotonic() >= explain_at:
                    explain_at = time.monotonic() + EXPLAIN_SECONDS
        except BaseException:
            self._changed.notify()  # it may have been the one that was woken: pass it on
            raise
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """One less: it was read, or skipped, or not claimed after all."""
        if self._most is None:
            return
        with self._changed:
            self._unread -= 1
            if self._waiting:
                self._changed.notify()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
