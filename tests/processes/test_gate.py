"""The window, enforced in the workers: who is early, who stands at the gate, and who goes on when the head moves."""

from __future__ import annotations

import os
import signal

import pytest

from tests.helpers import Journal, fail, same, settled, stand, stand_with_pid, until, warm_up

from .conftest import MakePool, MakeValve
from .tasks import note_and_make


def test_window_of_four_lets_three_come_early(pool: MakePool, valve: MakeValve) -> None:
    """With window=4 and a head that blocks, three outcomes are early and every other worker stands with its own."""
    executor = pool(4, window=4)
    warm_up(executor, valve)
    first = executor.statistics().tail
    blocked = valve()
    head = executor.submit(stand, blocked, "head")
    blocked.reached()
    futures = [head, *(executor.submit(same, number) for number in range(1, 12))]

    settled(executor, early=3, gated=3)

    seen = executor.statistics()
    assert (seen.head, seen.tail) == (first, first + 12)
    assert not any(future.done() for future in futures)
    blocked.open()
    assert [future.result() for future in futures] == ["head", *range(1, 12)]
    assert executor.statistics().peak_early == 3


def test_errors_pass_the_gate_like_values(pool: MakePool, valve: MakeValve) -> None:
    """Tasks that raise are early, gated and let on exactly as tasks that return."""
    executor = pool(3, window=4)
    warm_up(executor, valve)
    blocked = valve()
    head = executor.submit(stand, blocked)
    blocked.reached()
    futures = [executor.submit(fail, number) for number in range(1, 10)]

    settled(executor, early=3, gated=2)

    blocked.open()
    assert head.result() is None
    assert [str(future.exception()) for future in futures] == [str(number) for number in range(1, 10)]


def test_each_gated_worker_goes_on_when_the_head_moves(pool: MakePool, valve: MakeValve) -> None:
    """When the head moves one place, one outcome more comes home: the window slides, it does not fall."""
    executor = pool(3, window=3)
    warm_up(executor, valve)
    valves = [valve(), valve()]
    heads = [executor.submit(stand, one) for one in valves]
    for one in valves:
        one.reached()
    # One worker is left; it brings ticket 2 home and then stands at the gate with ticket 3.
    futures = [executor.submit(same, number) for number in range(2, 8)]
    settled(executor, early=1, gated=1)

    valves[0].open()
    assert heads[0].result() is None
    settled(executor, early=2, gated=2)  # tickets 2 and 3; two workers stand with 4 and 5
    assert not any(future.done() for future in futures)

    valves[1].open()
    assert [future.result() for future in futures] == list(range(2, 8))


def test_batch_that_lies_in_the_window_only_with_its_front(pool: MakePool, valve: MakeValve) -> None:
    """Of a batch that reaches over the limit, what is inside comes home, and the worker stands with the next."""
    executor = pool(2, window=40)
    warm_up(executor, valve)
    blocked = valve()
    head = executor.submit(stand, blocked)
    blocked.reached()

    mapped = executor.map(same, range(100), chunksize=10)
    settled(executor, early=39, gated=1)
    blocked.open()

    assert head.result() is None
    assert list(mapped) == list(range(100))


@pytest.mark.parametrize("size", [1_000, 100_000], ids=["small", "large"])
def test_window_of_bytes(pool: MakePool, valve: MakeValve, size: int) -> None:
    """Each lane may have its share of window_bytes early, and then stands at the gate; the head always passes."""
    executor = pool(2, window_bytes=2 * 5 * size + 2 * size)
    warm_up(executor, valve)
    blocked = valve()
    head = executor.submit(stand, blocked, b"h" * 20 * size)  # larger than the whole window
    blocked.reached()
    futures = [executor.submit(bytes, size) for _ in range(30)]

    settled(executor, early=5, gated=1)

    seen = executor.statistics()
    assert 5 * size <= seen.early_bytes <= 6 * size
    blocked.open()
    assert head.result() == b"h" * 20 * size
    assert [future.result() for future in futures] == [bytes(size)] * 30
    assert executor.statistics().peak_early_bytes <= seen.window_bytes


def test_head_larger_than_every_credit_passes(pool: MakePool) -> None:
    """Outcomes that are larger than window_bytes come one by one, each as the head."""
    executor = pool(2, window_bytes=1000)
    assert list(executor.map(bytes, [50_000] * 12)) == [bytes(50_000)] * 12
    assert [executor.submit(bytes, 3000).result() for _ in range(3)] == [bytes(3000)] * 3


@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "large"])
def test_worker_killed_while_gated_hangs_nobody(pool: MakePool, valve: MakeValve, journal: Journal, size: int) -> None:
    """A worker that is killed at the gate hangs neither the parent nor other workers; its finished outcome is kept."""
    executor = pool(3, window=2)
    warm_up(executor, valve)
    blocked = valve()
    head = executor.submit(stand_with_pid, journal, blocked)
    with_head = int(journal.read())
    futures = [executor.submit(note_and_make, journal, number, size) for number in range(1, 9)]
    settled(executor, early=1, gated=2)

    killed = next(pid for pid in executor.statistics().pids if pid != with_head)
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in executor.statistics().pids)
    blocked.open()

    assert head.result() == with_head
    assert [future.result() for future in futures] == [bytes([number]) * size for number in range(1, 9)]
    assert sorted(map(int, journal.read_all())) == list(range(1, 9))  # nothing ran twice
