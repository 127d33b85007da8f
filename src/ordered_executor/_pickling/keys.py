"""Keys: the numbers by which a parent and its workers name one object of a script, mostly a function or a class.

A key is given once, by the process that owns the script.  It means the same object on both sides for as long as that
object lives there.  So a result that is an instance of a class of the script is one of *that* class at home, and an
attribute of it that is set in a worker is set for all code that runs there.  A new definition under an old name is
another object, and has another key.

The owner holds nothing alive by a key.  A worker does: it has the object from the owner, until it is told to forget it.
Keys are looked up by identity, never by equality, which a user's class may define.

Invariant: `_keys[id(obj)] == key` if and only if `_things[key]()` is that object, or the object is just going.
"""

from __future__ import annotations

import itertools
import os
import pickle
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

_things: dict[int, Callable[[], Any]] = {}
_keys: dict[int, int] = {}
_reasons: dict[int, str] = {}  # in a worker: why there is nothing by this key
gone: deque[int] = deque()  # in the owner: keys whose objects have gone, which workers may forget


def _counter() -> itertools.count[int]:
    # A worker that has workers of its own knows keys of its parent's, too: they must not be the same.
    return itertools.count(int.from_bytes(os.urandom(6), "little") << 15)


_numbers = _counter()


class Holder:
    """Stands for an object that allows no weak reference: it has its key for as long as somebody has this."""

    __slots__ = ("__weakref__", "obj", "size")

    def __init__(self, obj: Any, size: int) -> None:
        self.obj, self.size = obj, size


class _Through:
    """In the place of a weak reference: one to the holder of an object."""

    __slots__ = ("holder",)

    def __init__(self, holder: weakref.ref[Holder]) -> None:
        self.holder = holder

    def __call__(self) -> Any:
        holder = self.holder()
        return None if holder is None else holder.obj


class _Held:
    """In the place of a weak reference: one that holds."""

    __slots__ = ("_obj",)

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def __call__(self) -> Any:
        return self._obj


def known_key(obj: Any) -> int | None:
    """The key of an object, if it has one."""
    key = _keys.get(id(obj))
    if key is None:
        return None
    thing = _things.get(key)
    return key if thing is not None and thing() is obj else None


def key_of(obj: Any) -> int:
    """The key of an object; it gets one if it has none.  Raises `TypeError` if it allows no weak reference."""
    key = known_key(obj)
    if key is not None:
        return key
    key, identity = next(_numbers), id(obj)
    _things[key] = weakref.ref(obj, partial(_let_go, key, identity))
    first = _keys.setdefault(identity, key)  # another thread may have been here meanwhile
    thing = _things.get(first)
    if thing is not None and thing() is obj:
        return first
    _keys[identity] = key  # that was another object, which is just being let go
    return key


def hold(obj: Any, size: int) -> Holder:
    """What keeps the key of an object that allows no weak reference; it gets one if it has none."""
    holder = holder_of(known_key(obj))
    if holder is None:
        holder, key = Holder(obj, size), next(_numbers)
        _things[key] = _Through(weakref.ref(holder, partial(_let_go, key, id(obj))))
        _keys[id(obj)] = key  # another thread may have been here meanwhile: then that one's key ends with its calls
    return holder


def holder_of(key: int | None) -> Holder | None:
    """The holder of the object of a key, if that allows no weak reference."""
    thing = None if key is None else _things.get(key)
    return thing.holder() if isinstance(thing, _Through) else None


def _let_go(key: int, identity: int, _: object) -> None:
    # at any time, in any thread
    if _keys.get(identity) == key:
        del _keys[identity]
    if _things.pop(key, None) is not None:
        gone.append(key)


def find(key: int) -> Any:
    """The object of a key, or None."""
    thing = _things.get(key)
    return None if thing is None else thing()


def thing(key: int) -> Any:
    """The object of a key: what a reference in a pickle calls.  Raises `UnpicklingError` if there is none."""
    obj = find(key)
    if obj is None:
        reason = _reasons.get(key, "a function or class of the script, or another object of it, that is gone")
        raise pickle.UnpicklingError(reason)
    return obj


def cell_of(key: int, index: int) -> Any:
    """A cell of a function that has a key: another function has the same."""
    return thing(key).__closure__[index]


# ------------------------------------------------------------------------------------------------------- in a worker


def keep(key: int, obj: Any) -> None:
    """This object has this key, and stays; another one had it until the owner has changed that."""
    forget(key)
    _things[key] = _Held(obj)
    _keys[id(obj)] = key


def forget(key: int) -> None:
    """The owner has let go of the object: here it lives for as long as somebody uses it, and goes by value."""
    thing = _things.pop(key, None)
    _reasons.pop(key, None)
    if thing is not None and _keys.get(id(thing())) == key:
        del _keys[id(thing())]


def explain(key: int, reason: str) -> None:
    """There is nothing by this key, and why."""
    if key not in _things:
        _reasons[key] = reason


def _in_forked_child() -> None:
    global _numbers
    _numbers = _counter()


os.register_at_fork(after_in_child=_in_forked_child)
