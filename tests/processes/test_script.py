"""A script's own functions are at home in the workers: every row of `rows_of_a_script`, in every kind of `__main__`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path

import pytest

ROWS_FILE = Path(__file__).with_name("rows_of_a_script.py")
PROGRAM = ROWS_FILE.read_text()
ROWS = re.findall(r"^def (row_\w+)", PROGRAM, re.MULTILINE)
Kind = Callable[[Path], tuple[list[str], str]]  # in a folder: what is to be run, and its standard input


def unguarded(source: bool) -> str:
    """The program without a guard: workers cannot run its top level."""
    text = PROGRAM.replace("GUARDED = True", "GUARDED = False").replace("HAS_SOURCE = True", f"HAS_SOURCE = {source}")
    return text.replace('if __name__ == "__main__":', "if True:")


def file_with_guard(folder: Path) -> tuple[list[str], str]:
    """`python program.py`, as programs for `spawn` are written."""
    (folder / "program.py").write_text(PROGRAM)
    return ["program.py"], ""


def file_without_guard(folder: Path) -> tuple[list[str], str]:
    """`python program.py`, which would start processes for ever if it were imported."""
    (folder / "program.py").write_text(unguarded(source=True))
    return ["program.py"], ""


def module(folder: Path) -> tuple[list[str], str]:
    """`python -m package.program`."""
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "program.py").write_text(PROGRAM)
    return ["-m", "package.program"], ""


def package(folder: Path) -> tuple[list[str], str]:
    """`python -m package`: its `__main__.py`, which `spawn` does not run again, and we may."""
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "__main__.py").write_text(PROGRAM)
    return ["-m", "package"], ""


def archive(folder: Path) -> tuple[list[str], str]:
    """`python program.pyz`: no file of this name can be read by anybody else."""
    (folder / "content").mkdir()
    (folder / "content" / "__main__.py").write_text(PROGRAM)
    zipapp.create_archive(folder / "content", folder / "program.pyz")
    return ["program.pyz"], ""


def command_line(_: Path) -> tuple[list[str], str]:
    """`python -c`."""
    return ["-c", unguarded(source=False)], ""


def standard_input(_: Path) -> tuple[list[str], str]:
    """`python -`."""
    return ["-"], unguarded(source=False)


def interactive(folder: Path) -> tuple[list[str], str]:
    """`python -i`: lines come one after the other."""
    (folder / "program.py").write_text(unguarded(source=False).replace("if True:\n    play()", ""))
    return ["-i", "-q"], "exec(compile(open('program.py').read(), '<typed>', 'exec'))\nplay()\n"


KINDS: list[Kind] = [
    file_with_guard,
    file_without_guard,
    module,
    package,
    archive,
    command_line,
    standard_input,
    interactive,
]
played: dict[Kind, dict[str, str]] = {}


def play(kind: Kind, folder: Path) -> dict[str, str]:
    """What came of each row: "ok", or a traceback."""
    if kind not in played:
        command, text = kind(folder)
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, input=text, capture_output=True, text=True, check=False, timeout=150
        )
        try:
            played[kind] = json.loads(done.stdout)
        except ValueError:
            pytest.fail(f"{done.stdout}\n{done.stderr}")
    return played[kind]


@pytest.mark.timeout(170)  # the first row of a kind plays all of them
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("kind", KINDS)
def test_row(kind: Kind, row: str, tmp_path: Path) -> None:
    """One row in one kind of program."""
    assert play(kind, tmp_path)[row] == "ok"
