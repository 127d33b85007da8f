"""`forward_logs=True`: log records of tasks come to the parent's handlers.

    in a task: logging.info(...) -> Forwarder -> LOG frame on the lane's pipe -> in the parent: the logger of that name

A record is written to the pipe before `logging` returns, so records of a worker that died come, too.  It travels as
text and plain values: nothing of the user's is pickled, and nothing but the user's handlers runs in the parent.
Handlers run on the executor's own thread, as done-callbacks do.

Levels are the parent's: a worker makes the records that the parent's loggers would take when the worker was lent.
"""

from __future__ import annotations

import contextlib
import logging
import marshal
import os
from collections.abc import Callable
from typing import Any

from ordered_executor._pickling.texts import short

Levels = dict[str, int]  # by name of a logger, for those that have one; "" is the root


def levels_here() -> Levels:
    """In the parent: the levels that somebody has set."""
    known = logging.root.manager.loggerDict.copy().items()
    loggers = {name: each for name, each in known if isinstance(each, logging.Logger)}
    return {"": logging.root.level, **{name: each.level for name, each in loggers.items() if each.level}}


class Forwarder(logging.Handler):
    """The root's handler in a worker.  `send` writes one record to the pipe."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        super().__init__()
        self._send = send
        self._pid = os.getpid()
        self._before: Levels = {}

    def begin(self, levels: Levels) -> None:
        """For the time of a lease."""
        self._before = {name: logging.getLogger(name).level for name in levels}
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        logging.root.addHandler(self)

    def end(self) -> None:
        """Leave the worker's loggers as they were."""
        logging.root.removeHandler(self)
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            return  # forked by a task: the pipe is its parent's
        try:
            self._send(pack_record(record))
        except Exception:
            self.handleError(record)


_formatter = logging.Formatter()


def pack_record(record: logging.LogRecord) -> bytes:
    """A record as text and plain values."""
    fields = dict(vars(record))
    fields["msg"], fields["args"] = record.getMessage(), None
    if record.exc_info:
        fields["exc_text"] = record.exc_text or _formatter.formatException(record.exc_info)
    fields["exc_info"] = None
    return marshal.dumps({str(name): _plain(value) for name, value in fields.items()})


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    try:
        marshal.dumps(value)
    except ValueError:  # not one of the interpreter's own types
        return short(value)
    return value


def hand_on(packed: bytes | memoryview, ticket: int | None, attempt: int | None, worker: int | None) -> None:
    """In the parent: give a record to whom it is for.  Never raises."""
    with contextlib.suppress(Exception):  # a handler that raises has said so by logging's own means
        record = logging.makeLogRecord(marshal.loads(packed))
        record.ticket, record.attempt, record.worker = ticket, attempt, worker
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)
