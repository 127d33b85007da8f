"""Packs the parts of a plan that a worker does not have yet.

Each name has a pickle of its own.  So if one cannot be pickled, or unpickled in the worker, only the tasks that use it
fail.  An object that is also a global of its own goes as a reference to that global, wherever it is met: in another
global, in the defaults of a function, in a class.  So it stays one object in the worker.  If it is met before it is
packed, it is packed first.

Large buffers are not copied: they are written from where they are.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

from ordered_executor._base import slow
from ordered_executor._pickling.exceptions import class_name, message_of
from ordered_executor._pickling.picklers import BASIC, SMALL_BUFFER, CloudPickler
from ordered_executor._pickling.reducers import CACHE
from ordered_executor._script.plan import Plan, record_of
from ordered_executor._script.records import ABSENT, Defining, Need, Needs, Record, carried, has_identity, is_stable

Name = tuple[str, str]  # module, name
# kind, where it belongs, sizes of its pickle and of its buffers
Entry = tuple[str, tuple[Any, ...], list[int]]

# A buffer that is smaller is copied: the user may change it while it is being written.
COPIED_BYTES = 1024 * 1024


# Containers that are there, still empty, before what is in them is made.  Large ones are not filled a second time.
_SHELLS = (list, dict, set)
_MOST_IN_SHELL = 10_000


class Unpicklable(Exception):
    """One of them cannot be pickled, as its record says now: to be tried again without it."""


def _rank(record: Record) -> int:
    """What others need while they are made goes first."""
    obj = record.value() if record.is_name else record.obj
    if isinstance(obj, ModuleType):
        return 0
    if isinstance(obj, type):
        return 6 if record.is_name else 5
    if type(obj) in (FunctionType, CACHE):
        return 2 if record.is_name else 1
    return 3 if record.is_name and is_stable(obj) else 7


def _name_of(where: tuple[Any, ...], record: Record) -> str:
    label = where[1] if record.is_name else f"{getattr(record.obj, '__qualname__', 'an object')}.{where[1]}"
    return f"{label!r} of the script"


class _First(Exception):
    """A global was met that has not been packed yet."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class _AliasPickler(CloudPickler):
    """Asks about every object whether it is a global of its own."""

    packing: Packing
    root: Any  # what is being pickled

    def persistent_id(self, obj: Any) -> Name | None:
        if obj is self.root:
            self.root = ABSENT
            return self.packing.alias(obj, root=True)
        return self.packing.alias(obj)


