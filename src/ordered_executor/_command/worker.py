"""In a worker: runs the records of a piece, and puts their output into its slot, record by record.

After each record its output is in the slot, then its note, if it has one, and then one word says so (`COMMIT`).  So a
look sees whole records, at any moment and after any death.  A piece that takes longer than it should, or whose output
fills its slot, is given back with its rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from typing import Any

from . import notes
from .functions import Call, find_function, make_call
from .jobs import Job, Printed, Runner, describe, dry_runner, finish, function_runner, program_runner, size_of
from .notes import Note, one_line
from .options import Work
from .records import Records
from .slots import (
    BEGAN,
    BEGUN,
    COMMIT,
    FINISHED,
    INPUT,
    NOTES,
    NOTES_BYTES,
    OUTPUT,
    PROGRAM,
    REST,
    SECONDS,
    STATE,
    STOP,
    WORKER,
    Slots,
    pack_commit,
    unpack_commit,
)
from .telling import FAILED, TURNED, Telling

# A piece is sized to take an eighth of it.
LONGEST_SECONDS = 0.2
_COPY_BYTES = 256 * 1024


class Worker:
    """One process's half."""

    def __init__(self, slots: Slots, telling: Telling, work: Work, paths: list[str]) -> None:
        self.slots, self.telling, self.work = slots, telling, work
        self.slot = 0
        self.number = _free_number(slots.near, slots.count)
        self.printed = Printed()
        _keep_streams_apart()
        sys.stdout = self.printed
        sys.path[:0] = [path for path in paths if path not in sys.path]
        self.call: Call | None = None
        self.run = self._runner()
        plain = not (work.retries or work.tag or work.results or work.program or work.dry_run)
        self.quick = plain

    def _runner(self) -> Runner:
        if self.work.program:
            return program_runner(self.work, self.number, self._note_program)
        if self.work.dry_run:
            return dry_runner(self.work)
        self.call = call = make_call(self.work, find_function(str(self.work.function)))
        return function_runner(self.work, call, self.printed.take)

    def _note_program(self, pid: int) -> None:
        self.slots.set(self.slot, PROGRAM, pid)

    def work_off(self, slot: int, begin: int, end: int, number: int) -> None:
        """Run the records of a piece that are not done.  `number`: of its first record."""
        slots, self.slot = self.slots, slot
        slots.set(slot, WORKER, os.getpid())
        slots.set(slot, BEGAN, time.time_ns())
        slots.set(slot, STATE, BEGUN)
        start = time.perf_counter_ns()
        records = Records(self.work, slots.read(slot, INPUT, begin, end))
        (self._run_quick if self.quick else self._run_slow)(records, number)
        done, _ = unpack_commit(slots.get(slot, COMMIT))
        slots.set(slot, SECONDS, time.perf_counter_ns() - start)
        slots.set(slot, STATE, FINISHED if done >= len(records) else REST)
        self.telling.tell(TURNED, slot)  # nothing of the slot is touched from here on

    def _run_quick(self, records: Records, number: int) -> None:
        """A function over lines: little more than the calls."""
        slots, slot, call, printed = self.slots, self.slot, self.call, self.printed
        assert call is not None
        values, words, area, base = records.values, slots.words, slots.area, NOTES_BYTES
        output, word = slots.map_output(slot), slots.index(slot, COMMIT)
        done, at = unpack_commit(words[word])
        clock, log = time.perf_counter, self.work.log
        now = clock()
        deadline = now + LONGEST_SECONDS
        for index in range(done, len(values)):
            if words[STOP]:
                return
            error, began = None, now
            try:
                out = call(values[index])
            except BaseException as raised:
                out, error = b"", self._failure(values[index], raised)
            if printed.tell():
                out = printed.take() + out
            size = len(out)
            if at + size <= area:
                output[base + at : base + at + size] = out
            else:
                slots.write(slot, OUTPUT, at, out)
            at += size
            now = clock()
            if log or error is not None:
                self._note(records, index, at, error, now - began)
            words[word] = pack_commit(index + 1, at)
            if error is not None:
                self._tell_failure()
            if now > deadline or at >= area or slots.get(slot, NOTES) > notes.ROOM:
                return

    def _note(self, records: Records, index: int, at: int, error: str | None, seconds: float) -> None:
        """That a record has failed; or, for the job log, that it has ended."""
        began, command = time.time() - seconds, str(self.work.function)
        status = 0 if error is None else 1
        note = Note(index, *records.span(index), at, 0, error, status, 0, began, seconds, command, self.work.log)
        notes.append(self.slots, self.slot, note)

    def _tell_failure(self) -> None:
        """A failure is in the slot."""
        if self.work.tell_failures:
            self.telling.tell(FAILED, self.slot)

    def _failure(self, value: Any, raised: BaseException) -> str:
        return one_line(describe(value if isinstance(value, Exception) else raised))

    def _run_slow(self, records: Records, number: int) -> None:
        slots, slot = self.slots, self.slot
        done, at = unpack_commit(slots.get(slot, COMMIT))
        deadline = time.perf_counter() + LONGEST_SECONDS
        for index in range(done, len(records)):
            if slots.stopped:
                return
            job = Job(number + index, records.values[index], records.raw(index), records.span(index))
            finish(self.work, job, self.run)
            at = self._put(job, index, at)
            if time.perf_counter() > deadline or at >= slots.area or slots.get(slot, NOTES) > notes.ROOM:
                return

    def _put(self, job: Job, index: int, at: int) -> int:
        """Output, note, commit; where the output ends."""
        ran = job.ran
        out = at + size_of(ran.out)
        err = size_of(ran.err)
        for file in (ran.out, ran.err):
            file.seek(0)
            while part := file.read(_COPY_BYTES):
                self.slots.write(self.slot, OUTPUT, at, part)
                at += len(part)
            file.close()
        if ran.error is not None or err or self.work.log:
            error = None if ran.error is None else one_line(ran.error)
            times = (job.began, job.seconds)
            note = Note(index, *job.span, out, err, error, ran.exit, ran.signal, *times, one_line(job.command))
            notes.append(self.slots, self.slot, note._replace(row=self.work.log))
        self.slots.set(self.slot, COMMIT, pack_commit(index + 1, at))
        if ran.error is not None:
            self._tell_failure()
        return at


