"""Exceptions that arrive as they were, or not at all.

Pickle makes an exception again by calling its class with its `args`.  That fails if `__init__` takes something else.
It may also succeed and say something else: a class that calls `super().__init__(f"no such {name}")` gets the whole text
as its `name`.  And the fields that the interpreter's own classes keep outside of `__dict__` (`errno`, `start`,
`lineno`) come back from `args`, if at all.  So an exception is put together here: an empty instance of its class, and
all its fields, set as they were.

Guarantees:

- No `__new__`, `__init__`, `__setattr__` or property of the user's runs when an exception is put together.
- If a class says how it is pickled (`__reduce__`, `copyreg`, …), it is pickled that way, as long as its type, text and
  `args` arrive; the class decides which attributes do.  A class without an `__init__` of its own is also pickled in the
  usual way, which is cheaper.
- `faithful` compares the loaded exception with the one that was sent: type, text, `args`, attributes, members of a
  group.  It is asked before anything travels.  An exception that is not faithful travels as a description.

The traceback, cause and context of an exception do not travel (as with pickle).  Nor does the `obj` of an
`AttributeError`, which may be anything.
"""

from __future__ import annotations

import builtins
import re
import weakref
from collections.abc import Callable, Iterator
from types import (
    BuiltinFunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pickle import Pickler
else:
    Pickler = object

# Compared by value.  How an object of another class travels is its own affair.
SIMPLE: frozenset[type] = frozenset({int, float, bool, type(None), str, bytes})
STAYS = {(AttributeError, "obj")}
GROUP: Any = BaseExceptionGroup
ADDRESS = re.compile("0x[0-9a-fA-F]+")

State = tuple[tuple[Any, ...], list[tuple[int, str, Any]], dict[str, Any]]


class FaithfulPickler(Pickler):
    """A base for picklers: exceptions, wherever they are in an object, are put together on the other side."""

    # What is sent in an attribute's place, mostly itself.  If given, every exception is put together.
    replace: Callable[[Any], Any] | None = None
    dispatch_table: Any

    def reducer_override(self, obj: Any) -> Any:
        cls = type(obj)
        if issubclass(cls, BaseException) and (self.replace is not None or not self._as_pickle_does(cls)):
            return _blank, _blank_args(obj), _state(obj, self.replace or _same), None, None, _fill
        return super().reducer_override(obj)

    def _as_pickle_does(self, cls: type[BaseException]) -> bool:
        """Whether pickle is tried: nothing of the user's is called by it, or what the user wrote for it."""
        return (
            cls in OF_BUILTINS
            or (type(cls.__init__) is WrapperDescriptorType and type(cls.__new__) is BuiltinFunctionType)
            or _says_how(cls)
            or cls in self.dispatch_table
            or _maker(cls).__module__ != "builtins"
        )


def _says_how(cls: type[BaseException]) -> bool:
    return any(
        type(method) is not MethodDescriptorType for method in (cls.__reduce_ex__, cls.__reduce__, cls.__setstate__)
    )


def is_simple(error: BaseException) -> bool:
    """Whether there is nothing in it that pickle could lose: most errors, so it is asked before anything is tried."""
    return OF_BUILTINS.get(type(error)) == [] and not _dict(error) and SIMPLE.issuperset(map(type, _args(error)))


def faithful(error: BaseException, again: BaseException) -> bool:
    """Whether an exception that was loaded again is what it was.  May raise what the user's classes raise."""
    if type(again) is not type(error) or not _says_the_same(error, again):
        return False
    parts, parts_again = _members(error) + _args(error), _members(again) + _args(again)
    if len(parts) != len(parts_again) or not all(map(_alike, parts, parts_again)):
        return False
    attributes = _attributes(error)
    if not attributes or _says_how(type(error)):
        return True
    attributes_again = _attributes(again)
    return attributes.keys() <= attributes_again.keys() and all(
        _equal(value, attributes_again[name]) for name, value in attributes.items()
    )


def _alike(part: Any, again: Any) -> bool:
    return faithful(part, again) if issubclass(type(part), BaseException) else _equal(part, again)


def _equal(value: Any, again: Any) -> bool:
    # the last: not a number
    return type(value) not in SIMPLE or (type(value) is type(again) and (value == again or value != value))  # noqa: PLR0124


def _says_the_same(error: BaseException, again: BaseException) -> bool:
    """Sets may come in another order, and objects are at other addresses; what changes by itself says nothing."""
    text, text_again = message_of(error), message_of(again)
    return (
        text == text_again
        or sorted(ADDRESS.sub("", text)) == sorted(ADDRESS.sub("", text_again))
        or text != message_of(error)
    )


# ------------------------------------------------------------------------------------------------- apart, and together


def _maker(cls: type) -> type:
    """The nearest base whose `__new__` is written in C: the one that knows the layout."""
    while type(cls.__dict__.get("__new__")) is not BuiltinFunctionType:
        cls = cls.__base__  # type: ignore[assignment]  # object has one
    return cls


def _blank(cls: type[BaseException], *args: Any) -> BaseException:
    return _maker(cls).__new__(cls, *args)


def _blank_args(error: BaseException) -> tuple[Any, ...]:
    """A group cannot be given its members later."""
    cls = type(error)
    return (cls,) if _is_single(cls) else (cls, GROUP.message.__get__(error), list(_members(error)))


def _members(error: BaseException) -> tuple[Any, ...]:
    return () if _is_single(type(error)) else GROUP.exceptions.__get__(error)


def _args(error: BaseException) -> tuple[Any, ...]:
    """The `args` that it has, whatever its class says that they are."""
    return ARGS.__get__(error)  # type: ignore[no-any-return]


ARGS: Any = vars(BaseException)["args"]


class _Field(NamedTuple):
    """A place for an attribute outside of `args` and `__dict__`: of the interpreter's classes, or a slot."""

    depth: int  # of its class in the `__mro__`
    name: str
    descriptor: Any
    # In the interpreter's classes None mostly says "not set", and OSError prints a file name that is set to None.
    # StopIteration's value must be set, though: there is C that reads it.
    none_is_a_value: bool


def _is_single(cls: type) -> bool:
    return issubclass(cls, BaseException) and not issubclass(cls, GROUP)


def _fields_of(cls: type) -> list[_Field]:
    return [
        _Field(depth, name, member, owner.__module__ != "builtins" or owner is StopIteration)
        for depth, owner in enumerate(cls.__mro__)
        if owner is not BaseException and owner is not GROUP
        for name, member in vars(owner).items()
        if type(member) in DESCRIPTORS and not name.startswith("__") and (owner, name) not in STAYS
    ]


DESCRIPTORS = frozenset({MemberDescriptorType, GetSetDescriptorType})
OF_BUILTINS = {cls: _fields_of(cls) for cls in vars(builtins).values() if isinstance(cls, type) and _is_single(cls)}


_known: weakref.WeakKeyDictionary[type, list[_Field]] = weakref.WeakKeyDictionary(OF_BUILTINS)


def _set_fields(error: BaseException) -> Iterator[tuple[_Field, Any]]:
    """The fields that are set, and their values."""
    cls = type(error)
    fields = _known.get(cls)
    if fields is None:
        fields = _known[cls] = _fields_of(cls)
    for field in fields:
        try:
            value = field.descriptor.__get__(error)
        except AttributeError:
            continue
        if value is not None or field.none_is_a_value:
            yield field, value


def _dict(error: BaseException) -> dict[str, Any]:
    """Its `__dict__`, past the class's own `__getattribute__`."""
    return object.__getattribute__(error, "__dict__")  # type: ignore[no-any-return]


def _attributes(error: BaseException) -> dict[Any, Any]:
    return {field[:2]: value for field, value in _set_fields(error)} | _dict(error)


def _state(error: BaseException, replace: Callable[[Any], Any]) -> State:
    fields = [(field.depth, field.name, replace(value)) for field, value in _set_fields(error)]
    return _args(error), fields, {name: replace(value) for name, value in _dict(error).items()}


def _fill(error: BaseException, state: State) -> None:
    args, fields, attributes = state
    ARGS.__set__(error, args)
    for depth, name, value in fields:
        vars(type(error).__mro__[depth])[name].__set__(error, value)
    _dict(error).update(attributes)


def _same(value: Any) -> Any:
    return value


# --------------------------------------------------------------------------------------------------------- in words


def class_name(cls: type) -> str:
    """A class's name for messages.  Never raises: a metaclass may refuse to be described."""
    try:
        own = cls.__module__ in ("builtins", "__main__")
        return cls.__qualname__ if own else f"{cls.__module__}.{cls.__qualname__}"
    except BaseException:
        return "a class without a name"


def message_of(error: BaseException) -> str:
    """What an exception says, or what kept it from saying it.  Never raises."""
    try:
        return str(error)
    except BaseException as broken:
        return f"<its __str__ raised {class_name(type(broken))}>"
