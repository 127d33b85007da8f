"""Forms of a record: bytes, blocks, columns, JSON, NUL."""

from __future__ import annotations

import json

from tests.command.conftest import Folder


def test_bytes(folder: Folder) -> None:
    """The function gets bytes, and may return text."""
    assert folder.run("--bytes", "builtins:repr", lines=b"a\xff\r\n") == (0, b"b'a\\xff\\r'\n", "")


def test_blocks_of_lines(folder: Folder) -> None:
    """A list of lines; the last block may be shorter."""
    lines = b"".join(b"%d\n" % number for number in range(25_003))
    assert folder.run("--lines", "1000", "-j2", "mine:count", lines=lines)[1] == b"1000\n" * 25 + b"3\n"
    assert folder.run("--lines", "1", "builtins:repr", lines=b"a\n")[1] == b"['a']\n"
    assert folder.run("--lines", "7", "-j2", "mine:same", lines=lines) == (0, lines, "")


def test_blocks_of_bytes(folder: Folder) -> None:
    """Whole lines, whatever the pipe gave when; the same in each run."""
    lines = b"".join(b"%d\n" % number for number in range(250_000))
    arguments = ["--block", "100K", "--bytes", "-j2"]
    assert folder.run(*arguments, "mine:same", lines=lines) == (0, lines, "")
    sizes = [int(size) for size in folder.run(*arguments, "mine:count", lines=lines)[1].split()]
    assert sum(sizes) == len(lines)
    assert all(100 * 1024 <= size < 100 * 1024 + 8 for size in sizes[:-1])
    assert folder.run("--block", "300K", "-j2", "mine:same", lines=lines) == (0, lines, "")


def test_csv(folder: Folder) -> None:
    """Columns are arguments; a list comes out as a row; quotes may hold newlines."""
    rows = b'1,2\n"3","4"\n\nx,4\n'
    status, out, err = folder.run("--csv", "mine:add", "--dead-letter", "dead", lines=rows)
    assert (status, out) == (1, b"3\n7\n")
    assert err.startswith("-:4: ValueError")
    assert folder.read("dead") == b"x,4\n"
    rows = b'a,"b ""c"", d"\r\n"two\nlines",5" pipe\n'
    assert folder.run("--csv", "mine:swap", lines=rows)[1] == b'"b ""c"", d",a\n"5"" pipe","two\nlines"\n'


def test_csv_of_many_rows(folder: Folder) -> None:
    """Cut into pieces between rows only, and numbered by lines."""
    rows = b"".join(b'"%d\n%d, ""x""",%s\n' % (n, n, b"y" * (n % 50)) for n in range(20_000)) + b"too,many,columns\n"
    status, out, err = folder.run("--csv", "-j2", "mine:swap", folder.write("rows", rows))
    assert status == 1
    assert out.count(b"\n") == 40_000
    assert err.startswith("rows:40001: TypeError: ")
    assert err.count("\n") == 1


def test_tsv(folder: Folder) -> None:
    """Quotes mean nothing."""
    assert folder.run("--tsv", "mine:swap", lines=b'"a\tb"\n') == (0, b'b"\t"a\n', "")


def test_json(folder: Folder) -> None:
    """A value in, a value out; text stays text."""
    values = [1, "é\ud83d\ude00", None, [2.5], {"a": "\n"}]
    lines = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    status, out, _ = folder.run("--json", "mine:same", lines=lines + b'"\\ud800"\n')
    assert status == 0
    assert [json.loads(line) for line in out.splitlines()] == [*values[:1], "é\U0001f600", *values[2:], "\ud800"]
    assert "é" in out.decode()
    status, out, err = folder.run("--json", "mine:double", lines=b'3\n{"a"\n')
    assert (status, out) == (1, b'{"double": 6}\n')
    assert err.startswith("-:2: JSONDecodeError: ")


def test_null(folder: Folder) -> None:
    """Newlines are part of a record."""
    assert folder.run("-0", "builtins:repr", lines=b"a\nb\0\0c") == (0, b"'a\\nb'\n''\n'c'\n", "")
