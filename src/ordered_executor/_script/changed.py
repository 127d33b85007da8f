"""The call by which a program says that it has changed something large in place: nobody looks into that otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.by_value import goes_by_value
from ordered_executor._pickling.texts import short
from ordered_executor._script import plan
from ordered_executor._script.large_callables import carrier_of


def changed(obj: Any) -> None:
    """Say that you have changed an object in place: what you submit from now on sees it as it is now.

    `obj` is what a global of your script stands for, or an attribute of one of its classes, or a callable that you
    submit.  You need this for large ones only, whose pickle has more than 64 KiB: a worker gets those once, because to
    look into them for each batch would cost more than the tasks.  The object travels again, whole, to each worker whose
    tasks use it.  If another large global holds the object inside, say so of that one, too.

    Returns at once.  Raises `ValueError` for what is none of these: no worker would hear of the change.
    """
    carrier = carrier_of(obj)
    obj = obj if carrier is None else carrier
    if not (plan.mark_changed(obj) or callable(obj) or any(value is obj for value in _values())):
        raise ValueError(
            f"{short(obj)} is no global of the script, no attribute of its classes and no callable: call changed() "
            "with the object that a global stands for, not with a part of it"
        )


def _values() -> Iterator[Any]:
    """All that the script has as a global, or as an attribute of a class, whether tasks have needed it or not."""
    for name, module in list(sys.modules.items()):
        if goes_by_value(name):
            yield from list(getattr(module, "__dict__", {}).values())
    todo: list[type] = [object]
    # By identity: a metaclass may say in `__eq__` that the class is deprecated, as one of typing's on Python 3.14 does.
    seen: set[int] = set()
    while todo:
        cls = todo.pop()
        if id(cls) not in seen:
            seen.add(id(cls))
            todo += type.__subclasses__(cls)
            home: Any = cls.__module__  # of some, a descriptor
            if key_table.known_key(cls) is not None or (isinstance(home, str) and goes_by_value(home)):
                yield from list(vars(cls).values())
