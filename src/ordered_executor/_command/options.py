"""The options of the user, as one value that the workers get, too."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .halting import NEVER, Halt

WINDOW_BYTES = 64 * 1024 * 1024
PIPE_BYTES = 1024 * 1024  # a block for `--pipe` that no size was given for, as with GNU parallel

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Read a number of bytes.

    >>> parse_size("4M"), parse_size("1.5k"), parse_size("300")
    (4194304, 1536, 300)
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0 if match is None else int(float(match[1]) * _UNITS[match[2].upper()])
    if size < 1:
        raise ValueError(f"{text!r} is not a number of bytes, such as 300, 64K or 4M")
    return size


@dataclass(frozen=True)
class Work:
    """What runs for each record, and how it is cut out of the input.  Goes to the workers."""

    function: str | None = None  # MODULE:FUNCTION
    program: tuple[bytes, ...] = ()
    form: str = "text"  # of a record: text, bytes, csv, tsv, json
    null: bool = False  # records end with NUL, not with a newline
    lines: int | None = None  # so many lines are one record
    block: int | None = None  # so many bytes are one record
    pipe: bool = False  # a program reads the record
    shell: bool = False
    timeout: float | None = None
    retries: int = 0
    tag: bool = False
    results: str | None = None
    dry_run: bool = False
    log: bool = False  # every record has a note, not only one that fails
    tell_failures: bool = False  # at once, not at their place

    @property
    def separator(self) -> bytes:
        return b"\0" if self.null else b"\n"


@dataclass(frozen=True)
class Options:
    """All of the command line."""

    work: Work
    files: tuple[str, ...] = ("-",)
    workers: int | None = None
    window_bytes: int = WINDOW_BYTES
    halt: Halt = NEVER
    progress: bool = False
    joblog: str | None = None
    resume: bool = False
    resume_failed: bool = False
    dead_letter: str | None = None
    output: str | None = None
    trace: str | None = None
