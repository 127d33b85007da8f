"""The command: a function over lines, as a user calls it."""

from __future__ import annotations

import os
import time

import pytest

from ordered_executor._command.functions import find_function
from tests.command.conftest import Folder


def test_lines_come_out_in_order(folder: Folder) -> None:
    """Hundreds of lines whose tasks take different times, from the standard input."""
    lines = b"".join(b"x" * (number % 7) + b" %d\n" % number for number in range(500))
    assert folder.run("mine:upper", "--workers", "2", lines=lines) == (0, lines.upper(), "")


def test_many_lines(folder: Folder) -> None:
    """More than a piece, a slot and a pipe hold; from a file and from a pipe."""
    lines = b"".join(b"%d " % number * 9 + b"\n" for number in range(40_000))
    assert folder.run("mine:same", "-j2", lines=lines) == (0, lines, "")
    assert folder.run("mine:same", "-j2", folder.write("many", lines)) == (0, lines, "")


def test_files_follow_each_other(folder: Folder) -> None:
    """Files and the standard input, in the order they are named; a last line may have no newline, and be empty."""
    status, out, err = folder.run("mine:upper", "one.txt", "-", "two.txt", lines=b"zero\n")
    assert (status, out, err) == (0, b"ONE\nTWO TWO\n\nTHREE\nZERO\nFOUR\n", "")


@pytest.mark.parametrize("arguments", [["--workers", "2", "mine:upper", "one.txt"], ["mine:upper", "-j2", "one.txt"]])
def test_options_stand_anywhere(folder: Folder, arguments: list[str]) -> None:
    """Before, between and behind."""
    assert folder.run(*arguments, "two.txt", "--retries=1") == (0, b"ONE\nTWO TWO\n\nTHREE\nFOUR\n", "")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_bytes_that_are_no_text_come_out_as_they_were(folder: Folder, locale: str) -> None:
    """Of log files nobody knows the encoding."""
    lines = bytes(range(256)).replace(b"\n", b"") + b"\nna\xc3\xafve\x00\r\n\n\n"
    environment = os.environ | {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert folder.run("mine:same", lines=lines, env=environment) == (0, lines, "")
    assert folder.run("--bytes", "mine:same", lines=lines, env=environment) == (0, lines, "")


def test_only_a_newline_ends_a_line(folder: Folder) -> None:
    """Carriage returns are part of it, and come out again."""
    folder.write("mixed", b"a\rb\r\nc\n")
    assert folder.run("mine:upper", "mixed", "-", lines=b"d\r\n") == (0, b"A\rB\r\nC\nD\r\n", "")


def test_no_input(folder: Folder) -> None:
    """Nothing comes out; but a function that does not exist is found out."""
    assert folder.run("mine:upper") == (0, b"", "")
    assert folder.run("mine:gone")[0] == 2


def test_results_come_while_the_input_goes_on(folder: Folder) -> None:
    """A line's result can be read before the next line is written."""
    with folder.start("mine:upper") as process:
        assert process.stdin
        assert process.stdout
        for word in ("one", "two", "three"):
            process.stdin.write(f"{word}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline() == f"{word.upper()}\n".encode()
        process.stdin.close()
        assert process.wait(50) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["mine:same"],
        ["--bytes", "mine:same"],
        ["--json", "mine:same"],
        ["--csv", "mine:same"],
        ["--lines", "1", "mine:same"],
        ["--joblog", "log", "--results", "kept", "--dead-letter", "dead", "mine:same"],
        ["--", "echo", "{}"],
        ["--pipe", "--lines", "1", "--", "cat"],
    ],
    ids=" ".join,
)
def test_each_answer_comes_before_the_next_question(folder: Folder, arguments: list[str]) -> None:
    """Whoever asks waits for all answers: one that is kept back, for a full block or more input, is never read."""
    with folder.start("-j2", *arguments) as process:
        assert process.stdin
        assert process.stdout
        few = 20 if "--" in arguments else 4000
        asked = 0
        for count in (1, few, 1, 1, 3, few, 1):
            questions = [b"%d\n" % number for number in range(asked, asked + count)]
            asked += count
            process.stdin.write(b"".join(questions))
            process.stdin.flush()
            assert [process.stdout.readline() for _ in questions] == questions
        process.stdin.close()
        assert process.wait(50) == 0


