"""The input of a piece, taken apart into records: the arguments of the function, and where each record lies.

It makes the same cuts as `cutting`, from the other side.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from .cutting import ROW
from .options import Work

csv.field_size_limit(sys.maxsize)


class Span(NamedTuple):
    """Where a record lies in its piece."""

    begin: int
    size: int
    line: int  # lines before it


class Records:
    """All records of a piece.  `values[i]` is what the function gets, or an exception if it is no record."""

    def __init__(self, work: Work, data: bytes) -> None:
        self._work, self._data = work, data
        self._spans: list[Span] | None = None
        self.values = _values(work, data)

    def __len__(self) -> int:
        return len(self.values)

    def span(self, index: int) -> Span:
        """Where a record lies.  The first call goes over all of them."""
        if self._spans is None:
            self._spans = list(_spans(self._work, self._data))
        return self._spans[index]

    def raw(self, index: int) -> bytes:
        """Its bytes, separator included."""
        span = self.span(index)
        return self._data[span.begin : span.begin + span.size]


def to_text(data: bytes) -> str:
    """Bytes as text, whatever they are: what is no UTF-8 comes out again as it was."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a character, which no input of ours holds, but which a function can make
        return text.encode("utf-8", "surrogatepass")


def split_lines(data: bytes, separator: bytes) -> list[bytes]:
    """Lines without their separators; the last may have none."""
    lines = data.split(separator)
    if not lines[-1]:
        lines.pop()
    return lines


def _split_text(data: bytes, separator: bytes) -> list[str]:
    lines = to_text(data).split(separator.decode())
    if not lines[-1]:
        lines.pop()
    return lines


def _values(work: Work, data: bytes) -> list[Any]:
    if work.block is not None or (work.lines is not None and work.lines > 1):
        return [_group(work, part) for part in _groups(work, data)]
    if work.form == "csv":
        return list(_rows(_split_text(data, b"\n")))
    if work.form == "tsv":
        return [line.removesuffix("\r").split("\t") for line in _split_text(data, work.separator)]
    lines: list[Any] = split_lines(data, work.separator) if work.form == "bytes" else _split_text(data, work.separator)
    return [[line] for line in lines] if work.lines is not None else lines


def _group(work: Work, part: bytes) -> Any:
    """A block: its bytes, or a list of its lines."""
    if work.form == "bytes" or work.pipe:
        return part
    return _split_text(part, work.separator)


def _groups(work: Work, data: bytes) -> Iterator[bytes]:
    """The parts of a piece that are records of several lines each."""
    if work.block is not None:
        yield data
        return
    lines = data.split(work.separator)
    last = lines.pop()
    for at in range(0, len(lines), work.lines or 1):
        group = work.separator.join(lines[at : at + (work.lines or 1)]) + work.separator
        if at + (work.lines or 1) > len(lines) and last:
            group, last = group + last, b""
        yield group
    if last:
        yield last


def _rows(lines: list[str]) -> Iterator[Any]:
    """Rows of comma separated values; an exception for what is none."""
    reader = csv.reader([line + "\n" for line in lines])
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _spans(work: Work, data: bytes) -> Iterator[Span]:
    begin = line = 0
    for part in _raw(work, data):
        yield Span(begin, len(part), line)
        begin += len(part)
        line += part.count(work.separator)


def _raw(work: Work, data: bytes) -> Iterator[bytes]:
    """The bytes of each record."""
    if work.block is not None or (work.lines is not None and work.lines > 1):
        yield from _groups(work, data)
        return
    pattern = ROW if work.form == "csv" else re.compile(b"[^%b]*%b" % (work.separator, work.separator))
    end = 0
    while (match := pattern.match(data, end)) is not None:
        yield match[0]
        end = match.end()
    if end < len(data):
        yield data[end:]
