"""The script as the parent has it: the parts that a pickle needs, and whether they have changed.

A *need* is a thing (by its key), a global (module and name), all globals of a module, a submodule that must be
imported, or a file whose source is not on disk.  For each thing and global there is a *record*.  It has the parts as
they were at the last look, when each had last changed, and what the thing needs in turn.

A change is another object under the name, or another content of an object that can change in place, if its pickle is
small.  A look into a large object would cost more than the half millisecond that a batch can bear.

Guarantees: no lock is held while objects of the user's are pickled.  A record never says that a part has changed if it
has not: a worker would lose its own changes to that part.
"""

from __future__ import annotations

import contextlib
import itertools
import linecache
import re
import sys
from collections.abc import Callable
from functools import partial
from logging import Logger
from pathlib import Path
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from ordered_executor._base.locks import Lock
from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.by_value import BY_VALUE, Reduced, goes_by_value
from ordered_executor._pickling.digest import TooLarge, digest, rehearse
from ordered_executor._pickling.exceptions import class_name, message_of
from ordered_executor._pickling.picklers import BASIC, CloudPickler
from ordered_executor._pickling.rebuild import AS_SPAWN_DOES, MAIN, named, names_in
from ordered_executor._pickling.reducers import (
    CACHE,
    home_name,
    home_of,
    names_of,
    reduce_function,
    sees_all,
    submodules,
)
from ordered_executor._script import home as worker_home

Need = tuple[Any, ...]  # ("thing", key), ("name", module, name), ("module", name), ("import", name), ("source", file)

# The largest pickle whose content is looked at for each batch: some hundred microseconds.  A change in place of a
# larger object is not noticed; a smaller limit would miss more of them, a larger one cost more.
SMALL_BYTES = 64 * 1024
ABSENT: Any = object()
_STABLE = frozenset({*BASIC, bytes, re.Pattern, Logger, BuiltinFunctionType, FunctionType, CACHE})
_ANY = sys.maxsize
# Of a class: what the interpreter keeps there for itself.
_VOLATILE = frozenset({"__dict__", "__weakref__", "_abc_impl", "__abstractmethods__", "__annotations_cache__"})

stamps = itertools.count(1)
_changing = Lock()  # guards the fields of records; nothing is called under it
_sources: dict[str, list[str] | None] = {}  # files that are not on disk -> their lines


class Needs:
    """Takes note of what pickles refer to: see `_pickling.reducers.References`."""

    __slots__ = ("all", "defining", "held")

    def __init__(self, defining: Need | None = None) -> None:
        self.all: set[Need] = set()
        self.held: list[Any] = []  # things live as long as somebody needs them
        self.defining = defining  # what is being pickled is this one itself

    def refer(self, obj: Any) -> Reduced | None:
        key = key_table.key_of(obj)
        self.all.add(("thing", key))
        self.held.append(obj)
        return key_table.thing, (key,)

    def uses(self, home: str, fn: FunctionType) -> None:
        code = fn.__code__
        if _source_of(code.co_filename, fn.__globals__) is not None:
            self.all.add(("source", code.co_filename))
        if not goes_by_value(home):
            return
        names = names_of(code)
        self.all.update(("name", home, name) for name in names)
        if sees_all(names):
            self.all.add(("module", home))
        values = fn.__globals__
        packages = [values[name] for name in names if isinstance(values.get(name), ModuleType)]
        self.all.update(("import", name) for name in submodules(code, packages))

    def uses_module(self, name: str) -> None:
        self.all.add(("module", name))

    def cell(self, cell: CellType) -> Reduced | None:
        return None

    def uses_name(self, home: str, name: str) -> Reduced | None:
        if self.defining == ("name", home, name):
            return None
        self.all.add(("name", home, name))
        return named, (home, name)

    def merge(self, other: Needs) -> None:
        self.all |= other.all
        self.held += other.held


