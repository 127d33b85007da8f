"""How picklers send the parts of a script: by reference if the other side has them, otherwise by value.

A pickler is given `References`.  These say what the other side has, and note what it needs besides.  Without them, as
on a cluster, everything goes by value, together with the globals it uses, as cloudpickle sends it.

- *Things* go by reference: classes that cannot be imported, and functions and caches that the script has under a name.
- Other functions go by value, without their globals: the names of these are noted.  If the globals of a function are
  those of an importable module, as after a decorator of a library, it uses that module's globals on the other side.
- Code travels with the name of its file and its lines, so that tracebacks show them.
"""

from __future__ import annotations

import copyreg
import dis
import marshal
import pickle
import sys
import weakref
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Protocol

from ordered_executor._pickling.by_value import Reduced, goes_by_value
from ordered_executor._pickling.keys import known_key
from ordered_executor._pickling.rebuild import (
    MAIN,
    empty_cell,
    fill_function,
    function_state,
    make_function,
    module,
    named,
    names_in,
)

CACHE = type(lru_cache(goes_by_value))
_NAME_OPERATIONS = frozenset(
    number for name, number in dis.opmap.items() if "GLOBAL" in name or name in ("LOAD_NAME", "STORE_NAME")
)
# What cloudpickle has a way for, too.
OURS = frozenset({CellType, ModuleType})
_ON_THE_HEAP = 1 << 9  # among the flags of a class
# A function that uses one of these may use any global.
_SEES_ALL = frozenset({"globals", "vars", "eval", "exec", "dir"})


class References(Protocol):
    """What the other side has of the script."""

    def refer(self, obj: Any) -> Reduced | None:
        """Reduce a thing to a reference; None: it goes by value."""

    def uses(self, home: str, fn: FunctionType) -> None:
        """A function goes by value, and uses these globals."""

    def uses_module(self, name: str) -> None:
        """All of a module that goes by value may be used."""

    def cell(self, cell: CellType) -> Reduced | None:
        """Reduce a cell of a function to that of a thing which shares it; None: it is new to the other side."""

    def uses_name(self, home: str, name: str) -> Reduced | None:
        """An object that is pickled as a name is used; None: it is that name which is being sent."""


def reduce(obj: Any, references: References) -> Reduced | None:
    """How an object of a script is sent; None: as any other, and `NotImplemented`: by name."""
    kind = type(obj)
    if kind is FunctionType:
        return _reduce_function(obj, references)
    if issubclass(kind, type):
        return references.refer(obj) if known_key(obj) is not None or _goes_by_value(obj) else None
    if kind is CACHE:
        return references.refer(obj) if known_key(obj) is not None or home_name(obj) is not None else None
    if kind is CellType:
        return references.cell(obj) or (empty_cell, ())
    if issubclass(kind, ModuleType):
        if not goes_by_value(obj.__name__):
            _refuse_made_module(obj)
            return None
        references.uses_module(obj.__name__)
        return module, (obj.__name__,)
    return reduce_instance(obj, kind, references)


def reduce_instance(obj: Any, kind: type, references: References) -> Reduced | None:
    """An instance of a class of the script that says how it is pickled: if by a name, the other side must have it."""
    its: Any = kind
    own = its.__reduce__ is not object.__reduce__ or its.__reduce_ex__ is not object.__reduce_ex__
    if not own or not goes_by_value(kind.__module__):
        return None
    reduced = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if type(reduced) is not str:
        return reduced
    return references.uses_name(kind.__module__, reduced) or (copyreg.__newobj__, (kind,), obj.__getstate__())  # type: ignore[attr-defined]


def _refuse_made_module(found: ModuleType) -> None:
    """One that the script has made and entered: another process cannot import it."""
    name = found.__name__
    if found.__spec__ is None and "." not in name and sys.modules.get(name) is found:
        raise pickle.PicklingError(f"the module {name!r} was made by the program, and cannot be imported elsewhere")


def _reduce_function(fn: FunctionType, references: References) -> Reduced | None:
    known = known_key(fn) is not None
    if not known and importable(fn):
        return NotImplemented
    reduced = references.refer(fn) if known or home_name(fn) is not None else None
    if reduced is not None:
        return reduced
    home = home_of(fn)
    return None if home is None else reduce_function(fn, home, references)


