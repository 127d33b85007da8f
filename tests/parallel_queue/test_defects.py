"""The defects that parallel-queue had, each of which must not come back."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import ordered_executor.parallel_queue
from ordered_executor import OrderedProcessPoolExecutor, TerminatedWorkerError
from ordered_executor._base.waiting import ParkingLot
from ordered_executor.parallel_queue import ParallelQueue, ShutDown
from tests.helpers import PATIENCE, Journal, fail, is_dead, note_and_die, same, settled, stand, until

from .common import CannotBeUnpickled, drain
from .conftest import MakeQueue, MakeSingle, MakeValve


def test_errors_pass_the_gate(many: MakeQueue, valve: MakeValve) -> None:
    """They bypassed it, and could fill the consumer's buffer until it waited for ever on itself: now they wait, too."""
    results, head = many(2, consumer_buffer_max=3), valve()
    results.put(stand, head, 0)
    for number in range(1, 30):
        results.put(fail, number)
    settled(results._executor, early=2, gated=1)  # two are inside the window; the third waits in its worker
    head.open()
    results.stop()
    assert [str(left) for left in drain(results)] == [str(number) for number in range(30)]


def test_killed_worker_costs_its_task_only(many: MakeQueue, journal: Journal) -> None:
    """Everything behind it waited for ever: now its task fails in its place, and the others come."""
    results = many(2)
    for number in range(30):
        if number % 10 == 3:
            results.put(note_and_die, journal, number)
        else:
            results.put(same, number)
    results.stop()
    for number, left in enumerate(drain(results)):
        if number % 10 == 3:
            assert isinstance(left, TerminatedWorkerError)
            assert left.exitcode == -signal.SIGKILL
            assert f"while it ran ticket {number}" in left.stack_trace  # type: ignore[attr-defined]  # the queue puts it there
        else:
            assert left == number
    assert sorted(journal.read_all(), key=int) == ["3", "13", "23"]  # and nothing ran twice


def test_idle_workers_that_are_killed_are_replaced(many: MakeQueue) -> None:
    """What is put after that runs in new ones."""
    results = many(2)
    for _ in range(3):
        results.put(os.getpid)
        pid = results.get()
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: is_dead(pid))  # type: ignore[misc]
        for number in range(10):
            results.put(same, number)
        left = [results.get(timeout=PATIENCE) for _ in range(10)]
        assert left == list(range(10))


def test_result_that_cannot_be_pickled_fails_in_its_place(many: MakeQueue) -> None:
    """It was logged, and its place never came: now the reason comes in its place."""
    results = many()
    results.put(same, 1)
    results.put(threading.Lock)
    results.put(same, 2)
    assert results.get() == 1
    with pytest.raises(TypeError, match="cannot pickle") as caught:
        results.get(timeout=PATIENCE)
    assert "cannot pickle" in caught.value.stack_trace  # type: ignore[attr-defined]
    assert results.get() == 2


def test_argument_that_cannot_be_pickled_fails_in_its_place(many: MakeQueue, single: MakeSingle) -> None:
    """So does a task that cannot be sent to a worker."""
    results, one = many(), single(same)
    for put in (functools.partial(results.put, same), one.put):
        put(1)
        put(threading.Lock())
        put(2)
    for each in (results, one):
        assert each.get() == 1
        with pytest.raises(TypeError, match="cannot pickle") as caught:
            each.get(timeout=PATIENCE)
        assert "cannot pickle" in caught.value.stack_trace  # type: ignore[attr-defined]
        assert each.get() == 2


