"""What the benchmarks run in the workers. Importable, so that every contestant can send it by name."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Document:
    """A small result of a class of one's own."""

    name: str
    terms: tuple[str, ...]
    length: int


def noop(_: object = None) -> None:
    """Do nothing: all that is measured is the way there and back."""


def small(number: int) -> object:
    """Return a small result of one of several kinds."""
    match number % 4:
        case 0:
            return f"document {number}"
        case 1:
            return {"number": number, "length": 1.5 * number, "title": "a title"}
        case 2:
            return Document(f"document {number}", ("some", "terms"), number)
        case _:
            return (number, None, b"some bytes")


def array_64k(_: int) -> Any:
    """Return a NumPy array of 64 KiB."""
    return array(64 * KIB).view()


def array_1m(_: int) -> Any:
    """Return a NumPy array of 1 MiB."""
    return array(MIB).view()


def array_64m(_: int) -> Any:
    """Return a NumPy array of 64 MiB."""
    return array(64 * MIB).view()


def bytes_1m(_: int) -> bytes:
    """Return bytes of 1 MiB."""
    return bytes(block(MIB))


def length(argument: Any) -> int:
    """Take something large and return its length."""
    return len(argument)


def busy(seconds: float) -> None:
    """Keep a core busy for so much of its time (not of the clock's: what others take away does not count)."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def busy_1ms(_: object = None) -> None:
    """A task of one millisecond."""
    busy(0.001)


def busy_many(many: tuple[float, int]) -> None:
    """Be busy so often, with nothing in between: what no executor can beat."""
    seconds, times = many
    for _ in range(times):
        busy(seconds)


def nap(seconds: float) -> float:
    """Sleep, and return how long it took in truth: timers are late, and differently on different machines."""
    start = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - start


def numbered_nap(numbered: tuple[int, float]) -> int:
    """Sleep, and return the number."""
    number, seconds = numbered
    time.sleep(seconds)
    return number


def late_1m(seconds: float) -> Any:
    """Return 1 MiB after so long."""
    if seconds:
        time.sleep(seconds)
    return array(MIB).view()


# Made once in each worker: what is measured is the transport, not the making. Every task returns an object of
# its own, though: pickle writes the same object only once, and a chunk of results would be next to nothing.


@cache
def array(size: int) -> Any:
    """Return the array of this many bytes that all views are of."""
    import numpy as np

    return np.arange(size // 8, dtype=np.int64)


@cache
def block(size: int) -> bytearray:
    """Return the bytes of this length that all others are copies of."""
    return bytearray(range(256)) * (size // 256)
