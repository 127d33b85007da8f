"""The command with programs."""

from __future__ import annotations

import time

import pytest

from ordered_executor._command.templates import Template
from tests.command.conftest import Folder


def test_replacement_strings() -> None:
    """As GNU parallel 20221122 fills them in."""
    words = [b"{}", b"{.}", b"{/}", b"{//}", b"{/.}", b"{#}", b"{%}", b"a{}b{.}c", b"{x}"]
    filled = Template(words, append=True, shell=False).fill([b"d.e/f g.tar.gz"], 7, 2)
    assert filled == [
        *(b"d.e/f g.tar.gz", b"d.e/f g.tar", b"f g.tar.gz", b"d.e", b"f g.tar", b"7", b"2"),
        *(b"ad.e/f g.tar.gzbd.e/f g.tarc", b"{x}"),
    ]
    assert Template([b"{//}", b"{1}", b"{1/}"], append=True, shell=False).fill([b"/f"], 1, 1) == [b"/", b"/f", b"f"]
    assert Template([b"{2} {1.}"], append=True, shell=False).fill([b"a.b", b"c"], 1, 1, columns=True) == [b"c a"]
    assert Template([b"echo", b"{}", b"|", b"cat"], append=True, shell=True).fill([b"it's"], 1, 1) == [
        *(b"/bin/sh", b"-c", b"echo 'it'\"'\"'s' | cat"),
    ]


def test_output_is_whole_and_in_order(folder: Folder) -> None:
    """Also the error output; without a mark, the line is the last argument."""
    script = "echo a $1; echo e $1 >&2; sleep 0.0$1; echo b $1"
    status, out, err = folder.run("-j2", "--", "sh", "-c", script, "sh", lines=b"9\n1\n5\n")
    assert (status, out, err) == (0, b"a 9\nb 9\na 1\nb 1\na 5\nb 5\n", "e 9\ne 1\ne 5\n")


def test_no_shell_unless_asked_for(folder: Folder) -> None:
    """A line cannot begin a program."""
    nasty = b"$(touch gone); 'x' \"y\" *\n"
    assert folder.run("--", "echo", "{}", "|", "cat", lines=nasty) == (0, nasty[:-1] + b" | cat\n", "")
    assert folder.run("--shell", "--", "echo", "{}", "|", "tr", "a-z", "A-Z", lines=nasty)[1] == nasty.upper()
    assert not (folder.path / "gone").exists()


def test_files_of_names(folder: Folder) -> None:
    """In front of the program."""
    assert folder.run("one.txt", "two.txt", "--", "echo", "-", "{}")[1] == b"- one\n- two two\n- \n- three\n- four\n"


def test_the_input_is_empty(folder: Folder) -> None:
    """A program does not eat the command's."""
    assert folder.run("--", "sh", "-c", "cat; echo {}", lines=b"a\nb\n") == (0, b"a\nb\n", "")


def test_pipe(folder: Folder) -> None:
    """A block of whole lines is the program's input."""
    lines = b"".join(b"%d\n" % number for number in range(50_000))
    status, out, _ = folder.run("--pipe", "--block", "64K", "-j2", "--", "cat", lines=lines)
    assert (status, out) == (0, lines)
    assert folder.run("--pipe", "--", "wc", "-l", lines=lines)[1].split() == [b"50000"]
    status, out, _ = folder.run("--pipe", "--lines", "20000", "-j2", "--", "wc", "-l", lines=lines)
    assert (status, out.split()) == (0, [b"20000", b"20000", b"10000"])


def test_null_and_names_that_are_no_text(folder: Folder) -> None:
    """As `find -print0` writes them."""
    assert folder.run("-0", "--", "printf", "<%s>", lines=b"a\nb\0\xff c\0")[1] == b"<a\nb><\xff c>"


def test_several_lines_are_several_arguments(folder: Folder) -> None:
    """With `--lines`."""
    assert folder.run("--lines", "2", "--", "printf", "<%s>", "{}", lines=b"a b\nc\nd\n")[1] == b"<a b><c><d>"


