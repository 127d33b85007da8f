"""Taking back what no worker has begun, with real processes: behind short tasks, batches hold a hundred and more."""

from __future__ import annotations

import gc
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import Future, OrderedProcessPoolExecutor, TaskKilledError
from ordered_executor._base import system
from tests.helpers import PATIENCE, Valve, same, stand, take_a_while, until

from .conftest import MakePool, MakeValve

SLOW = 0.1
MANY = 400


class Begun:
    """A file in which tasks note that they begin.  Picklable."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        Path(path).touch()

    def note(self, number: int) -> None:
        """In a task.  One write at the end of the file: nothing mixes."""
        with Path(self.path).open("ab", buffering=0) as file:
            file.write(number.to_bytes(4, "big"))

    def read(self) -> list[int]:
        """In the order in which they began."""
        data = Path(self.path).read_bytes()
        return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]


def slow(begun: Begun, number: int) -> int:
    """Much longer than those before."""
    begun.note(number)
    time.sleep(SLOW)
    return number


def quick(begun: Begun, number: int) -> int:
    """A tenth of a millisecond."""
    begun.note(number)
    end = time.perf_counter() + 0.0001
    while time.perf_counter() < end:
        pass
    return number


@pytest.fixture
def begun(tmp_path: Path) -> Begun:
    """What has begun."""
    return Begun(tmp_path / "begun")


def behind_short_tasks(pool: MakePool, workers: int = 2) -> OrderedProcessPoolExecutor:
    """An executor whose batches are long."""
    executor = pool(workers)
    wait([executor.submit(stand_at_first, number, None) for number in (1, 2)])  # they know this module
    list(executor.map(same, range(3000)))
    return executor


def begun_later(executor: OrderedProcessPoolExecutor, begun: Begun) -> int:
    """How many tasks begin from now on until all has ended."""
    before = len(begun.read())
    start = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - start < MANY * SLOW / 4, "as long as if much had run"
    return len(begun.read()) - before


def close_map(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """Read one result, and close."""
    results: Any = executor.map(slow, [begun] * MANY, range(MANY))
    next(results)
    results.close()


def let_map_go(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """A loop that is left; nobody holds the iterator any more."""
    for _ in executor.map(slow, [begun] * MANY, range(MANY), buffersize=200):
        break
    gc.collect()


def let_map_run_late(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """The map's time is over."""
    results = executor.map(slow, [begun] * MANY, range(MANY), timeout=3 * SLOW)
    with pytest.raises(TimeoutError):
        list(results)


