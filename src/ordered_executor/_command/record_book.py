"""The fate of records, in their order: output, failures, job log, dead letters, and the counts of all these.

A failure is reported after the output that stands before it.
"""

from __future__ import annotations

import functools

from . import notes
from .halting import Halt
from .joblog import Log, make_row
from .notes import Note
from .options import Work
from .pieces import Piece
from .progress import Progress
from .report import Reporter
from .sink import Sink
from .slots import OUTPUT, Slots

_READ_BYTES = 256 * 1024


class RecordBook:
    """See the module."""

    def __init__(
        self,
        work: Work,
        halt: Halt,
        output: int,
        sink: Sink,
        reporter: Reporter,
        log: Log,
        again: bool,
        bar: Progress | None,
    ) -> None:
        self._work, self._halt = work, halt
        self.output, self.sink, self._reporter = output, sink, reporter
        self._log, self._again = log, again  # what was done before; failures of it are run again
        self._bar = bar
        self.records = self.failed = self._bytes = 0
        self.problems = 0  # files that could not be read

    # ----------------------------------------------------------------------------------------------------------- resume

    def wanted(self, first: int, count: int) -> list[int] | range:
        """Which of the records `first` … are to be run, counted from it."""
        log = self._log
        if first > log.done and not log.beyond:
            return range(count)
        again = log.failed if self._again else ()
        return [
            i
            for i in range(count)
            if (number := first + i) in again or (number > log.done and number not in log.beyond)
        ]

    # ---------------------------------------------------------------------------------------------------------- writing

    def take(self, slots: Slots, piece: Piece) -> bool:
        """Hand on what has come of a piece since the last time.  False: that is one failure too many."""
        done, out = piece.progress(slots)
        found, piece.noted = notes.read(slots, piece.slot, piece.noted, done)
        rows, at = list[bytes](), piece.written
        for note in found:
            if note.row:
                where = "" if self._work.program else f" {piece.name}:{piece.line + note.line}"
                rows.append(make_row(piece.number + note.record, note, note.out - at, where))
                at = note.out + note.err
            if note.failed or note.err:
                self._hand_on(slots, piece, note.out)
                self._count(piece, note.record + 1)
                self._close(slots, piece, note)
            if note.failed and self._halt.when == "now" and self._halt.reached(self.failed, self.records):
                self.sink.add_rows(rows)
                return False
        self._hand_on(slots, piece, out)
        self._count(piece, done)
        self.sink.add_rows(rows)
        return True

    def _hand_on(self, slots: Slots, piece: Piece, end: int) -> None:
        """Output up to there."""
        while piece.written < end:
            part = slots.read(piece.slot, OUTPUT, piece.written, min(end, piece.written + _READ_BYTES))
            piece.written += len(part)
            self.sink.add(part)

    def _count(self, piece: Piece, done: int) -> None:
        more = done - piece.counted
        if more > 0:
            piece.counted = done
            self.records += more
            self._bytes += (piece.end - piece.begin) * more // max(piece.records, more)

    def _close(self, slots: Slots, piece: Piece, note: Note) -> None:
        """All that is to be said of a record on the error output, and the letter."""
        if note.err:
            text = slots.read(piece.slot, OUTPUT, piece.written, piece.written + note.err)
            piece.written += note.err
            self.sink.say(functools.partial(self._reporter.write, text))
        if note.failed:
            self.failed += 1
            self.sink.say(functools.partial(self._reporter.line, _failure(piece, note)))
            at = piece.begin + note.begin
            self.sink.add_letter(slots, piece.slot, at, note.size)

    def report_rest(self, slots: Slots, piece: Piece) -> None:
        """The failures of a piece that is not written to its end."""
        found, piece.noted = notes.read(slots, piece.slot, piece.noted, piece.progress(slots)[0])
        for note in found:
            if note.failed:
                self.failed += 1
                self._reporter.line(_failure(piece, note))

    def unreadable(self, name: str, error: OSError) -> None:
        """A file of the input."""
        self.problems += 1
        self.sink.say(functools.partial(self._reporter.file, name, error))

    # --------------------------------------------------------------------------------------------------------- progress

    @property
    def show_again(self) -> float | None:
        """Seconds until the bar should be shown again."""
        return None if self._bar is None else self._bar.due_in()

    def show(self, head: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bytes, self.records, self.failed, head)

    def close(self, head: int) -> None:
        if self._bar is not None:
            self._bar.close(self._bytes, self.records, self.failed, head)


def _failure(piece: Piece, note: Note) -> str:
    return f"{piece.name}:{piece.line + note.line}: {note.error}"
