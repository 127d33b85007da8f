"""Where records end: the cuts of the parent and those of the worker, against a plain reading of the whole."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._command.cutting import make_cutter
from ordered_executor._command.feeding import runs
from ordered_executor._command.options import Work, parse_size
from ordered_executor._command.pace import Pace
from ordered_executor._command.records import Records
from ordered_executor._command.sources import Reader

WORKS = [
    Work(),
    Work(form="bytes"),
    Work(null=True),
    Work(form="csv"),
    Work(form="tsv"),
    Work(lines=1),
    Work(lines=3),
    Work(lines=3, form="bytes"),
    Work(block=4),
]

texts = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"\0", b'"', b'""', b",", b'"x\ny"', b"\r\n"])).map(
    b"".join
)


def pieces_of(work: Work, parts: list[bytes], rooms: list[int]) -> list[tuple[bytes, int]]:
    """The pieces that are cut, part by part, out of what arrives."""
    cutter, buffer, found = make_cutter(work), bytearray(), list[tuple[bytes, int]]()
    piece, last, asked = b"", b"", 0
    for number in range(len(parts) + 1):
        eof = number == len(parts)
        buffer += b"" if eof else parts[number]
        while True:
            take, whole = cutter.cut(buffer, len(piece), rooms[asked % len(rooms)] - len(piece), eof)
            asked += 1
            assert 0 <= take <= len(buffer)
            if take:
                last = bytes(buffer[:take])
                piece += last
                del buffer[:take]
            if whole and piece:
                lines = piece.count(work.separator) + (not piece.endswith(work.separator))
                found.append((piece, cutter.records(lines, last)))
                piece = b""
            if not take:
                break
    assert not buffer
    assert not piece
    return found


@pytest.mark.parametrize("work", WORKS, ids=str)
@given(parts=st.lists(texts, max_size=8), rooms=st.lists(st.integers(1, 40), min_size=1))
def test_pieces_are_the_input_and_records_are_whole(work: Work, parts: list[bytes], rooms: list[int]) -> None:
    """However the input arrives, and whatever room there is."""
    data = b"".join(parts)
    pieces = pieces_of(work, parts, rooms)
    assert b"".join(piece for piece, _ in pieces) == data
    records = [Records(work, piece) for piece, _ in pieces]
    raw = [each.raw(i) for each in records for i in range(len(each))]
    assert b"".join(raw) == data
    if work.form != "csv":
        assert [count for _, count in pieces] == [len(each) for each in records]
        assert [r for piece in records for r in piece.values] == Records(work, data).values or work.block
    elif b'"' not in data.replace(b'"x\ny"', b""):
        values = [row for each in records for row in each.values]
        if not any(isinstance(row, Exception) for row in values):
            lines = [line + "\n" for line in data.decode().removesuffix("\n").split("\n")] if data else []
            assert values == list(csv.reader(lines))


@given(data=texts, count=st.integers(2, 5))
def test_groups_are_counted_across_pieces(data: bytes, count: int) -> None:
    """Each but the last has so many lines."""
    groups = Records(Work(lines=count), data).values
    assert all(len(group) == count for group in groups[:-1])
    assert [line for group in groups for line in group] == Records(Work(), data).values


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    """Long lines part by part; names and lines are those of the files."""
    (tmp_path / "a").write_bytes(b"1\n2\n" + b"x" * 600_000 + b"\n4")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").write_bytes(b"5\n")
    problems = list[str]()
    files = tuple(str(tmp_path / name) for name in "abdc")
    reader = Reader(files, Work(), lambda name, _: problems.append(name[-1]))
    found = list[tuple[str, int, int, bytes]]()
    while not reader.ended:
        data = bytearray()

        def put(at: int, part: bytearray, data: bytearray = data) -> None:
            assert at == len(data)
            data += part

        taken = reader.take(put, 4, hurry=True)
        if taken is not None:
            assert taken.size == len(data)
            found.append((taken.name[-1], taken.line, taken.records, bytes(data[:5])))
    assert found == [("a", 1, 2, b"1\n2\n"), ("a", 3, 1, b"xxxxx"), ("a", 4, 1, b"4"), ("c", 1, 1, b"5\n")]
    assert problems == ["d"]


def test_a_pipe_is_not_waited_for() -> None:
    """What is there makes a piece in a hurry, and is held back else."""
    read, write = os.pipe()
    reader = Reader((f"/dev/fd/{read}",), Work(), lambda *_: None)
    got = io.BytesIO()

    def put(_: int, part: bytearray) -> None:
        got.write(part)

    os.write(write, b"one\ntwo\nthr")
    assert reader.take(put, 1000, hurry=False) is None
    assert reader.held
    taken = reader.take(put, 1000, hurry=True)
    assert taken is not None
    assert (taken.records, got.getvalue()) == (2, b"one\ntwo\n")
    assert reader.take(put, 1000, hurry=True) is None
    assert not reader.held
    os.write(write, b"ee\n")
    assert reader.take(put, 1000, hurry=True) is not None
    os.close(write)
    assert reader.take(put, 1000, hurry=True) is None
    assert reader.ended
    os.close(read)


def test_the_pace_follows_what_was_measured() -> None:
    """One record at first; then so many as take a fortieth of a second, and their output has room."""
    pace = Pace(256 * 1024)
    assert pace.size == 1
    pace.learn(100, 1, 100, 0.00001)
    assert pace.size == 1600  # no leap
    for _ in range(50):
        pace.learn(pace.size, pace.size // 100, pace.size, pace.size * 1e-7)
    assert 150_000 < pace.size <= 256 * 1024
    for _ in range(50):
        pace.learn(1000, 10, 100_000, 1e-4)
    assert pace.size * 100 <= 256 * 1024
    for _ in range(50):
        pace.learn(100, 1, 100, 1.0)
    assert (pace.size, pace.records) == (2, 1)


def test_sizes() -> None:
    """With units, in powers of 1024."""
    assert [parse_size(text) for text in ("1", "2k", "3MiB", "0.5G", "1TB")] == [1, 2048, 3 << 20, 1 << 29, 1 << 40]
    for text in ("", "0", "-1", "4X", "k"):
        with pytest.raises(ValueError, match="number of bytes"):
            parse_size(text)
    assert runs([]) == []
