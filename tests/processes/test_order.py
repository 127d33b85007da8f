"""The order, with real workers and random durations: futures, callbacks, streams, marks, cancels, warm workers."""

from __future__ import annotations

import random
import sys
import threading
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, Outcome
from ordered_executor._processes.backend import LokyBackend
from tests.helpers import Valve, fail, getpid, same, stand, take_a_while

from .conftest import MakePool, MakeValve
from .tasks import fork_and_come_back, make_or_stand

NEAR_THE_WRAP = 2**64 - 30


@pytest.fixture(params=[0, NEAR_THE_WRAP], ids=["from 0", "over the wrap"])
def first_ticket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The gate's words have 64 bits: let the tickets run over their end, too."""
    monkeypatch.setattr(OrderedProcessPoolExecutor, "_first_ticket", request.param)
    return int(request.param)


def test_random_durations_come_out_in_order(pool: MakePool, first_ticket: int) -> None:
    """Whatever takes how long: the stream yields, and futures complete, in the order of submission."""
    shuffle = random.Random(1)
    executor = pool(3, window=10)
    finished: list[int] = []
    for number in range(90):
        future = executor.submit(take_a_while, number, shuffle.choice([0, 0, 0.001, 0.01]))
        future.add_done_callback(lambda f: finished.append(f.ticket))
    assert list(executor.results()) == list(range(90))
    assert finished == list(range(first_ticket, first_ticket + 90))
    assert executor.statistics().peak_early < 10


def test_outcomes_name_their_tickets(pool: MakePool, first_ticket: int) -> None:
    """Values, errors and marks come out with their tickets; a cancelled one leaves a gap and nothing else."""
    executor = pool(2, window=3)
    futures: list[Future[Any]] = []
    for number in range(40):
        futures.append(executor.submit(fail, number) if number % 5 == 4 else executor.submit(same, number))
        if number % 10 == 9:
            futures.append(executor.mark(f"up to {number}"))
    cancelled = {first_ticket + place for place, future in enumerate(futures) if place % 7 == 0 and future.cancel()}

    outcomes = list(executor.outcomes())

    assert [o.ticket for o in outcomes] == [first_ticket + i for i in range(44) if first_ticket + i not in cancelled]
    for ticket, value, error in outcomes:
        future = futures[ticket - first_ticket]
        assert (value, error) == (None, future.exception()) if error else (future.result(), None)


def test_large_and_small_outcomes_keep_the_order(pool: MakePool, first_ticket: int) -> None:
    """Outcomes travel in different ways by their size; their order does not show it."""
    executor = pool(2, window=8)
    sizes = [random.Random(2).choice([0, 10, 1000, 40_000, 300_000]) for _ in range(120)]
    for size in sizes:
        executor.submit(bytes, size)
    assert [len(value) for value in executor.results()] == sizes


@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "large"])
def test_task_that_stands_withholds_nothing(pool: MakePool, valve: MakeValve, size: int) -> None:
    """What a batch had finished comes out although the task behind it, in the same batch, does not end."""
    executor = pool(1)
    blocked = valve()
    mapped = executor.map(make_or_stand, [*[size] * 6, blocked, size], chunksize=8)
    assert [next(mapped) for _ in range(6)] == [bytes(size)] * 6
    blocked.reached()
    blocked.open()
    assert list(mapped) == [None, bytes(size)]