class Packing:
    """See the module.  Raises `Unpicklable`."""

    def __init__(self, has: dict[Need, int], plan: Plan) -> None:
        self.sent: dict[Need, int] = {}
        self.entries: list[Entry] = []
        self.parts: list[Any] = []
        self.orders: list[tuple[Any, ...]] = []
        self._has = has
        self._plan = plan
        self._new = Needs()
        self._aliases: dict[int, Name] = {}  # by their identities: globals that the worker has, or that are packed
        self._waiting: dict[int, Record] = {}  # that are to be packed
        self._begun: dict[int, Name] = {}  # that are being packed
        self._pickle: list[bytes] = []
        self._buffers: list[Any] = []
        records = sorted(plan.records, key=_rank)
        self._prepare(records)
        self._look_for_globals(records)
        for record in records:
            self._pack(record)

    def __contains__(self, need: Need) -> bool:
        """Whether the worker has it: then things refer to it."""
        if need in self._has or need in self.sent:
            return True
        record = record_of(need)
        return record is not None and record.error is not None

    @property
    def more(self) -> Needs | None:
        """What showed only now to be needed, because it is in something large."""
        known = {record.need for record in self._plan.records} | self._plan.others
        self._new.all -= known
        return self._new if self._new.all else None

    def _prepare(self, records: list[Record]) -> None:
        """Where classes will be made: code of theirs may run then, and use globals that come later in the frame.

        A metaclass may count them, or enter them into a list that they are in.
        """
        new = [record for record in records if record.need not in self._has and record.error is None]
        if not any(isinstance(record.obj, type) for record in new):
            return
        for record in new:
            value = record.value()
            if type(value) in BASIC:
                self.orders.append(("preset", *record.need[1:], value))
            elif type(value) in _SHELLS and len(value) <= _MOST_IN_SHELL:
                self.orders.append(("shell", *record.need[1:], type(value).__name__))

    def _look_for_globals(self, records: list[Record]) -> None:
        for record in records:
            if not record.is_name or record.error is not None or not has_identity(record.value()):
                continue
            if self._has.get(record.need, -1) >= record.stamp:
                self._aliases.setdefault(id(record.value()), record.need[1:])
            else:
                self._waiting.setdefault(id(record.value()), record)
        for identity in self._aliases:
            self._waiting.pop(identity, None)

    def alias(self, obj: Any, root: bool = False) -> Name | None:
        """The global that an object is.  Raises `_First` if that is to be packed before."""
        name = self._aliases.get(id(obj))
        if name is not None:
            return name
        record = self._waiting.get(id(obj))
        if record is not None:
            raise _First(record)
        name = None if root else self._begun.get(id(obj))
        if name is None or type(obj) not in _SHELLS or len(obj) > _MOST_IN_SHELL:
            return None
        self.orders.append(("shell", *name, type(obj).__name__))  # it is in itself, by way of others
        return name

    def _pack(self, record: Record) -> None:
        had, stamp = self._has.get(record.need, -1), record.stamp  # a change that is told from now on is another one
        if record.error is not None or had >= stamp or record.need in self.sent:
            return
        if not record.is_name:
            self._pack_thing(record, had)
        elif record.value() is not ABSENT:
            _, home, name = record.need
            self._bind(record, home, name, stamp)
        elif had >= 0:
            self.orders.append(("delete", *record.need[1:]))
        self.sent[record.need] = stamp

    def _bind(self, record: Record, home: str, name: str, stamp: int) -> None:
        value = record.value()
        if self._waiting.get(id(value)) is record:
            del self._waiting[id(value)]
            self._begun[id(value)] = home, name
        self._add(record, "bind", (home, name, stamp), value)
        if self._begun.pop(id(value), None) is not None:
            self._aliases[id(value)] = home, name

    def _pack_thing(self, record: Record, had: int) -> None:
        key = record.need[1]
        if had < 0 or key in carried:
            obj = record.obj
            if obj is not None:
                self._add(record, "thing", (key,), obj)
            return
        for label, stamp in list(record.stamps.items()):
            if stamp > had and label in record.parts:
                self._add(record, "set", (key, label), record.parts[label])
            elif stamp > had:
                self._add(record, "unset", (key, label), None)

    def _add(self, record: Record, kind: str, where: tuple[Any, ...], value: Any) -> None:
        needs = self._dump(record, value)
        while needs is None:
            needs = self._dump(record, value)
        for need in needs.defined:
            found = record_of(need)
            if found is not None:
                self.sent[need] = found.stamp
        self._new.merge(needs)
        size = sum(map(len, self._pickle)) + sum(map(len, self._buffers))
        if record.need in self._has and kind != "thing":
            slow.note(_name_of(where, record), size, slow.SET_ANEW)
        pickled, self._pickle = self._pickle, []
        if sum(map(len, pickled)) < COPIED_BYTES:
            pickled = [b"".join(pickled)]
        buffers, self._buffers = self._buffers, []
        self.entries.append((kind, where, [sum(map(len, pickled)), *map(len, buffers)]))
        self.parts += pickled
        self.parts += buffers

    def _dump(self, record: Record, value: Any) -> Defining | None:
        """Pickle it; returns what it needs, or None if something else had to be packed first."""
        aliases = self._aliases or self._waiting or len(self._begun) > 1
        pickler = (_AliasPickler if aliases else CloudPickler)(self, self._take_buffer)
        needs = pickler.references = Defining(self, record.need)
        needs.use(pickler)
        if isinstance(pickler, _AliasPickler):
            pickler.packing, pickler.root = self, value
        try:
            pickler.dump(value)
        except _First as first:
            self._pickle, self._buffers = [], []
            self._pack(first.record)
            return None
        except BaseException as error:
            # the text only: the error has frames, which hold the object
            record.error = f"{class_name(type(error))}: {message_of(error)}"
            raise Unpicklable from None
        finally:
            pickler.references = None  # no cycle: the pickler holds all that it has pickled
        return needs

    # ------------------------------------------------------------------------------------- what the pickler writes to

    def write(self, part: Any) -> int:
        self._pickle.append(part if type(part) is bytes else bytes(part))
        return len(part)

    def _take_buffer(self, buffer: Any) -> bool:
        view = buffer.raw()
        if view.nbytes < SMALL_BUFFER:
            return True
        self._buffers.append(bytes(view) if view.nbytes < COPIED_BYTES else view)
        return False
