"""How the command ends early: one line, no traceback, nothing begun any more, the usual exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.command.conftest import Folder

WAITING = b"a\n" * 10_000 + b"stuck\n" + b"b\n" * 10_000


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [
        (signal.SIGINT, 130, b"ordered-executor: stopped by Ctrl-C\n"),
        (signal.SIGTERM, 143, b"ordered-executor: stopped by SIGTERM\n"),
        (signal.SIGHUP, 129, b"ordered-executor: stopped by SIGHUP\n"),
    ],
)
def test_signals(folder: Folder, number: int, status: int, text: bytes) -> None:
    """While a line is stuck."""
    with folder.start("mine:stuck", "-j2", folder.write("lines", WAITING)) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(20_000)
        process.send_signal(number)
        begun = time.monotonic()
        assert process.wait(50) == status
        assert time.monotonic() - begun < 10  # a second, on a machine that has nothing else to do
        assert process.stderr.read() == text


def test_interrupt_from_the_keyboard(folder: Folder) -> None:
    """The whole process group gets it: the workers and the programs, too."""
    with folder.start("-j2", "--", "sh", "-c", "echo {}; sleep 60", start_new_session=True) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(b"a\nb\n")
        process.stdin.flush()
        wait_for(folder, "sleep")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(50) == 130
        assert process.stderr.read() == b"ordered-executor: stopped by Ctrl-C\n"


def wait_for(folder: Folder, program: str, count: int = 1) -> None:
    """Until a program of the folder's runs, so many times."""
    until = time.monotonic() + 40
    while time.monotonic() < until:
        found = 0
        for entry in Path("/proc").iterdir():
            try:
                runs = entry.name.isdigit() and (entry / "comm").read_text().strip() == program
                found += runs and (entry / "cwd").readlink() == folder.path
            except OSError:
                continue
        if found >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {program} runs")


def test_programs_may_end_in_peace(folder: Folder) -> None:
    """They get SIGTERM first."""
    script = "trap 'echo bye >bye; exit' TERM; echo >begun; while :; do sleep 0.01; done"
    with folder.start("--", "sh", "-c", script, stdin=subprocess.DEVNULL):
        pass  # no line, no program
    with folder.start("--", "sh", "-c", script) as process:
        assert process.stdin
        process.stdin.write(b"a\n")
        process.stdin.flush()
        while not (folder.path / "begun").exists():
            time.sleep(0.01)
        process.terminate()
        assert process.wait(50) == 143
    assert folder.read("bye") == b"bye\n"


def test_whoever_takes_the_output_may_have_enough(folder: Folder) -> None:
    """As with `| head -1`: nothing more is begun."""
    lines = b"".join(b"%d\n" % number for number in range(1000))
    with folder.start("mine:noted", "-j2", folder.write("lines", lines)) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.wait(50) == 1
        assert (
            process.stderr.read()
            == b"ordered-executor: whoever reads the output has gone (as `| head` does): stopped\n"
        )
    assert folder.read("ran.log").count(b"\n") < 100


def test_a_reader_that_goes_while_the_input_waits(folder: Folder) -> None:
    """As with `tail -f log | … | head -1`."""
    with folder.start("mine:upper") as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"A\n"
        process.stdout.close()
        assert process.wait(50) == 1


def test_a_full_disk(folder: Folder) -> None:
    """It is said."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
        status, _, err = folder.run("mine:same", lines=b"a\n" * 1000, stdout=full)
    assert (status, err) == (1, "ordered-executor: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("redirection", "status", "text"),
    [
        (">&-", 1, "ordered-executor: the standard output is closed\n"),
        ("<&-", 1, "ordered-executor: the standard input is closed\n"),
        ("<&- two.txt", 0, ""),
        ("2>&- one.txt", 0, ""),
        ("<&- 2>&- one.txt", 0, ""),
    ],
)
def test_closed_streams(folder: Folder, redirection: str, status: int, text: str) -> None:
    """An output or an input that is closed is said; one that is not needed is not missed."""
    script = f'exec "$0" -m ordered_executor mine:same {redirection}'
    import sys

    done = subprocess.run(
        ["sh", "-c", script, sys.executable],
        cwd=folder.path,
        capture_output=True,
        timeout=50,
        input=b"x\n",
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (status, text)


def test_nothing_is_left_of_a_run_that_is_killed(folder: Folder) -> None:
    """The fixture looks for processes."""
    with folder.start("mine:stuck", "-j2") as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"a\nstuck\n")
        process.stdin.flush()
        process.stdout.readline()
        process.kill()


def test_programs_end_with_a_run_that_is_killed(folder: Folder) -> None:
    """And all that they have started; the fixture looks for processes."""
    with folder.start("-j2", "--", "sh", "-c", "sleep 60 & sleep 60 & wait", start_new_session=True) as process:
        assert process.stdin
        process.stdin.write(b"a\nb\n")
        process.stdin.flush()
        wait_for(folder, "sleep", 4)
        os.killpg(process.pid, signal.SIGKILL)


def test_the_extra_is_missing(folder: Folder) -> None:
    """The command says what to install."""
    folder.write("click.py", b"raise ImportError('no click', name='click')\n")
    status, out, err = folder.run("mine:same", lines=b"a\n")
    assert (status, out, err) == (
        2,
        b"",
        "ordered-executor: the command needs click: pip install 'ordered-executor[cli]'\n",
    )
