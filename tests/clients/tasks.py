"""Functions that clients have run in workers."""

from __future__ import annotations

import time
from typing import Any


def square(number: Any) -> Any:
    """Return the square of a number or an array."""
    return number * number


def add(one: Any, other: Any) -> Any:
    """Return the sum."""
    return one + other


def bowl(point: Any) -> float:
    """Return a function with its minimum at 1, 1, …."""
    return float(sum((x - 1.0) ** 2 for x in point))


def log_normal(point: Any) -> float:
    """Return the logarithm of a normal distribution."""
    return float(-0.5 * sum(x * x for x in point))


def late(number: int) -> int:
    """Take a moment."""
    time.sleep(0.02)
    return number


def refuse(number: int) -> int:
    """Fail, but for 3."""
    if number != 3:
        raise ValueError(number)
    return number