def test_columns(folder: Folder) -> None:
    """By their numbers."""
    assert folder.run("--csv", "--", "echo", "{2}:{1}", lines=b'"a, b",c\nd,e\n')[1] == b"c:a, b\ne:d\n"


def test_exit_status_and_signals(folder: Folder) -> None:
    """A program that fails is reported; its output stays."""
    status, out, err = folder.run("--", "sh", "-c", 'echo "$0"; eval "$0"', lines=b"exit 0\nexit 3\nkill -9 $$\n")
    assert (status, out) == (1, b"exit 0\nexit 3\nkill -9 $$\n")
    assert err.splitlines() == [
        "-:2: ExitStatus: the program ended with exit status 3",
        "-:3: Signal: the program was ended by SIGKILL",
    ]
    status, _, err = folder.run("--", "no-such-program", lines=b"a\n")
    assert (status, err) == (1, "-:1: FileNotFoundError: no-such-program: No such file or directory\n")


def test_timeout_ends_all_that_it_has_started(folder: Folder) -> None:
    """The program, and its children."""
    begun = time.monotonic()
    status, out, err = folder.run("--timeout", "0.5", "-j2", "--", "sh", "-c", "echo {}; sleep {}", lines=b"0\n60\n0\n")
    assert (status, out) == (1, b"0\n60\n0\n")
    assert err == "-:2: TimeoutError: the program took longer than 0.5 s and was ended\n"
    assert time.monotonic() - begun < 30


def test_what_is_left_in_the_background_is_not_waited_for(folder: Folder) -> None:
    """Although it holds the output open."""
    begun = time.monotonic()
    assert folder.run("--", "sh", "-c", "echo {}; cd /; sleep 20 & exit 0", lines=b"a\n")[:2] == (0, b"a\n")
    assert time.monotonic() - begun < 15


def test_output_larger_than_memory_is_for(folder: Folder) -> None:
    """Five megabytes each."""
    status, out, _ = folder.run("-j2", "--", "sh", "-c", "yes {} | head -c 5000000", lines=b"a\nb\n")
    assert (status, out) == (0, b"a\n" * 2_500_000 + b"b\n" * 2_500_000)


def test_retries_of_a_program(folder: Folder) -> None:
    """The output of the last try counts."""
    script = "echo try; test -e {} || { touch {}; exit 1; }"
    assert folder.run("--retries", "1", "--", "sh", "-c", script, lines=b"a\n") == (0, b"try\n", "")


@pytest.mark.parametrize("arguments", [["--", "sh", "-c", "echo x; echo y", "sh"], ["mine:same"]])
def test_tag(folder: Folder, arguments: list[str]) -> None:
    """The line in front of each line of its output."""
    lines = b"a\tx\na\ty\n" if "--" in arguments else b"a\ta\n"
    assert folder.run("--tag", *arguments, lines=b"a\n") == (0, lines, "")


def test_results(folder: Folder) -> None:
    """Files for each record."""
    folder.run("--results", "kept", "-j2", "--", "sh", "-c", "echo {}; echo e >&2", lines=b"a\nb\n")
    assert folder.read("kept/2/stdout") == b"b\n"
    assert folder.read("kept/2/stderr") == b"e\n"
    assert folder.read("kept/1/input") == b"a\n"


def test_dry_run(folder: Folder) -> None:
    """Nothing runs."""
    assert (
        folder.run("--dry-run", "--", "touch", "{}", "x y", lines=b"a\nb c\n")[1]
        == b"touch a 'x y'\ntouch 'b c' 'x y'\n"
    )
    assert folder.run("--dry-run", "--csv", "nowhere:gone", lines=b"a,b\n")[1] == b"nowhere:gone('a', 'b')\n"
    assert not (folder.path / "a").exists()


def test_numbers_of_workers(folder: Folder) -> None:
    """From 1 up to the number of workers."""
    _, out, _ = folder.run("-j2", "--", "sh", "-c", "sleep 0.02; echo {%}", lines=b"a\n" * 30)
    assert set(out.split()) == {b"1", b"2"}
