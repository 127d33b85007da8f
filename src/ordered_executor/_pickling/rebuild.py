"""The functions that pickles call to put together functions, classes and the like that go by value.

A function gets the globals of *its* module on the other side, live.  The globals of the script are the one copy that a
worker has (see `_script.home`).  So its pickle has only the parts of the function itself.

It works on both sides: a function that a worker made and returned has the script's own globals at home.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import Iterable, Iterator
from operator import attrgetter
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

MAIN, AS_SPAWN_DOES = "__main__", "__mp_main__"
# What travels as the state of a function, besides the contents of its cells and its own attributes.
_EAGER = ("__defaults__", "__kwdefaults__", "__doc__", "__module__", "__qualname__")
# From Python 3.14 on annotations are made when they are asked for, and may fail then.
_ATTRIBUTES = (*_EAGER, "__annotate__" if sys.version_info >= (3, 14) else "__annotations__")

FunctionState = tuple[dict[str, Any], dict[str, Any], list[tuple[CellType, Any]]]


def module(name: str) -> ModuleType:
    """A module by its name, imported if need be."""
    found = sys.modules.get(name)
    return importlib.import_module(name) if found is None else found


_names: weakref.WeakKeyDictionary[ModuleType, dict[str, Any]] = weakref.WeakKeyDictionary()


def names_in(home: str) -> dict[str, Any]:
    """The globals of a module's functions; empty if there is no such module.

    Where `multiprocessing` has run a script, that is not the dictionary of the module that it has made of it.
    """
    found = sys.modules.get(home)
    if found is None:
        return {}
    if type(found) is not ModuleType or found.__name__ != AS_SPAWN_DOES:
        return vars(found)
    if found not in _names:
        _names[found] = next(_globals_of_functions(found), vars(found))
    return _names[found]


def _globals_of_functions(found: ModuleType) -> Iterator[dict[str, Any]]:
    for value in list(vars(found).values()):
        for each in [value, *(vars(value).values() if isinstance(value, type) else ())]:
            if type(each) is FunctionType and each.__globals__.get("__name__") == AS_SPAWN_DOES:
                yield each.__globals__


def named(module_name: str, name: str) -> Any:
    """What a module has under a name, which may have dots."""
    return attrgetter(name)(module(module_name))


def empty_cell() -> CellType:
    return CellType()


def make_function(home: str, code: CodeType, name: str, closure: tuple[CellType, ...] | None) -> FunctionType:
    """A function without a state yet, at home in a module."""
    return FunctionType(code, vars(module(home)) if home not in sys.modules else names_in(home), name, None, closure)


def function_state(fn: FunctionType, cells: Iterable[CellType]) -> FunctionState:
    """All of a function but its code, with the contents of these of its cells."""
    attributes = {name: getattr(fn, name) for name in _ATTRIBUTES}
    if params := getattr(fn, "__type_params__", None):
        attributes["__type_params__"] = params
    contents = []
    for cell in cells:
        try:
            contents.append((cell, cell.cell_contents))
        except ValueError:  # it is empty
            continue
    return fn.__dict__, attributes, contents


def fill_function(fn: FunctionType, state: FunctionState) -> None:
    """The rest of a function.  Its cells are filled only now: they may hold the function itself."""
    own, attributes, cells = state
    for cell, contents in cells:
        cell.cell_contents = contents
    for name, value in attributes.items():
        setattr(fn, name, value)
    fn.__dict__.update(own)
