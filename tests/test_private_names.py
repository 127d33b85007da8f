"""Each private name of others that we use is there, and means what we take it for."""

from __future__ import annotations

import concurrent.futures._base
import concurrent.futures.process
import inspect
import multiprocessing.spawn
import multiprocessing.synchronize
import re
import signal
import threading
from typing import Any

import loky.backend.popen_loky_posix
import loky.backend.synchronize
import loky.process_executor
import pytest

import ordered_executor._semaphores  # noqa: F401 (it extends what it uses)
from ordered_executor._loky import abandon, start_feeder, threads


def test_exit_hook_of_threading() -> None:
    """`threading._register_atexit` takes a function, and returns nothing that says it was registered."""
    assert list(inspect.signature(threading._register_atexit).parameters)[:1] == ["func"]  # type: ignore[attr-defined]


def test_flag_of_lokys_exit_hook() -> None:
    """Loky has the module variable that says whether its exit hook is registered, and asks it."""
    assert hasattr(loky.process_executor, "process_pool_executor_at_exit")
    assert callable(loky.process_executor._python_exit)
    source = inspect.getsource(loky.process_executor.ProcessPoolExecutor._start_executor_manager_thread)
    assert "process_pool_executor_at_exit is None" in source


def test_threads_of_a_loky_pool() -> None:
    """A loky pool has the attribute that holds its manager thread, which has the queue that holds its feeder.

    The feeder is started by the queue's own method, and not again when there is something to be fed.
    """
    pool = loky.process_executor.ProcessPoolExecutor(1)
    assert pool._executor_manager_thread is None
    assert pool._processes == {}
    start_feeder(pool)
    feeder = pool._call_queue._thread
    assert feeder.name == "QueueFeederThread"
    assert feeder.is_alive()
    pool.submit(int).result()
    manager: Any = pool._executor_manager_thread
    assert manager.name == "ExecutorManagerThread"
    assert manager.call_queue._thread is feeder
    pool.shutdown()
    assert list(threads(manager)) in ([], [feeder])


def test_abandoned_loky_pool() -> None:
    """Its process is killed, its feeder ends, and nothing is printed."""
    pool = loky.process_executor.ProcessPoolExecutor(1)
    start_feeder(pool)
    feeder = pool._call_queue._thread
    pool._start_executor_manager_thread = lambda: None
    pool.submit(int)
    (process,) = pool._processes.values()
    abandon(pool)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not feeder.is_alive()


@pytest.mark.parametrize("module", [loky.backend.popen_loky_posix, multiprocessing.spawn])
def test_process_that_is_made_a_worker(module: Any) -> None:
    """It is marked as such while it loads what it needs (see `ordered_executor.__init__`)."""
    source = inspect.getsource(module)
    assert source.index("_inheriting = True") < source.index("load(from_parent)") < source.index("._inheriting\n")


@pytest.mark.parametrize("module", [loky.backend.synchronize, multiprocessing.synchronize])
def test_names_of_semaphores(module: Any) -> None:
    """A semaphore is made with a name from the method that we extend, before anything else is done with the name."""
    source = inspect.getsource(module.SemLock.__init__)
    assert source.index("_make_name()") < source.index("register(")
    assert re.search(r"kind, value, maxvalue,\s+(self|SemLock)\._make_name\(\)", source.replace("\n", ""))
    assert module.SemLock._make_name.__module__ == "ordered_executor._semaphores"


def test_states_of_standard_futures() -> None:
    """A standard future still keeps its state, result and waiters where our subclass keeps them."""
    future = concurrent.futures.Future[int]()
    assert future._state == concurrent.futures._base.PENDING
    assert {"_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"} <= set(vars(future))


def test_waiters_of_the_standard_library() -> None:
    """What `wait` and `as_completed` hang on a future has an event, and is told by one call for each kind of end.

    That of `as_completed` has a lock and a list of what is finished, too: there it is put into order.
    """
    base: Any = concurrent.futures._base
    for make in (base._AsCompletedWaiter, base._FirstCompletedWaiter, lambda: base._AllCompletedWaiter(1, False)):
        waiter = make()
        assert type(waiter.event) is threading.Event
        assert all(callable(getattr(waiter, f"add_{end}")) for end in ("result", "exception", "cancelled"))
    waiter = base._AsCompletedWaiter()
    with waiter.lock:
        assert waiter.finished_futures == []


@pytest.mark.parametrize(("method", "named"), [("fork", False), ("spawn", True)])
def test_semaphore_without_a_name(method: str, named: bool) -> None:
    """A semaphore of a fork context has no name, by which another process could open it; others have one."""
    lock: Any = multiprocessing.get_context(method).Lock()
    assert (lock._semlock.name is not None) == named


def test_remote_traceback_of_the_standard_library() -> None:
    """The standard library's carrier of remote tracebacks takes a text and prints it."""
    assert "a text" in str(concurrent.futures.process._RemoteTraceback("a text"))  # type: ignore[arg-type]
