"""A death at any moment: what was finished is found, what ran is charged, and nothing is taken for what it is not.

The real worker code, parent code, pipes and memory, in one process: the worker "dies" at its n-th store to the words
of its memory, or its n-th frame, for every n there is.
"""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pickle import PickleBuffer
from types import SimpleNamespace
from typing import Any

import pytest

from ordered_executor import Future
from ordered_executor._base.system import roomy_pipe
from ordered_executor._base.tasks import Options
from ordered_executor._channel import frames
from ordered_executor._channel.shared_memory import STATE, STATE_NAMES, LaneMemory
from ordered_executor._core.backend import Arrived, Returned
from ordered_executor._core.batches import FutureBatch
from ordered_executor._core.window import Window
from ordered_executor._pickling.outcomes import unpack
from ordered_executor._processes.backend import LokyBackend
from ordered_executor._processes.crash_report import examine
from ordered_executor._processes.sent_batches import SentBatches
from ordered_executor._processes.worker import main as worker_main
from ordered_executor._processes.worker import runner
from ordered_executor._processes.worker_handle import SERVING, Lane, LaneKind
from tests.helpers import end_what_may_end

CREDIT = 10**7
LARGE = b"." * 100_000

ran: list[int] = []


class Died(BaseException):
    """The end of the worker."""


class Boom(Exception):
    """What a failing task raises."""


def run(index: int, value: Any) -> Any:
    """The task: it says that it ran."""
    ran.append(index)
    if value is Boom:
        raise Boom(index)
    return value


class Parts:
    """Something that travels as buffers."""

    def __init__(self, *parts: Any) -> None:
        self.parts = [bytes(part) for part in parts]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parts) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(tuple(self.parts))

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return Parts, tuple(map(PickleBuffer, self.parts))


class Mortal:
    """Counts what a worker does that others can see; it dies before the n-th."""

    def __init__(self, dies_at: int) -> None:
        self.left = dies_at
        self.died = False

    def live(self) -> None:
        if self.left == 0:
            self.died = True
            raise Died
        self.left -= 1


class MortalWords:
    """The words of a worker's memory; a store may be its last."""

    def __init__(self, words: Any, mortal: Mortal) -> None:
        self.words = words
        self.mortal = mortal

    def __getitem__(self, index: int) -> int:
        return int(self.words[index])

    def __setitem__(self, index: int, value: int) -> None:
        self.mortal.live()
        self.words[index] = value


class Bench:
    """One lane, both sides of it, and a batch of these values."""

    def __init__(self, values: list[Any], mortal: Mortal, window: int) -> None:
        ran.clear()
        self.values = values
        self.mortal = mortal
        self.backend = LokyBackend(LaneKind(None, None, (), None), Window(window, CREDIT, 1), 1)
        lane = self.lane = Lane(LaneKind(None, None, (), None))
        lane.memory = LaneMemory.create()
        lane.sent_batches = SentBatches(lane.memory)
        lane.state, lane.lease = SERVING, 1
        lane.pid, lane.process = 0, SimpleNamespace(exitcode=-9)  # type: ignore[assignment]
        to_worker, lane.writer_fd = roomy_pipe()
        lane.reader_fd, from_worker = roomy_pipe()
        lane.reader, lane.writer = frames.FrameReader(lane.reader_fd), frames.FrameWriter(lane.writer_fd)
        self.backend._lanes.add(lane)
        self.backend._seated[lane.seat] = lane
        self.backend.open(0, window)
        self.worker = worker_main._Worker(worker_main.LaneEnd(to_worker, from_worker, -1, os.dup(lane.memory.fd)))
        self.worker._take_lease(1, 0, CREDIT, 0)
        self.home: list[Any] = []

    def send(self) -> None:
        """Have the worker take the batch."""
        futures = []
        for index, value in enumerate(self.values):
            future: Future[Any] = Future(self, (run, (index, value), {}), Options())  # type: ignore[arg-type]
            future.first = index
            futures.append(future)
        _, parts = self.lane.sent_batches.pack(FutureBatch(3, 0, len(futures), futures=futures), 0)
        batch, inline = frames.split(b"".join(parts))
        worker: Any = self.worker._runner
        worker._words = MortalWords(worker._words, self.mortal)
        send, worker._send = worker._send, self.send_or_die
        self.really_send = send
        worker._gate._wait = self.wait
        worker.take_batch(inline, *batch)

    def send_or_die(self, kind: int, *body: Any) -> None:
        self.mortal.live()
        self.really_send(kind, *body)

    def wait(self) -> None:
        """The worker stands at the gate: it may die there; else the head moves to its ticket."""
        self.mortal.live()
        self.hear()
        head = len(self.home)
        self.backend.open(head, self.backend._window.limit(head))
        self.worker._wait_for_open()

    def hear(self) -> None:
        """The parent reads what came through the pipe."""
        self.backend._on_frames(self.lane)
        for event in self.backend._events:
            if isinstance(event, Arrived):
                self.arrive(event.start, event.outcomes)
            else:
                assert isinstance(event, Returned)
                assert event.start == len(self.home)
        self.backend._events.clear()

    def arrive(self, start: int, outcomes: list[Any]) -> None:
        assert start <= len(self.home), "a hole"
        self.home += outcomes[len(self.home) - start :]

    def check_home(self) -> None:
        """What is home are the outcomes of the first tasks, in order."""
        for index, outcome in enumerate(self.home):
            value, error = unpack(outcome, lambda: "note")
            if self.values[index] is Boom:
                assert type(error) is Boom
                assert error.args == (index,)
            else:
                assert error is None
                assert value == self.values[index]

    def check_death(self) -> None:
        """Nothing is missing, and the right one is charged."""
        findings = examine(self.lane)
        if findings.rescued is not None:
            self.arrive(findings.rescued.start, findings.rescued.outcomes)
        self.check_home()
        home, state = len(self.home), STATE_NAMES[self.lane.memory.words[STATE]]
        moment = f"{len(ran)} ran, {home} are home, the worker {state}, {findings.blame}, suspect {findings.suspect}"
        assert ran == list(range(len(ran)))
        if findings.blame is None:
            assert findings.suspect is not None or len(ran) == home, f"one ran, and is not charged: {moment}"
        else:
            assert findings.blame.index == home, f"somebody else is charged: {moment}"
            assert len(ran) in ((home + 1,) if findings.blame.finished else (home, home + 1)), moment
        assert findings.suspect is None or not ran, moment

    def close(self) -> None:
        self.worker.close()
        self.worker._memory.close()
        self.lane.memory.close()
        self.backend._lanes.clear()
        self.backend.release()
        os.close(self.lane.reader_fd)
        os.close(self.lane.writer_fd)


