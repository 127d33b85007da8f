"""Records that fail: they are reported at their place, and cost themselves only."""

from __future__ import annotations

import re

import pytest

from tests.command.conftest import Folder


def test_lines_that_fail_are_reported_and_the_rest_goes_on(folder: Folder) -> None:
    """With file and line; what returns None prints nothing."""
    folder.write("numbers", b"5\nsix\n")
    status, out, err = folder.run("mine:number", "-", "numbers", lines=b"1\nno\n\n4\nneither\n6\n")
    assert (status, out) == (1, b"1\n4\n6\n5\n")
    places = [line.split(" ")[:2] for line in err.splitlines()]
    assert places == [["-:2:", "ValueError:"], ["-:5:", "ValueError:"], ["numbers:2:", "ValueError:"]]


def test_files_that_cannot_be_read(folder: Folder) -> None:
    """They are reported, and the others are read."""
    status, out, err = folder.run("mine:upper", "two.txt", "gone.txt", ".", "two.txt")
    assert (status, out) == (1, b"FOUR\nFOUR\n")
    assert err.splitlines() == [
        "gone.txt: FileNotFoundError: No such file or directory",
        ".: IsADirectoryError: Is a directory",
    ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--output", "one.txt"], "one.txt is an input, and the output would be written there"),
        (["--joblog", "./one.txt"], "one.txt is an input, and the job log would be written there"),
        (["--dead-letter", "link"], "one.txt is an input, and the file of dead letters would be written there"),
        (["--trace", "one.txt"], "one.txt is an input, and the trace would be written there"),
        (["--output", "two.txt", "--joblog", "two.txt"], "the output and the job log are the same file"),
        (["--resume", "--joblog", "two.txt"], "the job log has a row that is none: b'four\\n'"),
        (["--resume", "--joblog", "three.txt"], "three.txt is no job log"),
    ],
)
def test_files_of_the_user_are_not_overwritten(folder: Folder, options: list[str], problem: str) -> None:
    """An input that is opened for writing would be empty before it is read."""
    (folder.path / "link").hardlink_to(folder.path / "one.txt")
    folder.write("three.txt", b"no newline")
    assert folder.run("mine:same", "one.txt", *options) == (2, b"", f"ordered-executor: {problem}\n")
    assert folder.read("one.txt") == b"one\ntwo two\n\nthree"
    assert (folder.read("two.txt"), folder.read("three.txt")) == (b"four\n", b"no newline")


def test_an_output_that_is_the_input(folder: Folder) -> None:
    """As `cat file >>file`, it would grow for ever."""
    with open(folder.path / "one.txt", "ab") as out:  # noqa: PTH123
        status, _, err = folder.run("mine:same", "two.txt", "one.txt", stdout=out)
    assert (status, err) == (2, "ordered-executor: one.txt is an input, and the output would be written there\n")


@pytest.mark.parametrize("at", [0, 1, 2, 777, 2999])
def test_a_line_that_kills_its_worker_fails_alone(folder: Folder, at: int) -> None:
    """Wherever in its piece it stands; no other line is lost, or run twice."""
    lines = [b"%d\n" % number for number in range(3000)]
    lines[at] = b"die\n"
    status, out, err = folder.run("mine:dies", "-j2", folder.write("lines", b"".join(lines)))
    assert (status, out) == (1, b"".join(lines[:at] + lines[at + 1 :]))
    assert err == f"lines:{at + 1}: WorkerDied: its worker was killed by signal 9\n"


def test_many_lines_that_kill_their_workers(folder: Folder) -> None:
    """One after the other, more than an executor takes for chance."""
    status, out, err = folder.run("mine:dies", "-j2", lines=b"die\n" * 8 + b"lives\n" + b"die\n" * 3 + b"too\n")
    assert (status, out) == (1, b"lives\ntoo\n")
    assert [line.split(":")[1] for line in err.splitlines()] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "10",
        "11",
        "12",
    ]


@pytest.mark.parametrize("function", ["dies_once", "fails_once"])
def test_retries(folder: Folder, function: str) -> None:
    """Whether it raises, or its worker dies."""
    lines = b"one\ndie\ntwo\nfail\nthree\n"
    assert folder.run(f"mine:{function}", "--retries", "1", lines=lines) == (0, lines, "")


def test_a_stuck_line_is_stopped(folder: Folder) -> None:
    """With `--timeout`, it fails, and its neighbours do not."""
    lines = b"".join(b"%d\n" % number for number in range(2000))
    status, out, err = folder.run("mine:stuck", "-j2", "--timeout", "6", lines=lines + b"stuck\n" + lines)
    assert (status, out) == (1, lines + lines)
    assert err == "-:2001: TimeoutError: it took longer than 6 s, and was stopped\n"


def test_dead_letters(folder: Folder) -> None:
    """The lines that failed, byte by byte."""
    lines = b"1\nno\xff\r\n2\ndie\n3\nlast"
    status, out, _ = folder.run("mine:number", "--dead-letter", "dead", lines=lines)
    assert (status, out) == (1, b"1\n2\n3\n")
    assert folder.read("dead") == b"no\xff\r\ndie\nlast"


def test_a_large_dead_letter(folder: Folder) -> None:
    """It is larger than a slot."""
    long = b"x" * 1_000_000 + b"\n"
    assert folder.run("mine:number", "--dead-letter", "dead", lines=b"1\n" + long + b"2\n")[:2] == (1, b"1\n2\n")
    assert folder.read("dead") == long


@pytest.mark.parametrize("option", [["--stop"], ["--halt", "now"], ["--halt", "now,fail=1"]])
def test_stop_at_the_first_failure(folder: Folder, option: list[str]) -> None:
    """What stands before it is printed, nothing after it; input that has not come yet is not waited for."""
    with folder.start("mine:number", "-j2", *option) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"1\nno\n3\n")
        process.stdin.flush()
        assert process.wait(50) == 1
        assert process.stdout.read() in {b"1\n", b""}  # the failure may be known before line 1 is done
        assert re.match(rb"-:2: ValueError: .*\nordered-executor: stopped .*\n\Z", process.stderr.read())


def test_stop_begins_nothing_more(folder: Folder) -> None:
    """Of a thousand lines that wait, a few have begun."""
    lines = b"".join(b"%d\n" % number for number in range(1000))
    assert folder.run("mine:noted", "-j2", "--stop", lines=b"1\n2\nbad\n" + lines)[0] == 1
    assert folder.read("ran.log").count(b"\n") <= 8


def test_soon_lets_what_runs_end(folder: Folder) -> None:
    """Nothing more begins, and all that had begun is written."""
    lines = b"".join(b"%d\n" % number for number in range(1000))
    status, out, err = folder.run("mine:noted", "-j2", "--halt", "soon,fail=2", lines=b"1\nbad\n2\nbad\n" + lines)
    ran = folder.read("ran.log").split()
    assert status == 1
    assert sorted(out.split()) == sorted(word for word in ran if word != b"bad")
    assert len(ran) <= 12
    assert err.splitlines()[-1].endswith("as --halt soon says")


def test_percents_of_failures(folder: Folder) -> None:
    """One in ten is less than a fifth, and one in two is more."""
    rare = (b"1\n" * 9 + b"no\n") * 20
    assert folder.run("mine:number", "--halt", "now,fail=20%", lines=rare)[1] == b"1\n" * 180
    often = (b"1\n" * 20 + b"no\n" * 20) + b"2\n" * 50_000
    assert folder.run("mine:number", "--halt", "now,fail=20%", lines=often)[1].count(b"2") == 0
