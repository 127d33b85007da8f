"""The worker's copy of the script: a module for each one that goes by value, `__main__` first of all.

Its dictionary is the globals of every function of the script that runs here.  So tasks, the initializer, closures and
methods see each other's changes.  The parent sends names as they are needed, and again when it has changed them (see
`_script.definitions`).  Nothing else resets anything here.

- *Unopened* names came as pickles that nothing has needed yet.  The module opens one when it is asked for it.
- The *top level* of the script is run, as `spawn` does it, if a name is needed that cannot be pickled.  Classes that
  are here already are not made a second time, and names that are here keep their values.

Invariants: a key that was defined here is not defined again.  A frame of definitions is applied whole, in the order in
which it came, even if parts of it fail: a failure is remembered, and told to the task that misses the name.
"""

from __future__ import annotations

import builtins
import contextlib
import linecache
import pickle
import sys
from collections.abc import Callable, Collection
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from ordered_executor._base.locks import Lock
from ordered_executor._channel import frames
from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.exceptions import class_name, message_of
from ordered_executor._pickling.rebuild import AS_SPAWN_DOES, MAIN, named, names_in
from ordered_executor._pickling.reducers import CACHE

Name = tuple[str, str]  # module, name


class Unopened(NamedTuple):
    """A name that nothing has needed yet."""

    stamp: int
    pickled: bytes
    needs: list[Name]


_unopened: dict[Name, Unopened] = {}
_opened: dict[Name, int] = {}  # what was opened, and its stamp
_lacking: dict[Name, str] = {}  # names that are not here, and why
_unmade: dict[Name, str] = {}  # names that the top level did not come to, and why
_defined: dict[Name, Any] = {}  # things, by the module and name that they were defined under
_shells: dict[Name, Any] = {}  # containers that are still empty
_begun: set[int] = set()  # keys of things that are being defined
_complete: set[int] = set()
_ran: dict[str, set[str]] = {}  # modules whose top level ran here -> the names that it made
_opening = Lock()  # tasks may have threads
_left: list[ModuleType] = []  # whose place the script took: its functions need it


def _text(error: BaseException) -> str:
    return f"{class_name(type(error))}: {message_of(error)}"


class Home(ModuleType):
    """A module of the script in a worker."""

    def __getattr__(self, name: str) -> Any:
        return open_name(self.__name__, name)


