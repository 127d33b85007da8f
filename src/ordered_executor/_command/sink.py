"""The output: gathered into large pieces, written within a twentieth of a second, and then committed.

Rows of the job log and lines for the dead letter file are written together with their output: first the dead letters,
then the output, then the rows.  So everything that a row counts is in the output, and the resume cuts off the rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .ends import EarlyEnd
from .slots import INPUT, Slots

GATHER_BYTES = 256 * 1024
GATHER_SECONDS = 0.05
_LETTERS = "the file of dead letters"


def write_all(fd: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Sink:
    """See the module."""

    def __init__(self, fd: int, name: str, rows: int | None, letters: int | None) -> None:
        self._fd, self._name, self._rows_fd, self._letters_fd = fd, name, rows, letters
        self._at_once = os.isatty(fd)
        self._parts: list[bytes] = []
        self._size = 0
        self._rows: list[bytes] = []
        self._letters: list[bytes] = []
        self._errors: list[Callable[[], None]] = []
        self._flushed_at = 0.0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= GATHER_BYTES:
            self.flush()

    def add_rows(self, rows: list[bytes]) -> None:
        """Rows of the job log, whose output has been added."""
        self._rows += rows

    def add_letter(self, slots: Slots, slot: int, begin: int, size: int) -> None:
        """A record that failed, for the dead letter file.  A large one is not held in memory."""
        if self._letters_fd is None:
            return
        if size <= GATHER_BYTES:
            self._letters.append(slots.read(slot, INPUT, begin, begin + size))
            return
        self._write(self._letters_fd, self._letters, _LETTERS)
        for at in range(begin, begin + size, GATHER_BYTES):
            part = slots.read(slot, INPUT, at, min(at + GATHER_BYTES, begin + size))
            self._write(self._letters_fd, [part], _LETTERS)

    def say(self, message: Callable[[], None]) -> None:
        """Call it when what is before it is written."""
        self._errors.append(message)

    @property
    def pending(self) -> bool:
        return bool(self._parts or self._rows or self._letters or self._errors)

    def due_in(self) -> float | None:
        """Seconds until it should be flushed; None: there is nothing."""
        if not self.pending:
            return None
        return 0.0 if self._at_once else max(0.0, self._flushed_at + GATHER_SECONDS - time.monotonic())

    def flush_if_due(self) -> None:
        if self.due_in() == 0.0:
            self.flush()

    def flush(self) -> None:
        """Write everything, and commit it.  Raises `EarlyEnd` if that cannot be."""
        if self._letters:
            self._write(self._letters_fd, self._letters, _LETTERS)
        if self._parts:
            self._write(self._fd, self._parts, self._name)
        if self._rows:
            self._write(self._rows_fd, self._rows, "the job log")
        self._size = 0
        messages, self._errors = self._errors, []
        for message in messages:
            message()
        self._flushed_at = time.monotonic()

    @staticmethod
    def _write(fd: int | None, parts: list[bytes], name: str) -> None:
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if fd is None:
            return
        try:
            write_all(fd, data)
        except BrokenPipeError:
            raise EarlyEnd("whoever reads the output has gone (as `| head` does): stopped") from None
        except OSError as error:
            raise EarlyEnd(f"{name} cannot be written: {reason(error)}") from None


def reason(error: OSError) -> str:
    """In words."""
    return os.strerror(error.errno) if error.errno else str(error)
