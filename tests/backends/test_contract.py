"""The contract, on every backend: order, bounds, isolation, and the ends of things."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import CancelledError, as_completed, wait
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import ShutdownTimeoutError, TaskKilledError, TerminatedWorkerError
from tests.helpers import PATIENCE, Valve, settled

from .conftest import Make

# Dask and Tornado warn of each other, and of sockets that close late: not our business.
pytestmark = [
    pytest.mark.filterwarnings("default:::distributed"),
    pytest.mark.filterwarnings("default:::tornado"),
    pytest.mark.filterwarnings("default:::ray"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(120),
]


def jitter(number: int) -> int:
    """Return the number, some later than others."""
    time.sleep(number * 7 % 5 * 0.002)
    return number


def stand(valve: Valve, number: int) -> int:
    """Return the number when the valve is open."""
    valve.stand()
    return number


def fail_if_odd(number: int) -> int:
    """Raise for every second number."""
    if number % 2:
        raise ValueError(number)
    return number


def die_if(number: int, victim: int) -> int:
    """Die if the number is the victim's."""
    if number == victim:
        os._exit(3)
    return number


def die_once(path: Path, number: int) -> int:
    """Die if nobody has died here before."""
    if not path.exists():
        path.touch()
        os._exit(3)
    return number


def set_first(array: Any) -> int:
    """Change the argument; return what was there."""
    before = int(array[0])
    array[0] = 99
    return before


def test_results_and_callbacks_come_in_the_order_of_submission(make: Make) -> None:
    """Whoever finishes first: the stream, the futures and their callbacks are in ticket order."""
    executor = make()
    ended: list[int] = []
    futures = [executor.submit(jitter, number) for number in range(60)]
    for future in futures:
        future.add_done_callback(lambda done: ended.append(done.result()))
    assert list(executor.results()) == list(range(60))
    assert ended == list(range(60))
    assert [future.result() for future in futures] == list(range(60))


def test_map_yields_in_order(make: Make) -> None:
    """Also many short calls, which travel together, and over an endless input."""

    def endless() -> Any:
        number = 0
        while True:
            yield number
            number += 1

    executor = make()
    assert list(executor.map(abs, range(0, -3000, -1))) == list(range(3000))
    mapped = executor.map(jitter, endless(), buffersize=8)
    assert [next(mapped) for _ in range(30)] == list(range(30))
    mapped.close()
    assert list(executor.map(pow, range(5), range(5), chunksize=2)) == [1, 1, 4, 27, 256]


def test_the_standard_tools_work(make: Make) -> None:
    """`wait`, `as_completed`, `asyncio.wrap_future`."""
    executor = make()
    futures = [executor.submit(jitter, number) for number in range(20)]
    assert [future.result() for future in as_completed(futures, timeout=PATIENCE)] == list(range(20))
    assert wait([executor.submit(jitter, 1)], timeout=PATIENCE).not_done == set()

    async def read() -> list[int]:
        found: list[int] = await asyncio.gather(*(asyncio.wrap_future(executor.submit(jitter, n)) for n in range(9)))
        return found

    assert asyncio.run(read()) == list(range(9))


def test_large_arguments_and_results_arrive_as_they_were(make: Make) -> None:
    """Arrays and bytes; what arrives can be written to, and is nobody else's."""
    import numpy as np

    executor = make()
    array = np.arange(300_000)
    for _ in range(4):  # the same one again and again: it may be shared on the way
        found = executor.submit(np.add, array, 1).result(PATIENCE)
        assert found[0] == 1
        found[0] = 7
        assert executor.submit(len, bytes(2_000_000)).result(PATIENCE) == 2_000_000
    array[0] = 5
    assert executor.submit(np.add, array, 1).result(PATIENCE)[0] == 6
    assert executor.submit(bytes, 100_000).result(PATIENCE) == bytes(100_000)


def test_what_one_task_does_to_an_argument_no_other_sees(make: Make, processes: None) -> None:
    """Each has a copy of its own, also of what is large and sent many times."""
    import numpy as np

    executor = make()
    array = np.arange(300_000)
    futures = [executor.submit(set_first, array) for _ in range(12)]
    assert [future.result(PATIENCE) for future in futures] == [0] * 12


def test_errors_come_at_their_place(make: Make) -> None:
    """A task that raises costs its own ticket, with its traceback; so does what cannot be pickled."""
    executor = make(unseen_errors="ignore")
    futures = [executor.submit(fail_if_odd, number) for number in range(20)]
    lock = executor.submit(threading.Lock)
    for number, future in enumerate(futures):
        assert (future.exception(PATIENCE) is None) == (number % 2 == 0)
    assert "fail_if_odd" in str(futures[1].exception().__cause__)
    assert isinstance(lock.exception(PATIENCE), TypeError)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_an_argument_that_cannot_be_pickled_costs_its_task(make: Make, processes: None) -> None:
    """And no other of its batch."""
    executor = make(unseen_errors="ignore")
    before, bad, after = executor.submit(abs, -1), executor.submit(id, threading.Lock()), executor.submit(abs, -2)
    assert isinstance(bad.exception(PATIENCE), TypeError)
    assert (before.result(PATIENCE), after.result(PATIENCE)) == (1, 2)


