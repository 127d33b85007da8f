"""The frames that a worker sends to its parent: whole, whoever sends them.

The worker's own thread sends outcomes and asks.  Threads of a task may log meanwhile.  So may a signal handler, in the
middle of a frame that its own thread is writing.  So there is a lock.  A record that a handler logs waits for the end
of the frame, which the thread goes on writing when the handler returns.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ordered_executor._base.locks import Lock
from ordered_executor._channel import frames


class Outbox:
    """The worker's end of a lane's pipe to the parent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lease = 0
        self._lock = Lock()
        self._writing = False  # guarded by: _lock
        self._late: deque[tuple[Any, ...]] = deque()  # guarded by: _lock

    def send(self, kind: int, *body: Any) -> None:
        """Write one frame.  Waits until the parent takes it."""
        +self._lock
        try:
            self._writing = True
            self._write(kind, body)
            while self._late:
                self._write(frames.LOG, self._late.popleft())
            self._writing = False
        finally:
            -self._lock

    def send_record(self, *body: Any) -> None:
        """Write a frame of something that was logged: now, or behind the frame that this thread is writing."""
        +self._lock
        try:
            if self._writing:
                self._late.append(body)
            else:
                self.send(frames.LOG, *body)
        finally:
            -self._lock

    def _write(self, kind: int, body: tuple[Any, ...]) -> None:
        length = sum(len(part) for part in body)
        frames.write_all(self.fd, [frames.HEADER.pack(length, kind, self.lease), *body])