class Defining(Needs):
    """The same, where things go by value that the other side does not have yet."""

    __slots__ = ("_cells", "begun", "defined", "pickler", "there")

    def __init__(self, there: Any, defining: Need | None = None) -> None:
        super().__init__(defining)
        self.there = there  # the needs that the other side has; anything with `in`
        self.defined: list[Need] = []
        self.begun: set[Need] = set()  # in this pickle
        self._cells: dict[int, Reduced | None] = {}
        self.pickler: Any = None

    def refer(self, obj: Any) -> Reduced | None:
        need = "thing", key_table.key_of(obj)
        if need == self.defining and need[1] in carried:
            return None
        reference = super().refer(obj)
        if need in self.there or not is_definable(obj):
            return reference
        self.defined.append(need)
        self.begun.add(need)
        return self._define(obj, need[1])

    def cell(self, cell: CellType) -> Reduced | None:
        """Two functions of the script may share a variable of the function that made them."""
        if id(cell) not in self._cells:
            self._cells[id(cell)] = self._find_cell(cell)
        return self._cells[id(cell)]

    def _find_cell(self, cell: CellType) -> Reduced | None:
        for value in list(names_in(MAIN).values()):
            if type(value) is not FunctionType or value.__closure__ is None:
                continue
            key = key_table.known_key(value)
            if key is None or ("thing", key) not in self.there or ("thing", key) in self.begun:
                continue
            for index, other in enumerate(value.__closure__):
                if other is cell:
                    return key_table.cell_of, (key, index)
        return None

    def use(self, pickler: CloudPickler) -> None:
        """For this pickler."""
        self.pickler = pickler

    def _define(self, obj: Any, key: int) -> Reduced:
        state: Any
        if type(obj) is CACHE:
            make, args, state = BY_VALUE[CACHE](obj)
            fill: Any = worker_home.fill_cache
        else:
            home = home_of(obj) if type(obj) is FunctionType else None
            if home is None:
                if obj.__module__ == AS_SPAWN_DOES:  # cloudpickle would take that for something to import
                    cloudpickle.register_pickle_by_value(sys.modules[AS_SPAWN_DOES])
                reduced = vars(cloudpickle.CloudPickler)["reducer_override"](self.pickler, obj)
            else:
                reduced = reduce_function(obj, home, self)
            make, args, state, _, _, fill = reduced
            if vars(obj).get("__slots__") and type(args[3]) is dict:  # else instances had a dictionary there
                args[3]["__slots__"] = vars(obj)["__slots__"]
        return (
            worker_home.define,
            (key, *place_of(obj), make, args),
            (key, fill, state),
            None,
            None,
            worker_home.complete,
        )


class _AllBut:
    """The other side has everything but one thing."""

    def __init__(self, need: Need) -> None:
        self._need = need

    def __contains__(self, need: Need) -> bool:
        return need != self._need


carried: set[int] = set()  # keys of large callables: see `_script.large_callables`


def is_definable(obj: Any) -> bool:
    """Whether an object is a thing of the script; not something large that happens to have a key, too."""
    if isinstance(obj, type):
        return True
    return type(obj) in (FunctionType, CACHE) and key_table.known_key(obj) not in carried


def place_of(obj: Any) -> tuple[str, str]:
    """Where the top level of the script makes a thing, if it does."""
    if not isinstance(obj, type):
        found = home_name(obj)
        if found is not None:
            return found
    return str(getattr(obj, "__module__", "")), str(getattr(obj, "__qualname__", ""))


def _source_of(filename: str, names: dict[str, Any]) -> list[str] | None:
    """The lines of a file that other processes cannot read: a cell of a notebook, a file in an archive."""
    if filename not in _sources:
        lines = None if Path(filename).exists() else linecache.getlines(filename, names)
        _sources[filename] = lines or None
    return _sources[filename]


def source(filename: str) -> list[str]:
    return _sources.get(filename) or []


# ------------------------------------------------------------------------------------------------------------ records


