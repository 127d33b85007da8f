"""The top level of a script: whether each worker may run it, as `spawn` does, and which names that makes.

A worker may run it if the script separates definitions from actions by `if __name__ == "__main__":`.
"""

from __future__ import annotations

import ast
import sys
import tokenize
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from ordered_executor._pickling.by_value import goes_by_value
from ordered_executor._pickling.rebuild import AS_SPAWN_DOES, MAIN


class TopLevel(NamedTuple):
    """What a worker needs to run the top level of a module."""

    filename: str
    source: str
    names: frozenset[str]


_known: weakref.WeakKeyDictionary[ModuleType, TopLevel | None] = weakref.WeakKeyDictionary()


def top_level(home: str) -> TopLevel | None:
    """The top level of a module; None if it cannot be run again: there is no file, or no guard."""
    found = sys.modules.get(home)
    if found is None:
        return None
    if found not in _known:
        try:
            _known[found] = _read(found, home)
        except Exception:  # loaders are anybody's, and the file may be gone
            _known[found] = None
    return _known[found]


def _read(found: ModuleType, home: str) -> TopLevel | None:
    filename = getattr(found, "__file__", None)
    loader: Any = getattr(found, "__loader__", None)
    if filename is None or not goes_by_value(home):
        return None
    if not hasattr(loader, "get_source"):  # it is run by a tool: coverage, a debugger
        with tokenize.open(filename) as file:
            source = file.read()
    else:
        spec = getattr(found, "__spec__", None)
        source = loader.get_source(home if spec is None else spec.name)
    if source is None:
        return None
    body = ast.parse(source).body
    if home in (MAIN, AS_SPAWN_DOES) and next(_guards(body), None) is None:
        return None
    return TopLevel(filename, source, frozenset(bound(body)))


def _guards(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that tell a program from a module, wherever they stand outside functions and classes."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.If, ast.Expr)) and _asks(node.test if isinstance(node, ast.If) else node.value):
            yield node
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            todo += ast.iter_child_nodes(node)


def _asks(test: ast.expr) -> bool:
    """Whether an expression compares `__name__` with "__main__"."""
    return any(isinstance(node, ast.Compare) and _is_comparison(node) for node in ast.walk(test))


def _is_comparison(node: ast.Compare) -> bool:
    sides = [node.left, *node.comparators]
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides) and any(
        isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
    )


def _may_run(guard: ast.stmt) -> list[ast.stmt]:
    """What a module may do of a guard: the other branch, and both where the test is not the plain one."""
    if not isinstance(guard, ast.If):
        return []
    test = guard.test
    plain = isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq)
    plain = plain or (isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And))
    return guard.orelse if plain else [*guard.body, *guard.orelse]


def bound(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements bind, in the order of the source, without those under the guard and in functions."""
    guards = set(_guards(body))
    todo: list[ast.AST] = [*reversed(body)]
    while todo:
        node = todo.pop()
        if node in guards and isinstance(node, ast.stmt):
            todo += reversed(_may_run(node))
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, (ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
            continue
        todo += reversed(list(ast.iter_child_nodes(node)))
