"""Callables that carry much: a `partial`, a closure, a method of a large object, an object that can be called.

A small one goes with each batch, and each batch gets a copy as it was then.  A large one has a key and goes once to
each worker, like a global; the tasks there share it.  It is the same as long as it is the same object.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from ordered_executor._base import slow
from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.digest import TooLarge, rehearse
from ordered_executor._pickling.functions import is_thing
from ordered_executor._pickling.reducers import CACHE
from ordered_executor._pickling.texts import call_name
from ordered_executor._script.records import SMALL_BYTES, Needs, carried

# From here on a callable travels once, and not with each batch: below, a copy costs less than keeping account of it.
LARGE_CALLABLE = SMALL_BYTES


class _ByKey:
    """Pickles as the object of a key."""

    def __init__(self, key: int) -> None:
        self._key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return key_table.thing, (self._key,)


class _Member:
    """Pickles as an attribute of such an object."""

    def __init__(self, key: int, name: str) -> None:
        self._key, self._name = key, name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (_ByKey(self._key), self._name)


def stand_in(fn: Any, needs: Needs) -> Any:
    """What is pickled in place of a callable that was found to be large; None if it was not."""
    carrier = _carrier(fn)
    key = None if carrier is None else key_table.known_key(carrier)
    if key is None:
        return None
    needs.all.add(("thing", key))
    needs.held.append(carrier)
    return _ByKey(key) if carrier is fn else _Member(key, fn.__name__)


def carry(fn: Any, size: int, needs: Needs) -> Any:
    """The same for one whose pickle, with its arguments, has this size, if it is large because of the callable."""
    carrier = _carrier(fn)
    if carrier is None or not _is_large(carrier):
        return None
    slow.note(
        f"the callable {call_name(fn)}",
        size,
        "it is another object each time; make it once and submit that, or let the task find what is large in a global",
    )
    try:
        carried.add(key_table.key_of(carrier))
    except TypeError:  # it allows no weak reference
        return None
    return stand_in(fn, needs)


def _carrier(fn: Any) -> Any:
    """The object that what is large may be in."""
    kind = type(fn)
    if kind is CACHE or isinstance(fn, type):
        return None
    if kind is FunctionType:
        named = fn.__closure__ is None or (key_table.known_key(fn) not in carried and is_thing(fn))
        return None if named else fn
    if kind is MethodType or kind is BuiltinFunctionType:
        owner = fn.__self__
        return None if isinstance(owner, (ModuleType, type, type(None))) else owner
    return fn


def _is_large(obj: Any) -> bool:
    try:
        rehearse(obj, LARGE_CALLABLE, Needs(), count_buffers=True)
    except TooLarge:
        return True
    except BaseException:
        return False
    return False
