"""Coverage sees what workers run of a script, as it sees what a module runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PROGRAM = dedent("""
    import os
    import threading
    from ordered_executor import OrderedProcessPoolExecutor

    lock = threading.Lock()
    parent = os.getpid()

    def task(number):
        if os.getpid() != parent:
            number += 1  # in a worker
        return number

    def locked(number):
        with lock:
            return number  # in a worker that has run the top level

    class Thing:
        def method(self, number):
            return number  # in a method

    def begin():
        global ready
        ready = True  # in the initializer

    def never():
        return 1

    if __name__ == "__main__":
        with OrderedProcessPoolExecutor(1, initializer=begin) as executor:
            assert list(executor.map(task, [1, 2])) == [2, 3]
            assert executor.submit(lambda: (  # a lambda
                task(7)  # within it
            )).result() == 8
            assert executor.submit(locked, 1).result() == 1
            assert executor.submit(Thing().method, 1).result() == 1
""")


def coverage(folder: Path, *args: str) -> None:
    """Run it, without what the tests' own run has set for coverage."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    # Its own `.pth` does the same, where coverage is installed in the interpreter's own folder.
    (folder / "start").mkdir(exist_ok=True)
    (folder / "start" / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    environment["PYTHONPATH"] = os.pathsep.join([str(folder / "start"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "coverage", *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("setting", ["patch = subprocess", "concurrency = multiprocessing,thread"])
def test_coverage_sees_the_lines_that_workers_run(tmp_path: Path, setting: str) -> None:
    """All but those that nothing runs, with either of its ways into other processes."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / ".coveragerc").write_text(f"[run]\nparallel = true\ninclude = program.py\n{setting}\n")
    coverage(tmp_path, "run", "program.py")
    assert len(list(tmp_path.glob(".coverage.*"))) >= 2
    coverage(tmp_path, "combine", "-q")
    coverage(tmp_path, "json", "-q", "-o", "found.json")
    found = json.loads((tmp_path / "found.json").read_text())["files"]["program.py"]
    lines = PROGRAM.splitlines()
    missing = [lines[number - 1].strip() for number in found["missing_lines"]]
    assert missing == ["return 1"]
