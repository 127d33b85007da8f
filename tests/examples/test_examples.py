"""The examples in README, docs and docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib.util
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ordered_executor

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Pages whose examples need something else installed, or they are not run.
NEEDS = {
    "clients.md": "joblib",
    "clusters.md": "distributed",
    "dask.md": "distributed",
    "ray.md": "ray",
    "recipes.md": "tqdm",
}


def program(page: Path) -> str:
    """The examples of a page, one behind the other: a later one may use what an earlier one defines."""
    return "\n".join(code for marked, code in BLOCK.findall(page.read_text()) if not marked)


@pytest.mark.parametrize("page", [page for page in PAGES if program(page)], ids=lambda page: page.name)
def test_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """A reader who copies them into a script sees no error."""
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name])
    for name in ("README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    script = tmp_path / "example.py"
    script.write_text(program(page))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr or page.name in NEEDS, done.stderr  # other libraries may say something


def modules_with_examples() -> list[str]:
    """All modules whose source has a doctest."""
    names = [info.name for info in pkgutil.walk_packages(ordered_executor.__path__, "ordered_executor.")]
    return [name for name in names if ">>> " in Path(str(importlib.util.find_spec(name).origin)).read_text()]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings_hold(name: str) -> None:
    """What stands behind `>>>` gives what stands under it."""
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
