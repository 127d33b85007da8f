"""User objects to bytes and back.

All objects of the user's are pickled and unpickled here, each under its own `try`, so that one bad object costs one
ticket.  Plain pickle is used if it works, and cloudpickle otherwise (for lambdas, closures, and everything that lives
in `__main__`).

An outcome travels in one of three forms:

- *basic*: an exact `int`, `float`, `bool`, `None` or `str`.  Its pickle refers to nothing before it, so the pickles of
  many outcomes can stand behind each other inside one list pickle, and one `loads` reads a whole batch.
- *packed*: a `bytes` object, one byte of `Kind` and then the pickle.  (A `bytes` value of the user's is packed, too, so
  a `bytes` in a batch is always one of ours.)
- *large*: a `Large`: a packed head, and the buffers that pickle protocol 5 hands out of band, which are never copied
  into a pickle.

Why not one pickle for a whole batch of results: the finished outcomes of a batch must outlive the worker, one by one.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

import cloudpickle

from ordered_executor._pickling.by_value import BY_VALUE, PLAIN, NeedsCloudpickle, goes_by_value
from ordered_executor._pickling.exceptions import class_name
from ordered_executor._pickling.reducers import OURS, References, reduce, reduce_code, reduce_instance

PROTOCOL = 5
BASIC: frozenset[type] = frozenset({int, float, bool, type(None), str})
# From here on an outcome is handed over through lane memory, by itself.  Lower: more frames; higher: more copying.
LARGE_BYTES = 32 * 1024
# Smaller buffers go into the pickle: copying them some times costs less than a place of their own.
SMALL_BUFFER = 8 * 1024

# A pickle beside large buffers travels in the frame's own header; one that is large itself goes as a buffer.
MOST_HEAD_BYTES = 16 * 1024 * 1024

# Raised while a task's object is pickled, they are about that task: whoever reads its outcome is not to end by them.
EXITS = (SystemExit, GeneratorExit)

Buffer = bytes | bytearray | memoryview


class Large(NamedTuple):
    """A packed outcome or call with the buffers that belong to it."""

    head: Buffer
    buffers: Sequence[Buffer]

    @property
    def size(self) -> int:
        return len(self.head) + sum(len(b) for b in self.buffers)


# What `ForkingPickler.register` was told.  A private name: a table has no public one before a pickler is made, which
# costs more than a small dump.  tests/unit/test_private_names.py notices when it goes.
_EXTRA_REDUCERS: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]


class _PlainPickler(ForkingPickler):
    """Plain pickle (with the reducers of multiprocessing), which refuses what only cloudpickle can carry."""

    dispatch_table: Any
    references: References | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # here, and not below, which is asked about every object
        self.dispatch_table = PLAIN | self.dispatch_table

    def reducer_override(self, obj: Any) -> Any:
        kind, references = type(obj), self.references
        if kind is FunctionType or issubclass(kind, type):
            if not goes_by_value(obj.__module__):
                return NotImplemented
            reduced = None if references is None else reduce(obj, references)
            if reduced is None or (type(reduced) is tuple and len(reduced) > 2):
                raise NeedsCloudpickle
            return reduced
        if references is not None and kind is MethodType and getattr(obj.__self__, obj.__name__, None) != obj:
            raise NeedsCloudpickle  # it has another name there
        if references is not None and goes_by_value(kind.__module__) and kind not in self.dispatch_table:
            reduced = reduce_instance(obj, kind, references)
            return NotImplemented if reduced is None else reduced
        return NotImplemented


class _Plain:
    """A plain pickler and its output, used again and again: making one costs three times what a small dump does."""

    def __init__(self) -> None:
        self.knows = copyreg.dispatch_table.copy(), _EXTRA_REDUCERS.copy()
        self._out = io.BytesIO()
        self.buffers: list[pickle.PickleBuffer] = []
        self._pickler = _PlainPickler(self._out, PROTOCOL, True, partial(_in_band, self.buffers))

    def dumps(self, obj: Any, references: References | None = None) -> bytes:
        try:
            self._pickler.references = references
            self._pickler.dump(obj)
            return self._out.getvalue()
        finally:
            self._pickler.references = None
            self._out.seek(0)
            self._out.truncate()
            self._pickler.clear_memo()


# A stack of idle picklers, not one: pickling runs user code, which may come back here, from any thread.
_idle: list[_Plain] = []


def pickle_as(kind: type, reduce: Callable[[Any], Any]) -> None:
    """Have objects of exactly this class reduced so from now on."""
    PLAIN[kind] = BY_VALUE[kind] = reduce
    _idle.clear()  # they have tables of their own


class CloudPickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Cloudpickle, and behind what it knows what multiprocessing knows to send (connections, sockets, …)."""

    dispatch_table: Any

    references: References | None = None

    def __init__(self, out: Any, buffers: Callable[[pickle.PickleBuffer], object] | None = None) -> None:
        known = ForkingPickler(io.BytesIO()).dispatch_table
        # before __init__, which looks for the table; nobody does later
        own: Any = vars(cloudpickle.CloudPickler)["dispatch_table"]
        self.dispatch_table = ChainMap(*own.maps, known)
        super().__init__(out, PROTOCOL, buffers)

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if self.references is not None and (kind in OURS or kind not in self.dispatch_table):
            reduced = reduce(obj, self.references)
            if reduced is not None:
                return reduced
        if kind in BY_VALUE:
            return BY_VALUE[kind](obj)
        if kind is CodeType:
            return reduce_code(obj)
        if isinstance(obj, io.TextIOWrapper) and not _is_standard(obj):
            # as pickle says it; cloudpickle would quietly send a copy of what is in the file
            raise TypeError(f"cannot pickle {class_name(type(obj))!r} object: a file is open in its own process only")
        return super().reducer_override(obj)


