"""Checks of arguments: an error names the argument and says what it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_count(name: str, value: object, least: int, *, optional: bool = False) -> None:
    """A whole number, at least `least`; None if it is optional."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} must be a whole number{' or None' if optional else ''}, not {value!r}")
    if value < least:  # type: ignore[operator]
        raise ValueError(
            f"{name} must be {f'greater than {least - 1}' if least == 1 else f'at least {least}'}, not {value!r}"
        )


def check_seconds(name: str, value: object, *, zero: bool = False) -> None:
    """A number of seconds, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    if math.isnan(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(
            f"{name} must be {'zero or more' if zero else 'more than zero'} seconds, or None, not {value!r}"
        )


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def check_callable(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {value!r}")
