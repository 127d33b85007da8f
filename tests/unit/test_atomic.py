"""Containers that threads share are looked through in a form that holds while others change them: see `_base.atomic`.

Only without the interpreter lock do the plays with threads try what they say.
"""

from __future__ import annotations

import ast
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import ordered_executor
from ordered_executor._base.atomic import snapshot
from ordered_executor._processes import idle_workers

SOURCE = Path(ordered_executor.__file__).parent
MODULES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))

# What other threads may change while one looks through it.
DICTS_AND_SETS = {
    *("waiters", "callbacks", "pictures", "_sleepers", "_unread", "_kept", "_watchers", "_held", "_lost"),
    *("_free", "_refs", "_users"),
}
DEQUES_AND_WEAK_SETS = {
    *("_ended", "_posts", "_gone", "spans", "segments", "batches", "readers", "all_readers"),
    *("_live", "queues", "droppable", "_tables"),
}
VIEWS = {"items", "keys", "values", "copy"}
# Where nobody else changes what has such a name: the thread that looks is the only one that has it.
MAY_ITERATE = {
    "_core/dispatcher.py": {"batches"},
    "_core/lost_tasks.py": {"batches"},
    "_core/scheduler.py": {"batches"},
    "demo.py": {"batches"},
}


def looked_through(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Each thing that is iterated over: by what, and the thing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            yield "for", node.iter
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id in ("list", "tuple", "sorted", "set", "frozenset", "dict", "deque", "min", "max", "sum"):
                yield node.func.id, node.args[0]
        elif isinstance(node, ast.Starred):
            yield "*", node.value


def name_of(thing: ast.expr) -> tuple[str, str | None]:
    """`kept` and `items` of `self.kept.items()`; `kept` and None of `self.kept`."""
    view = None
    if isinstance(thing, ast.Call) and isinstance(thing.func, ast.Attribute) and thing.func.attr in VIEWS:
        view, thing = thing.func.attr, thing.func.value
    if isinstance(thing, ast.Attribute):
        return thing.attr, view
    return (thing.id if isinstance(thing, ast.Name) and thing.id[0] == "_" else ""), view  # else: a local variable


def wrong(tree: ast.AST) -> list[str]:
    """What is looked through in a form that raises if another thread comes in between."""
    found: list[str] = []
    for how, thing in looked_through(tree):
        name, view = name_of(thing)
        bad = name in DEQUES_AND_WEAK_SETS or (name in DICTS_AND_SETS and how != "list" and view != "copy")
        if bad:
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_what_threads_share_is_looked_through_in_a_form_that_holds(module: str) -> None:
    """By `snapshot`; or by `list` or `copy`, if it is a dict or a set."""
    tree = ast.parse((SOURCE / module).read_text())
    assert set(wrong(tree)) <= MAY_ITERATE.get(module, set())


@pytest.mark.parametrize(
    "text", ["tuple(self._lost.items())", "sorted(self._kept)", "[x for x in self._gone]", "list(self.spans)"]
)
def test_the_test_sees_another_form(text: str) -> None:
    """Each of these has raised on a build without the interpreter lock."""
    assert wrong(ast.parse(text))


def test_a_snapshot_is_tried_again() -> None:
    """When somebody comes in between, and as often as that happens."""
    left = 3

    class Changing:
        def __iter__(self) -> Iterator[int]:
            nonlocal left
            yield 1
            if left:
                left -= 1
                raise RuntimeError("changed size during iteration")

    assert snapshot(Changing()) == [1]


@contextmanager
def changing(add: Callable[[int], object], take: Callable[[int], object]) -> Iterator[None]:
    """Meanwhile two threads put something in, and take it out again."""
    over = threading.Event()

    def change(first: int) -> None:
        while not over.is_set():
            for number in range(first, first + 100):
                add(number)
            for number in range(first, first + 100):
                take(number)

    threads = [threading.Thread(target=change, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_snapshots_of_what_is_changed_meanwhile() -> None:
    """Of a deque, a set, a dict and its views: nothing raises, and only what was put in is in it."""
    line: deque[int] = deque()
    some: set[int] = set()
    table: dict[int, int] = {}
    plays: list[tuple[Callable[[int], object], Callable[[int], object], list[Callable[[], list[Any]]]]] = [
        (line.append, lambda _: line.popleft(), [lambda: snapshot(line)]),
        (some.add, some.discard, [lambda: snapshot(some), lambda: list(some), lambda: list(some.copy())]),
        (
            lambda number: table.__setitem__(number, number),
            lambda number: table.pop(number, None),
            [lambda: snapshot(table.items()), lambda: list(table), lambda: list(table.copy().values())],
        ),
    ]
    for add, take, looks in plays:
        with changing(add, take):
            for _ in range(1000):
                for look in looks:
                    for one in look():
                        assert (one[0] if isinstance(one, tuple) else one) in range(200)


def test_the_environment_may_change_while_an_executor_looks_at_it() -> None:
    """1. It asks for a variable by name; 2. that is gone; 3. it looks again."""
    gone = mock.Mock(side_effect=[KeyError("gone"), RuntimeError("changed size"), {"A": "b"}])
    with mock.patch.object(idle_workers, "dict", gone, create=True):
        assert idle_workers._environment() == {"A": "b"}
    assert idle_workers._environment() == dict(os.environ)
