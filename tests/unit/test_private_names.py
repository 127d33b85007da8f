"""Each private name of others that we use is there, and means what we take it for."""

from __future__ import annotations

import concurrent.futures._base
import concurrent.futures.process
import inspect
import io
import multiprocessing.process
import multiprocessing.spawn
import threading
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cloudpickle
import loky.backend.context
import loky.backend.popen_loky_posix
import loky.backend.spawn
import loky.process_executor
import pytest


def test_exit_hook_of_threading() -> None:
    """`threading._register_atexit` takes a function, and returns nothing that says it was registered."""
    assert list(inspect.signature(threading._register_atexit).parameters)[:1] == ["func"]  # type: ignore[attr-defined]


def test_end_and_depth_of_lokys_pools() -> None:
    """Loky counts how deep its pools are nested, checks that, and has a function that ends all of them."""
    process_executor = loky.process_executor
    assert process_executor._CURRENT_DEPTH == 0
    process_executor._check_max_depth(loky.backend.context.ctx_loky)
    assert not inspect.signature(process_executor._python_exit).parameters


def test_start_of_a_loky_process() -> None:
    """Loky starts a process by `_Popen._launch`; its main program reads what ours writes: preparation, and process."""
    popen = loky.backend.popen_loky_posix
    assert list(inspect.signature(popen.Popen._launch).parameters) == ["self", "process_obj"]
    assert list(inspect.signature(popen.Popen.duplicate_for_child).parameters) == ["self", "fd"]
    read = inspect.getsource(popen).partition("__main__")[2]
    assert read.index("--pipe") < read.index("spawn.prepare(prep_data)") < read.index("process_obj._bootstrap()")
    needed = inspect.getsource(loky.backend.spawn.prepare)
    known = {"name", "authkey", "sys_argv", "sys_path", "orig_dir", "log_to_stderr", "tracker_fd", "mp_tracker_fd"}
    assert all(f'"{key}" in data' in needed for key in known | {"dir", "log_level", "log_fmt"})


def test_standard_processes_keep_a_popen() -> None:
    """`multiprocessing` asks a process for the object that runs it, and that for its end."""
    source = inspect.getsource(multiprocessing.process.BaseProcess)
    assert "self._popen = self._Popen(self)" in source
    assert all(f"self._popen.{name}(" in source for name in ("poll", "wait", "close"))


@pytest.mark.parametrize("module", [loky.backend.popen_loky_posix, multiprocessing.spawn])
def test_process_that_is_made_a_worker(module: Any) -> None:
    """It is marked as such while it loads what it needs (see `ordered_executor.__init__`)."""
    source = inspect.getsource(module)
    assert source.index("_inheriting = True") < source.index("load(from_parent)") < source.index("._inheriting\n")


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


def test_what_multiprocessings_pickler_was_told() -> None:
    """`ForkingPickler.register` keeps it in a dictionary of the class, which stays the same one."""
    before = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    ForkingPickler.register(complex, lambda one: (complex, (one.real, one.imag)))
    try:
        assert ForkingPickler._extra_reducers is before  # type: ignore[attr-defined]
        assert complex in before
    finally:
        del before[complex]


def test_how_cloudpickle_reduces_a_class() -> None:
    """To a call that makes it, a state, and a function that gives it that: we put a key beside each."""

    class Local:
        one = 1

    pickler = cloudpickle.CloudPickler(io.BytesIO())
    make, args, (attributes, _), items, more, fill = pickler.reducer_override(Local)
    assert (items, more) == (None, None)
    assert attributes["one"] == 1
    assert make(*args) is Local
    fill(Local, ({"one": 2}, {}))
    assert Local.one == 2


def test_whether_a_dask_cluster_adapts() -> None:
    """`dask`: it says so in `_adaptive` only; without, an executor sees it when its size has changed."""
    distributed = pytest.importorskip("distributed")
    assert "self._adaptive = " in inspect.getsource(distributed.deploy.cluster)
