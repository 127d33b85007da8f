"""What can be sent to a worker that could not: functions of any kind, and primitives of multiprocessing."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from textwrap import dedent
from typing import Any

import loky.backend
import pytest

from ordered_executor.parallel_queue import ParallelQueue, ParallelSingleTaskQueue
from tests.helpers import PATIENCE, same

from .common import CannotBeUnpickled
from .conftest import MakeQueue, MakeSingle, Run

SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")
LOKY = loky.backend.get_context("loky")
HEAP = SPAWN.Value("i")  # multiprocessing keeps the file for shared values as long as the process lives


def make_task(first: str) -> Callable[[str], str]:
    """A function that could not be sent to a worker before."""

    def task(second: str) -> str:
        return f"{first} {second}"

    return task


def test_lambdas_and_closures_are_tasks(many: MakeQueue, single: MakeSingle) -> None:
    """They could not be pickled: now they are sent like any function."""
    results, one = many(), single(make_task("curried"))
    results.put(make_task("curried"), "eggs")
    results.put(lambda n: n + 1, 4)
    results.put(same, lambda n: n + 1)
    one.put("spam")
    assert [results.get(), results.get(), results.get()(5)] == ["curried eggs", 5, 6]
    assert one.get() == "curried spam"


def test_functions_of_main_are_tasks(run: Run) -> None:
    """They could not be found by a worker: now they are sent, classes and marks of `__main__` too."""
    out = run("""
        import functools

        class BatchDone(int):
            pass

        class Point:
            def __init__(self, x): self.x = x
            def __eq__(self, other): return self.x == other.x

        def double(point):
            return Point(2 * point.x)

        @functools.cache
        def more(n):
            return n + 1

        results, one, kept = ParallelQueue(2), ParallelSingleTaskQueue(double, 2), ParallelSingleTaskQueue(more, 1)
        results.put(double, Point(4)); results.put(BatchDone(1)); one.put(Point(5)); kept.put(2)
        print(results.get() == Point(8), results.get() == BatchDone(1), one.get() == Point(10), kept.get())
        for each in results, one, kept: each.stop(); each.join()
    """)
    assert out == "True True True 3\n"


def test_functions_typed_into_a_session_are_tasks(run: Run) -> None:
    """The same in an interactive session, where there is no file that a worker could read."""
    typed = dedent("""
        from ordered_executor.parallel_queue import ParallelQueue
        def double(n):
            return 2 * n

        results = ParallelQueue(2)
        results.put(double, 4)
        results.put(lambda n: n + 1, 4)
        print(results.get(), results.get())
        results.stop()
        results.join()
        import os; _ = os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the last prompt
    """)
    out = run("", "-q", "-i", "-c", "import sys; sys.ps1 = sys.ps2 = ''", stdin=typed)
    assert out == "8 5\n"


class Permuted:
    """A task that ends when the test lets it, and says so: two semaphores for each number."""

    def __init__(self, context: Any, numbers: int) -> None:
        self.let = [context.Semaphore(0) for _ in range(numbers)]
        self.said = [context.Semaphore(0) for _ in range(numbers)]

    def __call__(self, number: int) -> int:
        """Stand until it is let go."""
        self.let[number].acquire()
        self.said[number].release()
        return number


@pytest.mark.parametrize("context", [SPAWN, LOKY], ids=["spawn", "loky"])
def test_every_order_of_release_comes_out_in_order(single: MakeSingle, context: Any) -> None:
    """Four tasks over three workers, let go in each of the 24 orders: they come out as they were put in."""
    task = Permuted(context, 4)
    results = single(task, 3, consumer_buffer_max=3, in_q_max=2, out_q_max=1, worker_q_max=1)
    for order in itertools.permutations(range(4)):
        for number in range(4):
            results.put(number, timeout=PATIENCE)
        released: set[int] = set()
        unsaid = set(order)
        for number in order:
            task.let[number].release()
            released.add(number)
            # The fourth has a worker for certain only when all others have ended.
            for ended in sorted(unsaid & released):
                if ended < 3 or unsaid == {3}:
                    assert task.said[ended].acquire(timeout=PATIENCE), (order, ended)
                    unsaid.remove(ended)
        assert [results.get(timeout=PATIENCE) for _ in range(4)] == [0, 1, 2, 3], order
        assert unsaid <= {3}
        for number in unsaid:
            assert task.said[number].acquire(timeout=PATIENCE)


class Holder:
    """A task that holds something, and uses it if it is told how."""

    def __init__(self, held: Any, use: Callable[[Any], Any] = same) -> None:
        self.held, self.use = held, use

    def __call__(self) -> Any:
        """Use it."""
        return self.use(self.held)


@pytest.mark.parametrize(
    ("held", "use"),
    [
        (SPAWN.Lock, lambda lock: lock.acquire(False)),
        (SPAWN.RLock, lambda lock: lock.acquire(False)),
        (SPAWN.Event, lambda event: event.is_set()),
        (SPAWN.Condition, lambda condition: condition.acquire(False)),
        (lambda: SPAWN.Barrier(1), lambda barrier: barrier.wait() == 0),
        (SPAWN.Queue, lambda results: results.put(1) is None),
        (SPAWN.SimpleQueue, lambda results: results.put(1) is None),
        (lambda: SPAWN.Value("i", 7), lambda value: value.value == 7),
        (lambda: SPAWN.Array("i", [7]), lambda array: array[0] == 7),
        (LOKY.Lock, lambda lock: lock.acquire(False)),
        (LOKY.Event, lambda event: event.is_set()),
        (LOKY.Queue, lambda results: results.put(1) is None),
    ],
)
def test_primitives_travel_in_a_single_task(
    single: MakeSingle, held: Callable[[], Any], use: Callable[[Any], Any]
) -> None:
    """Locks, events, queues and so on, from a spawn or loky context, are the same ones in the worker."""
    thing = held()
    if hasattr(thing, "is_set"):
        thing.set()
    results = single(Holder(thing, use), 1)
    results.put()
    assert results.get(timeout=PATIENCE) is True
    if hasattr(thing, "get"):
        assert thing.get() == 1
    if hasattr(thing, "close"):
        thing.close()
    if hasattr(thing, "join_thread"):
        thing.join_thread()


def test_connection_travels_in_a_single_task(single: MakeSingle) -> None:
    """One end of a pipe, inside a closure: the worker has the same pipe, at whatever descriptor."""
    here, there = SPAWN.Pipe()
    results = single(lambda thing: there.send(thing), 1)  # noqa: PLW0108
    results.put("through the pipe")
    assert results.get(timeout=PATIENCE) is None
    assert here.recv() == "through the pipe"
    here.close()
    there.close()


def test_primitives_travel_in_worker_init_f(many: MakeQueue) -> None:
    """The same for what runs first in each worker, and also inside a lambda."""
    ready = SPAWN.Semaphore(0)
    results = many(1, worker_init_f=lambda: ready.release())  # noqa: PLW0108
    results.put(same, 1)
    assert results.get() == 1
    assert ready.acquire(timeout=PATIENCE)


@pytest.mark.parametrize(
    "held",
    [
        FORK.Lock,
        FORK.RLock,
        FORK.Semaphore,
        FORK.BoundedSemaphore,
        FORK.Condition,
        FORK.Event,
        functools.partial(FORK.Barrier, 2),
        FORK.Queue,
        FORK.SimpleQueue,
        FORK.JoinableQueue,
        functools.partial(FORK.Value, "i"),
        functools.partial(FORK.Array, "i", 3),
    ],
)
def test_primitive_of_a_fork_context_is_refused(held: Callable[[], Any]) -> None:
    """The error comes when the queue is made, and says which context to use; inside a closure, too."""
    thing = held()
    with pytest.raises(ValueError, match=r"made in a 'fork' context.*get_context\('spawn'\)"):
        ParallelSingleTaskQueue(Holder(thing))
    with pytest.raises(ValueError, match=r"made in a 'fork' context.*get_context\('spawn'\)"):
        ParallelQueue(worker_init_f=lambda: thing)
    if hasattr(thing, "close"):
        thing.close()


def test_single_task_that_cannot_be_pickled_is_refused() -> None:
    """At once, and not when the first worker is started."""
    with pytest.raises(TypeError, match="cannot pickle"):
        ParallelSingleTaskQueue(Holder(threading.Lock()))
    results = ParallelQueue(1)  # the attempt has left nothing behind that would take this process for another
    results.put(Holder(SPAWN.Lock()))
    with pytest.raises(RuntimeError, match="inheritance"):
        results.get(timeout=PATIENCE)
    results.stop()
    results.join()


def test_single_task_that_cannot_be_unpickled_breaks_the_queue(
    single: MakeSingle, caplog: pytest.LogCaptureFixture
) -> None:
    """Its reason comes out in place of what was put."""
    results = single(Holder(CannotBeUnpickled()), 1)
    results.put()
    with pytest.raises(BrokenProcessPool, match="bad bad value"):
        results.get(timeout=PATIENCE)


class Counter:
    """A task with a state."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        """Return how often it was called."""
        self.calls += 1
        return self.calls


def test_single_task_keeps_its_state_in_its_worker(single: MakeSingle) -> None:
    """The task is sent once to each worker, not with each call; a queue made later begins anew."""
    for _ in range(2):
        results = single(Counter(), 1)
        for _ in range(5):
            results.put()
        assert [results.get() for _ in range(5)] == [1, 2, 3, 4, 5]
        results.stop()
        results.join()
