"""The parts of the script that a lane's worker has, and the frames that bring it up to date.

For each thing and global, a table says as of which change the lane has been sent it.  A frame with everything that a
batch needs and that differs goes before the batch.  The worker applies it always and in order, whatever becomes of the
batch.  So the table is right as soon as the frame is in the pipe.

Other names of the script go along, once and unopened: somebody may ask the worker's `__main__` for them.
"""

from __future__ import annotations

import sys
import weakref
from operator import is_
from types import ModuleType
from typing import Any

from ordered_executor._base.atomic import snapshot
from ordered_executor._channel import frames
from ordered_executor._pickling import keys as key_table
from ordered_executor._pickling.by_value import goes_by_value
from ordered_executor._pickling.digest import TooLarge, dump_small
from ordered_executor._pickling.exceptions import class_name
from ordered_executor._pickling.rebuild import names_in
from ordered_executor._script import large_callables
from ordered_executor._script import plan as plan_module
from ordered_executor._script.packing import Entry, Packing, Unpicklable
from ordered_executor._script.plan import Plan, plan_for
from ordered_executor._script.records import (
    ABSENT,
    SMALL_BYTES,
    Defining,
    Need,
    Needs,
    Record,
    is_definable,
    place_of,
    source,
    stamps,
)
from ordered_executor._script.top_level import TopLevel, top_level

Order = tuple[Any, ...]

_tables: weakref.WeakSet[Table] = weakref.WeakSet()
_MODULE_ATTRIBUTES = ("__file__", "__package__", "__path__", "__doc__")
# What a notebook keeps among the names of the user.
_OF_NOTEBOOKS = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})


class Table:
    """What one worker was sent."""

    def __init__(self) -> None:
        self.sent: dict[Need, int] = {}  # as of which stamp
        self._done: set[int] = set()  # numbers of plans all of which it has
        self._homes: dict[str, _Names] = {}
        self._ran: set[str] = set()  # modules whose top level it was told to run
        self._forget: list[int] = []
        _tables.add(self)

    def close(self) -> None:
        """The worker is gone."""
        _tables.discard(self)
        if not _tables:
            plan_module.let_go_of_all()
            large_callables.let_go()

    def update(self, needs: Needs) -> list[Any]:
        """The body of a frame that brings the worker everything that is needed and it does not have; empty if nothing.

        Who uses a name that cannot be sent is told so in the worker.
        """
        if key_table.gone:
            _forget_what_is_gone()
        orders: list[Order] = []
        for home, names in self._homes.items():
            if not names.same():
                self._look_again(home, names, needs, orders)
        plan = plan_for(needs) if needs.all else None
        done = plan is None or plan.number in self._done
        if done and not orders and not self._forget:
            return []
        orders += [("forget", key) for key in self._forget]
        self._forget.clear()
        entries: list[Entry] = []
        parts: list[Any] = []
        while plan is not None and plan.number not in self._done:
            plan = self._bring(plan, orders, entries, parts)
        head = frames.pack((orders, entries))
        return [frames.LENGTH.pack(len(head)), head, *parts]

    # -------------------------------------------------------------------------------------------- what is needed

    def _bring(self, plan: Plan, orders: list[Order], entries: list[Entry], parts: list[Any]) -> Plan | None:
        """Returns what else is needed, as showed when large objects were pickled."""
        new = [home for home in _homes(plan) if home not in self._homes]
        for home in new:
            orders.append(_home_order(home))
            self._homes[home] = _Names(home)
        self._bring_others(plan, orders)
        while True:
            self._bring_lacking(plan, orders)
            try:
                packing = Packing(self.sent, plan)
                break
            except Unpicklable:
                continue  # its record says so now
        orders += packing.orders
        entries += packing.entries
        parts += packing.parts
        self.sent.update(packing.sent)
        self._done.add(plan.number)
        for record in plan.records:
            if record.is_name and is_definable(record.value()) and record.need[1] in self._homes:
                self._homes[record.need[1]].add(record.need[2], record.value(), record.stamp)
        for home in new:
            self._send_unopened(home, orders)
        return None if packing.more is None else plan_for(packing.more)

    def _bring_others(self, plan: Plan, orders: list[Order]) -> None:
        for need in plan.others:
            if need not in self.sent and need[0] != "module":
                orders.append(("import", need[1]) if need[0] == "import" else ("source", need[1], source(need[1])))
                self.sent[need] = 0

    def _bring_lacking(self, plan: Plan, orders: list[Order]) -> None:
        """Have the top level run for what cannot be pickled, where it makes that; else say why it is not there."""
        _spread_errors(plan.records)
        for record in plan.records:
            if record.error is None or self.sent.get(record.need, -1) >= record.stamp:
                continue
            home, name, top = _made_by_top_level(record)
            if top is not None and home not in self._ran:
                orders.append(("run", home, top.filename, top.source))
                self._ran.add(home)
            reason = _reason(record, name)
            if record.is_name:
                orders.append(("lack", home, name, reason))
            elif top is not None:
                orders.append(("adopt", record.need[1], home, name, reason))
            else:
                orders.append(("explain", record.need[1], reason))
            self.sent[record.need] = record.stamp

    # ------------------------------------------------------------------------------------------- what may be asked for

    def _send_unopened(self, home: str, orders: list[Order]) -> None:
        for name, value in list(names_in(home).items()):
            if ("name", home, name) not in self.sent and _may_be_asked_for(name, value):
                self._add_unopened(home, name, value, orders)

    def _add_unopened(self, home: str, name: str, value: Any, orders: list[Order]) -> None:
        stamp = next(stamps)
        defining = Defining(self.sent, ("name", home, name))
        try:
            packed = dump_small(value, SMALL_BYTES, defining, defining.use)
        except TooLarge:
            orders.append(("lack", home, name, "it is large, and so is sent only if a function uses it by its name"))
            return
        except BaseException as error:
            orders.append(("lack", home, name, f"it cannot be pickled ({class_name(type(error))})"))
            return
        needs = [need[1:] for need in defining.all if need[0] == "name"]
        orders.append(("unopened", home, name, stamp, packed, needs))
        self._homes[home].add(name, value, stamp)

    def _look_again(self, home: str, names: _Names, needs: Needs, orders: list[Order]) -> None:
        """Names that are others now, or new: functions and classes go again, the rest is dropped."""
        plan_module.sweep(names.other_values())
        now = names_in(home)
        for name, value in list(now.items()):
            if not is_definable(value) or not _may_be_asked_for(name, value) or names.has(name, value):
                continue
            if ("name", home, name) in self.sent:
                needs.all.add(("name", home, name))
            else:
                self._add_unopened(home, name, value, orders)
        orders += [("drop", home, name) for name in names.other() if ("name", home, name) not in self.sent]
        names.forget_others()


