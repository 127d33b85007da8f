"""The top level of a script: whether each worker may run it, as `spawn` does, and which names that makes.

It may if the script keeps what it does apart from what it defines: with `if __name__ == "__main__":`.
"""

from __future__ import annotations

import ast
import sys
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

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
    filename, loader = getattr(found, "__file__", None), getattr(found, "__loader__", None)
    if filename is None or loader is None or not goes_by_value(home):
        return None
    spec = getattr(found, "__spec__", None)
    source = loader.get_source(home if spec is None else spec.name)
    if source is None:
        return None
    body = ast.parse(source).body
    if home in (MAIN, AS_SPAWN_DOES) and not any(map(_is_guard, body)):
        return None
    return TopLevel(filename, source, frozenset(_bound(body)))


def _is_guard(node: ast.AST) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
        return False
    sides = [node.test.left, *node.test.comparators]
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides) and any(
        isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
    )


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements bind, without those under the guard and in functions."""
    todo: list[ast.AST] = [node for node in body if not _is_guard(node)]
    todo += [other for node in body if _is_guard(node) and isinstance(node, ast.If) for other in node.orelse]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, (ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
            continue
        todo += ast.iter_child_nodes(node)