def test_marks_keep_their_place(make: Make, valve: Valve) -> None:
    """A mark comes out behind what was submitted before it."""
    executor = make()
    executor.submit(stand, valve, 1)
    mark = executor.mark("done")
    executor.submit(abs, -2)
    valve.reached()
    assert not mark.done()
    valve.open()
    assert list(executor.results(timeout=PATIENCE)) == [1, "done", 2]


def test_the_window_is_kept(make: Make, valve: Valve) -> None:
    """While the head stands, `window - 1` outcomes come home, and no more."""
    executor = make(window=3)
    head = executor.submit(stand, valve, 0)
    futures = [executor.submit(jitter, number) for number in range(1, 8)]
    valve.reached()
    settled(executor, early=2, gated=1)
    assert not any(future.done() for future in futures)
    valve.open()
    assert [future.result(PATIENCE) for future in (head, *futures)] == list(range(8))
    assert executor.statistics().peak_early <= 2


def test_submit_waits_for_readers(make: Make) -> None:
    """With a backlog no more than so many are unread."""
    executor = make(backlog=4)
    most = 0

    def produce() -> None:
        for number in range(40):
            executor.submit(jitter, number)

    producer = threading.Thread(target=produce)
    producer.start()
    for number in range(40):
        assert executor.results(follow=True).next(timeout=PATIENCE) == number
        most = max(most, executor.statistics().tail - number)
    producer.join()
    assert most <= 6


def test_cancel_skips_what_waits(make: Make, valve: Valve) -> None:
    """What no worker has is cancelled at once, and does not hold up what is behind it."""
    executor = make()
    running = [executor.submit(stand, valve, number) for number in range(2)]
    waiting = executor.submit(abs, -5)
    last = executor.submit(abs, -6)
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result()
    valve.reached()
    valve.open()
    assert [future.result(PATIENCE) for future in (*running, last)] == [0, 1, 6]


def test_kill_fails_one_task(make: Make, valve: Valve) -> None:
    """A task that is killed fails at its place; what is behind it goes on."""
    executor = make()
    stuck = executor.submit(stand, valve, 0)
    after = executor.submit(abs, -2)
    valve.reached()
    assert stuck.kill()
    assert isinstance(stuck.exception(PATIENCE), TaskKilledError)
    assert after.result(PATIENCE) == 2


def test_a_dead_worker_costs_the_task_it_ran(make: Make, processes: None) -> None:
    """The others are run again, and succeed."""
    executor = make(unseen_errors="ignore", retries=3)
    assert list(executor.map(abs, range(50))) == list(range(50))  # tasks are short: batches form
    view = executor.options(retries=0)
    futures = [(view if number == 4 else executor).submit(die_if, number, 4) for number in range(9)]
    assert isinstance(futures[4].exception(PATIENCE), TerminatedWorkerError)
    assert [future.result(PATIENCE) for future in futures if future is not futures[4]] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_lost_task_is_run_again(make: Make, processes: None, tmp_path: Path) -> None:
    """With `retries`."""
    assert make(retries=2).submit(die_once, tmp_path / "died", 5).result(PATIENCE) == 5


def test_shutdown_waits_in_time_or_says_what_is_not_done(make: Make, valve: Valve) -> None:
    """`ShutdownTimeoutError` loses nothing: shut down again."""
    executor = make()
    future = executor.submit(stand, valve, 1)
    with pytest.raises(ShutdownTimeoutError):
        executor.shutdown(timeout=0.05)
    valve.open()
    executor.shutdown(timeout=PATIENCE)
    assert future.result() == 1
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)


def test_shutdown_kill_does_not_wait_for_tasks(make: Make, valve: Valve) -> None:
    """What runs and what waits fails, in order."""
    executor = make(unseen_errors="ignore")
    futures = [executor.submit(stand, valve, number) for number in range(6)]
    valve.reached()
    executor.shutdown(kill_workers=True, timeout=PATIENCE)
    assert [type(future.exception()) for future in futures] == [TaskKilledError] * 6


def test_statistics_are_consistent(make: Make) -> None:
    """At rest everything submitted is behind the head."""
    executor = make()
    list(executor.map(abs, range(10)))
    found = executor.statistics()
    assert (found.head, found.tail, found.in_flight, found.early) == (10, 10, 0, 0)
    assert found.max_workers >= 1
