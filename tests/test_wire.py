"""Frames on a pipe: whatever they are made of, they arrive whole."""

from __future__ import annotations

import io
import os
import threading

import pytest

from ordered_executor._wire import DONE, HEADER, FrameReader, read_frame, write_all


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