class _Names:
    """The names of a module that a worker has, opened or not, but for data that tasks have needed."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._values: dict[str, Any] = {}
        self._stamps: dict[str, int] = {}
        self._count = -1

    @property
    def _now(self) -> dict[str, Any]:
        return names_in(self._home)

    def add(self, name: str, value: Any, stamp: int) -> None:
        self._values[name] = value
        self._stamps[name] = stamp

    def has(self, name: str, value: Any) -> bool:
        return self._values.get(name, ABSENT) is value

    def same(self) -> bool:
        """Whether they are what they were, and no other came."""
        now, values = self._now, self._values
        return len(now) == self._count and all(map(is_, map(now.get, values), values.values()))

    def other(self) -> list[str]:
        now = self._now
        return [name for name, value in self._values.items() if now.get(name, ABSENT) is not value]

    def other_values(self) -> list[Any]:
        return [self._values[name] for name in self.other()]

    def forget_others(self) -> None:
        for name in self.other():
            del self._values[name], self._stamps[name]
        self._count = len(self._now)


def _homes(plan: Plan) -> dict[str, None]:
    """The modules of which something is needed: they come first."""
    homes = dict.fromkeys(need[1] for need in plan.others if need[0] == "module")
    for record in plan.records:
        home = record.need[1] if record.is_name else getattr(record.obj, "__module__", None)
        if isinstance(home, str) and goes_by_value(home) and home in sys.modules:
            homes[home] = None
    return homes


def _made_by_top_level(record: Record) -> tuple[str, str, TopLevel | None]:
    """Its module and name, and the top level that makes it, if a worker may run that."""
    home, name = record.need[1:] if record.is_name else place_of(record.obj)
    top = top_level(home)
    return home, name, top if top is not None and name.partition(".")[0] in top.names else None


def _spread_errors(records: list[Record]) -> None:
    """What refers to a thing that cannot be sent cannot be sent either; but the top level may make it."""
    failed: dict[Need, str] = {}
    for record in records:
        if record.error is not None and not record.is_name and _made_by_top_level(record)[2] is None:
            failed[record.need] = record.error
    for record in records if failed else ():
        lacking = record.needs & failed.keys()
        if lacking and record.error is None and _made_by_top_level(record)[2] is not None:
            record.error = failed[lacking.pop()]


def _home_order(home: str) -> Order:
    found = sys.modules[home]
    attributes = {name: getattr(found, name) for name in _MODULE_ATTRIBUTES if hasattr(found, name)}
    plain: dict[str, Any] = {name: value for name, value in attributes.items() if value is None or type(value) is str}
    if "__path__" in attributes:
        plain["__path__"] = list(attributes["__path__"])
    spec = getattr(found, "__spec__", None)
    return "home", home, plain, None if spec is None else (spec.name, spec.origin)


def _may_be_asked_for(name: str, value: Any) -> bool:
    if name[:2] == "__" == name[-2:] or name in _OF_NOTEBOOKS:
        return False
    return is_definable(value) or isinstance(value, ModuleType) or name[:1] != "_"


def _reason(record: Record, name: str) -> str:
    """Why something is not in a worker, and what to do."""
    if record.is_name:
        what = f"the script's {name!r}, of type {class_name(type(record.value()))},"
    else:
        what = f"{name!r} of the script"
    return (
        f"{what} cannot be pickled ({record.error}); make it in each worker: in an initializer, or at the top level of "
        "a script that has its program under `if __name__ == '__main__':`"
    )


def _forget_what_is_gone() -> None:
    while key_table.gone:
        try:
            key = key_table.gone.popleft()
        except IndexError:
            return
        need = "thing", key
        plan_module.gone(need)
        for table in snapshot(_tables):
            if table.sent.pop(need, None) is not None:
                table._forget.append(key)
