"""Taking back: a worker is cut between any two of its steps, and the parent looks at it there.

Both sides are the real ones, in one process; the worker's stores and frames, and each word that the parent reads, come
in an order that the test says.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordered_executor._base import system
from ordered_executor._channel.shared_memory import (
    COUNT_BITS,
    COUNT_MASK,
    HELD,
    HOLDING,
    IDLE,
    LOADING,
    NO_SEGMENT,
    RECALL,
    RUNNING,
    SENDING,
)
from ordered_executor._core.backend import ALL
from ordered_executor._processes import recall
from ordered_executor._processes.crash_report import examine
from ordered_executor._processes.worker import runner

from .test_crash_report import BATCHES, Bench, Died, Mortal, ran, skip_without_room

NUMBER = 3  # of the bench's batch


# ruff: noqa: D102 (stand-ins do what their originals do)


class Cut(Mortal):
    """Does something before the n-th step of a worker, which then goes on, or dies some steps later."""

    def __init__(self, at: int, act: Any, dies_after: int = -1) -> None:
        super().__init__(-1)
        self.at, self.act, self.dies_after = at, act, dies_after
        self.came = False

    def live(self) -> None:
        if self.at == 0:
            self.came = True
            self.act()
            self.left = self.dies_after
        self.at -= 1
        super().live()


@pytest.fixture(autouse=True)
def with_barriers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides are one thread, or two in turn; and no batch takes too long."""
    monkeypatch.setattr(system, "barrier", lambda: True)
    monkeypatch.setattr(runner, "OVERRUN_SECONDS", 1e9)


class Recalled(Bench):
    """A bench whose parent recalls the lane when it is told to."""

    def __init__(self, values: list[Any], cut: Cut, window: int) -> None:
        super().__init__(values, cut, window)
        self.lane.heeds = True
        self.settled = ALL
        self.ran_then = 0
        self.returned: list[int] = []

    def recall(self) -> None:
        """What `cancel` does."""
        seen, self.ran_then = self.lane.begun(NUMBER), len(ran)
        self.lane.recall()
        self.settled = self.lane.settled(NUMBER)
        assert seen <= self.settled

    def hear(self) -> None:
        """As the scheduler, which also hears what is handed back."""
        self.backend._on_frames(self.lane)
        for event in self.backend._events:
            if type(event).__name__ == "Returned":
                self.returned.append(event.start)  # type: ignore[union-attr]
            else:
                self.arrive(event.start, event.outcomes)  # type: ignore[union-attr]
        self.backend._events.clear()


def play(name: str, window: int, at: int, dies_after: int = -1) -> tuple[Recalled, Cut]:
    """A worker that is recalled before that step."""
    cut = Cut(at, None, dies_after)
    bench = Recalled(BATCHES[name], cut, window)
    cut.act = bench.recall
    with contextlib.suppress(Died):
        bench.send()
    bench.hear()
    return bench, cut


@pytest.mark.parametrize("window", [100, 2, 1])
@pytest.mark.parametrize("name", [name for name in BATCHES if name != "more than the stream holds"])
def test_a_recall_at_any_moment(name: str, window: int) -> None:
    """Worker against recall.

    1. A worker runs a batch; 2. before any of its stores and frames it is recalled, and looked at; 3. it goes on. It
    begins nothing that the parent believes is its own again, and of the others at most one that it does not begin. It
    sends home what it has run, and hands back the rest.
    """
    skip_without_room(name)
    count = len(BATCHES[name])
    for moment in range(2000):
        bench, cut = play(name, window, moment)
        try:
            bench.check_home()
            assert len(ran) == len(bench.home)
            if not cut.came:
                assert len(bench.home) == count
                assert not bench.returned
                return
            assert len(ran) <= bench.settled, "begun, although it was taken back"
            assert min(bench.settled, count) - len(ran) <= 1, "more than the one at its very start"
            assert len(ran) - bench.ran_then <= 1, "it began more than the one it was about to"
            assert bench.returned == ([] if len(ran) == count else [len(ran)])
        finally:
            bench.close()
    raise AssertionError("the moments do not end")


@pytest.mark.slow  # it plays each pair of moments
@pytest.mark.parametrize("name", ["small", "errors", "large"])
def test_a_death_after_a_recall(name: str) -> None:
    """1. A worker is recalled at any moment; 2. it dies at any later one. Nothing that was taken back has run."""
    for moment in range(200):
        if not sum(died_after(name, moment, later) for later in range(20)):
            assert moment > 20
            return
    raise AssertionError("the moments do not end")


def died_after(name: str, moment: int, later: int) -> bool:
    """Whether there were so many steps."""
    bench, cut = play(name, 1, moment, later)
    try:
        assert len(ran) <= bench.settled
        if cut.died:
            blame = examine(bench.lane).blame
            assert blame is None or blame.index <= len(ran)
            assert len(ran) <= bench.lane.settled(NUMBER) <= len(ran) + 1
        return cut.died
    finally:
        bench.close()


