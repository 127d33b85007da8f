"""User objects to bytes and back.

Everything of the user's is pickled and unpickled here, each under its own `try`, so that one bad object costs one
ticket.  Plain pickle where it does, cloudpickle where it does not (lambdas, closures, whatever lives in `__main__`).

An outcome travels in one of three forms:

- *basic*: an exact `int`, `float`, `bool`, `None` or `str`.  Its pickle has no reference to anything before it, so the
  pickles of many can stand behind each other inside one list pickle, and a whole batch is read by one `loads`.
- *packed*: a `bytes` object, one byte of `Kind` and then the pickle.  (A `bytes` value of the user's is packed too, so
  a `bytes` in a batch always is one of ours.)
- *large*: a `Large`: packed head, and the buffers that pickle protocol 5 hands out of band, never copied into a pickle.

Why not one pickle for a whole batch of results: the finished outcomes of a batch must outlive the worker, one by one.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import pickle
import sys
import traceback
from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple, cast

import cloudpickle

from ._by_value import BY_VALUE, PLAIN, NeedsCloudpickle, goes_by_value
from ._errors import RemoteError, add_note, is_remote_traceback, remote_traceback, set_cause
from ._faithful import FaithfulPickler, class_name, faithful, is_simple, message_of
from ._reducers import OURS, References, reduce, reduce_code, reduce_instance
from ._ticket import Failure

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

KIND_VALUE = b"v"
KIND_BYTES = b"b"
KIND_ERROR = b"e"

# What every packed error begins with, so that a look at a whole stream tells that there is none in it.
ERROR_BEGINS = KIND_ERROR + pickle.PROTO + bytes([PROTOCOL])

Buffer = bytes | bytearray | memoryview


class Large(NamedTuple):
    """A packed outcome or call with the buffers that belong to it."""

    head: Buffer
    buffers: Sequence[Buffer]

    @property
    def size(self) -> int:
        return len(self.head) + sum(len(b) for b in self.buffers)


class RemoteFailure(NamedTuple):
    """An exception as the worker sends it: itself if it can travel, and always its description."""

    pickled: bytes | None
    type_name: str
    message: str
    traceback_text: str


# What `ForkingPickler.register` was told.  A private name: a table has no public one before a pickler is made, which
# costs more than a small dump.  tests/test_private_names.py notices when it goes.
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
        self.dispatch_table = ChainMap(*cloudpickle.CloudPickler.dispatch_table.maps, known)
        super().__init__(out, PROTOCOL, buffers)

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if self.references is not None and (kind in OURS or kind not in self.dispatch_table):
            reduced = reduce(obj, self.references)
            if reduced is not None:
                return reduced
        if kind in BY_VALUE:
            return BY_VALUE[kind](obj)
        if isinstance(obj, io.TextIOWrapper) and not _is_standard(obj):
            # as pickle says it; cloudpickle would quietly send a copy of what is in the file
            raise TypeError(f"cannot pickle {class_name(type(obj))!r} object: a file is open in its own process only")
        return reduce_code(obj) if kind is CodeType else super().reducer_override(obj)


def _is_standard(file: Any) -> bool:
    """Whether it is one of the standard streams, which cloudpickle takes for the worker's own."""
    return any(file is one for one in (sys.stdin, sys.stdout, sys.stderr))


class _PlainErrorPickler(FaithfulPickler, _PlainPickler):
    """Plain pickle, but for exceptions."""

    def __init__(self, out: io.BytesIO) -> None:
        super().__init__(out, PROTOCOL)


class _CloudErrorPickler(FaithfulPickler, CloudPickler):
    """Cloudpickle, but for exceptions."""


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


# ------------------------------------------------------------------------------------------- outcomes, worker side

_outcomes: References | None = None  # what the other side has that the outcomes of this process are for


def refer_in_outcomes(references: References) -> None:
    """This process is a lane's worker: its outcomes go to where the script is."""
    global _outcomes
    _outcomes = references


def pack_value(value: Any) -> bytes | Large:
    """Pack a task's result.  A result that cannot be pickled becomes the error that says so."""
    if type(value) is bytes:
        return KIND_BYTES + value if len(value) < LARGE_BYTES else Large(KIND_BYTES, [value])
    try:
        packed = dumps(value, _outcomes)
    except BaseException as error:
        add_note(error, f"The task went well, but its result, of type {class_name(type(value))}, could not be pickled.")
        return pack_error(error)
    if type(packed) is Large and len(packed.head) < MOST_HEAD_BYTES:
        return Large(KIND_VALUE + bytes(packed.head), packed.buffers)
    whole = cast("bytes", dumps_whole(value, _outcomes) if type(packed) is Large else packed)
    return KIND_VALUE + whole if len(whole) < LARGE_BYTES else Large(KIND_VALUE, [whole])


def pack_error(error: BaseException) -> bytes | Large:
    """Pack an exception: itself if it survives the journey, else its description."""
    packed = pack_error_whole(error)
    return packed if len(packed) < LARGE_BYTES else Large(packed[:1], [packed[1:]])


