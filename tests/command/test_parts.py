"""The command's parts: each says what it is; what the workers load, and what they do without."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ordered_executor import _command

PARTS = sorted(Path(_command.__file__).parent.glob("*.py"))
# Of the parent: a worker neither reads the input nor writes the output.
PARENT = {
    "feeding",
    "flow",
    "crew",
    "casualties",
    "sources",
    "sink",
    "record_book",
    "joblog",
    "run",
    "progress",
    "trace",
}
PURE = {"cutting", "halting", "options", "pace", "templates"}


def imports(part: Path) -> set[str]:
    """All that it imports."""
    found = set[str]()
    for node in ast.walk(ast.parse(part.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "") if node.module else found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.stem))
def test_every_part_says_what_it_is(part: Path) -> None:
    """And is one concept, of which a file has room."""
    text = ast.get_docstring(ast.parse(part.read_text()))
    assert text
    assert text.split("\n\n")[0].rstrip().endswith((".", ":"))
    assert len(part.read_text().splitlines()) <= 260


@pytest.mark.parametrize("part", [part for part in PARTS if part.stem in PURE], ids=lambda part: str(part.stem))
def test_pure_parts_ask_nobody(part: Path) -> None:
    """Neither the system nor the clock."""
    assert not imports(part) & {"os", "time", "select", "threading", "signal", "subprocess"}


def test_a_worker_loads_its_half_only() -> None:
    """Most of a worker's start is the loading of modules."""
    code = "import sys, ordered_executor._command.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ordered_executor._command.worker" in loaded
    parts = {name.rpartition(".")[2] for name in loaded if "._command." in name}
    assert not parts & (PARENT | {"interface"})
    assert not {"click", "tqdm"} & set(loaded)