class Record:
    """One thing or global as it was when somebody looked last."""

    def __init__(self, need: Need, obj: Any = None, seen: bool = False) -> None:
        self.need = need
        self.is_name = need[0] == "name"
        # Large objects that happen to be callables live as long as the user has them, or a call that is under way.
        self._obj: Callable[[], Any] = (
            (lambda: obj) if self.is_name or is_definable(obj) else partial(key_table.find, need[1])
        )
        self.parts: dict[str, Any] = {}
        self.digests: dict[str, bytes] = {}  # of parts that can change in place, and are small
        self.stamps: dict[str, int] = {}  # when each part last changed, or went
        self.stamp = 0
        self.needs: set[Need] = set()
        self.error: str | None = None  # why it cannot be pickled
        self.look(first=True)
        if seen:  # there was a record of it once, and whoever was sent it then has it
            self.stamp = 0
            self.stamps = dict.fromkeys(self.stamps, 0)

    @property
    def obj(self) -> Any:
        """The thing; None if it is gone."""
        return self._obj()

    def value(self) -> Any:
        return self.parts.get("", ABSENT)

    def look(self, first: bool = False) -> None:
        """See whether a part has changed; if so, what it needs now."""
        parts = self._parts_now()
        digests: dict[str, bytes] = {}
        changed = self.parts.keys() - parts.keys()
        for label, value in parts.items():
            same = not first and self.parts.get(label, ABSENT) is value
            if same and label not in self.digests:
                continue
            found = None if is_private(label) or is_stable(value) else _digest(value, twice=not same)
            if found is not None:
                digests[label] = found
            if not same or found != self.digests.get(label):
                changed.add(label)
        if not changed and not first:
            return
        needs, error = self._needs(parts)
        stamp = next(stamps)
        +_changing
        try:
            self.parts, self.digests = parts, digests
            self.needs, self.error = needs, error
            self.stamps.update(dict.fromkeys(changed, stamp))
            self.stamp = stamp
        finally:
            -_changing

    def mark_changed(self, obj: Any) -> bool:
        """Take an object for changed, if it is a part of this one, or is this one; whether it is."""
        whole = not self.is_name and self.obj is obj
        if whole:
            labels = self._parts_that_change()
        elif is_definable(obj):  # it is referred to here, and has a record of its own
            labels = []
        else:
            labels = [label for label, value in self.parts.items() if value is obj]
        if not labels and not (whole and self.need[1] in carried):
            return False
        stamp = next(stamps)
        +_changing
        try:
            self.stamps.update(dict.fromkeys(labels, stamp))
            self.stamp = stamp
        finally:
            -_changing
        return True

    def _parts_that_change(self) -> list[str]:
        """What can change in place, and is too large to be looked at."""
        if type(self.obj) is FunctionType:
            return [label for label in self.parts if label != "__code__"]
        unseen = self.parts.keys() - self.digests.keys()
        return [label for label in unseen if not is_private(label) and not is_stable(self.parts[label])]

    def _parts_now(self) -> dict[str, Any]:
        """The parts by their names, as they are now."""
        if self.is_name:
            value = global_value(self.need[1], self.need[2])
            return {} if value is ABSENT else {"": value}
        obj = self.obj
        if not is_definable(obj):
            return {}
        if isinstance(obj, type):
            return {label: value for label, value in dict(vars(obj)).items() if label not in _VOLATILE}
        if type(obj) is FunctionType:
            own = {"__code__": obj.__code__, "__defaults__": obj.__defaults__, "__kwdefaults__": obj.__kwdefaults__}
            return own | obj.__dict__
        return {}

    def _needs(self, parts: dict[str, Any]) -> tuple[set[Need], str | None]:
        needs = Needs(self.need) if self.is_name else Defining(_AllBut(self.need), self.need)
        obj = parts.get("") if self.is_name else self.obj
        if type(obj) in BASIC:
            return set(), None
        if not self.is_name:
            needs.all |= _globals_in(obj, parts)
        try:
            limit = SMALL_BYTES if self.is_name else _ANY
            rehearse(obj, limit, needs, needs.use if isinstance(needs, Defining) else None)
        except TooLarge:
            pass  # what else it needs is seen when it is sent
        except BaseException as error:
            return needs.all - {self.need}, f"{class_name(type(error))}: {message_of(error)}"
        return needs.all - {self.need}, None


def global_value(home: str, name: str) -> Any:
    found = sys.modules.get(home)
    value = names_in(home).get(name, ABSENT)
    if value is ABSENT and type(found) is worker_home.Home:
        value = getattr(found, name, ABSENT)  # in a worker that has workers of its own
    return value


def is_stable(value: Any) -> bool:
    """Whether an object does not change in place, or is looked at by itself."""
    kind = type(value)
    if kind in _STABLE or issubclass(kind, (type, ModuleType)) or hasattr(kind, "__get__"):
        return True
    return kind is tuple and all(map(is_stable, value))


def has_identity(value: Any) -> bool:
    """Whether somebody may ask if an object is this one."""
    return type(value) in (tuple, bytes) or not is_stable(value)


def _globals_in(obj: Any, parts: dict[str, Any]) -> set[Need]:
    """The globals of the script that a function has as a default or in a cell, or a class as an attribute."""
    values = list(parts.values())
    if type(obj) is FunctionType:
        values += [*(obj.__defaults__ or ()), *(obj.__kwdefaults__ or {}).values()]
        for cell in obj.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty
                values.append(cell.cell_contents)
    looked_for = {id(value) for value in values if has_identity(value)}
    found: set[Need] = set()
    if looked_for:
        for home in [name for name in list(sys.modules) if goes_by_value(name) and name != AS_SPAWN_DOES]:
            found.update(
                ("name", home, name) for name, value in list(names_in(home).items()) if id(value) in looked_for
            )
    return found


def is_private(label: str) -> bool:
    """Whether the interpreter and its library keep something there: for dataclasses, say, and enums."""
    return label[:1] == "_" == label[-1:]


def _digest(value: Any, twice: bool) -> bytes | None:
    """The digest of a small object's content; None if it is large, or pickles differently each time."""
    try:
        found, _ = digest(value, SMALL_BYTES, Needs())
        if twice and digest(value, SMALL_BYTES, Needs())[0] != found:
            return None
    except BaseException:
        return None
    return found
