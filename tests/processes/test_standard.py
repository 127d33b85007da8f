"""It is a standard executor: with everything in the standard library that takes one, from threads, nested, forked."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import os
import signal
import threading
import time
import traceback
import weakref
from collections import defaultdict
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Executor,
    Future,
    as_completed,
    wait,
)
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, ResultsTimeoutError
from ordered_executor._processes import worker_handle
from tests.helpers import PATIENCE, Journal, Valve, fail, is_dead, note, same, stand, take_a_while, until

from .conftest import MakePool, MakeValve, StartScript
from .tasks import Thing, make_thing, nest_and_stand, nested, use_in_child

# ------------------------------------------------------------------------------------------------- concurrent.futures


def test_is_an_executor_with_real_futures(pool: MakePool) -> None:
    """Classes are those that other libraries check for."""
    executor = pool(1)
    future = executor.submit(same, 1)
    assert isinstance(executor, Executor)
    assert isinstance(future, Future)
    assert (future.ticket, future.result()) == (0, 1)


def test_wait_in_all_its_modes(pool: MakePool, valve: MakeValve) -> None:
    """FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED and a timeout see futures complete in order."""
    executor = pool(2)
    first, last = valve(), valve()
    futures = [
        executor.submit(stand, first, 0),
        executor.submit(fail, 1),
        executor.submit(stand, last, 2),
        executor.submit(same, 3),
    ]
    assert wait(futures, timeout=0) == (set(), set(futures))
    first.open()
    done, _ = wait(futures, return_when=FIRST_COMPLETED)
    assert futures[0] in done
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    assert done == set(futures[:2])
    assert wait(futures, timeout=0.01).done == set(futures[:2])
    last.open()
    assert wait(futures, return_when=ALL_COMPLETED) == (set(futures), set())


def test_as_completed_yields_in_order_what_completes_after_the_call(pool: MakePool, valve: MakeValve) -> None:
    """Nothing was done when it was called: so all of it comes in the order of submission."""
    executor = pool(2)
    blocked = valve()
    futures = [executor.submit(stand, blocked, 0)]
    futures += [executor.submit(take_a_while, n, 0.002 * (n % 3)) for n in range(1, 40)]
    iterator = as_completed(futures)
    threading.Timer(0.05, blocked.open).start()
    assert [future.ticket for future in iterator] == list(range(40))  # type: ignore[attr-defined]


def test_as_completed_with_a_timeout(pool: MakePool, valve: MakeValve) -> None:
    """What is not done in time is said, as ever."""
    executor = pool(1)
    blocked = valve()
    futures = [executor.submit(same, 0), executor.submit(stand, blocked, 1)]
    blocked.reached()
    iterator = as_completed(futures, timeout=0.05)
    assert next(iterator) is futures[0]
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(iterator)


def test_futures_of_two_executors_in_one_wait(pool: MakePool) -> None:
    """Futures of several executors, and plain ones, can be waited for together."""
    plain: Future[int] = Future()
    futures = [pool(1).submit(same, 1), pool(1).submit(same, 2)]
    threading.Timer(0.01, plain.set_result, [3]).start()
    assert {future.result() for future in as_completed([*futures, plain])} == {1, 2, 3}


# ------------------------------------------------------------------------------------------------------------- asyncio


def test_run_in_executor_and_wrap_future(pool: MakePool) -> None:
    """Both ways from asyncio to an executor, with values, errors and gather, in order."""
    executor = pool(2)

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        values = await asyncio.gather(*(loop.run_in_executor(executor, same, number) for number in range(50)))
        order: list[int] = []

        async def one(number: int) -> None:
            await asyncio.wrap_future(executor.submit(take_a_while, number, 0.001 * (number % 4)))
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(50)))
        with pytest.raises(ValueError, match="why"):
            await loop.run_in_executor(executor, fail, "why")
        return [values, order]

    assert asyncio.run(main()) == [list(range(50)), list(range(50))]


def test_an_async_with_block_does_not_block_the_loop(pool: MakePool, valve: MakeValve) -> None:
    """It waits for what was submitted, and the loop goes on meanwhile: here it is what ends the task."""
    hold = valve()

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        async with pool(1) as executor:
            future = executor.submit(stand, hold, 5)
            loop.call_later(0.01, hold.open)
        assert future.done()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(same, 1)
        return [future.result()]

    assert asyncio.run(main()) == [5]


@pytest.mark.parametrize("where", ["in the block", "at its end"])
def test_an_async_with_block_that_is_cancelled(pool: MakePool, valve: MakeValve, where: str) -> None:
    """What no worker has is cancelled; in the block, the end of what runs is waited for, and at its end no longer."""
    hold = valve()
    futures: list[Any] = []

    async def block() -> None:
        async with pool(1) as executor:
            futures.extend(executor.submit(stand, hold, number) for number in range(400))
            if where == "in the block":
                await asyncio.sleep(PATIENCE)

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.to_thread(hold.reached)
        task.cancel()
        if where == "in the block":
            await asyncio.sleep(0.05)
            assert not task.done()
            hold.open()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    hold.open()
    until(lambda: all(future.done() for future in futures))
    assert not futures[0].cancelled()
    assert futures[-1].cancelled()


def test_asynchronous_stream(pool: MakePool) -> None:
    """`async for` reads the stream in order while the loop does other things."""
    executor = pool(2)

    async def main() -> tuple[list[int], int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        for number in range(100):
            executor.submit(take_a_while, number, 0.001 * (number % 3 == 0))
        other = asyncio.create_task(turn())
        values = [value async for value in executor.results()]
        other.cancel()
        return values, turns

    values, turns = asyncio.run(main())
    assert values == list(range(100))
    assert turns > 10


@pytest.mark.parametrize("done", [False, True])
def test_what_asyncio_awaits_is_read(pool: MakePool, done: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It leaves the backlog, and a failure counts as seen: whether it was done when it was wrapped, or not.

    From Python 3.15 on asyncio asks the future by `_get_snapshot`; for one that is done, in a done-callback.
    """
    executor = pool(1, backlog=2)

    async def main() -> None:
        for number in range(5):
            future = executor.submit(fail if number % 2 else same, number)
            if done:
                wait([future])
            awaited = asyncio.wrap_future(future)
            if number % 2:
                with pytest.raises(ValueError, match=str(number)):
                    await awaited
            else:
                assert await awaited == number
            assert executor._scheduler.inbox.backlog.unread == 0

    asyncio.run(main())
    executor.shutdown()
    gc.collect()
    assert not caplog.records


