"""Completion for shells: options, files, and functions of the modules in this folder."""

from __future__ import annotations

import ast
from pathlib import Path


def functions(incomplete: str) -> list[str]:
    """`module:function` for what can be called in the Python files of this folder; they are read, not run."""
    name, colon, _ = incomplete.partition(":")
    if not colon:
        return [f"{path.stem}:" for path in sorted(Path().glob("*.py")) if path.stem.startswith(name)]
    try:
        body = ast.parse(Path(f"{name}.py").read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    names = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return [full for each in names if (full := f"{name}:{each}").startswith(incomplete) and not each.startswith("_")]
