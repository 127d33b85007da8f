"""The gate: who may pass, on both sides alike, across the wrap; and nobody waits there for ever."""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._base.tasks import Batch
from ordered_executor._channel import frames
from ordered_executor._channel.gate import Gate, Seat
from ordered_executor._channel.shared_memory import CREDIT_BACK, HEAD, LIMIT, MASK, LaneMemory
from ordered_executor._core.backend import Arrived
from ordered_executor._core.window import Window
from ordered_executor._processes.alarms import NEVER
from ordered_executor._processes.backend import LokyBackend
from ordered_executor._processes.sent_batches import SentBatch, SentBatches
from ordered_executor._processes.worker_handle import ENDING, SERVING, LaneKind
from tests.helpers import end_what_may_end
from tests.interleave import Intruder, intruders

WRAPS = [0, 2**32 - 2, 2**63 - 2, 2**64 - 2]


@pytest.fixture(scope="module")
def memory() -> Iterator[LaneMemory]:
    """A lane's memory, without a worker."""
    made = LaneMemory.create()
    yield made
    made.close()


def refuse(*_: object) -> None:
    """Nobody is to come here."""
    raise AssertionError("it asks, or waits, although it may pass")


# ----------------------------------------------------------------------------------------------------------- who passes


@given(
    base=st.sampled_from(WRAPS),
    window=st.integers(1, 10),
    credit=st.integers(0, 50),
    head=st.integers(0, 5),
    ahead=st.integers(0, 12),
    sent=st.integers(0, 60),
    released=st.integers(0, 60),
    size=st.integers(0, 60),
)
def test_worker_and_parent_agree(
    memory: LaneMemory, base: int, window: int, credit: int, head: int, ahead: int, sent: int, released: int, size: int
) -> None:
    """The words in lane memory, modulo 2**64, say what the plain numbers say: head, or inside both bounds."""
    head += base
    ticket = head + ahead
    unreleased = max(0, sent - released)
    bounds = Window(window, credit * 2, 2)
    memory.words[HEAD] = head & MASK
    memory.words[LIMIT] = bounds.limit(head) & MASK
    memory.words[CREDIT_BACK] = (base + sent - unreleased) & MASK
    gate = Gate(memory, bounds.credit, 0, refuse, refuse)
    gate.sent = (base + sent) & MASK
    passes = bounds.passes(head, ticket, size, unreleased)
    assert passes == (ahead == 0 or (ahead < window and unreleased + size <= credit))
    assert gate.passes(ticket & MASK, size) == passes
    tickets, room = gate.room(ticket & MASK)
    assert (tickets, room) == (window - ahead, credit - unreleased)


def test_bounds() -> None:
    """Without a window in tickets it is wide; the bytes are shared out to the lanes; the head passes at any size."""
    bounds = Window(None, 1000, 3)
    assert bounds.tickets > 3 * 4096
    assert bounds.credit == 333
    assert bounds.passes(5, 5, 10**9, 10**9)
    assert not bounds.passes(5, 6, 334, 0)
    assert Window(4, 1000, 3).limit(5) == 9


def test_what_may_pass_does_not_ask(memory: LaneMemory) -> None:
    """Passing costs no frame."""
    memory.reset()
    memory.words[LIMIT] = 4
    gate = Gate(memory, 100, 0, refuse, refuse)
    gate.enter(3, 100)
    gate.enter(0, 10**9)


# ---------------------------------------------------------------------------------------------------------- interleaved


class StubLane:
    """The parent's side of a lane: words in memory, and frames to the worker."""

    state = SERVING
    writing = False

    def __init__(self, memory: LaneMemory) -> None:
        self.memory = memory
        self.alarm = NEVER
        self.sent_batches = SentBatches(memory)
        self.seat = Seat()
        self.asks = (0, 0)
        self.writer = self
        self.pending = False
        self.opens = 0
        self.back = 0

    def open(self, head: int, limit: int) -> None:
        self.memory.words[LIMIT] = limit & MASK
        self.memory.words[HEAD] = head & MASK

    def passed(self) -> None:
        """Nobody traces it."""

    def give_back(self, size: int) -> None:
        self.back = (self.back + size) & MASK
        self.memory.words[CREDIT_BACK] = self.back

    def frame(self, kind: int, body: bytes = b"") -> bytes:
        assert kind == frames.OPEN
        return body

    def put(self, *_: bytes) -> None:
        self.opens += 1


