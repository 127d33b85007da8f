"""Runs that are logged, killed and resumed; the bar; the trace."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import random
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from ordered_executor._command.joblog import HEADER, read_log
from tests.command.conftest import Folder

LINES = b"".join(b"%d %b\n" % (number, b"z" * (number % 90)) for number in range(4000))


def test_the_log_has_gnu_parallels_columns(folder: Folder) -> None:
    """A row for each record, in order."""
    folder.run("--joblog", "log", "-j2", "--", "sh", "-c", "echo {}{}; exit {}", lines=b"0\n3\n0\n")
    header, *rows = folder.read("log").splitlines(keepends=True)
    assert header == HEADER == b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
    cells = [row.rstrip(b"\n").split(b"\t") for row in rows]
    assert [(row[0], row[4], row[5], row[6], row[7]) for row in cells] == [
        (b"1", b"2", b"3", b"0", b"0"),
        (b"2", b"2", b"3", b"3", b"0"),
        (b"3", b"2", b"3", b"0", b"0"),
    ]
    assert cells[1][8] == b"sh -c 'echo 33; exit 3'"
    assert abs(float(cells[0][2]) - time.time()) < 100
    folder.run("--joblog", "log", "mine:dies", "two.txt", "-", lines=b"die\n")
    assert [row.split(b"\t")[6:] for row in folder.read("log").splitlines()[1:]] == [
        [b"0", b"0", b"mine:dies two.txt:1"],
        [b"0", b"9", b"mine:dies -:1"],
    ]


def test_a_resume_of_a_run_that_is_done_does_nothing(folder: Folder) -> None:
    """Nothing runs again."""
    arguments = ("--joblog", "log", "-o", "out", "mine:noted", "--resume")
    for _ in range(2):
        assert folder.run(*arguments, lines=b"1\nbad\n3\n")[0] in {0, 1}
    assert sorted(folder.read("ran.log").split()) == [b"1", b"3", b"bad"]
    assert folder.read("out") == b"1\n3\n"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("how", ["append", "output"])
def test_killed_at_any_moment_and_resumed(folder: Folder, seed: int, how: str) -> None:
    """The output is that of one run, byte by byte, and so is the file of dead letters."""
    chance = random.Random(f"{seed} {how}")
    lines = LINES + b"fail\n" + LINES
    arguments = ["--joblog", "log", "--dead-letter", "dead", "-j2", "mine:number_or_line", folder.write("lines", lines)]
    folder.write("mine.py", folder.read("mine.py") + NUMBER_OR_LINE)
    (folder.path / "out").write_bytes(b"before\n" if how == "append" else b"")
    if how == "output":
        arguments += ["-o", "out"]
    process = None
    for attempt in range(40):
        with open(folder.path / "out", "ab") as out:  # noqa: PTH123
            more = {"stdout": out} if how == "append" else {}
            process = folder.start(*arguments, *(["--resume"] if attempt else []), stdin=subprocess.DEVNULL, **more)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.3, 2.5) if attempt < 4 else 50)
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
    assert process
    assert process.returncode in {0, 1}
    good = b"".join(line for line in lines.splitlines(keepends=True) if line != b"fail\n")
    assert folder.read("out") == (b"before\n" if how == "append" else b"") + good
    assert folder.read("dead") == b"fail\n"
    log = read_log(folder.read("log").splitlines(keepends=True))
    assert (log.done, log.beyond, log.failed) == (8001, set(), {4001})


NUMBER_OR_LINE = b"""
def number_or_line(line):
    time.sleep(0.0003)
    if line == "fail":
        raise ValueError(line)
    return line
