"""`--backend`: the same tests for a backend of somebody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_backend_can_be_named() -> None:
    """Then the tests run with that one, and with no other."""
    name = "tests.examples.thread_backend:OrderedThreadExecutor"
    options = ["-q", "-p", "no:cacheprovider", "--collect-only", "-k", "test_map_yields_in_order", "--backend", name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/backends/test_contract.py"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    found = [line for line in done.stdout.splitlines() if "::" in line]
    assert found == [f"tests/backends/test_contract.py::test_map_yields_in_order[{name}]"]