def test_long_batches_are_not_taken_for_slow_ones(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gives a batch the time that it was sized to take: what it hands back is the exception."""
    sent: list[int] = []
    returns: list[Any] = []
    send, on_returned = LokyBackend.send, LokyBackend._on_returned

    def noting_send(self: LokyBackend, lane: Any, batch: Any) -> None:
        sent.append(batch.count)
        send(self, lane, batch)

    def noting_return(self: LokyBackend, lane: Any, body: memoryview) -> None:
        returns.append(lane)
        on_returned(self, lane, body)

    monkeypatch.setattr(LokyBackend, "send", noting_send)
    monkeypatch.setattr(LokyBackend, "_on_returned", noting_return)
    executor = pool(1)
    futures = [executor.submit(take_a_while, number, 0.002) for number in range(600)]
    assert [future.result() for future in futures] == list(range(600))
    assert max(sent) > 6  # short ones are of three
    assert len(returns) < len(sent) / 4


def test_callbacks_run_in_order_across_threads(pool: MakePool) -> None:
    """With eight threads that submit and cancel, callbacks of what ran run in the order of the tickets."""
    executor = pool(2, window=20)
    finished: list[int] = []
    cancelled: list[int] = []

    def note(future: Any) -> None:
        (cancelled if future.cancelled() else finished).append(future.ticket)

    def use(seed: int) -> None:
        choose = random.Random(seed)
        for number in range(150):
            future = executor.submit(take_a_while, number, choose.choice([0, 0, 0, 0.001]))
            future.add_done_callback(note)
            if choose.random() < 0.3:
                future.cancel()

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    executor.shutdown()

    assert finished == sorted(finished)
    assert sorted(finished + cancelled) == list(range(8 * 150))


def test_no_future_is_done_before_an_earlier_one(pool: MakePool, valve: MakeValve) -> None:
    """In every callback all earlier futures are done, and no later one."""
    executor = pool(3)
    blocked = valve()
    futures: list[Future[Any]] = [executor.submit(stand, blocked)]
    seen: list[bool] = []

    def look(future: Any) -> None:
        states = [other.done() for other in futures]
        seen.append(states == [other.ticket <= future.ticket for other in futures])  # type: ignore[attr-defined]

    futures += [executor.submit(take_a_while, n, 0.002 * (n % 3)) for n in range(40)]
    for future in futures:
        future.add_done_callback(look)
    blocked.open()
    executor.shutdown()
    assert seen == [True] * 41


def test_marks_come_between_the_tasks_around_them(pool: MakePool, valve: MakeValve) -> None:
    """A mark waits for everything before it and for nothing behind it, and needs no worker."""
    executor = pool(1)
    blocked = valve()
    head = executor.submit(stand, blocked, "task")
    mark = executor.mark("mark")
    blocked.reached()
    assert not mark.done()
    blocked.open()
    assert mark.result() == "mark"
    assert head.done()
    assert [executor.mark(n).result() for n in range(5)] == list(range(5))


def test_mark_alone_needs_no_worker(pool: MakePool) -> None:
    """An executor that is only ever given marks starts no process."""
    executor = pool(2)
    assert executor.mark([1]).result() == [1]
    assert executor.statistics().workers == 0


def test_cancelled_head_moves_the_head(pool: MakePool, valve: MakeValve) -> None:
    """Cancelling what waits lets what is behind it come; what a worker has cannot be cancelled."""
    executor = pool(1)
    blocked = valve()
    running = executor.submit(stand, blocked, 0)
    blocked.reached()
    waiting = [executor.submit(same, number) for number in range(1, 30)]
    assert not running.cancel()
    assert waiting[20].cancel()
    assert waiting[20].done()
    assert not waiting[19].done()
    with pytest.raises(CancelledError):
        waiting[20].result()
    blocked.open()
    assert waiting[28].result() == 29


def test_warm_workers_serve_the_next_executor() -> None:
    """A second executor of the same kind is lent the workers of the first, and nothing of its outcomes or order."""
    pids = []
    for round_number in range(3):
        with OrderedProcessPoolExecutor(1, window=2) as executor:
            values = list(executor.map(same, range(round_number, 50)))
            pids.append(executor.submit(getpid).result())
        assert values == list(range(round_number, 50))
    assert len(set(pids)) == 1


def test_fresh_workers_with_reuse_off() -> None:
    """With reuse=False each executor starts its own worker and ends it."""
    pids = set()
    for _ in range(2):
        with OrderedProcessPoolExecutor(1, reuse=False) as executor:
            pids.add(executor.submit(getpid).result())
    assert len(pids) == 2


def test_two_executors_at_once_do_not_mix(pool: MakePool, tmp_path: Path) -> None:
    """Two executors that run side by side, and one after them with their warm workers, keep to themselves."""
    one, other = pool(1), pool(1)
    pairs = [(one.submit(same, number), other.submit(same, -number)) for number in range(200)]
    assert all((a.result(), b.result()) == (number, -number) for number, (a, b) in enumerate(pairs))
    one.shutdown()
    third = pool(2)
    valve = Valve(tmp_path / "own")
    futures = [third.submit(stand, valve, "last"), *(third.submit(same, n) for n in range(20))]
    valve.reached()
    valve.open()
    assert [f.result() for f in futures] == ["last", *range(20)]


def test_stream_can_be_read_after_shutdown(pool: MakePool) -> None:
    """Everything that was submitted is still there to be read when the executor is shut down."""
    executor = pool(2)
    for number in range(10):
        executor.submit(fail if number == 3 else same, number)
    executor.shutdown()
    outcomes = list(executor.outcomes())
    assert outcomes[2] == Outcome(2, 2, None)
    assert str(outcomes[3].error) == "3"
    assert [o.ticket for o in outcomes] == list(range(10))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can keep memory from forked children")
def test_child_that_comes_back_from_a_task_is_no_twin(pool: MakePool) -> None:
    """A task that forks has one outcome, its own; the child ends, and the worker serves as before."""
    executor = pool(1)
    assert executor.submit(fork_and_come_back).result() == "parent"
    assert [executor.submit(same, number).result() for number in range(20)] == list(range(20))
