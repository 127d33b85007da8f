"""One batch in the worker: its tasks run one after the other, and their outcomes go home.

    frames -> [batch] -> run a ticket -> pack -> stream in lane memory -> gate -> DONE frame -> next ticket
                                                      |
                                          read from there if this process dies

A finished outcome is in lane memory before the next task starts, so a crash costs only the running task.  `PROGRESS`
says how many tickets of the batch are finished, and so which one runs.

Before each start the runner looks whether it was recalled (see `_processes.recall`).  If so, it begins nothing more: it
sends the finished outcomes, hands back the rest, and drops unseen the batches that it is sent before the parent hears
of that.  Invariant: when it looks, `STATE` and `PROGRESS` say already that the task runs.
"""

from __future__ import annotations

import pickle
import struct
import time
from collections.abc import Callable
from typing import Any

from ordered_executor._channel import frames
from ordered_executor._channel.arena import BufferRoom
from ordered_executor._channel.gate import Gate
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    COUNT_MASK,
    EMPTY_LOG_AT,
    FLOOR,
    GATED,
    HELD,
    HOLDING,
    IDLE,
    LOADING,
    LOG_AT,
    LOG_BYTES,
    LOG_CLOSE,
    LOG_OPEN,
    LOG_START,
    NO_SEGMENT,
    PROGRESS,
    RECALL,
    RUNNING,
    SENDING,
    SINCE,
    STARTED,
    STATE,
    TAKEN,
    TO_PARENT,
    LaneMemory,
    distance,
)
from ordered_executor._pickling import outcomes
from ordered_executor._pickling.outcomes import pack_value
from ordered_executor._pickling.picklers import BASIC, LARGE_BYTES, PROTOCOL, Large
from ordered_executor._processes.worker.loading import Loader
from ordered_executor._processes.worker.outbox import Outbox
from ordered_executor._processes.worker.witness import Witness
from ordered_executor._script import home as worker_home

# A batch may take twice what it was sized to take, at least this; then what has not started goes back, for others.
OVERRUN_SECONDS = 0.014

# Copies are fastest between whole cache lines.
ALIGNMENT = 64
# What it takes at most to say where one buffer is.
REFERENCE_BYTES = 32

NUMBERS = frozenset({int, float, bool})  # pickles of a few bytes
SHORT_TEXT = LARGE_BYTES // 4
PACKED_NONE = pack_value(None)  # an outcome that is held back must not look like none
ONE_MORE = 1 << COUNT_BITS  # what PROGRESS grows by, besides the length of a pickle
NONE_OPCODE, NONE_STEP = pickle.NONE[0], ONE_MORE + 1
INT_OPCODE, INT_LIMIT = pickle.BININT[0], 1 << 31
INT_SIZE = struct.calcsize("<Bi")
INT_STEP = ONE_MORE + INT_SIZE
write_int = struct.Struct("<Bi").pack_into


def pack_error(error: BaseException) -> bytes | Large:
    """Pack what a task raised."""
    if isinstance(error, NameError):
        worker_home.why_lacking(error)
    return outcomes.pack_error(error)


