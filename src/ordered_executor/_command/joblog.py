"""The job log, in GNU parallel's columns, and the resume that reads it.

    Seq  Host  Starttime  JobRuntime  Send  Receive  Exitval  Signal  Command

A row is written after the output of its record, and `Receive` counts that output.  So the rows say how much of the
output is committed.  More output was written by a run that was killed before it could log it; it is cut off.  `Send`
counts the record itself.  Over failed records it says in the same way how long the file of dead letters is.  If the
output did not begin at byte 0 (`>>`), a row with number 0 says where.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from .ends import WRONG, EarlyEnd
from .notes import Note
from .sink import reason, write_all

HEADER = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
_COLUMNS = 9
_TABLE = str.maketrans({"\t": "\\t"})


def make_row(number: int, note: Note, out: int, where: str) -> bytes:
    """The row of a record.  `where`: which record it is, for a function."""
    command = (note.command.translate(_TABLE) + where).encode("utf-8", "surrogateescape")
    exit_status = note.exit or (1 if note.failed and not note.signal else 0)
    return b"%d\t:\t%.3f\t%10.3f\t%d\t%d\t%d\t%d\t%b\n" % (
        number,
        note.began,
        note.seconds,
        note.size,
        out,
        exit_status,
        note.signal,
        command,
    )


@dataclass
class Log:
    """What a job log says."""

    done: int = 0  # records 1 to `done` have rows
    beyond: set[int] = field(default_factory=set)  # others that have
    failed: set[int] = field(default_factory=set)
    output: int = 0  # bytes of output that are committed
    letters: int = 0  # bytes of failed records
    size: int = 0  # of the log, whole rows
    rows: int = 0


def read_log(rows: Iterable[bytes]) -> Log:
    """Read it; a last row that is not whole does not count."""
    log = Log()
    for row in rows:
        if not row.endswith(b"\n"):
            break
        log.size += len(row)
        if row not in {HEADER, b"\n"}:
            _read_row(log, row)
    return log


def _read_row(log: Log, row: bytes) -> None:
    cells = row.split(b"\t", _COLUMNS - 1)
    try:
        number, send, receive, code, ended_by = (int(cells[i]) for i in (0, 4, 5, 6, 7))
    except (IndexError, ValueError):
        raise EarlyEnd(f"the job log has a row that is none: {row[:80]!r}", WRONG) from None
    log.rows += 1
    log.output += receive
    if number == 0:
        return
    log.beyond.add(number)
    while log.done + 1 in log.beyond:
        log.done += 1
        log.beyond.discard(log.done)
    if code or ended_by:
        log.failed.add(number)
        log.letters += send
    else:
        log.failed.discard(number)


def open_log(path: str, resume: bool) -> tuple[int, Log]:
    """The log's descriptor, at its end, and what it says; a new one unless it is to be resumed."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if resume else os.O_TRUNC), 0o666)
        with open(fd, "rb", closefd=False) as rows:
            log = read_log(rows)
        if not log.size and not HEADER.startswith(os.pread(fd, len(HEADER), 0)):
            raise EarlyEnd(f"{path} is no job log", WRONG)
        os.ftruncate(fd, log.size)
        os.lseek(fd, log.size, os.SEEK_SET)
        if not log.size:
            write_all(fd, HEADER)
    except OSError as error:
        raise EarlyEnd(f"the job log {path} cannot be opened: {reason(error)}", WRONG) from None
    return fd, log


def cut_back(fd: int, size: int, name: str) -> None:
    """Cut a file back to what is committed, and go to its end.  A pipe or a terminal is left as it is."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return
    there = os.fstat(fd).st_size
    if there < size:
        raise EarlyEnd(
            f"{name} has {there} bytes, but the job log says that {size} were written: resume with the same file, and "
            "append to it (`>>`, or --output)",
            WRONG,
        )
    try:
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)
    except OSError as error:
        raise EarlyEnd(f"{name} cannot be cut back to what is committed: {reason(error)}", WRONG) from None


def note_start(log: int, fd: int) -> None:
    """In a new log: where the output begins, if that is not at byte 0."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return
    appends = bool(_flags(fd) & os.O_APPEND)
    start = os.fstat(fd).st_size if appends else os.lseek(fd, 0, os.SEEK_CUR)
    if start:
        write_all(log, b"0\t:\t0.000\t     0.000\t0\t%d\t0\t0\t(the output before)\n" % start)


def _flags(fd: int) -> int:
    import fcntl  # noqa: PLC0415

    return fcntl.fcntl(fd, fcntl.F_GETFL)
