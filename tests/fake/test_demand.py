"""What may lie unread: outcomes of a backend that can keep them come when somebody wants them, or there is room."""

from __future__ import annotations

import contextlib
import gc
from concurrent.futures import wait
from typing import Any

from ordered_executor._core.demand import Demand
from tests.fake import FakeLane, HandExecutor

SIZE = 4096


class Thing:
    """Something that can lie unread."""


def test_what_is_read_or_gone_makes_room() -> None:
    """By a read, or when the future goes; each once."""
    demand, read, gone = Demand(10 * SIZE), Thing(), Thing()
    demand.add(read, 0, SIZE)
    demand.add(gone, 1, 2 * SIZE)
    assert demand.unread == 3 * SIZE
    demand.read(0)
    demand.read(0)
    del gone
    demand.settle()
    assert demand.unread == 0
    del read
    gc.collect()
    demand.settle()
    assert demand.unread == 0


def test_who_may_come() -> None:
    """What fits; anything if nothing lies there; what somebody waits for, and all before it; at the end, everything."""
    demand, thing = Demand(2 * SIZE), Thing()
    assert demand.allows(0, 0, 100 * SIZE)
    demand.add(thing, 0, SIZE)
    assert demand.allows(1, 0, SIZE)
    assert not demand.allows(1, SIZE, SIZE)
    demand.ask(5)
    demand.ask(3)
    demand.settle()
    assert demand.allows(5, SIZE, 100 * SIZE)
    assert not demand.allows(6, SIZE, SIZE)
    demand.want_all()
    demand.settle()
    assert demand.allows(10**9, SIZE, SIZE)


def asked(executor: HandExecutor) -> float:
    """The ticket behind the last one that somebody waits for."""
    demand = executor.backend.demand
    assert demand is not None
    demand.settle()
    return demand.wanted


def with_demand() -> HandExecutor:
    """An executor on lanes that could keep what they have."""
    executor = HandExecutor(2)
    executor.backend.demand = executor.scheduler.inbox.demand = Demand(2 * SIZE)
    return executor


def test_whoever_waits_says_for_what() -> None:
    """Waiting for a future, `wait()`, callbacks, polls, the stream and a map: each for its ticket."""
    executor = with_demand()
    futures = [executor.submit(int) for _ in range(8)]
    assert asked(executor) == 0
    futures[0].add_done_callback(lambda _: None)
    assert asked(executor) == 1
    assert not futures[1].done()
    assert asked(executor) == 2
    wait([futures[2]], timeout=0)
    assert asked(executor) == 3
    with contextlib.suppress(TimeoutError):
        futures[3].result(timeout=0)
    assert asked(executor) == 4
    mapped: Any = executor.map(int, range(3), timeout=0.001)
    with contextlib.suppress(TimeoutError):
        next(mapped)
    assert asked(executor) == 9
    executor.end()
    assert asked(executor) == float("inf")


def test_the_stream_asks_for_its_next() -> None:
    """And reading makes room."""
    executor = with_demand()
    demand = executor.scheduler.inbox.demand
    assert demand is not None
    stream = executor.results()
    executor.submit(int)
    executor.submit(int)
    with contextlib.suppress(TimeoutError):
        stream.next(timeout=0)
    assert asked(executor) == 1
    executor.open_lanes(2)
    executor.finish(0, "x", size=SIZE)
    assert demand.unread == SIZE
    assert stream.next(timeout=0) == "x"
    demand.settle()
    assert demand.unread == 0
    executor.end()


def test_a_map_that_is_closed_holds_nothing() -> None:
    """What came for it and was not yielded counts no more."""
    executor = with_demand()
    demand = executor.scheduler.inbox.demand
    assert demand is not None
    mapped: Any = executor.map(int, range(2))
    lanes: list[FakeLane] = executor.open_lanes(2)
    for lane in lanes:
        lane.finish(b"x" * SIZE, size=SIZE)
    executor.settle()
    assert demand.unread == 2 * SIZE
    assert next(mapped) == b"x" * SIZE
    mapped.close()
    demand.settle()
    assert demand.unread == 0
    executor.end()
