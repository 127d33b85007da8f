"""A lane's memory: words that wrap, outcomes that outlive their worker, and room for large buffers."""

from __future__ import annotations

import errno
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._base import system
from ordered_executor._base.system import memory as system_memory
from ordered_executor._channel import shared_memory
from ordered_executor._channel.arena import BufferRoom
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    LIMIT,
    LOG_AT,
    LOG_OPEN,
    LOG_START,
    MASK,
    PROGRESS,
    TO_PARENT,
    LaneMemory,
    distance,
)
from tests.helpers import end_what_may_end
from tests.interleave import Intruder, intruders


@pytest.fixture
def memory() -> Iterator[LaneMemory]:
    """A lane's memory, without a worker."""
    made = LaneMemory.create()
    yield made
    made.close()


def begin_segment(memory: LaneMemory, number: int, index: int) -> None:
    """What a worker writes when the stream begins anew."""
    memory.words[PROGRESS] = 0
    memory.words[LOG_START] = number << COUNT_BITS | index
    memory.bytes[LOG_AT : LOG_AT + len(LOG_OPEN)] = LOG_OPEN
    memory.words[PROGRESS] = index << COUNT_BITS | len(LOG_OPEN)


def add_outcome(memory: LaneMemory, outcome: Any) -> None:
    """What a worker writes when a task is finished."""
    progress = memory.words[PROGRESS]
    done, length = progress >> COUNT_BITS, progress & (1 << COUNT_BITS) - 1
    pickled = pickle.dumps(outcome)[:-1]
    memory.bytes[LOG_AT + length : LOG_AT + length + len(pickled)] = pickled
    memory.words[PROGRESS] = (done + 1) << COUNT_BITS | length + len(pickled)


# -------------------------------------------------------------------------------------------------------------- numbers


@given(st.integers(0, MASK), st.integers(-(2**62), 2**62))
def test_distances_survive_the_wrap(first: int, gap: int) -> None:
    """How far one word is past another, wherever on the circle they are."""
    assert distance(first, (first + gap) & MASK) == gap
    assert distance(first + 2**64, first + gap) == gap


# -------------------------------------------------------------------------------------------------------- the outcomes

outcomes = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()


@given(st.lists(outcomes, min_size=1, max_size=30), st.integers(0, 1000), st.integers(0, 1000))
def test_the_outcomes_of_a_batch_can_be_read(values: list[Any], number: int, index: int) -> None:
    """Pickles of basic values and bytes, one behind the other, are read as one list."""
    memory = LaneMemory.create()
    begin_segment(memory, number, index)
    assert memory.stream(number) is None
    for value in values:
        add_outcome(memory, value)
    assert memory.stream(number) == (index, values)
    assert memory.stream(number + 1) is None
    begin_segment(memory, number, index + len(values))
    assert memory.stream(number) is None
    memory.close()


class LyingWords:
    """Words each of whose reads is a point for an intruder: the worker, which goes on meanwhile."""

    def __init__(self, words: Any, intruder: Intruder) -> None:
        self.words = words
        self.intruder = intruder

    def __getitem__(self, index: int) -> int:
        self.intruder.pass_by()
        return int(self.words[index])


class LyingBytes:
    """The bytes of a memory: reading them is a point too."""

    def __init__(self, whole: Any, intruder: Intruder) -> None:
        self.whole = whole
        self.intruder = intruder

    def __getitem__(self, where: slice) -> Any:
        self.intruder.pass_by()
        return self.whole[where]


