"""Ctrl-C at every place of every call: whoever was interrupted leaves nothing behind that stops the others.

Each call is made again and again in the main thread, interrupted at the first place where the interpreter looks for
signals, at the second, and so on, until it is through.  After each the same executor must work.

Other signals have handlers that may use the executor themselves, and wait for it, in the middle of each call.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, wait
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, ShutdownTimeoutError
from ordered_executor.parallel_queue import ParallelQueue
from tests.helpers import PATIENCE, same
from tests.interleave import interruptions

from .conftest import MakePool

# What is raised in a finalizer, Python prints and drops: also Ctrl-C, if it comes there.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def submit(executor: OrderedProcessPoolExecutor) -> None:
    """Put something in."""
    executor.submit(same, 1)


def mark(executor: OrderedProcessPoolExecutor) -> None:
    """Put a marker in."""
    executor.mark("here")


def result(executor: OrderedProcessPoolExecutor) -> None:
    """Wait for a task."""
    assert executor.submit(same, 1).result() == 1


def result_in_time(executor: OrderedProcessPoolExecutor) -> None:
    """Wait for a task with a limit, and too short."""
    future = executor.submit(same, 1)
    try:
        future.result(timeout=0.0001)
    except TimeoutError:
        assert future.result(timeout=PATIENCE) == 1


def wait_for_all(executor: OrderedProcessPoolExecutor) -> None:
    """Wait for several by `wait()`."""
    assert not wait([executor.submit(same, number) for number in range(4)], timeout=PATIENCE).not_done


def read_as_completed(executor: OrderedProcessPoolExecutor) -> None:
    """Wait for several by `as_completed()`."""
    futures: Any = [executor.submit(same, number) for number in range(4)]
    assert len(list(as_completed(futures, timeout=PATIENCE))) == 4


def call_back(executor: OrderedProcessPoolExecutor) -> None:
    """Be called back."""
    calls: list[Any] = []
    future = executor.submit(same, 1)
    future.add_done_callback(calls.append)
    future.result()


def cancel(executor: OrderedProcessPoolExecutor) -> None:
    """Cancel what may have started."""
    futures = [executor.submit(same, number) for number in range(4)]
    for future in reversed(futures):
        future.cancel()


def cancel_sent(executor: OrderedProcessPoolExecutor) -> None:
    """Cancel what a worker has and has not begun."""
    futures = [executor.submit(same, number) for number in range(20)]
    futures[0].result()
    for future in reversed(futures[-4:]):
        future.cancel()


def cancel_pending(executor: OrderedProcessPoolExecutor) -> None:
    """Cancel all there is."""
    for number in range(4):
        executor.submit(same, number)
    executor.cancel_pending()


def cancel_and_kill(executor: OrderedProcessPoolExecutor) -> None:
    """Cancel all there is, and stop what runs."""
    for number in range(4):
        executor.submit(same, number)
    executor.cancel_pending(kill=True)


def close_map(executor: OrderedProcessPoolExecutor) -> None:
    """Leave a loop."""
    results: Any = executor.map(same, range(20))
    next(results)
    results.close()


def read_log(executor: OrderedProcessPoolExecutor) -> None:
    """Read all there is."""
    for number in range(3):
        executor.submit(same, number)
    for _ in executor.results(errors="yield"):  # where cancel() finds nothing out, a task is killed instead
        pass


def read_map(executor: OrderedProcessPoolExecutor) -> None:
    """Map, with inputs taken as results are read."""
    assert list(executor.map(same, range(6), buffersize=2)) == list(range(6))


def read_outcomes(executor: OrderedProcessPoolExecutor) -> None:
    """Read outcomes, with a limit for each."""
    executor.submit(same, 1)
    outcomes = executor.outcomes()
    assert outcomes.next(timeout=PATIENCE).error is None


def leave_map(executor: OrderedProcessPoolExecutor) -> None:
    """Map, and leave half way."""
    mapped = executor.map(same, range(1000), chunksize=1)
    assert next(mapped) == 0
    mapped.close()  # type: ignore[attr-defined]


def kill(executor: OrderedProcessPoolExecutor) -> None:
    """Kill what waits for its turn."""
    futures = [executor.options(retries=1).submit(same, number) for number in range(4)]
    futures[-1].kill()
    wait(futures)


def ask(executor: OrderedProcessPoolExecutor) -> None:
    """Ask how it is."""
    assert executor.statistics().tail > 0
    executor.running()


CALLS = [
    submit,
    mark,
    result,
    result_in_time,
    wait_for_all,
    read_as_completed,
    call_back,
    cancel,
    cancel_sent,
    cancel_pending,
    cancel_and_kill,
    close_map,
    read_log,
    read_outcomes,
    read_map,
    leave_map,
    kill,
    ask,
]
# So many real interrupts a call; with more of them it takes longer, and finds more.
REAL = int(os.environ.get("REAL_INTERRUPTS", "100"))


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupted_call_stops_nobody(pool: MakePool, call: Callable[[Any], None]) -> None:
    """1. A call is interrupted; 2. everything that is called afterwards on the same executor works."""
    it = pool(1, keep_results=True)  # futures are used, dropped, and the stream is read at the end
    rounds = 0
    assert it.submit(same, 0).result(PATIENCE) == 0
    for interruption in interruptions():
        interruption.press(lambda: call(it))
        try:
            assert it.submit(same, 1).result(PATIENCE) == 1
        except TimeoutError:
            pytest.fail(f"nothing comes any more after an interrupt in {interruption.where}")
        rounds += 1
    assert rounds >= 10
    read_log(it)


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_may_wait_in_the_middle_of_a_call(pool: MakePool, call: Callable[[Any], None]) -> None:
    """1. In the middle of a call a signal comes; 2. its handler waits for a task, and gets it; 3. the call goes on."""
    it = pool(1, keep_results=True)  # futures are used, dropped, and the stream is read at the end
    assert it.submit(same, 0).result(PATIENCE) == 0
    got: list[int] = []
    for interruption in interruptions(handler=lambda: got.append(it.submit(same, 1).result(PATIENCE))):
        try:
            interruption.press(lambda: call(it))
        except TimeoutError:
            pytest.fail(f"a handler waits for ever in {interruption.where}")
    assert len(got) >= 10
    read_log(it)


@pytest.mark.parametrize("call", [submit, cancel, read_log])
def test_a_handler_may_shut_down_in_the_middle_of_a_call(pool: MakePool, call: Callable[[Any], None]) -> None:
    """A program that ends by a signal: whatever it is in the middle of, the executor ends."""
    pools = [pool(1)]
    for interruption in interruptions(handler=lambda: pools[-1].shutdown(timeout=PATIENCE)):
        try:
            interruption.press(lambda: call(pools[-1]))
        except RuntimeError:
            assert interruption.came
        except ShutdownTimeoutError:
            pytest.fail(f"shutdown waits for ever in {interruption.where}")
        if interruption.came:
            pools.append(pool(1))


def after(seconds: float, act: Callable[[], object]) -> bool:
    """Act; a real signal comes after so long, whose handler does what Ctrl-C does.  Whether it came meanwhile."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        act()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False


