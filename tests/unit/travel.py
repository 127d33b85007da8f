"""A result, or an error, on its way from a worker to the parent, in one process."""

from __future__ import annotations

from typing import Any

from ordered_executor._pickling.outcomes import pack_error, pack_value, unpack
from ordered_executor._pickling.picklers import Large


def note() -> str:
    """What the parent says of the task."""
    return "ticket 3: f(…)"


def travel(value: Any) -> Any:
    """Pack a result, and unpack it on the other side."""
    result, error = unpack(moved(pack_value(value)), note)
    assert error is None, error
    return result


def travel_as_error(error: BaseException) -> BaseException:
    """Raise it in a worker, and catch it in the parent."""
    try:
        raise error
    except BaseException as raised:
        packed = pack_error(raised)
    value, arrived = unpack(moved(packed), note)
    assert value is None
    assert arrived is not None
    return arrived


def moved(packed: Any) -> Any:
    """What a pipe or lane memory makes of it: other objects with the same content."""
    if type(packed) is Large:
        return Large(bytes(packed.head), [bytearray(buffer) for buffer in packed.buffers])
    return bytes(bytearray(packed))


def notes(error: BaseException | None) -> str:
    """All notes of an error."""
    return "\n".join(getattr(error, "__notes__", ()))


class Unpicklable:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise ValueError("not to be pickled")


class Unloadable:
    """Can be pickled, and not loaded."""

    def __reduce__(self) -> Any:
        return load_fails, ()


def load_fails() -> None:
    """Be loaded, and fail."""
    raise ValueError("not to be loaded")