class Turns:
    """Two threads, of which one runs at a time: the worker takes so many steps as it is given."""

    def __init__(self) -> None:
        self.steps = 0
        self.mine, self.yours = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = False

    def step(self) -> None:
        """The worker is about to do one thing."""
        if self.steps == 0:
            self.yours.release()
            assert self.mine.acquire(timeout=30)
        self.steps -= 1

    def give(self, steps: int) -> None:
        """The worker does so many, or all it has to."""
        if steps and not self.ended:
            self.steps = steps
            self.mine.release()
            assert self.yours.acquire(timeout=30)


class Watched:
    """The words as the parent reads them: before each the worker goes on for some steps."""

    def __init__(self, words: Any, turns: Turns, steps: list[int]) -> None:
        self.words, self.turns, self.steps = words, turns, steps

    def __getitem__(self, index: int) -> int:
        self.turns.give(self.steps.pop() if self.steps else 0)
        return int(self.words[index])

    def __setitem__(self, index: int, value: int) -> None:
        self.words[index] = value


class Stepped(Mortal):
    """Steps that are given; see `Turns`."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(-1)
        self.turns = turns

    def live(self) -> None:
        self.turns.step()


@settings(max_examples=300, deadline=None, database=None)
@given(
    name=st.sampled_from(["small", "errors", "large", "buffers", "one"]),
    window=st.sampled_from([100, 2, 1]),
    before=st.integers(0, 60),
    between=st.lists(st.integers(0, 4), max_size=60),
    later=st.lists(st.integers(0, 4), max_size=12),
)
def test_any_interleaving_of_both(name: str, window: int, before: int, between: list[int], later: list[int]) -> None:
    """Each word that the parent reads may be older than the next: what it makes of them holds all the same.

    A second look, while the worker goes on, says the same or less: also what is found out later holds.
    """
    turns = Turns()
    bench: Any = Recalled(BATCHES[name], Cut(-1, None), window)
    bench.mortal = Stepped(turns)

    def work() -> None:
        turns.step()
        try:
            bench.send()
        finally:
            turns.ended = True
            turns.yours.release()

    thread = threading.Thread(target=work)
    thread.start()
    assert turns.yours.acquire(timeout=30)
    memory = bench.lane.memory
    words = memory.words
    try:
        turns.give(before)
        words[RECALL] = bench.lane.generation + 1
        settled = []
        for steps in (between, later):
            memory.words = Watched(words, turns, steps)
            settled.append(bench.lane.settled(NUMBER))
        memory.words = words
        turns.give(100_000)
        thread.join(30)
        bench.hear()
        assert all(len(ran) <= upto for upto in settled), (len(ran), settled)
        assert min(settled[1], len(bench.values)) - len(ran) <= 1
        assert len(ran) == len(bench.home)
    finally:
        memory.words = words
        turns.give(100_000)
        thread.join(30)
        bench.close()


# ----------------------------------------------------------------------------------------------------------- the row


def row(number: int, state: int, index: int, *, start: int = 0, held: bool = False) -> recall.Row:
    """A worker that has finished so many of a batch."""
    segment = (number & COUNT_MASK) << COUNT_BITS | start
    return recall.Row(segment, state, index << COUNT_BITS | 4 | (HELD if held else 0), segment)


@pytest.mark.parametrize("number", [5, COUNT_MASK, (1 << 40) + 2])
def test_what_a_row_says(number: int) -> None:
    """Of its own batch, of those before and behind it; also where numbers wrap."""
    assert recall.begun(row(number, LOADING, 0), number) == 0
    assert recall.begun(row(number, RUNNING, 0), number) == 1
    assert recall.begun(row(number, RUNNING, 3), number) == 4
    assert recall.begun(row(number, RUNNING, 3, held=True), number) == 4
    assert recall.begun(row(number, HOLDING, 3, held=True), number) == 4
    assert recall.begun(row(number, SENDING, 3), number) == 3
    assert recall.begun(row(number, IDLE, 3), number) == 3
    assert recall.begun(row(number, RUNNING, 3), number + 1) == 0
    assert recall.begun(row(number, RUNNING, 3), number - 1) == ALL


def test_a_segment_that_begins() -> None:
    """Without PROGRESS it is FLOOR that says how far the worker is; before the first batch of a lease nothing does."""
    at = 5 << COUNT_BITS
    assert recall.begun(recall.Row(at | 2, SENDING, 0, at | 4), 5) == 5
    assert recall.begun(recall.Row(at | 2, LOADING, 0, at + (1 << COUNT_BITS)), 5) == ALL
    assert recall.begun(recall.Row(NO_SEGMENT, IDLE, 0, at), 1 << 31) == 0


def test_a_worker_that_does_not_stand_still_is_not_believed() -> None:
    """Nor is anything without barriers: then nothing can be cancelled that was sent."""
    rows = iter(range(1000))
    with mock.patch.object(recall, "read_row", side_effect=rows):
        assert recall.settle(mock.Mock()) is None
    with mock.patch.object(system, "barrier", return_value=False):
        assert recall.settle(mock.Mock()) is None
