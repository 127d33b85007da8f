"""What the parent holds, and what waits in the slots."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from ordered_executor._command.pieces import Board, Piece
from ordered_executor._command.slots import INPUT, OUTPUT, Slots, layout
from tests.command.conftest import Folder

MOST_MEGABYTES = 50


def peak_megabytes(pid: int) -> float:
    """The most that a process has held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
@pytest.mark.parametrize(
    ("function", "line", "count"),
    [("big", b"100000\n", 1500), ("same", b"x" * 200_000 + b"\n", 750), ("same", b"short\n", 2_000_000)],
    ids=["large results", "large lines", "many lines"],
)
def test_a_reader_that_stands_still(folder: Folder, function: str, line: bytes, count: int) -> None:
    """A hundred megabytes and more come of it, and the parent holds fifty at the very most."""
    with folder.start(f"mine:{function}", "-j2", folder.write("lines", line * count)) as process:
        assert process.stdout
        process.stdout.read(1)
        begun = -1.0
        while begun != (begun := cpu_seconds(process.pid)):  # until it stands still, too
            time.sleep(0.3)
        size = 1
        while part := process.stdout.read(1 << 20):
            size += len(part)
            if process.poll() is None:
                assert peak_megabytes(process.pid) < MOST_MEGABYTES
        assert process.wait(50) == 0
        assert size == count * (100_001 if function == "big" else len(line))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
@pytest.mark.parametrize("arguments", [["mine:same"], ["--pipe", "--lines", "1", "--", "cat"]], ids=" ".join)
def test_a_line_that_is_larger_than_all_windows(folder: Folder, arguments: list[str]) -> None:
    """The parent does not hold it, coming or going; its neighbours are lines as any."""
    part, parts = b"x" * (1 << 20), 100
    with folder.start("-j2", "--window-bytes", "1M", *arguments) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"a\n")
        for _ in range(parts):
            process.stdin.write(part)
        process.stdin.write(b"\nb\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"a\n"
        for _ in range(parts):
            assert process.stdout.read(len(part)) == part
        assert process.stdout.read(3) == b"\nb\n"
        assert peak_megabytes(process.pid) < MOST_MEGABYTES
        process.stdin.close()
        assert process.wait(50) == 0


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_small_window(folder: Folder) -> None:
    """It is enough, and the order holds."""
    lines = b"".join(b"%d\n" % (number * 1000) for number in range(1, 60))
    expected = b"".join(b"x" * (number * 1000) + b"\n" for number in range(1, 60))
    assert folder.run("mine:big", "-j2", "--window-bytes", "100K", lines=lines) == (0, expected, "")


@pytest.mark.parametrize("workers", [1, 2, 64, 5000])
@pytest.mark.parametrize("window", [1, 1 << 20, 64 << 20, 1 << 40])
def test_the_slots_are_enough_and_fit(workers: int, window: int) -> None:
    """As many as the workers need, and no more memory than the window, if that is not too small for them."""
    count, area = layout(window, workers)
    assert min(4 * workers, 1000) <= count < 1024
    assert count * 2 * area <= max(window, 8 * workers * 64 * 1024)


def test_a_slot_holds_what_is_larger_than_its_area() -> None:
    """The rest is far; neighbours are not touched."""
    slots = Slots.create(1 << 20, 2)
    data = bytes(range(256)) * (slots.area // 64)  # four areas
    for slot in (0, 1, slots.count - 1):
        for which in (INPUT, OUTPUT):
            for at in range(0, len(data), 10_007):
                slots.write(slot, which, at, data[at : at + 10_007])
    for slot in (0, 1, slots.count - 1):
        for which in (INPUT, OUTPUT):
            assert slots.read(slot, which, 0, len(data)) == data
            assert slots.read(slot, which, slots.area - 5, slots.area + 5) == data[slots.area - 5 : slots.area + 5]
    slots.clear(1, len(data), len(data))
    assert slots.read(0, INPUT, 0, len(data)) == data
    with pytest.raises(OSError, match="too long"):
        slots.write(0, INPUT, 16 * 1024**3, b"x")


def test_the_board_keeps_the_order() -> None:
    """Whatever is added when; the lowest slots are used first, and again."""
    slots, board = Slots.create(1 << 20, 1), Board(4)
    taken = [board.take_slot() for _ in range(4)]
    assert taken == [0, 1, 2, 3]
    pieces = [Piece((key, 0), slot, "-", 1, 1, 0, 2, 1) for slot, key in zip(taken, (2, 0, 3, 1), strict=True)]
    for piece in pieces:
        piece.prepare(slots)
        board.add(piece)
    assert [piece.key[0] for piece in board.order] == [piece.key[0] for piece in board.waiting] == [0, 1, 2, 3]
    first = board.next_waiting()
    assert first is board.head is pieces[1]
    board.send(first, "task", 0, 0)
    assert board.next_waiting() is pieces[3]
    board.returned(first, slots, finished=False)
    assert board.next_waiting() is first
    board.send(first, "task", 0, 0)
    board.returned(first, slots, finished=True)
    assert board.remove_head() is first
    assert board.take_slot() == 1