def _is_standard(file: Any) -> bool:
    """Whether it is one of the standard streams, which cloudpickle takes for the worker's own."""
    return any(file is one for one in (sys.stdin, sys.stdout, sys.stderr))


def _dump_cloud(obj: Any, buffers: list[pickle.PickleBuffer] | None, references: References | None) -> bytes:
    out = io.BytesIO()
    pickler = CloudPickler(out, None if buffers is None else partial(_in_band, buffers))
    pickler.references = references
    pickler.dump(obj)
    return out.getvalue()


def _in_band(buffers: list[pickle.PickleBuffer], buffer: pickle.PickleBuffer) -> bool:
    """Whether a buffer goes into the pickle; else it is added to those that go beside it."""
    if buffer.raw().nbytes < SMALL_BUFFER:
        return True
    buffers.append(buffer)
    return False


def dumps(obj: Any, references: References | None = None) -> bytes | Large:
    """Pickle one object; `Large` if it has buffers worth sending out of band.

    With `references`, what the other side has of the script goes by reference; without, all of it goes by value.
    Raises whatever the object's own pickling raises; a `pickle.PicklingError` or `TypeError` mostly.  A `PicklingError`
    if that wants to end the program.
    """
    try:
        return _dumps(obj, references)
    except EXITS as error:
        raise _refusal(error) from error


def _dumps(obj: Any, references: References | None) -> bytes | Large:
    try:
        plain = _idle.pop()
    except IndexError:
        plain = _Plain()
    if plain.knows != (copyreg.dispatch_table, _EXTRA_REDUCERS):
        plain = _Plain()
    try:
        head = plain.dumps(obj, references)
        buffers = plain.buffers.copy()
    except (NeedsCloudpickle, pickle.PicklingError, AttributeError, TypeError):
        buffers = []
        head = _dump_cloud(obj, buffers, references)
    finally:
        plain.buffers.clear()
        _idle.append(plain)
    if not buffers:
        return head
    return Large(head, [_flat(b) for b in buffers])


def dumps_plain(obj: Any) -> bytes | None:
    """Pickle one object the plain way; None if that does not do."""
    try:
        return _Plain().dumps(obj)
    except (NeedsCloudpickle, pickle.PicklingError, AttributeError, TypeError):
        return None
    except EXITS as error:
        raise _refusal(error) from error


def _refusal(error: BaseException) -> pickle.PicklingError:
    return pickle.PicklingError(f"{class_name(type(error))} was raised while an object was pickled: {error}")


def dumps_whole(obj: Any, references: References | None = None) -> bytes:
    """Pickle one object, its buffers included."""
    packed = dumps(obj, references)
    return packed if type(packed) is bytes else _dump_cloud(obj, None, references)


def dumps_once(obj: Any, references: References | None = None) -> bytes:
    """The same, and nothing is pickled twice: descriptors that travel must not be."""
    return _dump_cloud(obj, None, references)


def _flat(buffer: pickle.PickleBuffer) -> memoryview:
    return buffer.raw()


def loads(packed: bytes | Large) -> Any:
    """Undo `dumps`."""
    if type(packed) is Large:
        return pickle.loads(packed.head, buffers=packed.buffers)
    return pickle.loads(packed)  # type: ignore[arg-type]
