"""A function of the user's: it is found by its name, and called with a record.  Its result becomes bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from .options import Work
from .records import to_bytes

Call = Callable[[Any], bytes]


def find_function(name: str) -> Callable[..., Any]:
    """Import what `module:function` names; the function may be part of something (`module:Class.method`)."""
    module, _, path = name.partition(":")
    if not module or not path:
        raise ValueError(f"{name!r} is not of the form MODULE:FUNCTION")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} cannot be called, it is of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def make_call(work: Work, function: Callable[..., Any]) -> Call:
    """What turns a record into its output, by way of the function."""
    if work.block is not None or work.lines is not None:
        return _for_blocks(function)
    if work.form == "json":
        return _for_json(function)
    if work.form in {"csv", "tsv"}:
        return _for_columns(function, _as_csv if work.form == "csv" else _as_tsv)
    return _for_lines(function)


def _for_lines(function: Callable[[Any], Any]) -> Call:
    def call(line: Any) -> bytes:
        result = function(line)
        if type(result) is str:
            try:
                return result.encode("utf-8", "surrogateescape") + b"\n"
            except UnicodeEncodeError:
                pass
        return line_of(result)

    return call


def line_of(result: Any) -> bytes:
    """A result as a line of output; None is none."""
    if result is None:
        return b""
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result) + b"\n"
    return to_bytes(str(result)) + b"\n"


def _for_blocks(function: Callable[[Any], Any]) -> Call:
    def call(block: Any) -> bytes:
        result = function(block)
        if isinstance(result, (str, bytes, bytearray, memoryview)):
            text = to_bytes(result) if isinstance(result, str) else bytes(result)
            return text if not text or text.endswith(b"\n") else text + b"\n"
        if isinstance(result, Iterable) and not isinstance(result, dict):
            return b"".join(map(line_of, result))
        return line_of(result)

    return call


def _for_json(function: Callable[[Any], Any]) -> Call:
    def call(line: str) -> bytes:
        if not line or line.isspace():
            return b""
        result = function(json.loads(line))
        try:
            return json.dumps(result, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:  # half of a character
            return json.dumps(result).encode() + b"\n"

    return call


def _for_columns(function: Callable[..., Any], write: Callable[[Iterable[Any]], bytes]) -> Call:
    def call(row: list[str]) -> bytes:
        if not row:  # an empty line
            return b""
        result = function(*row)
        return write(result) if isinstance(result, (list, tuple)) else line_of(result)

    return call


def _as_csv(row: Iterable[Any]) -> bytes:
    import csv  # noqa: PLC0415 (most runs do without)
    import io  # noqa: PLC0415 (the same)

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return to_bytes(text.getvalue())


def _as_tsv(row: Iterable[Any]) -> bytes:
    return to_bytes("\t".join(map(str, row))) + b"\n"