@pytest.fixture
def alarm() -> Iterator[None]:
    """The signal of the clock is another Ctrl-C."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("call", CALLS)
def test_real_interrupts_stop_nobody(pool: MakePool, call: Callable[[Any], None]) -> None:
    """Signals at any instant of a call, those included at which Python calls nothing; the same executor works on."""
    it = pool(1, keep_results=True)
    assert it.submit(same, 0).result(PATIENCE) == 0
    came, takes, number = 0, 100e-6, 0

    def several() -> None:
        for _ in range(5):
            call(it)

    while came < REAL:
        number += 1
        began = time.perf_counter()
        if after(1e-6 + takes * (number * 0.6180339887 % 1), several):
            came += 1
        else:
            takes = 0.8 * takes + 0.2 * (time.perf_counter() - began)
        try:
            assert it.submit(same, 1).result(PATIENCE) == 1
        except TimeoutError:
            pytest.fail(f"nothing comes any more after {came} interrupts")
        read_log(it)


def test_interrupts_cost_no_room(pool: MakePool) -> None:
    """With a backlog: whatever was interrupted, when all is read there is as much room as before."""
    it = pool(1, backlog=1000)
    it.submit(same, 0).result(PATIENCE)
    for call in (result, read_log, mark, cancel, wait_for_all):
        for interruption in interruptions():
            interruption.press(lambda: call(it))  # noqa: B023 (called at once)
            it.submit(same, 1).result(PATIENCE)
            for _ in it.results():
                pass
            assert it._scheduler.inbox.backlog.unread == 0, f"{call.__name__}: {interruption.where}"


def test_an_interrupted_map_goes_on(pool: MakePool) -> None:
    """1. The reader of a map is interrupted; 2. it reads on, to the end: at most the one result on its way is lost."""
    it = pool(1, keep_results=True)  # futures are used, dropped, and the stream is read at the end
    assert it.submit(same, 0).result(PATIENCE) == 0
    for interruption in interruptions():
        mapped = it.map(same, range(9), chunksize=2, buffersize=4, timeout=PATIENCE)
        got: list[int] = []

        def read(mapped: Any = mapped, got: list[int] = got) -> None:
            got.extend(next(mapped) for _ in range(9))

        interruption.press(read)
        got += mapped
        assert sorted(set(got)) == got, interruption.where
        assert len(got) >= 8, f"{interruption.where}: {got}"


def test_an_interrupted_shutdown_can_be_called_again(pool: MakePool) -> None:
    """1. `shutdown` is interrupted; 2. called again it ends, and what was submitted is done."""
    for interruption in interruptions():
        it = pool(1, keep_results=True)  # futures are used, dropped, and the stream is read at the end
        futures = [it.submit(same, number) for number in range(2)]
        interruption.press(it.shutdown)
        it.shutdown(timeout=PATIENCE)
        assert [future.result(timeout=0) for future in futures] == [0, 1], interruption.where


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("end", ["kill_workers", "terminate_workers", "shutdown"])
def test_an_interrupted_end_by_force_can_be_called_again(pool: MakePool, end: str) -> None:
    """At places one after the other, and at any instant: called again it ends, and no future is left waiting."""
    takes = 500e-6

    def ends_after(press: Callable[[Callable[[], object]], object], where: Callable[[], str]) -> None:
        it = pool(1, keep_results=True)
        futures = [it.submit(same, number) for number in range(3)]
        settings = {"cancel_futures": True, "kill_workers": True} if end == "shutdown" else {}
        press(lambda: getattr(it, end)(**settings))
        getattr(it, end)(**settings)
        it.shutdown(timeout=PATIENCE)
        assert not wait(futures, timeout=0).not_done, where()

    places = 0
    for interruption in interruptions(step=5):
        ends_after(interruption.press, lambda: interruption.where)  # noqa: B023 (called at once)
        places += interruption.came
    assert places >= 5
    for number in range(10):
        seconds = 1e-6 + takes * (number * 0.6180339887 % 1)
        ends_after(lambda act: after(seconds, act), lambda: f"after {seconds} s")  # noqa: B023 (called at once)


def test_an_interrupted_block_ends(pool: MakePool) -> None:
    """Ctrl-C anywhere in a `with` block, its end included: the block is left, and the executor is done.

    Not at every place: each time it kills a worker.
    """
    for interruption in interruptions(step=7):
        it = pool(1, keep_results=True)  # futures are used, dropped, and the stream is read at the end

        def block(it: Any = it) -> None:
            with it:
                it.submit(same, 1).result()

        interruption.press(block)
        it.shutdown(timeout=PATIENCE)


def test_an_interrupted_queue_goes_on() -> None:
    """The same for `put` and `get` of a queue."""
    queue = ParallelQueue(num_workers=1)

    def put_and_get() -> None:
        queue.put(same, 1)
        queue.get(timeout=PATIENCE)

    for interruption in interruptions():
        interruption.press(put_and_get)
        queue.put(same, "after it")
        while queue.get(timeout=PATIENCE) != "after it":
            pass  # what the interrupted one has left
    queue.stop()
    queue.join(PATIENCE)
    assert not queue.is_alive()