class Words:
    """A worker's look at the words: each read is a point for the parent to come in between."""

    def __init__(self, words: Any, intruder: Intruder) -> None:
        self.words = words
        self.intruder = intruder

    def __getitem__(self, index: int) -> int:
        self.intruder.pass_by()
        return int(self.words[index])


class Crossing:
    """A worker at the gate, and the real parent's judgement of it; their pipe is a deque."""

    def __init__(self, memory: LaneMemory, intruder: Intruder, base: int, window: int, hears_at_once: bool) -> None:
        self.intruder = intruder
        self.hears_at_once = hears_at_once
        self.window = Window(window, 100, 1)
        self.backend = cast("Any", LokyBackend(LaneKind(None, None, (), None), self.window, 1))
        self.lane: Any = StubLane(memory)
        self.lane.sent_batches.sent.append(SentBatch(Batch(7, base, 10)))
        self.backend._lanes.add(self.lane)
        self.backend._seated[self.lane.seat] = self.lane
        memory.reset()
        self.open(base)
        self.lane.open(base, self.window.limit(base))
        self.backend._reach.sent(self.lane, base, 10, base, self.window.limit(base))
        self.pipe: deque[bytes] = deque()
        self.asked = 0
        worker_memory: Any = LaneMemory.__new__(LaneMemory)
        worker_memory.words = Words(memory.words, intruder)
        self.gate = Gate(worker_memory, self.window.credit, 0, self.ask, self.wait)

    def open(self, head: int) -> None:
        self.backend.open(head, self.window.limit(head))

    def release(self, size: int, head: int) -> None:
        """As the scheduler does it: the bytes of an outcome come back, then the head moves."""
        self.backend.give_back(self.lane, size)
        self.open(head)

    def ask(self, ticket: int, size: int) -> None:
        self.asked += 1
        self.intruder.pass_by()
        self.pipe.append(frames.pack((ticket, size)))
        if self.hears_at_once:
            self.hear()
        self.intruder.pass_by()

    def hear(self) -> None:
        while self.pipe:
            self.backend._on_ask(self.lane, memoryview(self.pipe.popleft()))

    def wait(self) -> None:
        """The worker reads its pipe until OPEN; meanwhile the parent hears what was asked, and does what it will."""
        self.hear()
        if not self.lane.opens:
            self.intruder.wake()
        assert self.lane.opens, "it waits for ever"
        self.lane.opens -= 1

    def close(self) -> None:
        assert self.lane.opens == 0, "an OPEN is left over for the next who asks"
        assert not self.backend._gated
        self.backend._lanes.clear()
        self.backend.release()


@pytest.mark.parametrize("base", WRAPS)
@pytest.mark.parametrize("hears_at_once", [True, False])
def test_the_head_moves_while_a_worker_asks(memory: LaneMemory, base: int, hears_at_once: bool) -> None:
    """ASK against the head.

    1. a worker sees that it may not pass, asks, and waits; 2. at any point of that the head moves and lets it in; 3.
    the worker passes, and there is one OPEN for each ASK.
    """
    rounds = 0
    for intruder in intruders():
        crossing = Crossing(memory, intruder, base, 2, hears_at_once)
        intruder.act = lambda crossing=crossing: crossing.open(base + 1)  # type: ignore[misc]
        crossing.gate.enter(base + 2, 10)
        intruder.come()
        crossing.close()
        rounds += 1
    assert rounds >= 4


