"""`trace(executor, "job.json")` writes when each task ran, and where, into a file that Perfetto and Chrome open.

The format is Chrome's: a list of events in JSON.  Each worker has a row with its tasks, its waits at the gate, its
start and its death.  The head has a row that names the task everything waited for.  A curve shows how many outcomes are
home early.  `python -m ordered_executor.timeline` draws the file and says what you can change.

The file is written four times a second.  It is valid whenever the program dies: the format allows the bracket at the
end of the list to be missing.  Memory holds only events that are not written yet and the batches that workers have.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ordered_executor._base.tasks import Batch
from ordered_executor._base.waiting import Latch
from ordered_executor._core.backend import Arrived, Ended, Event, Lost, Ready
from ordered_executor._core.executor import OrderedExecutor
from ordered_executor._core.observers import Observer
from ordered_executor._core.reorder_buffer import Sequencer
from ordered_executor._pickling.outcomes import is_failure
from ordered_executor._pickling.texts import call_name

logger = logging.getLogger("ordered_executor")

HEAD_ROW, STARTS_ROW = 10_000, 10_001  # behind the workers'
SHORTEST = 0.0005  # seconds of what is drawn beside tasks: more would be noise, and a larger file
WRITE_SECONDS, WRITE_BYTES = 0.25, 64 * 1024
CURVE_SECONDS = 0.005  # between two points of the curve
END_SECONDS = 5.0


@contextlib.contextmanager
def trace(executor: Any, path: str | os.PathLike[str]) -> Iterator[None]:
    """Record an executor, or a queue, in a file, until every task that was submitted by the end of the block is done.

    Leaving the block does not wait for the tasks.  The file is complete when their results are there, or when the
    executor has been shut down.  Cost: some microseconds a task.  On a cluster the file has the row of the head only.

    Raises `OSError` if the file cannot be written, and `TypeError` if `executor` is not an executor of this package.
    If writing fails later, the failure is logged and the work goes on.
    """
    followed = executor if isinstance(executor, OrderedExecutor) else getattr(executor, "_executor", None)
    if not isinstance(followed, OrderedExecutor):
        raise TypeError(f"trace() follows an ordered executor or a queue of this package, not {executor!r}")
    scheduler = followed._scheduler
    tracer = Tracer(Path(path), scheduler.sequencer)
    scheduler.inbox.post(lambda: _begin(scheduler, tracer))
    try:
        yield
    finally:
        _end(scheduler, tracer)


def _begin(scheduler: Any, tracer: Tracer) -> None:
    scheduler.dispatcher.record_all = True
    scheduler.observers.add(tracer)


def _end(scheduler: Any, tracer: Tracer) -> None:
    """Have it end with the last ticket there is; wait for that only if it is over already."""
    last = scheduler.inbox.claims.tail

    def end() -> None:
        tracer.last = last
        tracer.released(scheduler.sequencer.head, scheduler.sequencer.head, 0)

    scheduler.inbox.post(end)
    if scheduler.inbox.finished.is_set():
        tracer.close()
    elif scheduler.sequencer.head == last and not scheduler.inbox.on_scheduler():
        tracer.closed.wait(END_SECONDS)


class Tracer(Observer):
    """The writer.  On the scheduler, but for its beginning, and for its end after the scheduler's."""

    def __init__(self, path: Path, sequencer: Sequencer) -> None:
        self._path, self._sequencer = path, sequencer
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._begun = self._written = self._head_since = self._curve = time.monotonic()
        self._pid = os.getpid()
        self._lines: list[str] = []
        self._size = 0
        self._separator = "[\n"
        self._batches: dict[int, tuple[int, list[str], dict[int, int]]] = {}  # first ticket, names, attempts
        self._named: set[int] = set()
        self._early, self._head = 0, sequencer.head
        self.last: int | None = None  # the ticket behind the last that belongs to it
        self.closed = Latch()
        self._meta("process_name", 0, {"name": "ordered-executor"})
        self._name_row(HEAD_ROW, "head")
        self._flush()

    # ----------------------------------------------------------------------------------------------------- what is told

    def sent(self, lane: Any, batch: Batch) -> None:
        names = [json.dumps(call_name(fn)) for fn in batch.functions()]
        self._batches[batch.number] = batch.first, names, batch.losses()
        if batch.first == self._head:
            self._head_since = time.monotonic()  # nothing was in flight, or it is sent again

    def heard(self, event: Event) -> None:
        if type(event) is Arrived:
            if event.seconds or event.rescued:  # else it was fetched early, and is told again
                self._tasks(event)
        elif type(event) is Ready:
            self._ready(event.lane)
        elif type(event) is Lost:
            row = self._row(event.lane)
            self._add(f'"ph":"i","tid":{row},"ts":{self._now()},"s":"t","name":{json.dumps(f"died: {event.reason}")}')
        elif type(event) is Ended:
            self._add(f'"ph":"i","tid":{self._row(event.lane)},"ts":{self._now()},"s":"t","name":"ended"')
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._flush()

    def released(self, before: int, head: int, early: int) -> None:
        now = time.monotonic()
        if head != before:
            if now - self._head_since >= SHORTEST:
                self._slice(
                    HEAD_ROW, self._head_since, now, f'"{before}"', f'"ticket":{before},"released":{head - before}'
                )
            self._head_since, self._head = now, head
        self._draw_curve(now, early)
        if self.last is not None and head >= self.last:
            self.close()

    def _draw_curve(self, now: float, early: int) -> None:
        if early != self._early and now - self._curve >= CURVE_SECONDS:
            self._early, self._curve = early, now
            self._add(f'"ph":"C","tid":0,"ts":{self._at(now)},"name":"early outcomes","args":{{"early":{early}}}')

    def close(self) -> None:
        """The end: the file is complete.  May be called again."""
        if self.closed.is_set():
            return
        self._lines.append("\n]\n")
        self._flush()
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._batches.clear()
        self.closed.set()

    # -------------------------------------------------------------------------------------------------------- the parts

    def _tasks(self, event: Arrived) -> None:
        lane, times = event.lane, event.times
        row = self._row(lane)
        known = self._batches.get(event.number)
        if known is None or times is None:
            return
        first, names, lost = known
        sequencer = self._sequencer
        ahead = first + event.start != sequencer.head
        self._draw_curve(time.monotonic(), sequencer.early + len(event.outcomes) * ahead)
        for index, outcome in enumerate(event.outcomes):
            start, end = times.at(index)
            place = event.start + index
            about = f'"ticket":{first + place}'
            if lost and place in lost:
                about += f',"attempt":{lost[place] + 1}'
            if event.failures and is_failure(outcome):
                about += ',"failed":true'
            self._slice(row, start, end, names[place if len(names) > 1 else 0], about)
        waits = getattr(lane, "gate_waits", None)
        while waits:
            begin, until = waits.popleft()
            if until - begin >= SHORTEST:
                self._slice(row, begin, until, '"at the gate"', "", "gate")

    def _ready(self, lane: Any) -> None:
        begun = getattr(lane, "started_at", 0.0)
        row = self._row(lane)
        if begun >= self._begun:
            self._slice(row, begun, time.monotonic(), '"start"', f'"pid":{json.dumps(lane.pid)}', "start")
        waits = getattr(lane, "gate_waits", None)
        if waits:
            waits.clear()  # of an earlier executor's

    def _row(self, lane: Any) -> int:
        number = getattr(lane, "number", None)
        row = STARTS_ROW if number is None else int(number)
        if row not in self._named:
            self._name_row(row, "workers that start" if number is None else f"worker {number}")
        return row

    # ------------------------------------------------------------------------------------------------------ the format

    def _at(self, moment: float) -> str:
        return f"{(moment - self._begun) * 1e6:.3f}"

    def _now(self) -> str:
        return self._at(time.monotonic())

    def _slice(self, row: int, begin: float, end: float, name: str, about: str, kind: str = "task") -> None:
        since, long = (begin - self._begun) * 1e6, (end - begin) * 1e6
        self._add(
            f'"ph":"X","tid":{row},"ts":{since:.3f},"dur":{max(0.0, long):.3f},'
            f'"cat":"{kind if row != HEAD_ROW else "head"}","name":{name},"args":{{{about}}}'
        )

    def _name_row(self, row: int, name: str) -> None:
        self._named.add(row)
        self._meta("thread_name", row, {"name": name})
        self._meta("thread_sort_index", row, {"sort_index": row})

    def _meta(self, what: str, row: int, args: dict[str, Any]) -> None:
        self._add(f'"ph":"M","tid":{row},"ts":0,"name":"{what}","args":{json.dumps(args)}')

    def _add(self, fields: str) -> None:
        line = f'{self._separator}{{"pid":{self._pid},{fields}}}'
        self._separator = ",\n"
        self._lines.append(line)
        self._size += len(line)
        if self._size >= WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Write what there is.  A file that cannot be written any more costs the trace, and nothing else."""
        text, self._lines, self._size = "".join(self._lines).encode(), [], 0
        self._written = time.monotonic()
        if self._fd is None:
            return
        view = memoryview(text)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            logger.warning("the trace %s ends here, the work goes on: it cannot be written (%s)", self._path, error)
            os.close(self._fd)
            self._fd = None