def test_what_stands_in_a_file_is_written_too_while_the_input_goes_on(folder: Folder) -> None:
    """Whoever looks into the file gives the next line only then."""
    with folder.start("mine:same", "one.txt", "-", "--output", "out") as process:
        assert process.stdin
        expected = b"one\ntwo two\n\nthree\n"
        for word in (b"", b"four\n", b"five\n"):
            process.stdin.write(word)
            process.stdin.flush()
            expected += word
            while not (folder.path / "out").exists() or folder.read("out") != expected:
                assert process.poll() is None
                time.sleep(0.01)
        process.stdin.close()
        assert process.wait(50) == 0


def test_what_is_done_does_not_wait_for_what_is_not(folder: Folder) -> None:
    """A line that takes long, in the middle of a piece: those before it are written."""
    quick = b"".join(b"%d\n" % number for number in range(3000))
    with folder.start("mine:slow_after", "-j2", folder.write("lines", quick + b"slow\n" + quick)) as process:
        assert process.stdout
        assert b"".join(process.stdout.readline() for _ in range(3000)) == quick
        process.terminate()
        assert process.wait(50) == 143


def test_programs_of_a_function_have_no_input(folder: Folder) -> None:
    """They would eat the command's."""
    lines = b"".join(b"%d\n" % number for number in range(100))
    status, out, _ = folder.run("mine:eats", "-j2", lines=lines)
    assert (status, out) == (0, lines.replace(b"\n", b"b''\n"))


def test_what_a_function_prints_is_output(folder: Folder) -> None:
    """In order, before what it returns."""
    assert folder.run("mine:prints", "-j2", lines=b"a\nb\n") == (0, b"printed a\na\nprinted b\nb\n", "")


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_results_larger_than_a_slot(folder: Folder, size: int) -> None:
    """They come whole and in order, among small ones."""
    sizes = [1, size, 2, size, size, 3]
    lines = b"".join(b"%d\n" % each for each in sizes)
    assert folder.run("mine:big", "-j2", lines=lines) == (0, b"".join(b"x" * each + b"\n" for each in sizes), "")


def test_lines_larger_than_a_slot(folder: Folder) -> None:
    """They travel whole, among small ones."""
    lines = b"".join(b"y" * each + b"\n" for each in (3, 1_000_000, 0, 2_000_000, 300_000)) + b"z" * 700_000
    assert folder.run("mine:same", "-j2", lines=lines) == (0, lines + b"\n", "")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["mine"], "'mine' is not of the form MODULE:FUNCTION"),
        (["mine:gone"], "has no attribute 'gone'"),
        (["nowhere:gone"], "No module named 'nowhere'"),
        (["mine:something"], "mine:something cannot be called, it is of type int"),
        (["mine:upper", "--workers", "0"], "--workers"),
        (["mine:upper", "--lines", "2", "--json"], "do not go together"),
        (["mine:upper", "--resume"], "--resume needs --joblog"),
        (["mine:upper", "--halt", "later"], "soon|now"),
        (["mine:upper", "--pipe"], "--pipe is for programs"),
        (["mine:upper", "--odd"], "No such option"),
        (["--"], "no program"),
        ([], "MODULE:FUNCTION is missing"),
    ],
)
def test_wrong_calls(folder: Folder, arguments: list[str], problem: str) -> None:
    """One line says what is wrong, and nothing runs."""
    status, out, err = folder.run(*arguments)
    assert (status, out) == (2, b"")
    assert problem in err
    assert err.count("\n") == 1


def test_parts_of_things_are_found() -> None:
    """A function can be an attribute of a class."""
    assert find_function("os.path:join") is os.path.join
    assert find_function("pathlib:Path.home").__name__ == "home"
