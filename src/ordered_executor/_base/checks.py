"""Checks of arguments: an error names the argument and says what it takes.

Each check returns the value to use, as a plain `int` or `float`.  A NumPy integer, for instance, would break arithmetic
on words of memory far away from here.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Iterator, Sequence
from typing import Any

# Words of lane memory hold tickets modulo 2**64 and compare by halves: no bound may come near.
MOST = 1 << 62


def check_count(name: str, value: Any, least: int) -> int:
    """A whole number, at least `least`."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be {f'greater than {least - 1}' if least else 'zero or more'}, not {number}")
    return min(number, MOST)


def check_optional_count(name: str, value: Any, least: int) -> int | None:
    """The same, or None."""
    return None if value is None else check_count(name, value, least)


def check_buffersize(value: Any) -> int | None:
    """That of `map`, with the messages of Python 3.14."""
    try:
        return check_optional_count("buffersize", value, 1)
    except TypeError:
        raise TypeError(f"buffersize must be an integer or None, not {value!r}") from None
    except ValueError:
        raise ValueError(f"buffersize must be None or > 0, not {value!r}") from None


def check_seconds(name: str, value: Any, *, zero: bool = False) -> float | None:
    """A number of seconds, or None for no limit; what is longer than any wait can be is no limit either."""
    if value is None:
        return None
    if isinstance(value, (bool, str, bytes)) or not hasattr(type(value), "__float__"):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}") from None
    if math.isnan(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(
            f"{name} must be {'zero or more' if zero else 'more than zero'} seconds, or None, not {value!r}"
        )
    return seconds if seconds <= threading.TIMEOUT_MAX else None


def check_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
    return value


def check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {value!r}")


def iterate(value: Any) -> Iterator[Any]:
    """`iter(value)`, with an error that says what it was for."""
    try:
        return iter(value)
    except TypeError:
        raise TypeError(f"iterables: what is mapped over must be iterable, not {value!r}") from None
