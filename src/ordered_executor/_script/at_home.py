"""The parts of the script that parent and worker both have: an outcome refers to them, and does not bring them."""

from __future__ import annotations

import contextlib
from types import CellType, FunctionType
from typing import Any

from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.by_value import Reduced
from ordered_executor._pickling.rebuild import named
from ordered_executor._script import home as worker_home


class AtHome:
    """What an outcome may refer to: see `_pickling.reducers.References`."""

    def refer(self, obj: Any) -> Reduced | None:
        key = key_table.known_key(obj)
        if key is not None:
            return key_table.thing, (key,)
        home, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "")
        if isinstance(home, str) and name.partition(".")[0] in worker_home.made_by_top_level(home):
            with contextlib.suppress(AttributeError):
                if named(home, name) is obj:
                    return named, (home, name)
        return None

    def uses(self, home: str, fn: FunctionType) -> None:
        """At home there is all of it."""

    def uses_module(self, name: str) -> None:
        """As above."""

    def cell(self, cell: CellType) -> Reduced | None:
        return None

    def uses_name(self, home: str, name: str) -> Reduced | None:
        return named, (home, name)
