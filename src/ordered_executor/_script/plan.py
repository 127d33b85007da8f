"""A plan: everything that some needs lead to, and the quickest way to see that nothing of it has changed.

A plan is never changed: after a change, another plan replaces it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from itertools import chain, repeat
from operator import attrgetter, is_
from types import FunctionType
from typing import Any

from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.digest import TooLarge, digest
from ordered_executor._pickling.rebuild import names_in
from ordered_executor._script.records import (
    ABSENT,
    SMALL_BYTES,
    Need,
    Needs,
    Record,
    carried,
    global_value,
    is_definable,
)

# All that is small of a plan is pickled for each batch that is sent: no more than this, the smallest first.
MOST_SMALL_BYTES = 4 * SMALL_BYTES
_MOST_PLANS = 256
_MOST_RECORDS = 5_000

_records: dict[Need, Record] = {}
_plans: dict[frozenset[Need], Plan] = {}
_let_go: set[Need] = set()  # things that live, and workers have, of which there is no record
_numbers = itertools.count(1)
_function_parts = attrgetter("__code__", "__defaults__", "__kwdefaults__")


class Plan:
    """See the module."""

    def __init__(self, needs: Iterable[Need]) -> None:
        self.number = next(_numbers)
        self.records: list[Record] = []
        self.others: set[Need] = set()  # modules, submodules, files
        self._sizes: list[tuple[dict[str, Any], int]] = []  # modules all of which is needed, and how much they had
        self._follow(needs)
        self._remember()

    def _follow(self, needs: Iterable[Need]) -> None:
        todo, seen = list(needs), set(needs)
        while todo:
            need = todo.pop()
            more: Iterable[Need] = ()
            if need[0] in ("thing", "name"):
                record = _record(need)
                if record is not None:
                    self.records.append(record)
                    more = record.needs
            else:
                self.others.add(need)
                if need[0] == "module":
                    names = names_in(need[1])
                    self._sizes.append((names, len(names)))
                    more = [("name", need[1], name) for name in list(names) if name[:2] != "__"]
            todo += [each for each in more if each not in seen]
            seen.update(more)

    def _remember(self) -> None:
        globals_: dict[str, tuple[dict[str, Any], list[str], list[Any]]] = {}
        self._functions: list[FunctionType] = []
        self._classes: list[type] = []
        small: list[tuple[int, int, Any]] = []
        for record in self.records:
            small += [(0, len(small), record.parts[label]) for label in record.digests]
            if record.is_name:
                _, home, name = record.need
                names = names_in(home)
                entry = globals_.setdefault(home, (names, [], []))
                entry[1].append(name)
                entry[2].append(record.value())
            elif not is_definable(record.obj):
                continue
            elif type(record.obj) is FunctionType:
                self._functions.append(record.obj)
            elif isinstance(record.obj, type):
                self._classes.append(record.obj)
        self._globals = list(globals_.values())
        self._function_parts = list(chain.from_iterable(map(_function_parts, self._functions)))
        self._attributes = sum(len(fn.__dict__) for fn in self._functions)
        small += [(0, len(small), fn.__dict__) for fn in self._functions if fn.__dict__]
        self._class_parts = list(chain.from_iterable(list(vars(cls).values()) for cls in self._classes))
        self._small: list[Any] = [value for _, _, value in small]
        self._digest = self._digest_of_small() if small else None

    def _digest_of_small(self) -> bytes | None:
        try:
            return digest(self._small, MOST_SMALL_BYTES, Needs())[0]
        except TooLarge:
            return self._digest_of_smallest()
        except BaseException:
            return None

    def _digest_of_smallest(self) -> bytes | None:
        sized: list[tuple[int, int, Any]] = []
        for index, value in enumerate(self._small):
            try:
                sized.append((digest(value, SMALL_BYTES, Needs())[1], index, value))
            except BaseException:
                continue
        sized.sort(key=lambda each: each[:2])
        total, self._small = 0, []
        for size, _, value in sized:
            total += size
            if total > MOST_SMALL_BYTES:
                break
            self._small.append(value)
        return digest(self._small, 2 * MOST_SMALL_BYTES, Needs())[0]

    def unchanged(self) -> bool:
        """Whether all of it is as it was."""
        try:
            return (
                all(
                    all(map(is_, map(names.get, keys, repeat(ABSENT)), values)) for names, keys, values in self._globals
                )
                and all(map(is_, chain.from_iterable(map(_function_parts, self._functions)), self._function_parts))
                and sum(len(fn.__dict__) for fn in self._functions) == self._attributes
                and self._same_classes()
                and all(len(names) == size for names, size in self._sizes)
                and (not self._small or digest(self._small, 2 * MOST_SMALL_BYTES, Needs())[0] == self._digest)
            )
        except BaseException:  # it has grown, or another thread changes it just now
            return False

    def _same_classes(self) -> bool:
        now = list(chain.from_iterable(list(vars(cls).values()) for cls in self._classes))
        return len(now) == len(self._class_parts) and all(map(is_, now, self._class_parts))


def _record(need: Need) -> Record | None:
    record = _records.get(need)
    if record is not None:
        record.look()
        return record
    obj = None
    if need[0] == "thing":
        obj = key_table.find(need[1])
        if obj is None:
            return None
    if len(_records) >= _MOST_RECORDS:
        _forget_things()
    return _records.setdefault(need, Record(need, obj, seen=need in _let_go))


def _forget_things() -> None:
    """A program that makes classes all the time: those that live are looked at again when they are needed."""
    for need in [need for need in list(_records) if need[0] == "thing"]:
        _records.pop(need, None)
        _let_go.add(need)
    _plans.clear()


def record_of(need: Need) -> Record | None:
    """The record of a need as it is, if there is one."""
    return _records.get(need)


def plan_for(needs: Needs) -> Plan:
    """The plan for some needs, as everything is now."""
    key = frozenset(needs.all)
    plan = _plans.get(key)
    if plan is None or not plan.unchanged():
        plan = Plan(key)
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan


def mark_changed(obj: Any) -> bool:
    """The user says that an object has changed in place: it goes again to whoever needs it.  Whether anybody has it."""
    marked = {record for record in list(_records.values()) if record.mark_changed(obj)}
    for needs, plan in list(_plans.items()):
        if not marked.isdisjoint(plan.records):
            _plans.pop(needs, None)
    return bool(marked)


def sweep(values: Iterable[Any] = ()) -> None:
    """Keep nothing that a name of the script stood for, as these did, and does not any more."""
    old = [record for value in values if (record := _old_thing(value)) is not None]
    for need, record in list(_records.items()):
        value = record.value()
        if need[0] == "name" and value is not ABSENT and global_value(need[1], need[2]) is not value:
            old += filter(None, [record, _old_thing(value)])
    for record in old:
        _records.pop(record.need, None)
    for needs, plan in list(_plans.items()):
        if not set(old).isdisjoint(plan.records):
            _plans.pop(needs, None)


def _old_thing(value: Any) -> Record | None:
    """The record of a thing that its name does not stand for any more; if it is needed again, it is known as seen."""
    key = key_table.known_key(value)
    if key is None or not is_definable(value):
        return None
    _let_go.add(("thing", key))
    return _records.get(("thing", key))


def gone(need: Need) -> None:
    """A thing is gone."""
    _let_go.discard(need)
    carried.discard(need[1])
    _records.pop(need, None)


def let_go_of_all() -> None:
    """No worker has anything of the script any more."""
    _records.clear()
    _plans.clear()
    _let_go.clear()


os.register_at_fork(after_in_child=let_go_of_all)
