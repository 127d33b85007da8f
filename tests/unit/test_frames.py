"""Frames on a pipe: whatever they are made of, they arrive whole."""

from __future__ import annotations

import errno
import io
import os
import threading
from typing import Any

import pytest

from ordered_executor._channel.frames import DONE, HEADER, FrameReader, FrameWriter, read_frame, write_all


@pytest.mark.parametrize("parts", [1, 3, 64, 65, 1100, 5000])
@pytest.mark.parametrize("size", [1, 3000])
def test_a_frame_of_many_parts_arrives(parts: int, size: int) -> None:
    """More parts than the system takes in one call, and more bytes than the pipe holds."""
    body = [bytes([number % 256]) * size for number in range(parts)]
    read, write = os.pipe()
    frame = [HEADER.pack(parts * size, DONE, 7), *body]
    writer = threading.Thread(target=write_all, args=(write, frame))
    writer.start()
    with os.fdopen(read, "rb") as stream:
        assert read_frame(stream) == (DONE, 7, b"".join(body))
    writer.join()
    os.close(write)


def test_a_reader_takes_frames_as_they_come() -> None:
    """Half a frame is none; two at once are two; the end of the pipe is noticed."""
    read, write = os.pipe()
    reader = FrameReader(read)
    first, second = HEADER.pack(3, DONE, 1) + b"abc", HEADER.pack(0, DONE, 2)
    os.write(write, first[:-1])
    assert list(reader.frames()) == []
    os.write(write, first[-1:] + second)
    assert [(kind, lease, bytes(body)) for kind, lease, body in reader.frames()] == [(DONE, 1, b"abc"), (DONE, 2, b"")]
    assert not reader.ended
    os.close(write)
    assert list(reader.frames()) == []
    assert reader.ended
    os.close(read)


def test_a_frame_that_is_cut_off_is_none() -> None:
    """The other side died in the middle of it."""
    assert read_frame(io.BytesIO(HEADER.pack(9, DONE, 1) + b"abc")) is None
    assert read_frame(io.BytesIO(b"x")) is None


@pytest.mark.parametrize("sizes", [[3000], [100, 3000, 5], [1000, 1000, 1000, 1], [10] * 200])
def test_no_write_is_larger_than_the_system_takes(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    """On macOS one of 2 GiB and more is refused; here one of more than a thousand bytes is."""
    monkeypatch.setattr("ordered_executor._channel.frames._MOST_BYTES", 1000)
    writev, write = os.writev, os.write

    def refuse_much(fd: int, parts: Any) -> int:
        if sum(map(len, parts)) > 1000:
            raise OSError(errno.EINVAL, "Invalid argument")
        return writev(fd, parts)

    def refuse_large(fd: int, part: Any) -> int:
        if len(part) > 1000:
            raise OSError(errno.EINVAL, "Invalid argument")
        return write(fd, part)

    monkeypatch.setattr(os, "writev", refuse_much)
    monkeypatch.setattr(os, "write", refuse_large)
    parts = [bytes([place]) * size for place, size in enumerate(sizes)]
    read, to_pipe = os.pipe()
    write_all(to_pipe, parts)
    assert os.read(read, 100_000) == b"".join(parts)
    writer = FrameWriter(to_pipe)
    writer.put(*parts)
    while writer.pending:
        writer.flush()
    assert os.read(read, 100_000) == b"".join(parts)
    os.close(read)
    os.close(to_pipe)
