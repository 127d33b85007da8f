"""Payloads: what arguments and results are made of, so that a lost, doubled, swapped or torn one shows.

Every payload is a function of its kind, its size and its task's `uid`.  `Bomb` is the bad kind.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

from .journal import note

KINDS = ("int", "float", "str", "bytes", "array", "arrays", "dict", "parcel")
SMALL_KINDS = ("int", "float", "str", "bytes", "dict", "parcel")


@dataclass
class Parcel:
    """A user's class."""

    uid: int
    content: bytes


def _pattern(size: int, uid: int) -> bytes:
    return (uid.to_bytes(8, "little") * (size // 8 + 1))[:size]


def make(kind: str, size: int, uid: int) -> Any:
    """The payload of that kind, of about that many bytes."""
    if kind == "int":
        return uid
    if kind == "float":
        return float(uid)
    if kind == "str":
        return f"{uid} " + "é" * (size // 2)
    if kind == "bytes":
        return _pattern(size, uid)
    if kind in {"array", "arrays"}:
        return _make_arrays(kind, size, uid)
    if kind == "dict":
        return {"uid": uid, uid: [_pattern(size, uid)], "none": None}
    assert kind == "parcel", kind
    return Parcel(uid, _pattern(size, uid))


def _make_arrays(kind: str, size: int, uid: int) -> Any:
    import numpy as np  # here, because most workers do without, and it takes longer than starting them

    if kind == "array":
        return np.full(size // 8 + 1, uid, dtype=np.int64)
    shape = (3, size // 72 + 1)
    return [np.full(shape, uid, np.int64), np.full(shape, uid, np.int64, "F"), np.full(shape, uid, np.int64)[:, ::2]]


def same(kind: str, size: int, uid: int, value: Any) -> bool:
    """Whether the value is that payload, to the last byte."""
    wanted = make(kind, size, uid)
    if type(value) is not type(wanted):
        return False
    if kind == "array":
        return bool(wanted.shape == value.shape and (wanted == value).all())
    if kind == "arrays":
        return len(value) == 3 and all(a.shape == b.shape and (a == b).all() for a, b in zip(wanted, value))  # noqa: B905
    return bool(wanted == value)


def die(how: str) -> None:
    """End this process, now and in that way."""
    if how == "os._exit":
        os._exit(7)
    os.kill(os.getpid(), signal.Signals[how])
    threading.Event().wait()  # the signal may take a moment


class Bomb:
    """A payload that goes off.  `how` names the task fault (see `plan.CARGO_FAULTS`)."""

    def __init__(self, how: str, book: str, uid: int) -> None:
        self.how, self.book, self.uid = how, book, uid

    def __reduce__(self) -> Any:
        if self.how.endswith("cannot be pickled"):
            raise TypeError(f"this is not to be pickled: {self.uid}")
        if self.how == "result kills its packer":
            die("SIGKILL" if self.uid % 2 else "os._exit")
        return _go_off, (self.how, self.book, self.uid)


def _go_off(how: str, book: str, uid: int) -> None:
    if how == "argument kills its loader":
        note(book, "load", uid)
        die("SIGKILL" if uid % 2 else "os._exit")
    raise ValueError(f"this is not to be unpickled: {uid}")
