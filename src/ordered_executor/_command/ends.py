"""The early ends of a run, each with the line that says so and its exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

FAILED, WRONG = 1, 2  # something failed; the call itself was wrong


class EarlyEnd(Exception):
    """The run is over.  Its text is for the user."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


class Signalled(BaseException):
    """A signal has asked for the end.  Not an `Exception`: no handler of errors is to catch it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.status = 128 + number

    def __str__(self) -> str:
        name = "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name
        return f"stopped by {name}"


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Signals that ask for the end raise `Signalled` in here; a second one ends the process at once."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in numbers}

    def raise_it(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        raise Signalled(number)

    try:
        for number in numbers:
            signal.signal(number, raise_it)
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(TypeError):  # one that was not set by Python
                signal.signal(number, handler)


def open_streams() -> None:
    """Make sure that 0, 1 and 2 are open, so that no file of ours gets such a number.

    Raises `EarlyEnd` if there is no standard output.
    """
    # A file that was opened since the start may have the number: only Python knows what was open then.
    closed.update(fd for fd, stream in enumerate((sys.__stdin__, sys.__stdout__, sys.__stderr__)) if stream is None)
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if fd == 0 else os.O_WRONLY)
            closed.add(fd)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)


closed: set[int] = set()  # those that were closed when the program began