class Odd(Exception):
    """Cannot travel at all."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("never")


def raise_odd() -> None:
    """Raise an error that cannot be pickled."""
    raise Odd(1, 2)


def test_every_error_has_a_stack_trace(many: MakeQueue) -> None:
    """Also one of a result that cannot be unpickled here, and one that stands for an error that cannot travel."""
    results = many()
    results.put(CannotBeUnpickled)
    results.put(raise_odd)
    with pytest.raises(ValueError, match="bad bad value") as unpicklable:
        results.get()
    assert "in raise_bad_value" in unpicklable.value.stack_trace  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="odd") as odd:
        results.get()
    assert "in raise_odd" in odd.value.stack_trace  # type: ignore[attr-defined]


def test_no_poll_hides_a_lost_wake_up(many: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers looked every five seconds whether they had missed something: now nobody who waits without limit looks.

    With a window of one, every second task waits at the gate, and with room for three every `put` waits: some thousand
    waits, each of which must be ended by somebody.
    """
    limits: list[float | None] = []
    park = ParkingLot.park

    def noted_park(self: ParkingLot, is_so: Callable[[], bool], timeout: float | None = None) -> bool:
        if threading.current_thread().name.startswith("user") and not is_so():
            limits.append(timeout)
        return park(self, is_so, timeout)

    results = many(2, consumer_buffer_max=1, in_q_max=1, out_q_max=1, worker_q_max=1)
    results.put(same, -1)
    assert results.get() == -1
    monkeypatch.setattr(ParkingLot, "park", noted_park)

    def produce() -> None:
        for number in range(1000):
            results.put(same, number)

    with ThreadPoolExecutor(2, "user") as threads:
        producing = threads.submit(produce)
        got = threads.submit(lambda: [results.get() for _ in range(1000)])
        producing.result(PATIENCE)
        assert got.result(PATIENCE) == list(range(1000))
    monkeypatch.undo()
    assert len(limits) > 100
    assert set(limits) == {None}


def test_put_and_get_are_thread_safe(many: MakeQueue) -> None:
    """Many threads put, many get: nothing is lost or doubled, and what one thread put comes out in its order."""
    results, each, threads_a_side = many(in_q_max=5, out_q_max=5, worker_q_max=5), 400, 4
    got: list[list[tuple[int, int]]] = [[] for _ in range(threads_a_side)]

    def produce(name: int) -> None:
        for number in range(each):
            if number % 3:
                results.put(same, (name, number))
            else:
                results.put((name, number), timeout=PATIENCE)

    def consume(mine: list[tuple[int, int]]) -> None:
        with contextlib.suppress(ShutDown):
            while True:
                try:
                    mine.append(results.get(timeout=0.001))
                except queue.Empty:
                    mine.append(results.get())

    with ThreadPoolExecutor(2 * threads_a_side) as threads:
        consuming = [threads.submit(consume, mine) for mine in got]
        producing = [threads.submit(produce, name) for name in range(threads_a_side)]
        for done in producing:
            done.result(PATIENCE)
        results.stop()
        for done in consuming:
            done.result(PATIENCE)
    assert sorted(itertools.chain(*got)) == [(name, n) for name in range(threads_a_side) for n in range(each)]
    for mine, name in itertools.product(got, range(threads_a_side)):
        numbers = [number for its_name, number in mine if its_name == name]
        assert numbers == sorted(numbers)


def test_stop_while_others_put_and_get(many: MakeQueue) -> None:
    """Every `put` either came out or raised, whenever another thread stops the queue."""
    for moment in range(20):
        results = many(in_q_max=5, out_q_max=5, worker_q_max=5)

        def produce(name: int, results: ParallelQueue = results) -> int:
            for number in itertools.count():
                try:
                    results.put((name, number))
                except ShutDown:
                    return number
            return -1

        with ThreadPoolExecutor(3) as threads:
            producing = [threads.submit(produce, name) for name in range(3)]
            got = [results.get() for _ in range(moment * 7)]
            results.stop()
            got += drain(results)
            accepted = [put.result(PATIENCE) for put in producing]
        assert sorted(got) == [(name, number) for name in range(3) for number in range(accepted[name])]


def test_ids_far_past_any_wrap(
    monkeypatch: pytest.MonkeyPatch, many: MakeQueue, single: MakeSingle, valve: MakeValve
) -> None:
    """Ids wrapped, in a window that a buffer could overflow: now they may even pass 64 bits, gated or not."""

    class Old(OrderedProcessPoolExecutor):
        _first_ticket = 2**64 - 50

    monkeypatch.setattr(ordered_executor.parallel_queue, "OrderedProcessPoolExecutor", Old)
    results, one = many(2, consumer_buffer_max=3), single(same, 2, in_q_max=2, out_q_max=2, worker_q_max=2)
    gates = [valve() for _ in range(0, 100, 7)]
    for number in range(100):
        if number % 7 == 0:
            results.put(stand, gates[number // 7], number)
        else:
            results.put(same if number % 2 else number, *[number] * (number % 2))
    for start in range(0, 100, 4):
        for number in range(start, start + 4):
            one.put(number, timeout=PATIENCE)
        assert [one.get(timeout=PATIENCE) for _ in range(4)] == list(range(start, start + 4))
    for gate in gates:
        gate.open()
    results.stop()
    assert drain(results) == list(range(100))
    assert results._executor.statistics().head == 2**64 + 50
