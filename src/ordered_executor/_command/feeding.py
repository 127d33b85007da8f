"""Feeds the workers: reads ahead, puts pieces onto the board, and sends the first of those that wait.

Bounds: for each worker, at most four pieces are read and not sent, and at most six are sent and not done.  A piece has
a slot, and there is a fixed number of slots.  When output cannot be written, slots are not given back, and nothing more
is read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from functools import partial

from .crew import Crew
from .options import Options
from .pace import Pace
from .pieces import Board, Piece
from .record_book import RecordBook
from .records import Records, Span
from .slots import INPUT, STATE, WAITING
from .sources import Reader

# Pieces for each worker: read and not sent; sent (one runs, the others wait behind it, or are on the way).  A piece of
# text takes some 10 ms.  On a busy machine the parent may come late by several; with fewer the workers would idle.
READ_EACH, SENT_EACH = 4, 6
# Seconds for which input that would make a short piece is held back, when there is other work.
HOLD_SECONDS = 0.02
# A piece that waits is cut up if it would take so many times as long as it should.
TOO_LONG = 3


class Feeder:
    """See the module."""

    def __init__(self, options: Options, crew: Crew, board: Board, pace: Pace, book: RecordBook) -> None:
        self._work = options.work
        self._crew, self._board, self._pace, self._book = crew, board, pace, book
        self._slots = crew.slots
        self._reader = Reader(options.files, options.work, book.unreadable)
        self._parts: deque[tuple[Piece, Records, range]] = deque()  # read, and not on the board yet
        self._slot: int | None = None  # into which the reader puts the next piece
        self._held_since: float | None = None
        self._blocks = 0
        self.number = 1  # of the next record that is read

    # ---------------------------------------------------------------------------------------------------------- reading

    @property
    def ended(self) -> bool:
        """All input is on the board, or has been."""
        return self._reader.ended and not self._parts

    def wants_input(self) -> bool:
        if self.ended or len(self._board.waiting) >= READ_EACH * self._crew.workers:
            return False
        return self._slot is not None or bool(self._board.free)

    @property
    def waits_for(self) -> int | None:
        """The descriptor of input that is wanted and not there."""
        return self._reader.waits_for if self.wants_input() else None

    def due_in(self) -> float | None:
        """Seconds until what is held back goes on its way."""
        return None if self._held_since is None else max(0.0, self._held_since + HOLD_SECONDS - time.monotonic())

    def read_ahead(self) -> None:
        while self.wants_input():
            slot = self._reserve()
            if self._parts:
                self._slot = None
                self._place_part(slot, *self._parts.popleft())
            elif not self._take(slot):
                break
        if self.ended and self._slot is not None:
            self._board.give_slot(self._slot)
            self._slot = None

    def _reserve(self) -> int:
        if self._slot is None:
            self._slot = self._new_slot()
        return self._slot

    def _new_slot(self) -> int:
        slot = self._board.take_slot()
        self._slots.reserve(slot)
        return slot

    def _take(self, slot: int) -> bool:
        """A piece of the input, if there is one."""
        board = self._board
        hurry = len(board.running) + len(board.waiting) < 2 * self._crew.workers or self.due_in() == 0.0
        taken = self._reader.take(partial(self._slots.write, slot, INPUT), self._pace.size, hurry)
        if taken is None:
            self._held_since = (self._held_since or time.monotonic()) if self._reader.held else None
            return False
        self._held_since = self._slot = None
        self._blocks += 1
        first, self.number = self.number, self.number + taken.records
        self._place(Piece((self._blocks, 0), slot, taken.name, taken.line, first, 0, taken.size, taken.records))
        return True

    def _place(self, piece: Piece) -> None:
        """Onto the board; with a resume, what of it is to be run."""
        wanted = self._book.wanted(piece.number, piece.records)
        if len(wanted) == piece.records:
            piece.prepare(self._slots)
            self._board.add(piece)
            return
        if wanted:
            records = Records(self._work, self._slots.read(piece.slot, INPUT, 0, piece.end))
            self._parts.extend((piece, records, run) for run in runs(wanted))
        self._slots.clear(piece.slot, piece.end, 0)
        self._board.give_slot(piece.slot)

    def _place_part(self, slot: int, piece: Piece, records: Records, run: range) -> None:
        """Some records of a piece that was read before."""
        raw = b"".join(records.raw(i) for i in run)
        self._slots.write(slot, INPUT, 0, raw)
        line = piece.line + records.span(run[0]).line
        key = (piece.key[0], run[0])
        part = Piece(key, slot, piece.name, line, piece.number + run[0], 0, len(raw), len(run))
        part.prepare(self._slots)
        self._board.add(part)

    # ---------------------------------------------------------------------------------------------------------- sending

    def send(self) -> None:
        board = self._board
        while len(board.running) < SENT_EACH * self._crew.workers and (piece := board.next_waiting()) is not None:
            piece = self._cut_up(piece)
            done, out = piece.progress(self._slots)
            self._slots.set(piece.slot, STATE, WAITING)
            board.send(piece, self._crew.send(piece.slot, piece.begin, piece.end, piece.number), done, out)

    def _cut_up(self, piece: Piece) -> Piece:
        """The first records of a piece that would take too long; else, or where there is no room, the piece itself."""
        done, _ = piece.progress(self._slots)
        count, board = self._pace.records, self._board
        if piece.records - done <= TOO_LONG * count or len(board.free) < 2 or self._work.block is not None:
            return piece
        if done:
            piece = self._move(piece, done, piece.records)
        first = self._move(piece, 0, count)
        board.sort()
        return first

    def _move(self, piece: Piece, begin: int, end: int) -> Piece:
        """Put records of a piece that waits, its first ones or its last, into a slot of their own."""
        board, data = self._board, self._slots.read(piece.slot, INPUT, piece.begin, piece.end)
        records = Records(self._work, data)
        first = records.span(begin)
        last = records.span(end) if end < len(records) else Span(len(data), 0, 0)
        slot = self._new_slot()
        self._slots.write(slot, INPUT, 0, memoryview(data)[first.begin : last.begin])
        key, number = (piece.key[0], piece.key[1] + begin), piece.number + begin
        size = last.begin - first.begin
        part = Piece(key, slot, piece.name, piece.line + first.line, number, 0, size, end - begin, tries=piece.tries)
        part.prepare(self._slots)
        if begin:  # what is left has been run
            piece.records, piece.finished = begin, True
            board.waiting.remove(piece)
        else:
            piece.begin, piece.line = piece.begin + last.begin, piece.line + last.line
            piece.key, piece.number = (piece.key[0], piece.key[1] + end), piece.number + end
            piece.records, piece.tries = piece.records - end, 0
        board.add(part)
        return part


def runs(numbers: Iterable[int]) -> list[range]:
    """Ascending numbers in runs without a gap.

    >>> runs([1, 2, 3, 7, 9, 10])
    [range(1, 4), range(7, 8), range(9, 11)]
    """
    found: list[range] = []
    for number in numbers:
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found
