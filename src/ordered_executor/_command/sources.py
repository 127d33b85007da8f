"""The input: files one after the other, read in blocks, cut into pieces of whole records.

It never waits: if a file has nothing at the moment (a pipe, a terminal), the reader says so, and names the descriptor
to wait for.  A file that cannot be opened or read is reported, and the next one is read, as `cat` does.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from typing import NamedTuple

from .cutting import make_cutter
from .options import Work

BLOCK_BYTES = 256 * 1024


class Taken(NamedTuple):
    """A piece's worth of input has been put away."""

    name: str
    line: int  # number of its first line, from 1 on
    size: int
    records: int


class Source:
    """An open file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 1
        self.ended = False
        self.buffer = bytearray()
        # A named pipe that nobody has opened yet for writing would be waited for.
        self.fd = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        kind = os.fstat(self.fd)
        if stat.S_ISDIR(kind.st_mode):
            raise IsADirectoryError(21, "Is a directory")
        self.regular = stat.S_ISREG(kind.st_mode)
        if self.name != "-":
            os.set_blocking(self.fd, True)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def ready(self) -> bool:
        """Whether a read would not wait."""
        return self.regular or bool(self._poll.poll(0))

    def read(self) -> None:
        try:
            data = os.read(self.fd, BLOCK_BYTES)
        except BlockingIOError:  # somebody has made our standard input non-blocking, and was faster
            return
        self.buffer += data
        self.ended = not data

    def close(self) -> None:
        if self.name != "-":
            os.close(self.fd)


class Reader:
    """Yields pieces.  `problem(name, error)` is told of files that cannot be read."""

    def __init__(self, files: tuple[str, ...], work: Work, problem: Callable[[str, OSError], None]) -> None:
        self._files = list(files)
        self._cutter, self._separator = make_cutter(work), work.separator
        self._problem = problem
        self._source: Source | None = None
        self._size = self._lines = 0  # of the piece that grows
        self._last = bytearray()  # its newest part
        self.held = False  # there is a piece, smaller than was asked for

    @property
    def waits_for(self) -> int | None:
        """The descriptor that has nothing at the moment."""
        return None if self._source is None or self._source.regular else self._source.fd

    @property
    def ended(self) -> bool:
        return self._source is None and not self._files

    def take(self, put: Callable[[int, bytearray], None], room: int, hurry: bool) -> Taken | None:
        """Put a piece of about `room` bytes away, by `put(offset, data)`; None: not yet, or no more (see `ended`).

        `hurry`: a smaller one will do, rather than to wait for more input.
        """
        self.held = False
        while (source := self._source or self._open_next()) is not None:
            self._fill(source, room)
            waits = not (source.ended or source.regular or source.ready())
            take, whole = self._cutter.cut(source.buffer, self._size, room - self._size, source.ended)
            short = self._size + take < room and self._cutter.live
            if whole and short and waits and not hurry:
                self.held = True
                return None
            self._put(source, put, take)
            if whole and self._size:
                return self._finish(source)
            if source.ended and not source.buffer:
                self.close()
            elif waits and not source.ready():
                return None
            elif not take:
                self._read(source)  # a long row
        return None

    def _fill(self, source: Source, room: int) -> None:
        want = min(max(room - self._size, 1), BLOCK_BYTES)
        while len(source.buffer) < want and not source.ended and source.ready():
            self._read(source)

    def _read(self, source: Source) -> None:
        try:
            source.read()
        except OSError as error:
            self._problem(source.name, error)
            source.ended = True

    def _put(self, source: Source, put: Callable[[int, bytearray], None], take: int) -> None:
        if not take:
            return
        part = source.buffer[:take]
        put(self._size, part)
        del source.buffer[:take]
        self._size += take
        self._lines += part.count(self._separator)
        self._last = part

    def _finish(self, source: Source) -> Taken:
        lines = self._lines + (not self._last.endswith(self._separator))
        taken = Taken(source.name, source.line, self._size, self._cutter.records(lines, self._last))
        source.line += lines
        self._size = self._lines = 0
        self._last = bytearray()
        return taken

    def _open_next(self) -> Source | None:
        while self._files:
            name = self._files.pop(0)
            try:
                self._source = Source(name)
            except OSError as error:
                self._problem(name, error)
            else:
                return self._source
        return None

    def close(self) -> None:
        """Be done with the file that is open."""
        if self._source is not None:
            self._source.close()
            self._source = None
