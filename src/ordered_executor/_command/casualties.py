"""Records whose worker died, or that take too long.

A piece that a death cut short goes on behind the records that had ended.  Only the record that was running is charged:
it runs again, as often as it may, and then has failed like one that raised.
"""

from __future__ import annotations

import time
from concurrent.futures.process import BrokenProcessPool
from signal import SIGKILL

from ordered_executor import TaskKilledError, TerminatedWorkerError

from . import notes
from .crew import Crew, Task
from .ends import FAILED, WRONG, EarlyEnd
from .jobs import describe
from .notes import Note
from .options import Work
from .pieces import Board, Piece
from .records import Records
from .slots import BEGUN, COMMIT, INPUT, PROGRAM, STATE, pack_commit
from .worker import CannotBeginError


class Casualties:
    """See the module."""

    def __init__(self, work: Work, crew: Crew, board: Board) -> None:
        self._work, self._crew, self._board, self._slots = work, crew, board, crew.slots
        self.charged = 0  # records that have failed so

    def died(self, task: Task | None, error: BaseException) -> None:
        """A task did not come to its end.  Raises `EarlyEnd` if nothing can go on."""
        piece = self._board.running.get(task)
        if isinstance(error, CannotBeginError):
            raise EarlyEnd(str(error), WRONG) from None
        if not isinstance(error, (TerminatedWorkerError, TaskKilledError)):
            status = WRONG if isinstance(error, BrokenProcessPool) else FAILED
            raise EarlyEnd(_first_line(error), status) from None
        if piece is None:
            return  # it had come to its end before
        self._crew.kill_program(piece.slot)
        self._slots.set(piece.slot, PROGRAM, 0)
        records = Records(self._work, self._slots.read(piece.slot, INPUT, piece.begin, piece.end))
        done, _ = piece.progress(self._slots)
        if done > piece.sent_done:
            piece.tries = 0
        # A record that began while the one before it was being killed is innocent, and begins again.
        if self._slots.get(piece.slot, STATE) == BEGUN and done < len(records) and piece.late in {-1, done}:
            self._charge(piece, records, done, error)
        self._board.returned(piece, self._slots, finished=piece.progress(self._slots)[0] >= len(records))

    def _charge(self, piece: Piece, records: Records, done: int, error: BaseException) -> None:
        """The record that was running: it is run again, or has failed."""
        piece.tries += 1
        if piece.tries <= self._work.retries:
            return
        piece.tries = 0
        code = (error.exitcode if isinstance(error, TerminatedWorkerError) else None) or 0
        text = f"WorkerDied: {_how(code)}"
        if piece.late == done:
            text = f"TimeoutError: it took longer than {self._work.timeout:g} s, and was stopped"
            code = -SIGKILL
        _, out = piece.progress(self._slots)
        note = Note(done, *records.span(done), out, 0, text, max(code, 0), max(-code, 0))
        note = note._replace(began=time.time(), command=str(self._work.function), row=self._work.log)
        notes.append(self._slots, piece.slot, note)
        self._slots.set(piece.slot, COMMIT, pack_commit(done + 1, out))
        self.charged += 1

    def find_late(self) -> None:
        """Kill the workers whose record has run for too long.  Programs are ended by their workers."""
        limit, now = self._work.timeout, time.monotonic()
        if limit is None or self._work.program:
            return
        for piece in self._board.running.values():
            if self._slots.get(piece.slot, STATE) != BEGUN:
                continue
            done, _ = piece.progress(self._slots)
            if piece.seen[0] != done:
                piece.seen = (done, now)
            elif now - piece.seen[1] > limit and piece.late != done:
                piece.late = done
                self._crew.kill(piece.task)


def _how(code: int) -> str:
    if code < 0:
        return f"its worker was killed by signal {-code}"
    return f"its worker ended with exit status {code}"


def _first_line(error: BaseException) -> str:
    return describe(error).split("\n", 1)[0]
