"""Functions, pickled once for as long as they stay the same.

A function of a script (`__main__`) goes by value.  This takes cloudpickle a tenth of a millisecond, and the worker as
long to load it: more than many a task.  So both sides keep what they made.

A function stays the same as long as everything it refers to does: its code, its defaults, and the globals that its code
names.  This is checked at each use, by identity.  If a function refers to something that can change in place (a list, a
dict, an object), it is pickled anew each time, so that a worker never sees an old state of it.
"""

from __future__ import annotations

import logging
import pickle
import re
import sys
import weakref
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from ordered_executor._pickling.by_value import goes_by_value
from ordered_executor._pickling.keys import known_key
from ordered_executor._pickling.picklers import BASIC, dumps_plain, dumps_whole
from ordered_executor._pickling.reducers import CACHE, home_name, home_of, importable

# What does not change in place.
_STABLE: tuple[type, ...] = (re.Pattern, logging.Logger, *BASIC, bytes)
_MOST_LOADED = 32
# What is kept for a function may keep that function itself: two that call each other do.  So there are not too many.
_MOST_PACKED = 128

_packed_for_home: weakref.WeakKeyDictionary[Any, _Packed] = weakref.WeakKeyDictionary()
# function -> (what it refers to, or None if it goes by name; its pickle)
_packed: weakref.WeakKeyDictionary[FunctionType, tuple[list[Any] | None, bytes]] = weakref.WeakKeyDictionary()


def may_be_shared(fn: Any) -> bool:
    """Whether the calls of a batch may share one copy of the callable: it has no state of its own to leave behind."""
    kind = type(fn)
    return kind is type or (kind is FunctionType and fn.__closure__ is None) or _is_plain_builtin(fn)


def _is_plain_builtin(fn: Any) -> bool:
    """A builtin function, or one of a class; not a method of an object, which has state."""
    return type(fn) is BuiltinFunctionType and isinstance(fn.__self__, (ModuleType, type, type(None)))


def is_thing(fn: Any) -> bool:
    """Whether a worker has one copy of a function, by its name in the script: calls share it, whatever state it has."""
    kind = type(fn)
    if kind is not FunctionType and kind is not CACHE:
        return False
    return known_key(fn) is not None or (not importable(fn) and home_name(fn) is not None)


def pack_for_home(fn: Any, needs: Any) -> bytes:
    """The pickle of a callable for where the script is at home.  Raises what its pickling raises.

    Kept, for one that does not take along anything that can change in place.
    """
    if type(fn) not in _KEPT:
        return dumps_whole(fn, needs)
    known = _packed_for_home.get(fn)
    if known is not None and (known.by_reference or known.is_of(fn)):
        if known.needs:
            needs.all |= known.needs
            if known.by_reference:
                needs.held.append(fn)
        return known.packed
    by_reference = type(fn) is not FunctionType or importable(fn) or is_thing(fn)
    if not by_reference and home_of(fn) is None:
        return pack_function(fn)
    own = type(needs)()
    packed = dumps_whole(fn, own)
    needs.merge(own)
    if by_reference or _is_simple(fn):
        _packed_for_home[fn] = _Packed(packed, own.all, by_reference, getattr(fn, "__code__", None))
    return packed


_KEPT = frozenset({FunctionType, BuiltinFunctionType, type})


class _Packed(NamedTuple):
    """A callable that was packed, and what that needs."""

    packed: bytes
    needs: set[Any]
    by_reference: bool
    code: CodeType | None

    def is_of(self, fn: FunctionType) -> bool:
        return self.code is fn.__code__ and _is_simple(fn)


def _is_simple(fn: FunctionType) -> bool:
    return fn.__closure__ is None and not fn.__dict__ and fn.__defaults__ is None and fn.__kwdefaults__ is None


def pack_function(fn: Any) -> bytes:
    """The pickle of a callable; kept, for a function without state.  Raises what its pickling raises."""
    if type(fn) is not FunctionType or fn.__closure__ is not None:
        return dumps_whole(fn)
    known = _packed.get(fn)
    if known is not None and known[0] is None:
        return known[1]
    refers = _refers_to(fn)
    if known is not None and refers is not None and _same(known[0], refers):
        return known[1]
    by_name = dumps_plain(fn)
    packed = dumps_whole(fn) if by_name is None else by_name
    if by_name is not None or refers is not None:
        if len(_packed) >= _MOST_PACKED:
            _packed.clear()
        _packed[fn] = (None if by_name is not None else refers, packed)
    return packed


def _same(some: list[Any] | None, others: list[Any]) -> bool:
    return some is not None and len(some) == len(others) and all(map(_is, some, others))


def _is(one: Any, other: Any) -> bool:
    return one is other


def _refers_to(fn: FunctionType) -> list[Any] | None:
    """Everything a function is made of, itself aside, flat; None if something of it can change in place.

    Itself aside, or it would be kept alive by what is kept for it.
    """
    found: list[Any] = []
    seen: set[int] = set()
    todo: list[Any] = [fn]
    while todo:
        part = todo.pop()
        if part is not fn:
            found.append(part)
        if id(part) in seen or isinstance(part, _STABLE) or (part is not fn and _goes_by_name(part)):
            continue
        seen.add(id(part))
        if type(part) is tuple:
            todo.extend(part)
        elif type(part) is FunctionType:
            if part.__closure__ is not None or part.__dict__:
                return None
            found.append(part.__code__)
            todo.append(part.__defaults__)
            todo.extend((part.__kwdefaults__ or {}).values())
            names = part.__globals__
            todo.extend(names[name] for name in _names(part.__code__) if name in names)
        else:
            return None
    return found


def _goes_by_name(part: Any) -> bool:
    """Whether the worker takes its own: something that can be imported.  In doubt not."""
    kind = type(part)
    if kind is ModuleType:
        return sys.modules.get(part.__name__) is part
    if kind is not FunctionType and not isinstance(part, type):
        return _is_plain_builtin(part)
    home = part.__module__
    if goes_by_value(home):
        return False
    return getattr(sys.modules.get(home), part.__qualname__, None) is part


def _names(code: CodeType) -> list[str]:
    """The global names that a function's code, or code nested in it, may use."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.extend(_names(constant))
    return names


class LoadedFunctions:
    """The worker's side: functions by their pickles, as many as a program is likely to use in turn."""

    def __init__(self) -> None:
        self._loaded: dict[bytes, Any] = {}

    def load(self, packed: bytes) -> Any:
        """Unpickle, or take what was unpickled before if it has no state."""
        fn = self._loaded.get(packed)
        if fn is None:
            fn = pickle.loads(packed)
            if may_be_shared(fn):
                if len(self._loaded) >= _MOST_LOADED:
                    del self._loaded[next(iter(self._loaded))]
                self._loaded[packed] = fn
        return fn
