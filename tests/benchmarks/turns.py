"""The core's own cost of a turn, by the number of lanes: `python -m tests.benchmarks.turns`.

Nothing runs in a worker, and nothing waits.  All lanes are busy; in each turn two of them come home with a task, which
is released, and get the next.  The others are silent, as those of a large cluster are most of the time.

- *core*: the scheduler on a backend that does nothing.
- *lanes*: the scheduler on the backend of worker processes; the lanes have no process, and their pipes are stubs.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any
from unittest import mock

from ordered_executor import OrderedExecutor
from ordered_executor._base.tasks import Batch
from ordered_executor._channel import frames
from ordered_executor._channel.shared_memory import LaneMemory
from ordered_executor._core.backend import Arrived, Event, Ready, Snapshot
from ordered_executor._core.scheduler import Scheduler
from ordered_executor._core.window import Window
from ordered_executor._processes.backend import LokyBackend
from ordered_executor._processes.sent_batches import SentBatches
from ordered_executor._processes.worker_handle import SERVING, Lane, LaneKind

LANES = (2, 16, 128, 1024, 4096)
HOME = 2  # lanes that come home in a turn
TURNS = 300
ROUNDS = 5
WINDOW_BYTES = 64 * 1024 * 1024
KIND = LaneKind(None, None, (), None)


class BareBackend:
    """Has lanes, and brings home what it is told to."""

    demand = None

    def __init__(self, lanes: int) -> None:
        self.sent: deque[tuple[Any, Batch]] = deque()
        self.events: list[Event] = [Ready(number) for number in range(lanes)]
        self.closed = False

    def send(self, lane: Any, batch: Batch) -> None:
        """Keep it: it comes home in the order of tickets."""
        self.sent.append((lane, batch))

    def come_home(self) -> None:
        """The lowest ticket's lane ends it, after a second."""
        lane, batch = self.sent.popleft()
        self.events.append(Arrived(lane, batch.number, 0, [None] * batch.count, 8 * batch.count, 1.0 * batch.count))

    def wait(self, _: float | None) -> list[Event]:
        """Hand out what has come home."""
        events, self.events = self.events, []
        return events

    def nothing(self, *_: Any, **__: Any) -> None:
        """The rest of a backend."""

    want = done = open = give_back = kill = retire = wake = close = release = abandon = nothing

    def snapshot(self) -> Snapshot:
        """Nothing to tell."""
        return Snapshot(0)


class StubLane(Lane):
    """A lane without a process: its pipe is a list, its memory that of all."""

    def __init__(self, memory: LaneMemory) -> None:
        super().__init__(KIND)
        self.memory = memory
        self.sent_batches = SentBatches(memory)
        self.state = SERVING
        self.lease = 1
        self.reader_fd = self.writer_fd = -1
        self.reader: Any = self
        self.writer: Any = self
        self.ended = self.pending = False
        self._frames: list[tuple[int, int, memoryview]] = []

    def put(self, *_: bytes) -> None:
        """Nobody reads it."""

    def finish(self) -> None:
        """Its worker says that the batch is done."""
        sent = self.sent_batches.sent[0]
        head = frames.DONE_HEAD.pack(sent.number, 0, sent.count, 0, 8 * sent.count, sent.count * 10**9, 0)
        self._frames.append((frames.DONE, 1, memoryview(head + pickle.dumps([None] * sent.count))))

    def frames(self) -> list[tuple[int, int, memoryview]]:
        """What its worker has said."""
        frames, self._frames = self._frames, []
        return frames


class StubbedBackend(LokyBackend):
    """The backend of worker processes, with lanes that are stubs."""

    def __init__(self, window: Window, lanes: int, memory: LaneMemory) -> None:
        super().__init__(KIND, window, lanes)
        self._poller.close()
        self._poller = mock.Mock(wait=self._hear)
        self.sent: deque[StubLane] = deque()
        self._spoken: list[StubLane] = []
        for _ in range(lanes):
            lane = StubLane(memory)
            lane.seat = self._free_seats.pop()
            self._seated[lane.seat] = lane
            self._lanes.add(lane)
            self._events.append(Ready(lane))

    def send(self, lane: Any, batch: Batch) -> None:
        """Keep the order of tickets, too."""
        super().send(lane, batch)
        self.sent.append(lane)

    def come_home(self) -> None:
        """The lowest ticket's lane ends it, after a second."""
        lane = self.sent.popleft()
        lane.finish()
        self._spoken.append(lane)

    def _hear(self, _: float | None) -> None:
        spoken, self._spoken = self._spoken, []
        for lane in spoken:
            self._on_frames(lane)


class Bare(OrderedExecutor):
    """An executor without a thread on such a backend."""

    def __init__(self, backend: Any, window: Window, lanes: int) -> None:
        with mock.patch.object(Scheduler, "start"):
            super().__init__(
                backend,
                window,
                lanes,
                backlog=None,
                retries=0,
                timeout=None,
                keep_results=False,
                unseen_errors="ignore",
            )
        self.backend = backend

    def turns(self, count: int) -> Iterator[float]:
        """So many turns; how long each took."""
        step, come_home = self._scheduler.step, self.backend.come_home
        for _ in range(count):
            for _ in range(HOME):
                come_home()
            begin = time.perf_counter()
            step(0)
            yield time.perf_counter() - begin


def bare(lanes: int) -> Bare:
    """An executor on a backend that does nothing."""
    return Bare(BareBackend(lanes), Window(None, WINDOW_BYTES, lanes), lanes)


def stubbed(memory: LaneMemory) -> Callable[[int], Bare]:
    """The same on the backend of worker processes."""

    def make(lanes: int) -> Bare:
        window = Window(None, WINDOW_BYTES, lanes)
        return Bare(StubbedBackend(window, lanes, memory), window, lanes)

    return make


def turn_cost(make: Callable[[int], Bare], lanes: int, turns: int = TURNS) -> float:
    """The median turn, in microseconds, of an executor all of whose lanes are busy."""
    executor = make(lanes)
    for _ in range(lanes + HOME * (turns + 20)):
        executor.submit(int)
    executor._scheduler.step(0)
    gc.collect()
    list(executor.turns(20))
    return median(executor.turns(turns)) * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.turns", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--lanes", type=int, nargs="+", default=LANES, metavar="N")
    given = parser.parse_args()
    memory = LaneMemory.create()
    print(f"microseconds for a turn in which {HOME} lanes of so many come home")
    print(f"{'lanes':>8}" + "".join(f"{lanes:>9,}" for lanes in given.lanes) + "   last / first")
    for name, make in (("core", bare), ("lanes", stubbed(memory))):
        costs = [min(turn_cost(make, lanes) for _ in range(ROUNDS)) for lanes in given.lanes]
        print(
            f"{name:>8}" + "".join(f"{cost:>9.0f}" for cost in costs) + f"{costs[-1] / costs[0]:>12.2f} x", flush=True
        )
    memory.close()


if __name__ == "__main__":
    main()
