"""What a worker tells about itself: to a task, which one it is; to the parent, the log records of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordered_executor._base.current_task import CurrentTask, answer
from ordered_executor._channel import frames
from ordered_executor._channel.shared_memory import COUNT_BITS, HOLDING, PROGRESS, RUNNING, STATE, LaneMemory
from ordered_executor._processes.worker.outbox import Outbox

if TYPE_CHECKING:
    from ordered_executor._pickling.logs import Forwarder


class Witness:
    """See the module.  `begin_batch` and `begin_lease` are told by the worker."""

    def __init__(self, memory: LaneMemory, outbox: Outbox) -> None:
        self._words = memory.words
        self._outbox = outbox
        self._number = 0  # of the worker
        self._first = 0  # ticket of the batch
        self._losses: dict[int, int] = {}  # by index, how often workers have died of it
        self._forwarder: Forwarder | None = None
        answer(self.task)

    def begin_lease(self, number: int = 0, levels: dict[str, int] | None = None) -> None:
        """`levels`: of the parent's loggers, if what is logged goes there."""
        self._number = number
        if self._forwarder is not None:
            self._forwarder.end()
            self._forwarder = None
        if levels is not None:
            from ordered_executor._pickling.logs import Forwarder  # noqa: PLC0415 (few need it)

            self._forwarder = Forwarder(self._send_record)
            self._forwarder.begin(levels)

    def begin_batch(self, first: int, losses: dict[int, int]) -> None:
        """Of the ticket `first` and those behind it."""
        self._first, self._losses = first, losses

    def task(self) -> CurrentTask | None:
        """The task that runs."""
        words = self._words
        if words[STATE] not in (RUNNING, HOLDING):
            return None
        index = words[PROGRESS] >> COUNT_BITS
        return CurrentTask(self._first + index, self._losses.get(index, 0) + 1, self._number)

    def _send_record(self, record: bytes) -> None:
        task = self.task()
        about = frames.pack((None, None, self._number) if task is None else tuple(task))
        self._outbox.send_record(frames.LENGTH.pack(len(about)), about, record)