"""


def test_resume_failed(folder: Folder) -> None:
    """What failed runs again, first; then what was not begun."""
    folder.write("lines", b"a\nfail\nb\ndie\nc\n")
    arguments = ("--joblog", "log", "-o", "out", "--dead-letter", "dead", "-j2")
    assert folder.run(*arguments, "mine:dies", "lines")[0] == 1
    assert folder.read("dead") == b"die\n"
    folder.write("lines", b"a\nfail\nb\ndie\nc\nd\n")
    assert folder.run(*arguments, "--resume-failed", "mine:same", "lines") == (0, b"", "")
    assert folder.read("out") == b"a\nfail\nb\nc\ndie\nd\n"
    assert folder.read("dead") == b""
    assert folder.run(*arguments, "--resume-failed", "mine:same", "lines") == (0, b"", "")
    assert folder.read("out") == b"a\nfail\nb\nc\ndie\nd\n"


def test_an_output_that_was_cut_off(folder: Folder) -> None:
    """`>` instead of `>>`: it is refused, and not silently wrong."""
    folder.run("--joblog", "log", "-o", "out", "mine:same", lines=b"a\nb\n")
    folder.write("out", b"")
    status, _, err = folder.run("--joblog", "log", "-o", "out", "--resume", "mine:same", lines=b"a\nb\n")
    assert status == 2
    assert "append to it" in err


def test_trace(folder: Folder) -> None:
    """Events of Chrome's trace format, which may lack its closing bracket."""
    folder.run("--trace", "trace.json", "-j2", "mine:upper", lines=LINES)
    events = json.loads(folder.read("trace.json").rstrip(b",\n") + b"]")
    assert len({event["tid"] for event in events}) == 2
    assert all(event["ph"] == "X" and event["dur"] > 0 for event in events)


def in_terminal(folder: Folder, *arguments: str) -> str:
    """What a run shows in a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "ordered_executor", *arguments]
    with subprocess.Popen(command, cwd=folder.path, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        until = time.monotonic() + 50
        while time.monotonic() < until and select.select([ours], [], [], 50)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:
                break
        os.close(ours)
        assert process.wait(10) in {0, 1}
    return shown.decode()


def test_the_bar(folder: Folder) -> None:
    """In a terminal: how far, how fast, how long it takes still, failures, head; failures do not break it."""
    folder.write("numbers", b"1\n" * 300 + b"no\n" + b"2\n" * 300)
    shown = in_terminal(folder, "--progress", "mine:noted_number", folder.write("lines", folder.read("numbers")))
    assert "100%" in shown
    last = shown.rstrip().split("\r")[-1]
    assert "600 done" not in last
    assert "601 done, 1 failed, head 602" in last
    assert "\rlines:301: ValueError" in shown.replace("\x1b[A", "")
    assert "B/s" in last


def test_the_bar_of_a_pipe(folder: Folder) -> None:
    """Nobody knows how much there is."""
    status, _, err = folder.run("--progress", "mine:same", lines=b"a\n" * 5)
    assert status == 0
    assert "5 done, 0 failed, head 6" in err


def test_help_fits_a_screen(folder: Folder) -> None:
    """And has five examples."""
    status, out, _ = folder.run("--help")
    lines = out.decode().splitlines()
    assert status == 0
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    from ordered_executor._command.interface import _command

    for option in _command.params:
        for name in getattr(option, "opts", []):
            assert name.startswith("--") is False or name in out.decode(), name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(folder: Folder, shell: str) -> None:
    """A script for the shell; and what it asks for."""
    status, out, _ = folder.run("--completion", shell)
    assert status == 0
    assert b"_ORDERED_EXECUTOR_COMPLETE" in out
    environment = os.environ | {"_ORDERED_EXECUTOR_COMPLETE": "bash_complete"}
    found = folder.run(env=environment | {"COMP_WORDS": "ordered-executor mine:up", "COMP_CWORD": "1"})[1]
    assert b"mine:upper" in found
    found = folder.run(env=environment | {"COMP_WORDS": "ordered-executor --res", "COMP_CWORD": "1"})[1]
    assert found.split() == [b"plain,--resume", b"plain,--resume-failed", b"plain,--results"]


def test_version(folder: Folder) -> None:
    """Its own."""
    from importlib.metadata import version

    assert folder.run("--version")[1].decode() == f"ordered-executor {version('ordered-executor')}\n"
    assert Path(folder.path).exists()
