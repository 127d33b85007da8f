"""The command line: a function over lines, as a user calls it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from ordered_executor import cli

FUNCTIONS = dedent("""
    import time

    def upper(line):
        time.sleep(0.002 * (len(line) % 3))
        return line.upper()

    def number(line):
        return int(line) if line else None

    def stuck(line):
        time.sleep(60 if line == "stuck" else 0)
        return line

    class Parser:
        @staticmethod
        def parse(line):
            return line.split()

    something = 5
""")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of functions, and two files of lines."""
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    (tmp_path / "one.txt").write_text("one\ntwo two\n\nthree")
    (tmp_path / "two.txt").write_text("four\n")
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command in the folder."""
    command = [sys.executable, "-m", "ordered_executor", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe)


def run(folder: Path, *arguments: str, lines: bytes = b"") -> tuple[int, bytes, str]:
    """Run the command with these lines as its input: exit status, output, error output."""
    with start(folder, *arguments) as process:
        out, err = process.communicate(lines, timeout=50)
        return process.returncode, out, err.decode()


def test_lines_come_out_in_order(folder: Path) -> None:
    """Hundreds of lines whose tasks take different times, from the standard input."""
    lines = b"".join(b"x" * (number % 7) + b" %d\n" % number for number in range(500))
    assert run(folder, "mine:upper", "--workers", "2", lines=lines) == (0, lines.upper(), "")


def test_files_follow_each_other(folder: Path) -> None:
    """Files and the standard input, in the order they are named; a last line may have no newline, and be empty."""
    status, out, err = run(folder, "mine:upper", "one.txt", "-", "two.txt", lines=b"zero\n")
    assert (status, out, err) == (0, b"ONE\nTWO TWO\n\nTHREE\nZERO\nFOUR\n", "")


def test_bytes_that_are_no_text_come_out_as_they_were(folder: Path) -> None:
    """Of log files nobody knows the encoding."""
    assert run(folder, "mine:upper", lines=b"caf\xe9\nna\xc3\xafve\n")[1] == "CAF\udce9\nNAÏVE\n".encode(
        errors="surrogateescape"
    )


def test_only_a_newline_ends_a_line(folder: Path) -> None:
    """Carriage returns are part of it, and come out again."""
    (folder / "mixed").write_bytes(b"a\rb\r\nc\n")
    assert run(folder, "mine:upper", "mixed", "-", lines=b"d\r\n") == (0, b"A\rB\r\nC\nD\r\n", "")


def test_lines_that_fail_are_reported_and_the_rest_goes_on(folder: Path) -> None:
    """With their numbers; what returns None prints nothing."""
    status, out, err = run(folder, "mine:number", lines=b"1\nno\n\n4\nneither\n6\n")
    assert (status, out) == (1, b"1\n4\n6\n")
    first, second = err.splitlines()
    assert first.startswith("ordered_executor: line 2: ValueError: invalid literal")
    assert second.startswith("ordered_executor: line 5: ValueError: invalid literal")


def test_stop_at_the_first_failure(folder: Path) -> None:
    """What stands before it is printed, nothing after it; input that has not come yet is not waited for."""
    process = start(folder, "mine:number", "--stop")
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with process:
        process.stdin.write(b"1\nno\n3\n")
        process.stdin.flush()
        assert process.wait(50) == 1
        assert process.stdout.read() == b"1\n"
        assert b"line 2: ValueError" in process.stderr.read()


def test_results_come_while_the_input_goes_on(folder: Path) -> None:
    """A line's result can be read before the next line is written."""
    process = start(folder, "mine:upper")
    assert process.stdin
    assert process.stdout
    with process:
        for word in ("one", "two", "three"):
            process.stdin.write(f"{word}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline() == f"{word.upper()}\n".encode()
        process.stdin.close()
        assert process.wait(50) == 0


def test_a_stuck_line_is_stopped(folder: Path) -> None:
    """With `--timeout`, it fails, and its neighbours do not."""
    status, out, err = run(folder, "mine:stuck", "--timeout", "0.5", lines=b"a\nstuck\nb\n")
    assert (status, out) == (1, b"a\nb\n")
    assert err.startswith("ordered_executor: line 2: TaskTimeoutError: ")


def test_whoever_takes_the_output_may_have_enough(folder: Path) -> None:
    """As with `| head -1`: it ends, with a status that says so, and without a word."""
    process = start(folder, "mine:upper")
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with process:
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # it may be gone before it has read all
            process.stdin.write(b"line\n" * 20_000)
            process.stdin.close()
        assert process.wait(50) == 1
        assert process.stderr.read() == b""


def test_interrupt_from_the_keyboard(folder: Path) -> None:
    """Ctrl-C ends it as it ends Python."""
    process = start(folder, "mine:stuck")
    assert process.stdin
    assert process.stdout
    with process:
        process.stdin.write(b"a\n" * 10_000 + b"stuck\n")
        process.stdin.flush()
        process.stdout.read(2)
        process.send_signal(signal.SIGINT)
        assert process.wait(50) in (-signal.SIGINT, 130)


def test_input_that_cannot_be_read(folder: Path) -> None:
    """The lines before it are printed, then it is reported."""
    status, out, err = run(folder, "mine:upper", "two.txt", "gone.txt", "one.txt")
    assert (status, out) == (1, b"FOUR\n")
    assert "the input could not be read to its end" in err
    assert "gone.txt" in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["mine"], "'mine' is not of the form MODULE:FUNCTION"),
        (["mine:gone"], "has no attribute 'gone'"),
        (["nowhere:gone"], "No module named 'nowhere'"),
        (["mine:something"], "mine:something cannot be called, it is of type int"),
        (["mine:upper", "--workers", "0"], "max_workers must be"),
        ([], "required: MODULE:FUNCTION"),
    ],
)
def test_wrong_calls(folder: Path, arguments: list[str], problem: str) -> None:
    """They say what is wrong, and nothing runs."""
    status, out, err = run(folder, *arguments)
    assert (status, out) == (2, b"")
    assert problem in err


def test_parts_of_things_are_found() -> None:
    """A function can be an attribute of a class."""
    assert cli.find_function("os.path:join") is os.path.join
    assert cli.find_function("pathlib:Path.home").__name__ == "home"
