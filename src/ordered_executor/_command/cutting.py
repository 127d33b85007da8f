"""The ends of records: cuts whole records off the front of the bytes that were read.  Pure.

A cutter is asked again and again while a piece grows.  `cut(buffer, taken, room, eof)` says how many bytes of the
buffer belong to the piece (`taken` bytes of the piece are put away already), and whether the piece ends there.  `room`
is the number of bytes that would be welcome.  A longer record is taken all the same, part by part, so that no record
needs to fit into memory.  At the end of a file (`eof`) the rest is a record, with or without a separator.  When the
piece is whole, `records` says how many it holds, by its number of lines and by the last part that was cut.

Invariant: pieces laid behind each other are the file, and each ends where a record does.
"""

from __future__ import annotations

import re
from typing import Protocol

from .options import Work

# A row of more bytes than this is not searched for closing quotes any more, and cut at the next line end.
LONGEST_ROW = 16 * 1024 * 1024


class Cutter(Protocol):
    """See the module.  `live`: pieces may be shorter than the room, so that slow input need not be waited for."""

    live: bool

    def cut(self, buffer: bytearray, taken: int, room: int, eof: bool) -> tuple[int, bool]: ...
    def records(self, lines: int, last: bytes | bytearray) -> int: ...


class Lines:
    """A line is a record."""

    live = True

    def __init__(self, separator: bytes) -> None:
        self._separator = separator

    def cut(self, buffer: bytearray, taken: int, room: int, eof: bool) -> tuple[int, bool]:
        """As many lines as there is room for, one at least.

        >>> Lines(b";").cut(bytearray(b"one;two;thr"), 0, 100, False)
        (8, True)
        """
        end = buffer.rfind(self._separator, 0, max(room, 1))
        if end < 0:
            end = buffer.find(self._separator, max(room, 1) - 1)
        return (end + 1, True) if end >= 0 else (len(buffer), eof)

    @staticmethod
    def records(lines: int, last: bytes | bytearray) -> int:
        return lines


class Groups:
    """A number of lines is a record.  A piece holds whole ones."""

    live = False

    def __init__(self, separator: bytes, lines: int) -> None:
        self._separator, self._lines = separator, lines
        self._have = 0  # lines of the unfinished group that are put away

    def cut(self, buffer: bytearray, taken: int, room: int, eof: bool) -> tuple[int, bool]:
        if not taken:
            self._have = 0
        lines = buffer.count(self._separator, 0, max(room, 1))
        whole = (self._have + lines) // self._lines * self._lines - self._have
        if whole > 0:
            end = max(room, 1)
            for _ in range(lines - whole + 1):
                end = buffer.rfind(self._separator, 0, end)
            return end + 1, True
        end = -1
        for have in range(self._have, self._lines):
            found = buffer.find(self._separator, end + 1)
            if found < 0:
                self._have = have
                return len(buffer), eof
            end = found
        return end + 1, True

    def records(self, lines: int, last: bytes | bytearray) -> int:
        return -(-lines // self._lines)


class Sized:
    """A record has so many bytes, and goes on to the end of its line.  A piece holds one."""

    live = False

    def __init__(self, separator: bytes, size: int) -> None:
        self._separator, self._size = separator, size

    def cut(self, buffer: bytearray, taken: int, room: int, eof: bool) -> tuple[int, bool]:
        need = self._size - taken
        if len(buffer) < need:
            return len(buffer), eof
        end = buffer.find(self._separator, max(need - 1, 0))
        return (end + 1, True) if end >= 0 else (len(buffer), eof)

    @staticmethod
    def records(lines: int, last: bytes | bytearray) -> int:
        return 1


_FIELD = rb'(?:"(?:[^"]++|"")*+"[^,\n]*+|(?!")[^,\n]*+)'
ROW = re.compile(_FIELD + rb"(?:," + _FIELD + rb")*+\n")


class Rows:
    """A row of comma separated values is a record: newlines inside of quotes do not end it."""

    live = True

    def cut(self, buffer: bytearray, taken: int, room: int, eof: bool) -> tuple[int, bool]:
        end = self._end(buffer, max(room, 1))
        if end:
            return end, True
        if eof:
            return len(buffer), True
        if len(buffer) > LONGEST_ROW and (found := buffer.find(b"\n")) >= 0:
            return found + 1, True
        return 0, False

    @staticmethod
    def _end(buffer: bytearray, room: int) -> int:
        """Where the last row ends that has room; or the first, if that has none."""
        if buffer.find(b'"') < 0:
            end = buffer.rfind(b"\n", 0, room)
            return (end if end >= 0 else buffer.find(b"\n", room - 1)) + 1
        end = 0
        while (match := ROW.match(buffer, end)) is not None and (match.end() <= room or not end):
            end = match.end()
        return end

    @staticmethod
    def records(lines: int, last: bytes | bytearray) -> int:
        if last.find(b'"') < 0:
            return lines
        rows = end = 0
        while (match := ROW.match(last, end)) is not None:
            rows, end = rows + 1, match.end()
        return rows + (end < len(last))


def make_cutter(work: Work) -> Cutter:
    if work.block is not None:
        return Sized(work.separator, work.block)
    if work.form == "csv":
        return Rows()
    if work.lines is not None and work.lines > 1:
        return Groups(work.separator, work.lines)
    return Lines(work.separator)