class Runner:
    """Runs the batches of one worker, one at a time.  `wait_for_open` waits at the gate until the parent opens it."""

    def __init__(self, memory: LaneMemory, outbox: Outbox, witness: Witness, wait_for_open: Callable[[], None]) -> None:
        self._memory = memory
        self._words = memory.words
        self._send = outbox.send
        self._witness = witness
        self._wait_for_open = wait_for_open
        self._generation = 0
        self._room = BufferRoom(self._memory, TO_PARENT)
        self._gate = Gate(self._memory, 0, 0, self._ask, self._wait_for_open)
        self._loader = Loader(self._memory)
        self._number, self._recorded = 0, False  # of the batch that runs, and whether the times of its tasks are
        self._start = 0  # the index of the first outcome in the stream
        self._at = EMPTY_LOG_AT  # where the next goes
        self._placed = self._placed_bytes = 0  # how many there have buffers elsewhere in lane memory, and their bytes
        self._flushed = 0.0  # when something was last sent, or had waited: work is counted from here

    def begin_lease(self, generation: int, credit: int, unreleased: int) -> None:
        """Another executor has this worker now."""
        self._generation = generation
        self._room.forget()
        self._gate = Gate(self._memory, credit, unreleased, self._ask, self._wait_for_open)
        self._words[PROGRESS] = 0
        self._words[LOG_START] = NO_SEGMENT

    def give_back_room(self) -> None:
        """What large outcomes have used of the shared memory is the system's again."""
        self._room.free(distance(self._room.freed, self._words[TAKEN]))
        self._room.give_back()

    # ------------------------------------------------------------------------------------------------- one batch

    def take_batch(
        self,
        inline: memoryview,
        generation: int,
        number: int,
        first: int,
        count: int,
        seconds: float,
        timed: bool,
        recorded: bool,
        losses: dict[int, int],
        fns: list[Any],
        single: bool,
        many: Any,
        calls: list[Any],
    ) -> None:
        if generation != self._generation:
            return  # it was handed back, unseen
        self._number, self._recorded = number, recorded
        self._witness.begin_batch(first, losses)
        if self._recalled():
            self._hand_back(0)
            return
        self.enter(LOADING)
        self._begin_log(0)
        try:
            step = self._loader.steps(fns, single, many, calls, inline)
        except BaseException:
            # Together they cannot be loaded: have them sent one by one.
            self._hand_back(0, apart=True)
            return
        self.enter(RUNNING)
        self._run(first, count, max(OVERRUN_SECONDS, 2 * seconds), self._timed(step) if timed else step)
        self.enter(IDLE)

    def _timed(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """The same, and the time of each start in lane memory."""
        words, clock = self._words, time.monotonic_ns

        def timed() -> Any:
            words[STARTED] = clock()
            try:
                return step()
            finally:
                words[STARTED] = 0  # before PROGRESS moves: a start is never taken for that of the next task

        return timed

    def _run(self, first: int, count: int, budget: float, step: Callable[[], Any]) -> None:
        """Run the tickets one after the other: plain sailing in `_sail`, and here what needs more care."""
        clock, recorded, memory = time.monotonic, self._recorded, self._memory
        self._flushed = clock()
        index, until = 0, self._flushed + budget
        if recorded:
            memory.begin_times(count, self._flushed)
        while index < count:
            passing, credit = self._gate.room(first)
            most = LOG_AT + credit - self._placed_bytes
            index, held = self._run_unhindered(index, max(index, min(count, passing)), most, step, until)
            if held is None and index < count and clock() <= until and not self._recalled():
                held = self._outcome(step)  # outside the window, as things were
            if held is not None:
                self._hold()
                if recorded:
                    memory.ends[index] = clock()
                if type(held) is not Large or index >= passing or not self._add_large(index, held, most):
                    waited = clock()
                    self._flush(index, held=True)  # what is before it goes; then it goes by itself
                    self._send_held(first + index, index, held)
                    until += clock() - waited  # waiting is not work
                index += 1
                if recorded and index < count:
                    memory.starts[index] = clock()
                self.enter(RUNNING)
            if clock() > until or self._recalled():
                break
        self.enter(SENDING)
        self._flush(index)
        self._loader.last_arguments = None
        if index < count:
            self._hand_back(index)

    def _recalled(self) -> bool:
        """Whether nothing more is to be begun of what is here."""
        return self._words[RECALL] > self._generation

    def enter(self, state: int) -> None:
        """Change the state, and say when: for those who look.  Not for each of many short tasks."""
        self._words[STATE] = state
        self._words[SINCE] = time.monotonic_ns()

    @staticmethod
    def _outcome(step: Callable[[], Any]) -> Any:
        """Run one ticket; its value if that is of a basic type, else packed."""
        try:
            value = step()
            if type(value) in BASIC and (type(value) is not str or len(value) < SHORT_TEXT):
                return value if value is not None else PACKED_NONE
            return pack_value(value)
        except BaseException as error:
            return pack_error(error)

    def _run_unhindered(
        self, index: int, stop: int, most: int, step: Callable[[], Any], until: float
    ) -> tuple[int, Any]:
        """Run tickets from `index` to `stop` as long as their outcomes go into the stream unhindered.

        They all pass the gate, if the stream does not grow beyond `most`.  Returns the index it stopped at, and that
        ticket's outcome if it was run and is held back: `None` if all before the index are in the stream.

        The hot loop, a fifth of a microsecond a turn.  So None and a small int are written as the opcode and number
        that pickle would write, which is three times as fast.
        """
        words, memory, dumps, clock = self._words, self._memory.bytes, pickle.dumps, time.monotonic
        recall, generation = RECALL, self._generation
        ends, recorded = self._memory.ends, self._recorded
        at, most = self._at, min(most, LOG_AT + LOG_BYTES)
        progress = index << COUNT_BITS | (at - LOG_AT)
        for index in range(index, stop):  # noqa: B020, PLR1704 (it goes on from where it was)
            if words[recall] > generation:
                self._at = at
                return index, None
            try:
                outcome = step()
                if (
                    outcome is not None
                    and type(outcome) not in NUMBERS
                    and (type(outcome) is not str or len(outcome) > SHORT_TEXT)
                ):
                    outcome = pack_value(outcome)
            except BaseException as error:
                outcome = pack_error(error)
            if outcome is None and at < most:
                memory[at] = NONE_OPCODE
                at += 1
                progress += NONE_STEP
            elif type(outcome) is int and -INT_LIMIT <= outcome < INT_LIMIT and at + INT_SIZE <= most:
                write_int(memory, at, INT_OPCODE, outcome)
                at += INT_SIZE
                progress += INT_STEP
            elif type(outcome) is Large or at + len(pickled := dumps(outcome)) > most:
                self._at = at
                return index, PACKED_NONE if outcome is None else outcome
            else:
                size = len(pickled) - 1  # the stop code is overwritten by what comes next
                memory[at : at + size + 1] = pickled
                at += size
                progress += ONE_MORE + size
            now = clock()
            if recorded:
                ends[index] = now
            words[PROGRESS] = progress
            if now > until:
                self._at = at
                return index + 1, None
        self._at = at
        return stop, None

    def _hold(self) -> None:
        """The ticket that ran is finished, and its outcome is not in the stream."""
        self._words[PROGRESS] |= HELD
        self.enter(HOLDING)

    def _append(self, index: int, pickled: bytes) -> None:
        """Put the outcome of `index` into the stream: it is held no more."""
        end = self._at + len(pickled)
        self._memory.bytes[self._at : end] = pickled
        self._at = end - 1  # the stop code is overwritten by what comes next
        self._words[PROGRESS] = (index + 1) << COUNT_BITS | self._at - LOG_AT

    def _begin_log(self, index: int, held: bool = False) -> None:
        """The stream begins again, with the outcome of `index`."""
        words, segment = self._words, (self._number & COUNT_MASK) << COUNT_BITS | index
        words[FLOOR] = segment
        words[PROGRESS] = 0
        words[LOG_START] = segment
        self._memory.bytes[LOG_AT:EMPTY_LOG_AT] = LOG_OPEN
        words[PROGRESS] = index << COUNT_BITS | len(LOG_OPEN) | (HELD if held else 0)
        self._start, self._at = index, EMPTY_LOG_AT
        self._placed = self._placed_bytes = 0

    # --------------------------------------------------------------------------------------------- large outcomes

    def _add_large(self, index: int, outcome: Large, most: int) -> bool:
        """Put an outcome that passes the gate into the stream, with its buffers elsewhere; False if it does not fit."""
        if self._at + outcome.size > most:
            return False
        reference = self._place(outcome)
        if reference is None:
            return False
        self._append(index, reference)
        return True

    def _place(self, outcome: Large) -> bytes | None:
        """Copy the buffers into lane memory; the pickle of where they are, or None if there is no room."""
        lengths = [len(buffer) for buffer in outcome.buffers]
        if self._at + len(outcome.head) + REFERENCE_BYTES * (1 + len(lengths)) > LOG_AT + LOG_BYTES:
            return None
        self._room.free(distance(self._room.freed, self._words[TAKEN]))
        total = sum(lengths)
        place = self._room.take(total // ALIGNMENT * ALIGNMENT + ALIGNMENT)
        if place is None:
            return None
        memory, at = self._memory.bytes, place
        for buffer in outcome.buffers:
            memory[at : at + len(buffer)] = buffer
            at += len(buffer)
        self._placed += 1
        self._placed_bytes += total
        return pickle.dumps((bytes(outcome.head), place, *lengths), PROTOCOL)

    # --------------------------------------------------------------------------------------------- sending home

    def _flush(self, stop: int, held: bool = False) -> None:
        """Send what is in the stream, the outcomes up to `stop`, which have passed the gate, and begin it anew."""
        if stop > self._start:
            now = time.monotonic()
            size = self._at - LOG_AT + self._placed_bytes
            self._send_stream(stop, size, now - self._flushed, self._memory.bytes[LOG_AT : self._at])
            self._flushed = now
        self._begin_log(stop, held)

    def _send_held(self, ticket: int, index: int, outcome: Any) -> None:
        """Wait at the gate with one outcome, and send it.  The stream is empty.

        The outcome is put there for the wait: if this process dies, it is read from there.
        """
        pickled = self._place(outcome) if type(outcome) is Large else pickle.dumps(outcome, PROTOCOL)
        if pickled is None:
            self._send_inline(ticket, index, outcome)
            return
        if len(pickled) <= LOG_BYTES - len(LOG_OPEN):
            self._append(index, pickled)
            self.enter(GATED)
        size = len(LOG_OPEN) + len(pickled) - 1 + self._placed_bytes
        seconds = time.monotonic() - self._flushed
        self._gate.enter(ticket, size)
        self._send_stream(index + 1, size, seconds, LOG_OPEN + pickled[:-1])
        self._words[STATE] = SENDING  # nothing is held any more
        self._flushed = time.monotonic()
        self._begin_log(index + 1)

    def _send_stream(self, stop: int, size: int, seconds: float, stream: Any) -> None:
        """Send the outcomes from the first in the stream up to `stop`: they have passed the gate."""
        self._gate.count(size)
        count, times = stop - self._start, self._memory.sent_times(self._start, stop) if self._recorded else ()
        nanoseconds, bytes_of_times = int(seconds * 1e9), sum(map(len, times))
        head = frames.DONE_HEAD.pack(self._number, self._start, count, self._placed, size, nanoseconds, bytes_of_times)
        self._send(frames.DONE, head, *times, stream, LOG_CLOSE)

    def _send_inline(self, ticket: int, index: int, outcome: Large) -> None:
        """One outcome that finds no room in lane memory: its buffers behind its frame."""
        nanoseconds = int((time.monotonic() - self._flushed) * 1e9)
        size = outcome.size
        self._gate.enter(ticket, size)
        self._gate.count(size)
        lengths = [len(buffer) for buffer in outcome.buffers]
        times = b"".join(self._memory.sent_times(index, index + 1)) if self._recorded else b""
        body = frames.pack((self._number, index, size, nanoseconds, times, bytes(outcome.head), lengths))
        self._send(frames.LARGE, frames.LENGTH.pack(len(body)), body, *outcome.buffers)
        self._words[STATE] = SENDING  # nothing is held any more
        self._flushed = time.monotonic()
        self._begin_log(index + 1)

    def _hand_back(self, index: int, apart: bool = False) -> None:
        """What has not started of this batch, and every batch behind it, is not ours any more."""
        recalled = self._recalled()
        self._generation += 1
        self._send(frames.RETURNED, frames.pack((self._number, index, apart, recalled)))
        self.enter(IDLE)

    # ------------------------------------------------------------------------------------------------- the gate

    def _ask(self, ticket: int, size: int) -> None:
        self._send(frames.ASK, frames.pack((ticket, size)))
