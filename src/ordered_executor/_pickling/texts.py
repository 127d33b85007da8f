"""Calls and values in a few words, for notes, messages and reprs.

Guarantees: nothing here raises, waits, or is long; no code of the user's runs.  A `repr` of the user's may raise, never
return, or be as large as the value.  So only values of the interpreter's own types are written out, shortened by
`reprlib` as far as that is safe.  Of all others the class is named.  (The scheduler calls some of this, and nothing may
hold it up.)
"""

from __future__ import annotations

import datetime as dt
import decimal
import pathlib
import reprlib
import uuid
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

from ordered_executor._pickling.exceptions import class_name

LONGEST = 200  # of a call: a line or two
_BITS = 200  # of an integer; a longer one takes time that grows with the square of its length
# Small values whose `repr` is the standard library's, and does not ask an object of another type for its own.
_SAFE = frozenset(
    {float, bool, type(None), complex, dt.date, dt.timedelta, decimal.Decimal, uuid.UUID}
    | {type(Ellipsis), type(NotImplemented), pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())}
)


class _Short(reprlib.Repr):
    """The standard library's shortening, by exact type: a subclass may have a `repr` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 60
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 4

    def repr1(self, x: Any, level: int) -> str:
        cls = type(x)
        if cls in (list, tuple):
            return super().repr1(x, level)
        if cls is str:
            return super().repr_str(x, level)
        if cls in (bytes, bytearray):
            return self._bytes(x)
        if cls in (dict, set, frozenset):
            return self._unordered(x, level)  # reprlib sorts the keys, which asks the user's classes
        if cls is int:
            return repr(x) if x.bit_length() <= _BITS else f"<int of {x.bit_length()} bits>"
        if cls in _SAFE:
            return _cut(repr(x), self.maxother)
        if cls is FunctionType or cls is BuiltinFunctionType or issubclass(type(x), type):
            return f"<{call_name(x)}>"
        return f"<{class_name(cls)}{_shape(x)}>"

    def _bytes(self, x: bytes | bytearray) -> str:
        short = repr(x[: self.maxstring])
        return short if len(x) <= self.maxstring else f"<{type(x).__name__} of {len(x)} bytes, {_cut(short, 30)}>"

    def _unordered(self, x: Any, level: int) -> str:
        if not x or level <= 0:
            return repr(x) if not x else "{...}"
        pairs = type(x) is dict
        some = [next_ for next_, _ in zip(iter(x.items() if pairs else x), range(4), strict=False)]
        parts = [
            f"{self.repr1(one[0], level - 1)}: {self.repr1(one[1], level - 1)}" if pairs else self.repr1(one, level - 1)
            for one in some
        ]
        text = ", ".join(parts + ["..."] * (len(x) > len(some)))
        return f"frozenset({{{text}}})" if type(x) is frozenset else f"{{{text}}}"


_short = _Short()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _shape(x: Any) -> str:
    """The shape of an array of NumPy's, which is written in C."""
    cls = type(x)
    return f" of shape {x.shape}" if cls.__module__ == "numpy" and cls.__name__ == "ndarray" else ""


def short(value: Any) -> str:
    """A value in a few words.  Never raises.

    >>> short("a" * 100), short([1, 2, 3, 4, 5, 6]), short(object())
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa'", '[1, 2, 3, 4, ...]', '<object>')
    """
    try:
        return _short.repr1(value, _short.maxlevel)
    except BaseException:  # a list that changes meanwhile, a metaclass that refuses
        return "<a value>"


def call_text(fn: Any, args: Any, kwargs: Any) -> str:
    """A call in a few words.  Never raises.

    >>> call_text(pow, (2, 3), {"mod": 5})
    'pow(2, 3, mod=5)'
    """
    try:
        parts = [short(arg) for arg in args[:8]] + ["..."] * (len(args) > 8)
        parts += [f"{_cut(str(name), 60)}={short(kwargs[name])}" for name in list(kwargs)[:8]]
        parts += ["..."] * (len(kwargs) > 8)
        return f"{call_name(fn)}({_cut(', '.join(parts), LONGEST)})"
    except BaseException:
        return f"{call_name(fn)}(...)"


def error_text(error: BaseException) -> str:
    """An error in a few words: its class and arguments, not its own text.  Never raises.

    >>> error_text(ValueError("too large"))
    "ValueError('too large')"
    """
    return call_text(type(error), vars(BaseException)["args"].__get__(error), {})


def call_name(fn: Any) -> str:
    """A callable's name for messages.  Never raises.

    >>> call_name(len), call_name(call_name)
    ('len', 'ordered_executor._pickling.texts.call_name')
    """
    inner: Any = fn.func if type(fn) is partial else fn
    try:
        if type(inner) is FunctionType or type(inner) is BuiltinFunctionType:
            module, name = inner.__module__, inner.__qualname__
            return name if module in (None, "builtins", "__main__") else f"{module}.{name}"
        return class_name(inner) if issubclass(type(inner), type) else f"{class_name(type(inner))} object"
    except BaseException:  # an object may lie about what it is
        return "a callable"


def as_call(call: Any) -> tuple[Any, Any, Any]:
    """Function, arguments and keywords of what a future keeps as its call, whatever of them is left."""
    if type(call) is tuple:
        return call if len(call) == 3 else (call[0], (), {})
    return getattr(call, "fn", None), getattr(call, "args", ()), getattr(call, "kwargs", {})