def pack_error_whole(error: BaseException) -> bytes:
    """The same in one piece, whatever its size."""
    text = _traceback_text(error)
    message = message_of(error)
    failure = RemoteFailure(_travelling(error), class_name(type(error)), message, text)
    return KIND_ERROR + pickle.dumps(tuple(failure), PROTOCOL)


def _travelling(error: BaseException) -> bytes | None:
    """The pickle of an exception that is known to arrive as it is, or None."""
    for replace in (None, _or_text):
        try:
            if is_simple(error):
                return pickle.dumps(error, PROTOCOL)
            packed = _dumps_error(error, replace)
            if faithful(error, pickle.loads(packed)):
                return packed
        except BaseException:
            continue
    return None


def _dumps_error(obj: Any, replace: Callable[[Any], Any] | None = None) -> bytes:
    """`dumps_whole`, where the exceptions in an object are put together on the other side."""
    try:
        return _dump_error(_PlainErrorPickler, obj, replace)
    except (NeedsCloudpickle, pickle.PicklingError, AttributeError, TypeError):
        return _dump_error(_CloudErrorPickler, obj, replace)


def _dump_error(cls: Any, obj: Any, replace: Callable[[Any], Any] | None) -> bytes:
    out = io.BytesIO()
    pickler = cls(out)
    pickler.replace = replace
    pickler.references = _outcomes
    pickler.dump(obj)
    return out.getvalue()


def _or_text(value: Any) -> Any:
    """An attribute, or if it cannot travel a text that says what it was."""
    if type(value) in BASIC:
        return value
    try:
        pickle.loads(_dumps_error(value))
    except BaseException:
        return f"<{class_name(type(value))} that could not be pickled>"
    return value


def _traceback_text(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException:
        return f"{class_name(type(error))}: <its traceback could not be printed>\n"


# ------------------------------------------------------------------------------------------- outcomes, parent side


def is_failure(outcome: Any) -> bool:
    """Whether an outcome that came home is an error.

    >>> is_failure(3), is_failure(pack_value([3])), is_failure(pack_error(ValueError()))
    (False, False, True)
    """
    cls = type(outcome)
    if cls is bytes:
        return outcome[:1] == KIND_ERROR  # type: ignore[no-any-return]
    return cls is Failure or (cls is Large and bytes(outcome.head[:1]) == KIND_ERROR)


def without_frames(error: BaseException) -> BaseException:
    """The same error, its traceback as text: frames would keep what is in their variables, for as long as it lives."""
    if is_remote_traceback(error.__cause__):
        set_cause(error, None)  # it was here before, as one object that is raised again and again
    text = _traceback_text(error)
    for attribute in (BaseException.__traceback__, BaseException.__context__):
        attribute.__set__(error, None)  # type: ignore[union-attr]  # as in `set_cause`
    set_cause(error, remote_traceback(text))
    return error


def packed_size(outcome: Any) -> int:
    """How many bytes an outcome takes that is not of a basic type; 0 for what the parent made itself."""
    if type(outcome) is bytes:
        return len(outcome)
    return outcome.size if type(outcome) is Large else 0


def unpack(outcome: Any, note: Callable[[], str]) -> tuple[Any, BaseException | None]:
    """Turn an outcome that came home into `(value, error)`.  Never raises; errors carry the remote traceback.

    What was raised here, or brings a traceback along (tblib makes them on arrival), has frames that lead to this one
    and to its callers': whatever is left in their variables lives as long as the error does.
    """
    cls = type(outcome)
    if cls in BASIC:
        return outcome, None
    if cls is Failure:
        add_note(outcome.error, note())
        return None, outcome.error
    head: Any = outcome if cls is bytes else outcome.head
    buffers: Any = () if cls is bytes else outcome.buffers
    body: Any = None
    try:
        kind = bytes(head[:1])
        # a large pickle, or a large bytes object, is a buffer by itself behind the kind
        alone = len(head) == 1 and len(buffers) == 1
        if kind == KIND_BYTES:
            return (bytes(buffers[0]) if alone else bytes(head[1:])), None
        body = buffers[0] if alone else memoryview(head)[1:]
        if kind == KIND_ERROR:
            return None, _unpack_error(RemoteFailure(*pickle.loads(body)), note)
        return pickle.loads(body, buffers=() if alone else buffers), None
    except BaseException as error:
        add_note(error, "The task went well, but its result could not be unpickled.")
        add_note(error, note())
        return None, error
    finally:
        del outcome, head, buffers, body, note


def _unpack_error(failure: RemoteFailure, note: Callable[[], str]) -> BaseException:
    error: Any = None
    try:
        if failure.pickled is not None:
            with contextlib.suppress(BaseException):
                error = pickle.loads(failure.pickled)
        if not isinstance(error, BaseException):
            error = RemoteError(failure.type_name, failure.message, failure.traceback_text)
        assert isinstance(error, BaseException)
        set_cause(error, remote_traceback(failure.traceback_text))
        add_note(error, note())
        return error
    finally:
        del error, failure, note