def one_by_one(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """Each future is cancelled."""
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    futures[0].result()
    refused = [future for future in futures if not future.cancel()]
    assert len(refused) <= len(begun.read()) + 2


def backwards(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """The same, the last first."""
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    futures[0].result()
    refused = [future for future in reversed(futures) if not future.cancel()]
    assert len(refused) <= len(begun.read()) + 2


def all_at_once(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """Futures, and a map, whose reader hears of it."""
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    results = executor.map(slow, [begun] * MANY, range(MANY))
    futures[0].result()
    executor.cancel_pending()
    assert sum(not future.cancelled() for future in futures) <= len(begun.read()) + 2
    with pytest.raises(CancelledError):
        list(results)
    assert list(results) == []
    assert executor.submit(same, "it goes on").result() == "it goes on"


def all_at_once_and_what_runs(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """What runs is stopped, too: a future, and a call of a map."""
    futures = [executor.submit(slow, begun, number) for number in range(2)]
    results = executor.map(take_a_while, range(MANY), [60] * MANY)
    wait(futures)
    until(lambda: not any(future.running() for future in futures))
    time.sleep(SLOW)  # both are at a call of the map
    executor.cancel_pending(kill=True)
    with pytest.raises(TaskKilledError):
        next(results)
    assert executor.submit(same, "it goes on").result() == "it goes on"


def shut_down(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """Without waiting."""
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    futures[0].result()
    executor.shutdown(wait=False, cancel_futures=True)


def in_a_callback(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """On the scheduler, which cannot wait for itself."""
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    answers: list[bool] = []
    futures[0].add_done_callback(lambda _: answers.extend(future.cancel() for future in futures[1:]))
    futures[0].result()
    until(lambda: len(answers) == MANY - 1)
    assert answers.count(False) <= len(begun.read()) + 2


def all_in_a_callback(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """The same, at once."""
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    futures[0].add_done_callback(lambda _: executor.cancel_pending())
    until(lambda: sum(not future.cancelled() for future in futures) <= len(begun.read()) + 2)


def in_a_handler(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """Of a signal that comes while somebody waits."""
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    futures[0].result()
    before = signal.signal(signal.SIGALRM, lambda *_: executor.cancel_pending())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(CancelledError):
            futures[-1].result()
    finally:
        signal.signal(signal.SIGALRM, before)


def in_a_finalizer(executor: OrderedProcessPoolExecutor, begun: Begun) -> None:
    """Of whatever holds the futures."""

    class Holder:
        def __init__(self, futures: list[Future[int]]) -> None:
            self.futures = futures

        def __del__(self) -> None:
            for future in self.futures:
                future.cancel()

    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    futures[0].result()
    Holder(futures)
    assert sum(not future.cancelled() for future in futures) <= len(begun.read()) + 2


LEAVES = [
    close_map,
    let_map_go,
    let_map_run_late,
    one_by_one,
    backwards,
    all_at_once,
    all_at_once_and_what_runs,
    shut_down,
    in_a_callback,
    all_in_a_callback,
    in_a_handler,
    in_a_finalizer,
]


@pytest.mark.parametrize("leave", LEAVES)
def test_what_has_not_begun_does_not_begin(
    pool: MakePool, begun: Begun, leave: Callable[[OrderedProcessPoolExecutor, Begun], None]
) -> None:
    """Although workers have been sent hundreds.  One that was at its very start may begin, a worker."""
    executor = behind_short_tasks(pool)
    leave(executor, begun)
    assert begun_later(executor, begun) <= 2
    assert not [number for number, count in Counter(begun.read()).items() if count > 2]


def test_a_callback_that_takes_long_does_not_hold_up_taking_back(pool: MakePool, begun: Begun) -> None:
    """The word is written by whoever closes the map, not by the scheduler, which is in a callback of the user's."""
    executor = behind_short_tasks(pool)
    first = executor.submit(same, 1)
    first.add_done_callback(lambda _: time.sleep(10 * SLOW))
    results: Any = executor.map(slow, [begun] * MANY, range(MANY))
    until(begun.read)
    results.close()
    count = len(begun.read())
    time.sleep(5 * SLOW)
    assert len(begun.read()) - count <= 2


def test_without_barriers_it_comes_back_when_the_running_task_has_ended(
    pool: MakePool, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what has begun: `cancel` says no. The worker heeds the recall all the same."""
    monkeypatch.setattr(system, "barrier", lambda: False)
    executor = behind_short_tasks(pool)
    futures = [executor.submit(slow, begun, number) for number in range(MANY)]
    futures[0].result()
    sent = [future for future in futures[1:] if future.sent is not None]
    assert len(sent) > 10
    assert not sent[-1].cancel()
    executor.cancel_pending()
    assert begun_later(executor, begun) <= 2
    assert sum(not future.cancelled() for future in futures) <= len(begun.read()) + 2


def test_what_was_taken_back_is_not_lost(pool: MakePool, begun: Begun) -> None:
    """Every second future is cancelled; the others run, once, in order, and nobody is charged."""
    executor = behind_short_tasks(pool)
    futures = [executor.submit(quick, begun, number) for number in range(2000)]
    order: list[int] = []
    for future in futures[1::2]:
        future.add_done_callback(lambda it: order.append(it.ticket))
    cancelled = {future.ticket for future in futures[::2] if future.cancel()}
    wait(futures)
    first = futures[0].ticket
    assert Counter(begun.read()) == Counter(number for number in range(2000) if first + number not in cancelled)
    assert order == sorted(order)
    assert {future.ticket for future in futures if future.cancelled()} == cancelled


def test_cancels_at_random_moments(pool: MakePool, begun: Begun) -> None:
    """Thousands of cancels, by three threads, against tasks of a tenth of a millisecond.

    What was cancelled has never begun; what was not has begun once. `False` is rare, but for what has run.
    """
    executor = behind_short_tasks(pool)
    deadline = time.monotonic() + 4
    number, cancelled, others = 0, 0, 0
    randomly = random.Random(1)
    while time.monotonic() < deadline or number < 5000:
        count = randomly.choice([3, 40, 400])
        futures = {n: executor.submit(quick, begun, n) for n in range(number, number + count)}
        answers: dict[int, bool] = {}

        def cancel(chosen: list[int], futures: Any = futures, answers: Any = answers) -> None:
            for n in chosen:
                if n % 3 == 0:
                    time.sleep(0.0001)
                answers[n] = futures[n].cancel()

        mixed = list(futures)
        randomly.shuffle(mixed)
        mixed = mixed[: randomly.randrange(count + 1)]
        threads = [threading.Thread(target=cancel, args=(mixed[k::3],)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait(futures.values(), PATIENCE)
        for n, future in futures.items():
            assert future.cancelled() == answers.get(n, False)
            assert future.cancelled() or future.result(timeout=0) == n
        cancelled += sum(future.cancelled() for future in futures.values())
        others += sum(not future.cancelled() for future in futures.values())
        wanted = Counter(n for n, future in futures.items() if not future.cancelled())
        assert Counter(n for n in begun.read() if n >= number) == wanted
        number += count
    assert cancelled > 500
    assert others > 500


# ---------------------------------------------------------------------------------------- what stands behind others


def test_what_stands_behind_a_slow_task_goes_to_who_is_idle(pool: MakePool, valve: MakeValve) -> None:
    """Nothing waits, and one worker has nothing to do: it gets the rest of the other's batch, while that one stands."""
    executor = behind_short_tasks(pool)
    held, stuck = valve(), valve()
    holds = executor.submit(stand, held)  # so that one worker gets all of the map
    held.reached()
    mapped = executor.map(stand_at_first, range(40), [stuck] * 40, chunksize=40)
    stuck.reached()
    held.open()
    holds.result()
    until(lambda: executor.statistics().early == 39, "the others")
    stuck.open()
    assert list(mapped) == list(range(40))


def stand_at_first(number: int, valve: Valve | None) -> int:
    """The first one stands; without a valve, all for a while."""
    if valve is None:
        time.sleep(SLOW)
    elif number == 0:
        valve.stand()
    return number
