"""The command in a real process, in a folder with a module of functions and some files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

FUNCTIONS = dedent("""
    import os, signal, subprocess, sys, time

    def upper(line):
        time.sleep(0.002 * (len(line) % 3))
        return line.upper()

    def same(value):
        return value

    def number(line):
        return int(line) if line else None

    def stuck(line):
        time.sleep(60 if line == "stuck" else 0)
        return line

    def dies(line):
        if "die" in line:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    def dies_once(line):
        if "die" in line and not os.path.exists(line):
            open(line, "w").close()
            os._exit(7)
        return line

    def fails_once(line):
        if "fail" in line and not os.path.exists(line):
            open(line, "w").close()
            raise ValueError(line)
        return line

    def noted(line):
        with open("ran.log", "a") as log:
            log.write(line + "\\n")
        if line == "bad":
            raise ValueError("bad")
        time.sleep(0.05)
        return line

    def noted_number(line):
        time.sleep(0.001)
        return int(line)

    def slow_after(line):
        if line == "slow":
            time.sleep(30)
        return line

    def prints(line):
        print("printed", line)
        return line

    def eats(line):
        return line + repr(subprocess.run(["cat"], capture_output=True).stdout)

    def big(line):
        return "x" * int(line)

    def count(block):
        return len(block)

    def add(first, second):
        return int(first) + int(second)

    def swap(first, second):
        return [second, first]

    def double(value):
        return {"double": value * 2}

    class Parser:
        @staticmethod
        def parse(line):
            return line.split()

    something = 5
""")


class Folder:
    """The folder, and the command in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
        """Start the command."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-m", "ordered_executor", *arguments]
        process: subprocess.Popen[bytes] = subprocess.Popen(command, cwd=self.path, **(pipes | settings))
        return process

    def run(self, *arguments: str, lines: bytes = b"", **settings: Any) -> tuple[int, bytes, str]:
        """Run the command with these lines as its input: exit status, output, error output."""
        with self.start(*arguments, **settings) as process:
            out, err = process.communicate(lines, timeout=50)
            return process.returncode, out, (err or b"").decode()

    def write(self, name: str, data: bytes) -> str:
        """Make a file; returns its name."""
        (self.path / name).write_bytes(data)
        return name

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return (self.path / name).read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A folder with a module of functions, and two files of lines; afterwards nothing runs there."""
    folder = Folder(tmp_path)
    folder.write("mine.py", FUNCTIONS.encode())
    folder.write("one.txt", b"one\ntwo two\n\nthree")
    folder.write("two.txt", b"four\n")
    yield folder
    until = time.monotonic() + 5  # loky's resource tracker goes when it sees that the command has gone
    while left := left_in(tmp_path):
        assert time.monotonic() < until, f"processes {left} are left"
        time.sleep(0.01)


def left_in(place: Path) -> list[int]:
    """Processes that have this working directory."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if entry.name.isdigit():
            try:
                if (
                    str((entry / "cwd").readlink()) == str(place)
                    and b"Z" not in (entry / "stat").read_bytes().split()[2:3]
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
