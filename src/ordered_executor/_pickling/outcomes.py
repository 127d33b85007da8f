"""Outcomes as they travel: a value or an error, packed in the worker and unpacked in the parent."""

from __future__ import annotations

import contextlib
import io
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from ordered_executor._base.error_tools import add_note, is_remote_traceback, remote_traceback, set_cause
from ordered_executor._base.errors import RemoteError
from ordered_executor._base.tasks import Failure
from ordered_executor._pickling.by_value import NeedsCloudpickle
from ordered_executor._pickling.exceptions import FaithfulPickler, class_name, faithful, is_simple, message_of
from ordered_executor._pickling.picklers import (
    BASIC,
    EXITS,
    LARGE_BYTES,
    MOST_HEAD_BYTES,
    PROTOCOL,
    CloudPickler,
    Large,
    _PlainPickler,
    dumps,
    dumps_whole,
)
from ordered_executor._pickling.reducers import References

KIND_VALUE = b"v"
KIND_BYTES = b"b"
KIND_ERROR = b"e"

# What every packed error begins with, so that a look at a whole stream tells that there is none in it.
ERROR_BEGINS = KIND_ERROR + pickle.PROTO + bytes([PROTOCOL])


class RemoteFailure(NamedTuple):
    """An exception as the worker sends it: itself if it can travel, and always its description."""

    pickled: bytes | None
    type_name: str
    message: str
    traceback_text: str


class _PlainErrorPickler(FaithfulPickler, _PlainPickler):
    """Plain pickle, but for exceptions."""

    def __init__(self, out: io.BytesIO) -> None:
        super().__init__(out, PROTOCOL)


class _CloudErrorPickler(FaithfulPickler, CloudPickler):
    """Cloudpickle, but for exceptions."""


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
    except BaseException as raised:
        # An exit is the task's own, as with the standard executor; of an argument it would end the scheduler.
        error = raised.__cause__ if isinstance(raised.__cause__, EXITS) else raised
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


def outcome_of(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a call; its outcome as it travels.  Never raises."""
    try:
        value = fn(*args, **kwargs)
        return value if type(value) in BASIC else pack_value(value)
    except BaseException as error:
        return pack_error(error)


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
