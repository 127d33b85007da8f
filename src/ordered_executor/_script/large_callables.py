"""Large callables: a `partial`, a closure, a method of a large object, a callable object.

A small one goes with each batch, and each batch gets a copy as it was then.  A large one has a key and goes to each
worker once, like a global; the tasks there share it.  It stays the same as long as it is the same object.

Weak references tell when most objects go.  Some objects cannot have one (a list, a dict, an object with `__slots__`).
The last few of these are held, so that the next call finds them, and each of them as long as its calls are under way.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType, ModuleType
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

# Of objects that cannot say when they go, so many bytes are kept after their last call: an object stays in memory for
# so long as another does not take its place, so not more than a program bears; a smaller bound, and it travels again.
MOST_HELD_BYTES = 128 * 1024 * 1024

_ANEW = "it is another object each time; make it once and submit that, or let the task find what is large in a global"
_UNHELD = "it allows no weak reference; let the task find what is large in a global, or submit a `functools.partial`"

_last_used: list[key_table.Holder] = []  # the last one first; replaced, never changed: several threads read it


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
    carrier = carrier_of(fn)
    key = None if carrier is None else key_table.known_key(carrier)
    if key is None:
        return None
    needs.all.add(("thing", key))
    holder = key_table.holder_of(key)
    if holder is not None:
        _keep(holder)
    needs.held.append(carrier if holder is None else holder)
    return _ByKey(key) if carrier is fn else _Member(key, fn.__name__)


def carry(fn: Any, size: int, needs: Needs) -> Any:
    """The same for one whose pickle, with its arguments, has this size, if it is large because of the callable."""
    carrier = carrier_of(fn)
    if carrier is None or not _is_large(carrier):
        return None
    what = f"the callable {call_name(fn)}"
    holder = None
    try:
        carried.add(key_table.key_of(carrier))
    except TypeError:
        holder = key_table.hold(carrier, size)
        carried.update(filter(None, [key_table.known_key(carrier)]))
    slow.note(what, size, _ANEW if holder is None or size <= MOST_HELD_BYTES else _UNHELD)
    return stand_in(fn, needs)


def _keep(holder: key_table.Holder) -> None:
    """This one was used last."""
    global _last_used
    total, kept = 0, []
    for each in [holder, *(other for other in _last_used if other is not holder)]:
        if total + each.size <= MOST_HELD_BYTES:
            total += each.size
            kept.append(each)
    _last_used = kept


def let_go() -> None:
    """Nobody has workers any more."""
    global _last_used
    _last_used = []


def carrier_of(fn: Any) -> Any:
    """The object that what is large may be in; None for what goes by its name."""
    kind = type(fn)
    if kind is CACHE or isinstance(fn, type):
        return None
    if kind is FunctionType:
        named = fn.__closure__ is None or (key_table.known_key(fn) not in carried and is_thing(fn))
        return None if named else fn
    if kind in (MethodType, BuiltinFunctionType, MethodWrapperType):
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