@pytest.mark.parametrize("base", WRAPS)
@pytest.mark.parametrize("hears_at_once", [True, False])
def test_bytes_come_back_while_a_worker_asks(memory: LaneMemory, base: int, hears_at_once: bool) -> None:
    """The same in bytes.

    1. a worker has used up its credit, asks, and waits; 2. at any point its bytes are released.
    """
    for intruder in intruders():
        crossing = Crossing(memory, intruder, base, 10, hears_at_once)
        crossing.lane.seat.unreleased = 95
        crossing.gate.count(95)
        intruder.act = lambda crossing=crossing: crossing.release(95, base + 1)  # type: ignore[misc]
        crossing.gate.enter(base + 2, 10)
        intruder.come()
        crossing.close()


@pytest.mark.parametrize("base", [0, 2**64 - 2])
@pytest.mark.parametrize("head", [2, 5])
@pytest.mark.parametrize("hears_at_once", [True, False])
def test_a_worker_becomes_the_head_while_it_asks(memory: LaneMemory, hears_at_once: bool, head: int, base: int) -> None:
    """An outcome larger than all credit: it waits until it is the head, whenever that happens, and then passes.

    Or until it was fetched, and the head is past it.
    """
    for intruder in intruders():
        crossing = Crossing(memory, intruder, base, 10, hears_at_once)
        intruder.act = lambda crossing=crossing: crossing.open(base + head)  # type: ignore[misc]
        crossing.gate.enter(base + 2, 10**6)
        intruder.come()
        crossing.close()


@pytest.mark.parametrize("hears_at_once", [True, False])
def test_a_move_that_is_not_enough_lets_nobody_in(memory: LaneMemory, hears_at_once: bool) -> None:
    """1. A worker asks; 2. at any point the head moves, not far enough; 3. later it moves again.

    Only then it passes.
    """
    for intruder in intruders():
        crossing = Crossing(memory, intruder, 0, 1, hears_at_once)
        moves = deque([1, 2, 3])

        def move(crossing: Crossing = crossing, moves: deque[int] = moves) -> None:
            if moves:
                crossing.open(moves.popleft())

        intruder.act = move

        def wait(crossing: Crossing = crossing, moves: deque[int] = moves) -> None:
            crossing.hear()
            while not crossing.lane.opens:
                assert moves, "it waits for ever"
                crossing.open(moves.popleft())
                assert crossing.lane.opens == (crossing.backend._head == 3)
            crossing.lane.opens -= 1

        crossing.gate._wait = wait
        crossing.gate.enter(3, 10)
        assert crossing.backend._head == 3
        intruder.come()
        crossing.close()


@pytest.mark.parametrize("hears_at_once", [True, False])
def test_a_worker_trusts_what_it_is_told(memory: LaneMemory, hears_at_once: bool) -> None:
    """Its outcome was fetched and released, and the lane is to end: the words say no, and it asks once."""
    crossing = Crossing(memory, Intruder(-1), 10, 10, hears_at_once)
    crossing.gate.count(95)
    crossing.lane.seat.unreleased = 95
    crossing.lane.state = ENDING
    crossing.open(20)
    crossing.gate.enter(12, 8)
    assert crossing.asked == 1
    crossing.close()


def test_what_a_lane_that_is_to_end_sends_is_not_for_its_heir(memory: LaneMemory) -> None:
    """All of it was fetched before the lane was told to end; counted now, it would be credit for the next."""
    crossing = Crossing(memory, Intruder(-1), 0, 10, True)
    crossing.lane.state = ENDING
    crossing.lane.seat.unreleased = 30
    crossing.backend._seated[crossing.lane.seat] = heir = StubLane(memory)
    crossing.backend._arrive(crossing.lane, Arrived(crossing.lane, 7, 0, [1], 20, 0.0))
    (event,) = crossing.backend._events
    crossing.backend.give_back(crossing.lane, event.size)
    assert (crossing.lane.seat.unreleased, heir.back) == (30, 0)
    crossing.close()


def test_no_descriptor_is_left(memory: LaneMemory) -> None:
    """The backends of these tests are gone."""
    end_what_may_end()
    before = len(os.listdir("/dev/fd"))
    crossing = Crossing(memory, Intruder(-1), 0, 1, True)
    crossing.close()
    assert len(os.listdir("/dev/fd")) == before