def test_cancelled_read_loses_nothing(pool: MakePool, valve: MakeValve) -> None:
    """A read that `wait_for` gives up takes nothing with it; the next one has the outcome."""
    executor = pool(1)
    blocked = valve()
    executor.submit(stand, blocked, "slow")
    executor.submit(same, "next")

    async def main() -> list[str]:
        results = executor.results()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(results.__anext__(), 0.01)
        blocked.open()
        return [value async for value in results]

    assert asyncio.run(main()) == ["slow", "next"]


def test_cancelled_asyncio_future_cancels_what_waits(pool: MakePool, valve: MakeValve) -> None:
    """Cancelling on the asyncio side skips the ticket here."""
    executor = pool(1)
    blocked = valve()

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(executor, stand, blocked, "ran")
        waiting = [loop.run_in_executor(executor, same, number) for number in range(30)]
        await loop.run_in_executor(None, blocked.reached)
        waiting[20].cancel()
        blocked.open()
        return await asyncio.gather(running, *waiting, return_exceptions=True)

    values = asyncio.run(main())
    assert values[0] == "ran"
    assert isinstance(values.pop(21), asyncio.CancelledError)
    assert values[1:] == [number for number in range(30) if number != 20]


# ------------------------------------------------------------------------------------------------ callbacks and threads


def test_submit_from_callbacks(pool: MakePool) -> None:
    """Three chains of callbacks, each submitting the next task, run to their ends."""
    executor = pool(2)
    collected: defaultdict[str, list[int]] = defaultdict(list)
    over = threading.Barrier(4)

    def collect_and_submit(future: Future[tuple[str, int]]) -> None:
        name, count = future.result()
        collected[name].append(count)
        if count:
            executor.submit(same, (name, count - 1)).add_done_callback(collect_and_submit)
        else:
            threading.Thread(target=over.wait).start()

    for name, count in (("a", 60), ("b", 30), ("c", 45)):
        executor.submit(same, (name, count)).add_done_callback(collect_and_submit)
    over.wait(30)
    assert collected == {"a": [*range(60, -1, -1)], "b": [*range(30, -1, -1)], "c": [*range(45, -1, -1)]}


