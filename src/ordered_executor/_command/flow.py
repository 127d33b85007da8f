"""The run: reads pieces, sends them, and takes their results, in order.  One thread, one loop.

    hear -> write in order -> read ahead -> send -> wait

Each step makes work for the steps behind it only: hearing makes output and rests of pieces, writing makes room to read
and to send.  So at the wait nothing is left undone.

It waits in one place, `_wait`, for a worker's word, the executor's word (a death), the input, the reader of the output
to go away, a signal, or the clock.  The clock is for the one thing that nobody tells: the output of a piece that still
runs.
"""

from __future__ import annotations

import select

from .casualties import Casualties
from .crew import Crew
from .ends import EarlyEnd
from .feeding import Feeder
from .options import Options
from .pace import Pace
from .pieces import Board, Piece
from .record_book import RecordBook
from .slots import COMMIT, FINISHED, NOTES, REST, SECONDS, STATE, pack_commit
from .telling import TURNED
from .trace import Trace

# Seconds between looks at the piece whose turn it is.
LOOK_SECONDS = 0.05


class Flow:
    """See the module."""

    def __init__(self, options: Options, crew: Crew, book: RecordBook) -> None:
        self._options, self._crew, self._book = options, crew, book
        self._slots = crew.slots
        self._board = Board(crew.slots.count)
        self._pace = Pace(crew.slots.area)
        self._feeder = Feeder(options, crew, self._board, self._pace, book)
        self._casualties = Casualties(options.work, crew, self._board)
        self._trace = None if options.trace is None else Trace(options.trace)
        self._told = 0  # failures that workers told of, written or not
        self._ending = False  # `--halt soon`: nothing more begins
        self._poll = select.poll()
        for fd in (crew.telling.read, crew.wake):
            self._poll.register(fd, select.POLLIN)
        self._poll.register(book.output, 0)  # it says when whoever reads has gone
        self._polled_input: int | None = None

    # ------------------------------------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Until all is written.  Raises `EarlyEnd`."""
        while True:
            self._hear()
            self._write()
            if not self._ending:
                self._feeder.read_ahead()
                self._feeder.send()
            if self._done():
                break
            self._wait()
        self._book.sink.flush()
        if self._ending:
            raise EarlyEnd("nothing more was begun after a failure, as --halt soon says")

    def close(self) -> None:
        """The last picture."""
        self._book.close(self._head_number())

    def _done(self) -> bool:
        if self._ending:
            return not self._board.running
        return self._feeder.ended and not self._board.order and self._crew.ready

    def _wait(self) -> None:
        self._book.show(self._head_number())
        self._book.sink.flush_if_due()
        self._watch_input()
        for fd, event in self._poll.poll(self._timeout()):
            if fd == self._book.output and event & (select.POLLERR | select.POLLHUP):
                self._book.sink.flush()
                if event & select.POLLERR:
                    raise EarlyEnd("whoever reads the output has gone (as `| head` does): stopped")
                self._poll.unregister(fd)

    def _timeout(self) -> float | None:
        """Milliseconds."""
        waits = [self._book.sink.due_in(), self._book.show_again, self._feeder.due_in()]
        head, limit = self._board.head, self._options.work.timeout
        if head is not None and head.task is not None:
            waits.append(LOOK_SECONDS)
        if limit is not None and self._board.running:
            waits.append(min(LOOK_SECONDS, limit / 4))
        seconds = min((wait for wait in waits if wait is not None), default=None)
        return None if seconds is None else seconds * 1000

    def _watch_input(self) -> None:
        """Wait for the input only where there is use for it."""
        wanted = None if self._ending else self._feeder.waits_for
        if wanted == self._polled_input:
            return
        if self._polled_input is not None:
            self._poll.unregister(self._polled_input)
        if wanted is not None:
            self._poll.register(wanted, select.POLLIN)
        self._polled_input = wanted

    # ---------------------------------------------------------------------------------------------------------- hearing

    def _hear(self) -> None:
        told = self._crew.telling.heard()
        running = {piece.slot: piece for piece in self._board.running.values()} if told else {}
        for what, slot in told:
            if what != TURNED:
                self._told += 1
            elif slot in running and running[slot].task is not None:
                self._turned(running[slot])
        for task, error in self._crew.deaths():
            self._casualties.died(task, error)
        self._casualties.find_late()
        self._judge()

    def _turned(self, piece: Piece) -> None:
        """A worker is done with it, or has given it back; or this is an old message."""
        state = self._slots.get(piece.slot, STATE)
        if state in {FINISHED, REST}:
            self._learn(piece)
            self._board.returned(piece, self._slots, finished=state == FINISHED)

    def _learn(self, piece: Piece) -> None:
        done, out = piece.progress(self._slots)
        ran = done - piece.sent_done
        if self._trace is not None:
            self._trace.add(self._slots, piece, piece.sent_done, done)
        if ran > 0:
            piece.tries = 0
            size = (piece.end - piece.begin) * ran // max(piece.records, ran)
            self._pace.learn(size, ran, max(out - piece.sent_out, 0), self._slots.get(piece.slot, SECONDS) / 1e9)

    def _judge(self) -> None:
        """Whether there are too many failures, wherever they are."""
        failures = self._told + self._casualties.charged
        if self._ending or not self._options.halt.reached(failures, max(self._ended(), failures)):
            return
        if self._options.halt.when == "soon":
            self._slots.stop()
            self._ending = True
        else:
            self._crew.stop()
            self._write()
            self._stop_now()

    def _ended(self) -> int:
        return self._book.records + sum(piece.progress(self._slots)[0] - piece.counted for piece in self._board.order)

    def _stop_now(self) -> None:
        """`--halt now`: what stands before the failure is written."""
        self._crew.stop()
        for piece in self._board.order:
            self._book.report_rest(self._slots, piece)
        self._book.sink.flush()
        raise EarlyEnd("stopped at a failure, as --halt now says")

    # ---------------------------------------------------------------------------------------------------------- writing

    def _write(self) -> None:
        """What is there, in order."""
        while (piece := self._board.head) is not None:
            finished = piece.finished
            if not self._book.take(self._slots, piece):
                self._stop_now()
            if finished:
                self._board.remove_head()
                self._slots.clear(piece.slot, piece.end, piece.progress(self._slots)[1])
            elif self._ending and piece.task is None:
                self._board.order.remove(piece)  # its rest does not begin any more
            else:
                self._make_room(piece)
                return

    def _make_room(self, piece: Piece) -> None:
        """What a slot was full of is written: the rest can go on."""
        if not piece.full or piece.task is not None:
            return
        done, out = piece.progress(self._slots)
        self._slots.clear(piece.slot, 0, out)
        self._slots.set(piece.slot, COMMIT, pack_commit(done, 0))
        self._slots.set(piece.slot, NOTES, 0)
        piece.written = piece.noted = 0
        piece.full = False

    def _head_number(self) -> int:
        head = self._board.head
        return self._feeder.number if head is None else head.number + head.progress(self._slots)[0]
