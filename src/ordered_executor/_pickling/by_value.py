"""Objects that cloudpickle sends by name only, although the other side has no such name: they are made again there.

`__main__` is another module in a worker.  Cloudpickle takes along functions and classes that a script defines.  But it
sends an `lru_cache` around a function by name, and also some objects in annotations.
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import sys
import weakref
from collections.abc import Callable
from functools import WRAPPER_ASSIGNMENTS, cached_property, lru_cache
from operator import attrgetter
from typing import Any, NewType, ParamSpec, TypeVar

import cloudpickle

Reduced = Any  # what `__reduce__` may return


class NeedsCloudpickle(Exception):
    """Plain pickle would send a reference that the other side cannot follow."""


# The second in a child of `multiprocessing` that has run the script, as `spawn` does.
_MAIN = frozenset({"__main__", "__mp_main__"})


def goes_by_value(module: str | None) -> bool:
    """Whether the other side has another module of this name."""
    if module in _MAIN:
        return True
    registered = cloudpickle.list_registry_pickle_by_value()
    if not registered or module is None:
        return False
    return module in registered or any(module.startswith(f"{package}.") for package in registered)


def _unless_found(reduce: Callable[[Any], Reduced]) -> Callable[[Any], Reduced]:
    """By name, if the other side has it by its name."""

    def reduced(obj: Any) -> Reduced:
        home, found = obj.__module__, None
        if not goes_by_value(home):
            with contextlib.suppress(AttributeError, KeyError):
                name = obj.__name__ if type(obj) is ParamSpec else obj.__qualname__
                found = attrgetter(name)(sys.modules[home])
        return NotImplemented if found is obj else reduce(obj)

    return reduced


@_unless_found
def _reduce_cached(cached: Any) -> Reduced:
    """What `lru_cache` has made.  The copy's cache is empty."""
    if not any(part is cached.__wrapped__ for part in gc.get_referents(cached)):
        # `wraps` above `lru_cache` says so: a copy would call something else
        raise pickle.PicklingError(f"{cached!r} is not a cache of what its __wrapped__ says")
    own = {name: value for name, value in vars(cached).items() if name not in _MADE_BY_LRU_CACHE}
    return _cached, (cached.__wrapped__, cached.cache_parameters()), own


def _cached(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return lru_cache(**parameters)(fn)


def _reduce_cached_property(cached: Any) -> Reduced:
    # until Python 3.11 it has a lock
    return cached_property, (cached.func,), {"attrname": cached.attrname, "__doc__": cached.__doc__}


@_unless_found
def _reduce_new_type(new: Any) -> Reduced:
    own = {"__module__": new.__module__, "__qualname__": new.__qualname__}
    return NewType, (new.__name__, new.__supertype__), own


@_unless_found
def _reduce_param_spec(spec: Any) -> Reduced:
    return ParamSpec, (spec.__name__,)


def _reduce_weak_keys(entries: weakref.WeakKeyDictionary[Any, Any]) -> Reduced:
    # `singledispatch` has one
    return weakref.WeakKeyDictionary, (dict(entries),)


def _refuse_of_main(obj: Any) -> Reduced:
    if goes_by_value(obj.__module__):
        raise NeedsCloudpickle
    return obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)


_MADE_BY_LRU_CACHE = {"__wrapped__", "cache_parameters", *WRAPPER_ASSIGNMENTS}
# For cloudpickle's pickler.
BY_VALUE: dict[type, Callable[[Any], Reduced]] = {
    type(lru_cache(goes_by_value)): _reduce_cached,
    cached_property: _reduce_cached_property,
    NewType: _reduce_new_type,
    ParamSpec: _reduce_param_spec,
    weakref.WeakKeyDictionary: _reduce_weak_keys,
}
# For the plain one: leave those of a script to cloudpickle.
PLAIN: dict[type, Callable[[Any], Reduced]] = dict.fromkeys((*BY_VALUE, TypeVar), _refuse_of_main)