BATCHES: dict[str, list[Any]] = {
    "small": [1, "two", None, 2**70, 3.5, True],
    "packed": [(1, 2), [3], {"four": 5}, b"six"],
    "errors": [1, Boom, 2, Boom],
    "large": [LARGE, 1, [LARGE], 2],
    "buffers": [Parts(LARGE, b"", b"1"), 1, Parts(b"2"), Parts()],
    "one": [5],
    "large in front of an error": [0, LARGE, LARGE, Boom, 4],
    "more than the stream holds": ["x" * 8000] * 34,
    "a number that the stream does not hold": [0, 1 << 3_000_000, 2],
}
# Their frames are larger than a pipe whose size cannot be set, and both ends are in one thread here.
NEED_ROOM = {"more than the stream holds", "a number that the stream does not hold"}
LONG = {"more than the stream holds"}  # a batch of many tasks dies at many moments


def skip_without_room(name: str) -> None:
    """The batch cannot be sent here."""
    if name in NEED_ROOM and not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("the pipe is smaller than a frame")


@pytest.fixture(autouse=True)
def without_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch takes too long, however slow the machine is."""
    monkeypatch.setattr(runner, "OVERRUN_SECONDS", 1e9)


@pytest.mark.parametrize("window", [100, 2, 1])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in BATCHES])
def test_a_death_at_any_moment(name: str, window: int) -> None:
    """Whenever a worker dies, nothing is lost but the task it ran.

    1. A worker runs a batch; 2. it dies at any store or frame, at the gate too; 3. the parent reads pipe and memory.
    What it finds are the first outcomes, each right and once; the task behind them is charged if it had begun; and no
    task has run that is neither home nor charged.
    """
    skip_without_room(name)
    deaths = 0
    for moment in range(2000):
        bench = Bench(BATCHES[name], Mortal(moment), window)
        try:
            with suppress(Died):
                bench.send()
            bench.hear()
            if not bench.mortal.died:
                assert len(bench.home) == len(bench.values)
                bench.check_home()
                break
            bench.check_death()
            deaths += 1
        finally:
            bench.close()
    assert deaths >= 2 * len(BATCHES[name]) or window == 100


def test_no_descriptor_is_left() -> None:
    """What these tests open, they close."""
    end_what_may_end()
    before = len(os.listdir("/dev/fd"))
    bench = Bench([1], Mortal(-1), 1)
    bench.send()
    bench.hear()
    bench.close()
    assert len(os.listdir("/dev/fd")) == before