@pytest.mark.parametrize("worker", ["goes on", "begins anew", "next batch", "next batch of the same size"])
def test_a_peek_while_the_worker_writes(worker: str) -> None:
    """Peek against a working worker.

    1. the parent looks for finished outcomes; 2. at any point of that the worker writes more, or sends them and
    begins anew, or begins the next batch; 3. the parent goes on. It gets outcomes of its batch from the right index
    on, or none; never those of another.
    """
    for intruder in intruders():
        memory: Any = LaneMemory.create()
        words, whole = memory.words, memory.bytes
        begin_segment(memory, 7, 2)
        add_outcome(memory, "7/2")
        add_outcome(memory, "7/3")

        def act(memory: Any = memory) -> None:
            if worker == "goes on":
                add_outcome(memory, "7/4")
            else:
                number, index = (7, 4) if worker == "begins anew" else (8, 0)
                begin_segment(memory, number, index)
                for last in range(index, index + (2 if "same" in worker else 3)):
                    add_outcome(memory, f"{number}/{last}")

        lying = LyingWords(words, intruder), LyingBytes(whole, intruder)
        memory.words, memory.bytes = lying

        def as_worker(
            memory: Any = memory, act: Callable[[], None] = act, true: Any = (words, whole), lying: Any = lying
        ) -> None:
            memory.words, memory.bytes = true
            act()
            memory.words, memory.bytes = lying

        intruder.act = as_worker
        found = memory.stream(7)
        intruder.come()
        if found is not None:
            start, values = found
            assert values == [f"7/{index}" for index in range(start, start + len(values))]
        memory.words, memory.bytes = words, whole
        memory.close()


def test_a_new_lease_begins_with_nothing(memory: LaneMemory) -> None:
    """Limits of an earlier executor do not show."""
    memory.words[LIMIT] = 5
    memory.reset()
    assert memory.words[LIMIT] == 0


def test_memory_leaves_nothing_behind() -> None:
    """Closed, it has no descriptor any more; where the system gives none, there is no lane, and nothing open either."""
    end_what_may_end()
    before = len(os.listdir("/dev/fd"))
    LaneMemory.create().close()
    assert len(os.listdir("/dev/fd")) == before


def test_without_memory_there_is_no_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no memory, making it fails, and leaves nothing open."""
    monkeypatch.setattr(system_memory, "reserve", lambda *_: False)
    end_what_may_end()
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match="no memory for a lane"):
        LaneMemory.create()
    assert len(os.listdir("/dev/fd")) == before


# ------------------------------------------------------------------------------------------------------ large buffers


@given(st.lists(st.integers(-3, 60), max_size=80))
def test_large_buffers_never_overlap(steps: list[int]) -> None:
    """Blocks are taken (a positive size) and freed in the order they were made (a negative number).

    No two overlap, all lie inside, and an empty room begins at the beginning again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_memory, "TO_PARENT_AT", 1000)
        patch.setattr(system, "reserve", lambda *_: True)
        memory = LaneMemory.__new__(LaneMemory)
        memory.fd, memory.room = -1, 100
        room = BufferRoom(memory, TO_PARENT)
        blocks: deque[range] = deque()
        for step in steps:
            if step <= 0:
                count = min(-step, len(blocks))
                room.free(count)
                for _ in range(count):
                    blocks.popleft()
                continue
            at = room.take(step)
            if at is None:
                assert blocks, "an empty room has room"
                continue
            block = range(at, at + step)
            assert 1000 <= block.start < block.stop <= 1100
            assert not any(set(block) & set(other) for other in blocks)
            assert blocks or at == 1000
            blocks.append(block)


def test_without_room_or_memory_there_is_no_block(memory: LaneMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit, or what the system has no memory for, goes another way; the room is as before."""
    room = BufferRoom(memory, TO_PARENT)
    assert room.take(shared_memory.BUFFER_BYTES + 1) is None
    monkeypatch.setattr(system, "reserve", lambda *_: False)
    assert room.take(10) is None
    monkeypatch.undo()
    assert room.take(10) == shared_memory.TO_PARENT_AT
    assert room.take(10) == shared_memory.TO_PARENT_AT + 10


def test_memory_that_cannot_be_had_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files may not grow, say: it raises, each time it is tried again, and nothing stays open."""

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "ftruncate", refuse)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="too large"):
        system.memory_file(4096)
    assert set(os.listdir("/proc/self/fd")) == before