def test_callback_that_raises_harms_nobody(pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; later callbacks and futures go on, SystemExit included."""
    executor = pool(1)
    seen: list[int] = []

    def leave(_: object) -> None:
        raise SystemExit("from a callback")

    first = executor.submit(take_a_while, 1, 0.05)
    first.add_done_callback(leave)
    first.add_done_callback(lambda f: seen.append(f.result()))
    assert executor.submit(same, 2).result() == 2
    assert seen == [1]
    assert "callback" in caplog.text
    caplog.clear()


def test_waiting_in_a_callback_is_refused(pool: MakePool) -> None:
    """Waiting there for what comes later would wait for ever: it raises instead."""
    executor = pool(1)
    first, later = executor.submit(take_a_while, 1, 0.05), executor.submit(same, 2)
    caught: list[BaseException] = []

    def wait_for_later(_: object) -> None:
        try:
            later.result()
        except RuntimeError as error:
            caught.append(error)

    first.add_done_callback(wait_for_later)
    assert later.result() == 2
    assert "callback" in str(caught[0])


def test_many_threads_share_one_executor(pool: MakePool) -> None:
    """Ten threads that map, submit and cancel each get their own results."""
    executor = pool(2)
    outcome: dict[int, object] = {}

    def use(index: int) -> None:
        try:
            one = executor.map(pow, range(40), [index] * 40)
            futures = [executor.submit(same, number) for number in range(20)]
            for number, future in enumerate(futures):
                if number % 2 == 0:
                    future.cancel()
            two = executor.map(same, range(40), buffersize=5)
            assert list(one) == [number**index for number in range(40)]
            assert list(two) == list(range(40))
            assert all(f.cancelled() or f.result(30) == n for n, f in enumerate(futures))
            outcome[index] = "ok"
        except BaseException as error:
            outcome[index] = error

    threads = [threading.Thread(target=use, args=(index,)) for index in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome == dict.fromkeys(range(10), "ok")


def test_readers_in_several_threads_share_the_stream(pool: MakePool) -> None:
    """Each outcome goes to one reader; together they have all, each in order."""
    executor = pool(2)
    parts: list[list[int]] = [[], [], []]
    threads = [threading.Thread(target=lambda p=part: p.extend(executor.results(follow=True))) for part in parts]
    for thread in threads:
        thread.start()
    for number in range(500):
        executor.submit(same, number)
    executor.shutdown()
    for thread in threads:
        thread.join()
    assert all(part == sorted(part) for part in parts)
    assert sorted(itertools.chain(*parts)) == list(range(500))


def test_stream_timeout_can_be_retried(pool: MakePool, valve: MakeValve) -> None:
    """A reader that gave up waiting loses nothing."""
    executor = pool(1)
    blocked = valve()
    executor.submit(stand, blocked, "slow")
    results = executor.results(timeout=0.01)
    for _ in range(3):
        with pytest.raises(ResultsTimeoutError):
            next(results)
    blocked.open()
    assert results.next(timeout=30) == "slow"
    with pytest.raises(StopIteration):
        next(results)


# ---------------------------------------------------------------------------------------- nested, in children, forked


def test_executor_inside_a_worker(pool: MakePool) -> None:
    """A task may use an executor of its own, three levels deep."""
    assert pool(2).submit(nested, 2).result() == [0, 1, 2]
    assert [future.result() for future in [pool(2).submit(nested, 1) for _ in range(2)]] == [[0, 1], [0, 1]]


def test_killed_worker_takes_its_nested_workers_along(pool: MakePool, journal: Journal) -> None:
    """When a worker with an executor of its own is killed, the workers of that one go, too."""
    executor = pool(1)
    future = executor.submit(nest_and_stand, journal)
    inner = int(journal.read())
    assert future.kill()
    assert future.exception() is not None
    until(lambda: is_dead(inner))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_executor_inside_a_child_of_multiprocessing(pool: MakePool, method: str) -> None:
    """A process of multiprocessing may have its own executor, while the parent has one."""
    executor = pool(1)
    executor.submit(same, 1).result()
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=use_in_child, args=(theirs,))
    child.start()
    assert ours.recv() == list(range(20))
    begun = time.monotonic()
    child.join(30)
    assert child.exitcode == 0
    assert time.monotonic() - begun < 8  # less than the warm workers wait for another executor: they do not hold it up
    child.close()
    ours.close()
    theirs.close()
    assert executor.submit(same, 2).result() == 2


def in_forked_child(act: Any) -> int:
    """Run it in a forked child; return the child's exit code (0 if `act` returned something true)."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(40)
            code = 0 if act() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_forked_child_cannot_use_the_parents_executor(pool: MakePool, valve: MakeValve) -> None:
    """In a forked child every use raises, nothing hangs, and the parent's executor goes on as it was."""
    executor = pool(2, window=3)
    blocked = valve()
    head = executor.submit(stand, blocked, "head")
    futures = [executor.submit(same, number) for number in range(10)]
    mapped = executor.map(same, range(10))
    blocked.reached()

    def misuse() -> bool:
        with pytest.raises(RuntimeError, match="fork"):
            executor.submit(same, 1)
        with pytest.raises(RuntimeError, match="fork"):
            executor.mark(1)
        with pytest.raises(RuntimeError, match="fork"):
            executor.map(same, [1])
        executor.shutdown()
        executor.shutdown(kill_workers=True)
        gc.collect()
        with OrderedProcessPoolExecutor(1, reuse=False) as own:
            return bool(own.submit(same, 3).result() == 3)

    assert in_forked_child(misuse) == 0
    blocked.open()
    assert head.result() == "head"
    assert [future.result() for future in futures] == list(range(10))
    assert list(mapped) == list(range(10))


def test_forked_child_that_exits_normally_harms_nobody(pool: MakePool, script: StartScript) -> None:
    """A forked child that leaves through the interpreter's exit neither hangs nor ends the parent's workers."""
    code, out, _ = script(
        "-c",
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from ordered_executor import OrderedProcessPoolExecutor\n"
        "executor = OrderedProcessPoolExecutor(2)\n"
        "warm = OrderedProcessPoolExecutor(1, reuse=True)\n"
        "warm.submit(abs, 1).result(); warm.shutdown()\n"
        "future = executor.submit(__import__('time').sleep, 0.3)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    sys.exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\n"
        "assert future.result() is None\n"
        "with OrderedProcessPoolExecutor(1) as third: print(third.submit(abs, -5).result())\n",
    ).wait()
    assert (code, out) == (0, "5\n")  # multiprocessing itself prints an error in the child: it may not join our workers


def test_program_started_meanwhile_does_not_keep_workers_alive(script: StartScript) -> None:
    """A program that the parent starts, and that outlives it, holds nothing that the workers watch."""
    started = script(
        "-c",
        "import os, subprocess, time\n"
        "from ordered_executor import OrderedProcessPoolExecutor\n"
        "executor = OrderedProcessPoolExecutor(1)\n"
        "pid = executor.submit(os.getpid).result()\n"
        "others = [subprocess.Popen(['sleep', '60'], close_fds=False).pid, os.fork()]\n"
        "if others[1] == 0: time.sleep(60); os._exit(0)\n"
        "print(pid, *others, flush=True)\n"
        "os.kill(os.getpid(), 9)\n",
    )
    assert started.process.stdout is not None
    worker, *others = map(int, started.process.stdout.readline().split())
    started.process.wait()
    until(lambda: is_dead(worker), patience=2.0)
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not started.processes())  # loky's tracker held on for them