def _keep_streams_apart() -> None:
    """The command's input is the parent's to read, and its output the parent's to write.

    Programs that are left in the background must not hold what tells of this process's end either.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    with contextlib.suppress(OSError):  # where there is no such folder
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                with contextlib.suppress(OSError):  # the folder itself was among them
                    os.set_inheritable(int(name), False)


def _free_number(fd: int, most: int) -> int:
    """The lowest number, from 1 on, that no living worker has: a lock on a byte, which goes with its holder."""
    for number in range(1, most + 1):
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:
            continue
        return number
    return most


class CannotBeginError(Exception):
    """The function cannot be had.  Its text is for the user."""


_here: list[Worker | str] = []  # or why there is none


def begin(slots: Slots, telling: Telling, work: Work, paths: list[str]) -> None:
    """The initializer.  One that fails would print its traceback; here the first task says in a line why."""
    try:
        _here[:] = [Worker(slots, telling, work, paths)]
    except BaseException as error:  # importing the user's module may raise anything
        _here[:] = [one_line(describe(error))]


def _worker() -> Worker:
    worker = _here[0]
    if isinstance(worker, str):
        raise CannotBeginError(worker)
    return worker


def run_piece(slot: int, begin: int, end: int, number: int) -> None:
    """The task.  All that comes of it is in the slot."""
    _worker().work_off(slot, begin, end, number)


def ready() -> None:
    """The first task: there is a worker, and it has found the function."""
    _worker()
