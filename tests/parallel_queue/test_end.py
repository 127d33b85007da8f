"""`stop`, `join` and `is_alive`; and the end of those that nobody stops."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ordered_executor.parallel_queue import ParallelQueue, ShutDown
from tests.helpers import PATIENCE, Journal, is_dead, note, same, stand, stand_with_pid, until

from .common import drain
from .conftest import MakeQueue, MakeSingle, MakeValve


def test_join_without_stop_waits_and_times_out(many: MakeQueue) -> None:
    """A queue that nobody stops stays alive; its `join` returns after its time."""
    results = many()
    results.put(same, 1)
    begun = time.monotonic()
    results.join(timeout=0.05)
    assert time.monotonic() - begun >= 0.05
    assert results.is_alive()
    assert results.get() == 1


def test_stop_returns_at_once_and_everything_comes_out(many: MakeQueue, valve: MakeValve) -> None:
    """What was put before `stop` is finished and can be got; then `get` says that it is over, again and again."""
    results, gate = many(), valve()
    results.put(stand, gate, 0)
    for number in range(1, 50):
        results.put(same if number % 2 else number, *[number] * (number % 2))
    results.stop()
    results.stop()
    assert results.is_alive()
    results.join(timeout=0.01)
    assert results.is_alive()
    gate.open()
    assert drain(results) == list(range(50))
    for get in (results.get, results.get_nowait, lambda: results.get(timeout=0.01)):
        with pytest.raises(ShutDown, match="stopped"):
            get()


def test_put_after_stop_says_so(many: MakeQueue, single: MakeSingle) -> None:
    """It raises `ShutDown`, for tasks and for marks, even when the queue is full."""
    results, one = many(in_q_max=1, out_q_max=1, worker_q_max=1), single(same)
    for number in range(3):
        results.put(number)
    for each in (results, one):
        each.stop()
        with pytest.raises(ShutDown, match="nothing can be put any more: the queue was stopped"):
            each.put(same, 1)
    with pytest.raises(ShutDown):
        results.put("mark")


def test_join_waits_for_the_workers_to_end(many: MakeQueue, journal: Journal, valve: MakeValve) -> None:
    """After `join` no process of the queue is left; that nobody has got its results does not matter."""
    results, gate = many(), valve()
    for _ in range(2):
        results.put(stand_with_pid, journal, gate)
    pids = [int(journal.read()) for _ in range(2)]
    gate.open()
    results.stop()
    results.join()
    assert not results.is_alive()
    assert all(map(is_dead, pids))
    assert sorted(drain(results)) == sorted(pids)


def test_stop_wakes_whoever_waits(many: MakeQueue) -> None:
    """A `put` that waits for room, and a `get` that waits for something to be put, are told that it is over."""
    full, empty = many(in_q_max=1, out_q_max=1, worker_q_max=1), many()
    for number in range(3):
        full.put(number)
    with ThreadPoolExecutor(4) as threads:
        ends = [threads.submit(full.put, "late") for _ in range(2)] + [threads.submit(empty.get) for _ in range(2)]
        until(lambda: full._room.parked == 2 and empty._executor._scheduler.inbox.stream._readers.parked == 2)
        full.stop()
        empty.stop()
        for end in ends:
            with pytest.raises(ShutDown):
                end.result(PATIENCE)
    assert drain(full) == [0, 1, 2]


def test_queue_that_is_let_go_finishes_and_ends(journal: Journal) -> None:
    """Nobody holds the queue any more: what was put is finished, and its workers end."""
    results = ParallelQueue(2)
    for number in range(10):
        results.put(note, journal, number)
    del results
    assert sorted(int(journal.read()) for _ in range(10)) == list(range(10))
