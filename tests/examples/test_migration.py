"""The page for people who come from something else: what it shows as ours does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"

# What each program prints: the same as the one to its left.
PRINTED = {
    "ours-parallel-queue": "0 1 4 done",
    "ours-until-the-end": "0 1 4",
    "ours-single-task-queue": "9",
    "ours-executor-for-a-queue": "0 1 4 done",
    "ours-imap": "0 2 3 3 4",
    "ours-imap-next": "1 invalid literal for int() with base 10: 'x' 3",
    "ours-executor-map": "0 2 3 3 4",
    "ours-submit": "1 invalid literal for int() with base 10: 'x' 3",
    "ours-loky": "0 1 4 9",
    "ours-joblib": "0 2 3 3 4",
    "ours-joblib-calls": "18 2",
    "ours-mpire": "0 2 3 3 4",
    "ours-pebble": "0 too long 0.1",
    "ours-pebble-schedule": "32",
}


def programs() -> dict[str, str]:
    """The blocks of the page that have a name, as whole programs."""
    block = r"^( +|)(?:- )?```\{code-block\} python\n +:name: ([\w-]+)\n\n(.*?)^ *```$"
    found = re.finditer(block, PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {match[2]: dedent(match[3]) for match in found}


def test_every_program_of_ours_is_found() -> None:
    """Each block in a right column has a name, and there is none that the tests do not know."""
    rows = re.findall(r"^  - ```", PAGE.read_text(), re.MULTILINE)
    assert sorted(programs()) == sorted(PRINTED)
    assert len(rows) == len(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_program_of_ours_prints_what_theirs_does(name: str, tmp_path: Path) -> None:
    """It runs by itself, as a script, without a warning, and prints what the one to its left prints."""
    script = tmp_path / "ours.py"
    script.write_text(programs()[name])
    command = [sys.executable, "-W", "error", str(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == PRINTED[name].split()