class Mirror(Home):
    """The same around a dictionary that is there already.

    Where `multiprocessing` has run the script, its functions have other globals than the module it made of them.
    """

    __slots__ = ("_names",)
    _names: dict[str, Any]

    def __init__(self, name: str, names: dict[str, Any]) -> None:
        super().__init__(name)
        vars(ModuleType)["__dict__"].__get__(self).clear()
        vars(Mirror)["_names"].__set__(self, names)

    __dict__ = property(lambda self: self._names)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __getattr__(self, name: str) -> Any:
        names = self._names
        return names[name] if name in names else open_name(MAIN, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._names[name] = value

    def __delattr__(self, name: str) -> None:
        if self._names.pop(name, self) is self:
            raise AttributeError(name)


def settle() -> None:
    """Let this process's `__main__` be the script's."""
    found = sys.modules[MAIN]
    _left.append(found)
    if found.__name__ == AS_SPAWN_DOES:
        names = names_in(MAIN)
        home: Home = Mirror(MAIN, names)
        names["__name__"] = MAIN
        _ran[MAIN] = set(names)
        _rename(names)
    else:
        home = Home(MAIN)
        home.__dict__["__builtins__"] = builtins
    sys.modules[MAIN] = sys.modules[AS_SPAWN_DOES] = home


def _rename(names: dict[str, Any]) -> None:
    """While the top level ran, its module had another name: its things are of the script's now."""
    for value in list(names.values()):
        for each in [value, *(vars(value).values() if isinstance(value, type) else ())]:
            if getattr(each, "__module__", None) == AS_SPAWN_DOES:
                with contextlib.suppress(Exception):
                    each.__module__ = MAIN


# --------------------------------------------------------------------------------------------------- things by key


def define(key: int, home: str, name: str, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """A function, class or cache of the script: the one that is here, or else a new one without a state."""
    obj = key_table.find(key)
    if obj is None:
        obj = _adopted(home, name, args)
        if obj is None:
            obj = make(*args)
            _begun.add(key)
        key_table.keep(key, obj)
        _defined[home, name] = obj
    return obj


def complete(obj: Any, state: tuple[int, Callable[[Any, Any], object], Any]) -> None:
    """Give a thing its state, once."""
    key, fill, content = state
    if key in _complete:
        return
    if key in _begun:
        fill(obj, content)
        _begun.discard(key)
    elif isinstance(obj, type):  # it was made by the top level: what the parent has set since
        for label, value in content[0].items():
            if not label.startswith("__") and not hasattr(type(value), "__get__"):
                with contextlib.suppress(Exception):
                    setattr(obj, label, value)
    _complete.add(key)


def fill_cache(cache: Any, own: dict[str, Any]) -> None:
    vars(cache).update(own)


def _adopted(home: str, name: str, args: tuple[Any, ...] = ()) -> Any:
    """What the top level made under this name, if it is the same thing and has no key yet."""
    if home not in _ran:
        return None
    try:
        found = named(home, name)
    except AttributeError:
        return None
    if key_table.known_key(found) is not None:
        return None
    if isinstance(found, type):
        return found
    if type(found) is FunctionType:
        return found if not args or (len(args) > 1 and found.__code__ == args[1]) else None
    return found if type(found) is CACHE else None


# ------------------------------------------------------------------------------------------------------------- names


def open_name(home: str, name: str) -> Any:
    """Open a name that has come, with all that it needs.  Raises `AttributeError` if there is none."""
    +_opening
    try:
        names = vars(sys.modules[home])
        if name not in names and not _open(home, name):
            reason = _lacking.get((home, name))
            raise AttributeError(
                f"module {home!r} has no attribute {name!r}" + (f" in this worker: {reason}" if reason else "")
            )
        return names[name]
    finally:
        -_opening


def _open(home: str, name: str) -> bool:
    """Open a name, if it is there unopened and can be unpickled; what the top level has made of it is adopted."""
    unopened = _unopened.pop((home, name), None)
    if unopened is None:
        return False
    try:
        value = pickle.loads(unopened.pickled)
    except BaseException as error:
        _begun.clear()
        _lacking[home, name] = f"it cannot be unpickled: {_text(error)}"
        return False
    vars(sys.modules[home])[name] = value
    _opened[home, name] = unopened.stamp
    for other, needed in unopened.needs:
        if needed not in vars(sys.modules[other]):
            _open(other, needed)
    return True


def bind(home: str, name: str, stamp: int, value: Any) -> None:
    """Set a global, as the parent has it now."""
    _unopened.pop((home, name), None)
    _lacking.pop((home, name), None)
    if _opened.pop((home, name), None) == stamp:
        return
    names = vars(sys.modules[home])
    if (home, name) in _shells and names.get(name) is _shells[home, name]:
        shell = _shells.pop((home, name))
        shell.clear()  # classes may have entered themselves
        (shell.extend if type(shell) is list else shell.update)(value)
    else:
        names[name] = value


def why_lacking(error: BaseException) -> None:
    """Let a `NameError` say why the name is not here."""
    name = getattr(error, "name", None)
    for (_, lacking), reason in _lacking.items():
        if lacking == name and reason not in str(error):
            error.args = (f"name {name!r} is not defined in this worker: {reason}",)
            return


# ----------------------------------------------------------------------------------------------------- the top level


def run(home: str, filename: str, source: str) -> None:
    """Run the top level of the script, unless it ran.  What it raises is remembered for the names it should make."""
    if home in _ran:
        return
    from ordered_executor._script import late_run  # noqa: PLC0415 (few workers need it)

    names = vars(sys.modules[home])
    before = dict(names)
    _ran[home] = set()
    stopped = late_run.run(home, filename, source, names, lambda name: _class_of(home, name))
    names.update(before)
    _ran[home] = names.keys() - before.keys()
    _rename(names)
    for (other, name), thing in _defined.items():
        if other == home and "." not in name and type(names.get(name)) is type(thing):
            names[name] = thing
    _open_all(home)
    if stopped is not None:
        unmade = [name for name in stopped.rest if name not in names]
        _unmade.update(dict.fromkeys([(home, name) for name in unmade], stopped.reason(unmade)))


def _class_of(home: str, name: str) -> type | None:
    found = _defined.get((home, name))
    return found if isinstance(found, type) else None


def _open_all(home: str) -> None:
    """What the top level has made needs names, too, and nobody can say which."""
    +_opening
    try:
        for other, name in list(_unopened):
            if other == home:
                _open(home, name)
    finally:
        -_opening


# --------------------------------------------------------------------------------------------------- what a frame says


def _be_home(home: str, attributes: dict[str, Any], spec: tuple[str, str | None] | None) -> None:
    if home not in sys.modules:
        sys.modules[home] = Home(home)
    if isinstance(sys.modules[home], Home):
        names = vars(sys.modules[home])
        names.update(attributes)
        if spec is not None:
            names["__spec__"] = ModuleSpec(spec[0], None, origin=spec[1])


def _take_unopened(home: str, name: str, stamp: int, pickled: bytes, needs: list[Name]) -> None:
    _opened.pop((home, name), None)
    _lacking.pop((home, name), None)
    _unopened[home, name] = Unopened(stamp, pickled, needs)
    if home in _ran:
        _open(home, name)
    else:
        vars(sys.modules[home]).pop(name, None)


def _drop(home: str, name: str) -> None:
    _unopened.pop((home, name), None)
    if _opened.pop((home, name), None) is not None:
        vars(sys.modules[home]).pop(name, None)


def _delete(home: str, name: str) -> None:
    _drop(home, name)
    vars(sys.modules[home]).pop(name, None)


def _preset(home: str, name: str, value: Any) -> None:
    """For code that runs while classes are made; the name comes again behind them."""
    vars(sys.modules[home]).setdefault(name, value)


def _shell(home: str, name: str, kind: str) -> None:
    names = vars(sys.modules[home])
    if name not in names:
        names[name] = _shells[home, name] = {"list": list, "dict": dict, "set": set}[kind]()


def _lack(home: str, name: str, reason: str) -> None:
    if name not in vars(sys.modules[home]):
        _lacking[home, name] = _unmade.get((home, name), reason)


def _adopt(key: int, home: str, name: str, reason: str) -> None:
    """A thing that cannot be pickled: the top level has made it."""
    found = _adopted(home, name)
    if found is None:
        key_table.explain(key, _unmade.get((home, name.partition(".")[0]), reason))
    else:
        key_table.keep(key, found)
        _complete.add(key)


def _source(filename: str, lines: list[str]) -> None:
    linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)


def _import(name: str) -> None:
    with contextlib.suppress(Exception):
        import_module(name)


def _forget(key: int) -> None:
    key_table.forget(key)
    _complete.discard(key)
    for place in [place for place, thing in _defined.items() if key_table.known_key(thing) is None]:
        del _defined[place]


_ORDERS: dict[str, Callable[..., None]] = {
    "home": _be_home,
    "unopened": _take_unopened,
    "drop": _drop,
    "delete": _delete,
    "preset": _preset,
    "shell": _shell,
    "lack": _lack,
    "run": run,
    "adopt": _adopt,
    "explain": key_table.explain,
    "source": _source,
    "import": _import,
    "forget": _forget,
}


def apply(body: bytes | bytearray) -> None:
    """Do as a frame of definitions says.  Raises nothing."""
    (orders, entries), raw = frames.split(body)
    for order, *args in orders:
        _ORDERS[order](*args)
    todo = _cut(entries, raw)
    while todo:
        failed = [(entry, reason) for entry in todo if (reason := _take_entry(*entry)) is not None]
        if len(failed) == len(todo):
            for (kind, where, _), reason in failed:
                _failed(kind, where, reason)
            break
        todo = [entry for entry, _ in failed]  # again: now there is more of what they use while they are made
    _shells.clear()


def _take_entry(kind: str, where: tuple[Any, ...], pieces: list[memoryview]) -> str | None:
    """Returns why it failed, if it did."""
    try:
        _ENTRIES[kind](*where, _Unpickler(_File(pieces[0]), buffers=pieces[1:]).load())
    except BaseException as error:
        for key in _begun:
            key_table.forget(key)
        return _text(error)
    finally:
        _begun.clear()
    return None


def _failed(kind: str, where: tuple[Any, ...], reason: str) -> None:
    text = f"it cannot be unpickled there: {reason}"
    if kind == "thing":
        key_table.explain(where[0], f"a function or class of the script is not in this worker: {text}")
    elif kind == "bind":
        names = vars(sys.modules[where[0]])
        if names.get(where[1]) is _shells.get(where[:2], _shells):
            del names[where[1]]
        _lack(where[0], where[1], text)


def _set(key: int, label: str, value: Any) -> None:
    setattr(key_table.thing(key), label, value)


def _unset(key: int, label: str, _: None) -> None:
    with contextlib.suppress(AttributeError):
        delattr(key_table.thing(key), label)


_ENTRIES: dict[str, Callable[..., None]] = {"bind": bind, "thing": key_table.keep, "set": _set, "unset": _unset}


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, name: Name) -> Any:
        """A global that is part of another one."""
        return vars(sys.modules[name[0]])[name[1]]


def _cut(entries: list[Any], raw: memoryview) -> list[tuple[str, tuple[Any, ...], list[memoryview]]]:
    """The entries of a frame, each with its own part of what is behind them."""
    found, at = [], 0
    for kind, where, sizes in entries:
        pieces = []
        for size in sizes:
            pieces.append(raw[at : at + size])
            at += size
        found.append((kind, where, pieces))
    return found


class _File:
    """A file to read from that does not copy all that is in it first, as `BytesIO` does."""

    def __init__(self, content: memoryview) -> None:
        self._left = content

    def read(self, size: int) -> bytes:
        piece, self._left = self._left[:size], self._left[size:]
        return bytes(piece)

    def readinto(self, place: Any) -> int:
        piece = self._left[: len(place)]
        place[: len(piece)] = piece
        self._left = self._left[len(piece) :]
        return len(piece)

    def readline(self) -> bytes:
        return self.read(bytes(self._left).index(b"\n") + 1)


# ---------------------------------------------------------------------------------------------------------- outcomes


def made_by_top_level(home: Any) -> Collection[str]:
    """The names that the top level of a script made here, if it ran here."""
    return _ran.get(home, ())
