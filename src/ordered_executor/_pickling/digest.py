"""Whether the content of an object has changed: a digest of its pickle, if that is small.

One pickler is used again and again, since making one costs more than pickling a small object.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from ordered_executor._pickling.picklers import CloudPickler
from ordered_executor._pickling.reducers import References


class TooLarge(Exception):
    """The pickle is larger than somebody wants to look at."""


class _Sink:
    """Takes a pickle, and keeps nothing of it but its size and digest."""

    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, limit: int) -> None:
        self.limit, self.size, self._hash = limit, 0, blake2b(digest_size=16)

    def write(self, part: Any) -> int:
        self._count(len(part))
        self._hash.update(part)
        return len(part)

    def take_buffer(self, buffer: Any) -> None:
        with buffer.raw() as view:
            self._count(view.nbytes)
            self._hash.update(view)

    def _count(self, size: int) -> None:
        self.size += size
        if self.size > self.limit:
            raise TooLarge

    def digest(self) -> bytes:
        return self._hash.digest()


class _Measure(_Sink):
    def __init__(self) -> None:
        super().__init__()
        self._pickler = CloudPickler(self, self.take_buffer)

    def of(self, obj: Any, limit: int, references: References) -> tuple[bytes, int]:
        self._begin(limit)
        pickler = self._pickler
        pickler.references, pickler.globals_ref = references, {}
        try:
            pickler.dump(obj)
        finally:
            pickler.references = None
            pickler.clear_memo()
        return self.digest(), self.size


_idle: list[_Measure] = []  # pickling runs code of the user's, which may come back here, from any thread


def digest(obj: Any, limit: int, references: References) -> tuple[bytes, int]:
    """A digest of an object's content, and the size of its pickle.

    Raises `TooLarge`, as soon as that is known, or what its pickling raises.
    """
    try:
        measure = _idle.pop()
    except IndexError:
        measure = _Measure()
    try:
        return measure.of(obj, limit, references)
    finally:
        _idle.append(measure)


class _Nowhere(_Sink):
    """As above, without a digest."""

    def __init__(self, limit: int, count_buffers: bool) -> None:
        super().__init__()
        self._begin(limit)
        self._count_buffers = count_buffers

    def write(self, part: Any) -> int:
        self._count(len(part))
        return len(part)

    def take_buffer(self, buffer: Any) -> None:
        if self._count_buffers:
            self._count(buffer.raw().nbytes)


def rehearse(
    obj: Any,
    limit: int,
    references: References,
    prepare: Callable[[Any], None] | None = None,
    count_buffers: bool = False,
) -> None:
    """Pickle an object for the sake of its references, and of what that raises.  Nothing large is copied.

    Raises `TooLarge` at the limit; the buffers beside the pickle may count, too.
    """
    sink = _Nowhere(limit, count_buffers)
    pickler = CloudPickler(sink, sink.take_buffer)
    pickler.references = references
    if prepare is not None:
        prepare(pickler)
    _dump(pickler, obj)


class _Kept(_Sink):
    """Keeps the pickle."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []

    def write(self, part: Any) -> int:
        self._count(len(part))
        self.parts.append(bytes(part))
        return len(part)


def dump_small(obj: Any, limit: int, references: References, prepare: Callable[[Any], None]) -> bytes:
    """Pickle an object whole.  Raises `TooLarge` at the limit."""
    sink = _Kept()
    sink._begin(limit)
    pickler = CloudPickler(sink)
    pickler.references = references
    prepare(pickler)
    _dump(pickler, obj)
    return b"".join(sink.parts)


def _dump(pickler: CloudPickler, obj: Any) -> None:
    try:
        pickler.dump(obj)
    finally:
        pickler.references = None  # no cycle: the pickler holds all that it has pickled