def test_child_forked_while_a_worker_starts_does_not_keep_it_alive(script: StartScript) -> None:
    """1. A lane has its descriptors, and no worker yet; 2. the parent forks, and is killed; 3. the worker goes."""
    started = script(
        "-c",
        "import os, time\n"
        "from ordered_executor import OrderedProcessPoolExecutor\n"
        "from ordered_executor._processes import worker_handle as _lane\n"
        "start, others = _lane._start_trackers, []\n"
        "def fork_and_start():\n"
        "    others.append(os.fork())\n"
        "    if others[-1] == 0: time.sleep(60); os._exit(0)\n"
        "    return start()\n"
        "_lane._start_trackers = fork_and_start\n"
        "executor = OrderedProcessPoolExecutor(1)\n"
        "print(executor.submit(os.getpid).result(), *others, flush=True)\n"
        "os.kill(os.getpid(), 9)\n",
    )
    assert started.process.stdout is not None
    worker, *others = map(int, started.process.stdout.readline().split())
    assert others
    started.process.wait()
    until(lambda: is_dead(worker), patience=2.0)
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not started.processes())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_nobody_forks_while_a_lane_gets_its_descriptors() -> None:
    """1. A lane is about to get some; 2. another thread forks, which waits; 3. until it has them."""
    done = threading.Event()

    def fork() -> None:
        assert in_forked_child(lambda: True) == 0
        done.set()

    forker = threading.Thread(target=fork)
    with worker_handle._unforked():
        forker.start()
        assert not done.wait(0.2)
    assert done.wait(PATIENCE)
    forker.join(PATIENCE)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_that_did_not_wait_is_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A lane gets its descriptors, and takes long; 2. another thread forks all the same; 3. so may the child."""
    monkeypatch.setattr(worker_handle, "FORK_SECONDS", 0.05)
    begun, over = threading.Event(), threading.Event()

    def take_long() -> None:
        with worker_handle._unforked():
            begun.set()
            over.wait(PATIENCE)

    other = threading.Thread(target=take_long)
    other.start()
    begun.wait(PATIENCE)
    assert in_forked_child(lambda: not list(worker_handle._alive) and in_forked_child(lambda: True) == 0) == 0
    over.set()
    other.join(PATIENCE)
    assert in_forked_child(lambda: True) == 0


# ------------------------------------------------------------------------------------------------- what is kept alive


def test_users_of_futures_do_not_grow(pool: MakePool) -> None:
    """A future that was read and let go is gone, with its value: nothing is kept for the stream."""
    executor = pool(1)
    future = executor.submit(make_thing)
    kept: list[weakref.ref[Any]] = [weakref.ref(future), weakref.ref(future.result())]
    executor.submit(same, 1).result()
    del future
    assert [reference() for reference in kept] == [None, None]
    assert list(executor.results()) == []


def test_run_in_executor_does_not_grow(pool: MakePool) -> None:
    """Asyncio reads the future in its callback's loop: nothing of it stays here."""
    executor = pool(1)
    made: list[weakref.ref[Thing]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made.extend([weakref.ref(await loop.run_in_executor(executor, make_thing)) for _ in range(5)])

    asyncio.run(main())
    executor.submit(same, 1).result()
    gc.collect()
    assert [reference() for reference in made] == [None] * 5


def test_callback_that_reads_takes_nothing_from_the_stream(pool: MakePool) -> None:
    """A done-callback may look at a result; who reads the stream gets it all the same, and then it is gone."""
    executor = pool(1)
    results = executor.results()
    seen: list[int] = []
    for _ in range(5):
        executor.submit(make_thing).add_done_callback(lambda future: seen.append(id(future.result())))
    executor.shutdown()
    for identity in seen:
        thing = next(results)
        assert id(thing) == identity
        reference = weakref.ref(thing)
        del thing
        assert reference() is None
    assert len(seen) == 5


def test_yielded_by_the_stream_is_not_kept(pool: MakePool) -> None:
    """What the stream has yielded is the reader's alone."""
    executor = pool(1)
    for _ in range(20):
        executor.submit(make_thing)
    for value in executor.results():
        reference = weakref.ref(value)
        del value
        assert reference() is None


def test_tasks_run_once(pool: MakePool, journal: Journal) -> None:
    """Whatever the batches, each task runs exactly once."""
    executor = pool(2)
    futures = [executor.submit(note, journal, number) for number in range(300)]
    assert [future.result() for future in futures] == list(range(300))
    assert sorted(map(int, journal.read_all())) == list(range(300))


def test_valves_are_valves(valve: MakeValve) -> None:
    """The tests' own tool: who stands at a valve goes on when it is opened, and so does who comes later."""
    one = valve()
    thread = threading.Thread(target=one.stand)
    thread.start()
    one.reached()
    assert thread.is_alive()
    one.open()
    thread.join(10)
    assert not thread.is_alive()
    Valve(one.path).stand()
