"""Puts the parts of a run together, and says how it ended."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from .crew import Crew
from .ends import FAILED, WRONG, EarlyEnd, Signalled, closed, open_streams, signals_raise
from .flow import Flow
from .joblog import Log, cut_back, note_start, open_log
from .options import Options
from .progress import Progress
from .record_book import RecordBook
from .report import Reporter
from .sink import Sink, reason


def run(options: Options) -> int:
    """Run the command; returns the exit status."""
    reporter = Reporter()
    try:
        open_streams()
        with signals_raise():
            return _run(options, reporter)
    except EarlyEnd as end:
        reporter.command(str(end))
        return end.status
    except Signalled as end:
        more = "; --resume goes on from here" if options.joblog is not None else ""
        reporter.command(f"{end}{more}")
        return end.status


def _run(options: Options, reporter: Reporter) -> int:
    _check_streams(options)
    _check_files(options)
    output = _open_output(options)
    rows, log = _open_log(options, output)
    letters = _open_letters(options, log)
    bar = Progress(options.files) if options.progress else None
    sink = Sink(output, options.output or "the output", rows, letters)
    book = RecordBook(options.work, options.halt, output, sink, reporter, log, options.resume_failed, bar)
    reporter.bar = bar
    with _crew(options) as crew:
        flow = Flow(options, crew, book)
        try:
            flow.run()
        finally:
            reporter.bar = None
            flow.close()
    return FAILED if book.failed or book.problems else 0


@contextlib.contextmanager
def _crew(options: Options) -> Iterator[Crew]:
    """The workers, which are gone afterwards, whatever happens."""
    crew = Crew(options)
    try:
        yield crew
    except BaseException:
        crew.stop()
        raise
    crew.finish()


def _check_streams(options: Options) -> None:
    if 1 in closed and options.output is None:
        raise EarlyEnd("the standard output is closed")
    if 0 in closed and "-" in options.files:
        raise EarlyEnd("the standard input is closed")


def _check_files(options: Options) -> None:
    """No file is read and written: what was opened for writing first would be empty, or grow for ever."""
    read = {_identity(0 if name == "-" else name): name for name in options.files}
    written: dict[tuple[int, int], str] = {}
    files = {
        "output": 1 if options.output is None else options.output,
        "job log": options.joblog,
        "file of dead letters": options.dead_letter,
        "trace": options.trace,
    }
    for what, place in files.items():
        identity = None if place is None else _identity(place)
        if identity is None:
            continue
        if identity in read:
            raise EarlyEnd(f"{read[identity]} is an input, and the {what} would be written there", WRONG)
        if identity in written:
            raise EarlyEnd(f"the {written[identity]} and the {what} are the same file", WRONG)
        written[identity] = what


def _identity(place: str | int) -> tuple[int, int] | None:
    """Of a regular file that exists."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(place)  # noqa: PTH116 (a descriptor, too)
        if stat.S_ISREG(found.st_mode):
            return found.st_dev, found.st_ino
    return None


def _open_output(options: Options) -> int:
    if options.output is None:
        return 1
    again = options.resume or options.resume_failed
    try:
        return os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if again else os.O_TRUNC), 0o666)
    except OSError as error:
        raise EarlyEnd(f"{options.output} cannot be written: {reason(error)}", WRONG) from None


def _open_log(options: Options, output: int) -> tuple[int | None, Log]:
    """The job log; the output is cut back to what it says."""
    if options.joblog is None:
        return None, Log()
    fd, log = open_log(options.joblog, options.resume or options.resume_failed)
    if log.rows:
        cut_back(output, log.output, options.output or "the output")
    else:
        note_start(fd, output)
    return fd, log


def _open_letters(options: Options, log: Log) -> int | None:
    """The file of dead letters; with a resume it goes on behind those that the job log knows."""
    if options.dead_letter is None:
        return None
    goes_on = options.resume and not options.resume_failed and log.rows
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if goes_on else os.O_TRUNC)
    try:
        fd = os.open(options.dead_letter, flags, 0o666)
    except OSError as error:
        raise EarlyEnd(f"{options.dead_letter} cannot be written: {reason(error)}", WRONG) from None
    if goes_on:
        cut_back(fd, log.letters, options.dead_letter)
    return fd