def reduce_function(fn: FunctionType, home: str, references: References) -> Reduced:
    """A function by value, at home in a module of the other side."""
    references.uses(home, fn)
    args = home, fn.__code__, fn.__name__, fn.__closure__
    new = [cell for cell in fn.__closure__ or () if references.cell(cell) is None]
    return make_function, args, function_state(fn, new), None, None, fill_function


def reduce_code(code: CodeType) -> Reduced:
    return marshal.loads, (marshal.dumps(code),)


# ----------------------------------------------------------------------------------------------------- what goes how


def _goes_by_value(cls: type) -> bool:
    """Whether a class cannot be imported on the other side under its own name."""
    if goes_by_value(cls.__module__):
        return True
    if not cls.__flags__ & _ON_THE_HEAP:
        return False  # some of the interpreter's own cannot be found under their names
    try:
        return named(cls.__module__, cls.__qualname__) is not cls
    except (AttributeError, ImportError):
        return True


def importable(fn: Any) -> bool:
    """Whether a function is what its module has under its name, and the other side can import that."""
    home = fn.__module__
    if home is None or goes_by_value(home):
        return False
    try:
        return named(home, fn.__qualname__) is fn if home in sys.modules else False
    except AttributeError:
        return False


def home_name(obj: Any) -> tuple[str, str] | None:
    """The module that goes by value and has this object as a global, and under which name."""
    for home in _homes(obj):
        names = names_in(home)
        own = str(getattr(obj, "__name__", ""))
        if names.get(own) is obj:
            return home, own
        for name, value in list(names.items()):
            if value is obj:
                return home, name
    return None


def _homes(obj: Any) -> Iterator[str]:
    names = getattr(obj, "__globals__", None) or getattr(getattr(obj, "__wrapped__", None), "__globals__", {})
    for home in dict.fromkeys((obj.__module__, names.get("__name__"), MAIN)):
        if isinstance(home, str) and goes_by_value(home) and home in sys.modules:
            yield home


def home_of(fn: FunctionType) -> str | None:
    """The module whose globals are the function's, if the other side has it."""
    name = fn.__globals__.get("__name__")
    found = sys.modules.get(name) if isinstance(name, str) else None
    if found is None or names_in(str(name)) is not fn.__globals__:
        return None
    return name if goes_by_value(name) or _can_be_imported(found) else None


_importable: weakref.WeakKeyDictionary[ModuleType, bool] = weakref.WeakKeyDictionary()


def _can_be_imported(found: ModuleType) -> bool:
    """Whether another process finds the same file under a module's name."""
    known = _importable.get(found)
    if known is None:
        try:
            known = _is_found(found)
        except Exception:  # finders are anybody's
            known = False
        _importable[found] = known
    return known


def _is_found(found: ModuleType) -> bool:
    """Past `sys.modules`, where `importlib.util.find_spec` would look first."""
    package = found.__name__.rpartition(".")[0]
    paths = sys.modules[package].__path__ if package else None
    origin = getattr(found.__spec__, "origin", None)
    specs = (finder.find_spec(found.__name__, paths) for finder in sys.meta_path)
    spec = next((spec for spec in specs if spec is not None), None)
    return spec is not None and origin is not None and spec.origin == origin


# ----------------------------------------------------------------------------------------------- the names of globals

_names: weakref.WeakKeyDictionary[CodeType, tuple[str, ...]] = weakref.WeakKeyDictionary()


def names_of(code: CodeType) -> tuple[str, ...]:
    """The globals that a function's code, or code nested in it, may use."""
    known = _names.get(code)
    if known is None:
        known = _names[code] = tuple(dict.fromkeys(_walk(code)))
    return known


def _walk(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opcode in _NAME_OPERATIONS:
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _walk(constant)


def sees_all(names: Iterable[str]) -> bool:
    """Whether code that uses these names may use any global of its module."""
    return not _SEES_ALL.isdisjoint(names)


def submodules(code: CodeType, packages: Iterable[Any]) -> list[str]:
    """Modules that code reaches through a package, `xml.dom` by way of `xml`: somebody must have imported them."""
    tokens = set(_attributes(code))
    found = []
    for package in packages:
        if not isinstance(package, ModuleType) or not getattr(package, "__path__", None):
            continue
        prefix = package.__name__ + "."
        under = [name for name in list(sys.modules) if name.startswith(prefix)]
        found += [name for name in under if tokens.issuperset(name[len(prefix) :].split("."))]
    return found


def _attributes(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _attributes(constant)
