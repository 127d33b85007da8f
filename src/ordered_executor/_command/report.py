"""The standard error: one line for each failure, in the form `file:line: Error: message`."""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

from .sink import write_all

NAME = "ordered-executor"


class Bar(Protocol):
    """A progress bar, which must step aside."""

    def clear(self) -> None: ...
    def show(self) -> None: ...


class Reporter:
    """Writes to the standard error; never fails."""

    def __init__(self) -> None:
        self.bar: Bar | None = None

    def line(self, text: str) -> None:
        self.write((text + "\n").encode("utf-8", "backslashreplace" if _is_odd(text) else "surrogateescape"))

    def command(self, text: str) -> None:
        """About the run itself."""
        self.line(f"{NAME}: {text}")

    def write(self, data: bytes) -> None:
        if self.bar is not None:
            self.bar.clear()
        with contextlib.suppress(OSError):
            write_all(2, data)
        if self.bar is not None:
            self.bar.show()

    def file(self, name: str, error: OSError) -> None:
        """A file that cannot be read."""
        self.line(f"{name}: {type(error).__name__}: {os.strerror(error.errno) if error.errno else error}")


def _is_odd(text: str) -> bool:
    """Whether it holds half of a character."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False
