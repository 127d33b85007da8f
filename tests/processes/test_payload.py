"""What travels: everything that can, and what cannot costs its own task, in a batch too."""

from __future__ import annotations

import gc
import importlib
import io
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ordered_executor import OrderedProcessPoolExecutor, RemoteError, TerminatedWorkerError
from tests.helpers import fail, same, until

from .conftest import MakePool
from .tasks import (
    BadText,
    Falsy,
    Hostile,
    NeedsTwo,
    Thing,
    Unpicklable,
    add_one,
    crash,
    grow,
    leave,
    make,
    raise_group,
    raise_local,
    raise_new,
    raise_with_lock,
    refuse,
)


def among_others(executor: OrderedProcessPoolExecutor, fn: Callable[..., Any], *args: Any) -> BaseException:
    """Submit it between tasks that batch; check that all of those are well; return its error."""
    list(executor.map(same, range(2000)))  # tasks are known to be short: batches form
    before = [executor.submit(same, number) for number in range(20)]
    lost = executor.submit(fn, *args)
    after = [executor.submit(same, number) for number in range(20)]
    assert [future.result() for future in before + after] == [*range(20), *range(20)]
    error = lost.exception()
    assert error is not None
    return error


# ------------------------------------------------------------------------------------------------------ what cannot


def test_argument_that_cannot_be_pickled(pool: MakePool) -> None:
    """The future has the pickling error itself; nobody else notices."""
    error = among_others(pool(1), same, threading.Lock())
    assert isinstance(error, TypeError)
    assert "lock" in str(error)


def test_callable_that_cannot_be_pickled(pool: MakePool) -> None:
    """The same for what is to be called."""
    lock = threading.Lock()
    error = among_others(pool(1), lambda: lock)
    assert isinstance(error, TypeError)


def test_a_kept_error_of_packing_keeps_no_arguments(pool: MakePool) -> None:
    """It has its traceback as text: the frames have the whole batch."""
    argument = Hostile(pack=refuse)
    gone = weakref.ref(argument)
    gc.disable()  # what goes must go by itself
    try:
        error = among_others(pool(1), same, argument)
        assert "in refuse" in str(error.__cause__)
        del argument
        until(lambda: gone() is None)
    finally:
        gc.enable()


def test_error_while_pickling_an_argument(pool: MakePool) -> None:
    """Whatever the argument's pickling raises is the task's error; what would end its reader comes as the cause."""
    assert isinstance(among_others(pool(1), same, Hostile(pack=refuse)), pickle.UnpicklingError)
    error = among_others(pool(1), same, Hostile(pack=leave))
    assert type(error) is pickle.PicklingError
    assert "SystemExit" in str(error)
    assert "in leave" in str(error.__cause__)


@pytest.mark.parametrize("beside", [1, lambda: 1], ids=["alone", "with what needs cloudpickle"])
@pytest.mark.parametrize("mode", ["r", "w", "rb", "r+"])
def test_an_open_file_is_refused(pool: MakePool, tmp_path: Path, mode: str, beside: Any) -> None:
    """As by pickle: cloudpickle alone would send a copy of its text, and the task would write into nowhere."""
    path = tmp_path / "file"
    path.write_text("text")
    with path.open(mode) as file:
        error = among_others(pool(1), same, (file, beside))
    assert isinstance(error, TypeError)
    assert "cannot pickle" in str(error)


def test_a_text_in_memory_is_no_file(pool: MakePool) -> None:
    """`StringIO` travels as pickle sends it, whatever is beside it."""
    for beside in (1, lambda: 1):
        text, _ = pool(1).submit(same, (io.StringIO("text"), beside)).result()
        assert text.read() == "text"


def test_argument_that_cannot_be_unpickled(pool: MakePool) -> None:
    """An argument that pickles and does not unpickle in the worker fails its task with the original error."""
    error = among_others(pool(1), same, Hostile(load=refuse))
    assert isinstance(error, pickle.UnpicklingError)
    assert str(error) == "hostile"


def test_argument_that_exits_while_it_is_unpickled(pool: MakePool) -> None:
    """`sys.exit` there is the task's SystemExit."""
    error = among_others(pool(1), same, Hostile(load=leave))
    assert isinstance(error, SystemExit)
    assert error.code == 8


def test_argument_that_kills_the_worker_while_it_is_unpickled(pool: MakePool) -> None:
    """It costs its own task; what was sent along with it runs elsewhere."""
    error = among_others(pool(1), same, Hostile(load=crash))
    assert isinstance(error, TerminatedWorkerError)
    assert error.exitcode == 7


@pytest.mark.parametrize("load", [refuse, crash], ids=["raises", "crashes"])
def test_bad_argument_in_a_chunk_of_a_map(pool: MakePool, load: Callable[[], Any]) -> None:
    """A chunk that cannot be loaded together is taken apart: the bad call fails alone, each other runs."""
    inputs = [*range(7), Hostile(load=load), *range(8)]
    results = pool(2).map(same, inputs, chunksize=16)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(pickle.UnpicklingError if load is refuse else TerminatedWorkerError):
        next(results)
    assert list(results) == list(range(8))


def test_two_killers_in_a_chunk(pool: MakePool) -> None:
    """Two arguments in one chunk that kill while being loaded: both fail, each alone."""
    inputs = [Hostile(load=crash) if number in (3, 11) else number for number in range(16)]
    results = pool(2).map(same, inputs, chunksize=16)
    ended: list[object] = []
    for _ in range(16):
        try:
            ended.append(next(results))
        except TerminatedWorkerError:
            ended.append("killed")
    assert ended == [*range(3), "killed", *range(4, 11), "killed", *range(12, 16)]


def test_result_that_cannot_be_pickled(pool: MakePool) -> None:
    """The error says that the task went well and what its result was."""
    error = among_others(pool(1), threading.Lock)
    assert isinstance(error, TypeError)
    assert "lock" in str(error)
    assert any("result" in note for note in error.__notes__)


def test_result_whose_pickling_fails(pool: MakePool) -> None:
    """Errors and exits while a result is pickled are its task's."""
    assert isinstance(among_others(pool(1), make, Hostile, refuse), pickle.UnpicklingError)
    error = among_others(pool(1), make, Hostile, leave)
    assert isinstance(error, SystemExit)  # as with the standard executor
    assert any("result" in note for note in error.__notes__)


def test_result_whose_pickling_kills_the_worker(pool: MakePool) -> None:
    """The same as a task that kills its worker."""
    error = among_others(pool(1), make, Hostile, crash)
    assert isinstance(error, TerminatedWorkerError)
    assert error.exitcode == 7


@pytest.mark.parametrize(("load", "kind"), [(refuse, pickle.UnpicklingError), (leave, SystemExit)])
def test_result_that_cannot_be_unpickled(pool: MakePool, load: Callable[[], Any], kind: type[BaseException]) -> None:
    """A result that does not unpickle in the parent fails its own future, with a note."""
    error = among_others(pool(1), make, Hostile, None, load)
    assert type(error) is kind
    assert any("unpickled" in note for note in error.__notes__)


def test_no_worker_is_lost_over_bad_payload(pool: MakePool) -> None:
    """Errors of pickling cost no process."""
    executor = pool(1)
    pid = executor.submit(os.getpid).result()
    for bad in (threading.Lock(), Hostile(pack=refuse), Hostile(load=refuse), Hostile(load=leave)):
        assert executor.submit(same, bad).exception() is not None
    for pack, load in ((refuse, None), (leave, None), (None, refuse)):
        assert executor.submit(make, Hostile, pack, load).exception() is not None
    assert executor.submit(os.getpid).result() == pid


# ----------------------------------------------------------------------------------------------------------- exceptions


def test_exception_comes_with_its_remote_traceback(pool: MakePool) -> None:
    """The cause holds the worker's lines, and a note says which task it was and where it ran."""
    executor = pool(1)
    pid = executor.submit(os.getpid).result()
    error = executor.submit(fail, "why").exception()
    assert type(error) is ValueError
    assert error.args == ("why",)
    assert "raise ValueError(message)" in str(error.__cause__)
    note = "\n".join(error.__notes__)
    assert "ticket 1" in note
    assert "tests.helpers.fail" in note
    assert str(pid) in note


def test_exceptions_that_are_hard_to_pickle(pool: MakePool) -> None:
    """An exception arrives as itself where it can be put together again, attributes that cannot travel replaced."""
    executor = pool(1)
    error = among_others(executor, raise_new, NeedsTwo, 5, "two")
    assert type(error) is NeedsTwo
    assert (error.args, error.code) == (("5: two",), 5)
    error = among_others(executor, raise_new, Unpicklable, "text")
    assert type(error) is Unpicklable
    assert error.args == ("text",)
    assert not isinstance(error.lock, type(threading.Lock()))


def test_exception_that_cannot_travel_at_all(pool: MakePool) -> None:
    """It arrives as RemoteError with its type's name, its message and its traceback."""
    executor = pool(1)
    error = among_others(executor, raise_with_lock, ValueError)
    assert isinstance(error, RemoteError)
    assert error.type_name == "ValueError"
    assert "lock" in error.message
    assert "raise_with_lock" in error.traceback_text
    error = among_others(executor, raise_with_lock, BadText)
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("BadText")


def test_exception_class_that_only_the_worker_knows(pool: MakePool) -> None:
    """A class made inside the task travels by value, or arrives as RemoteError: with name and message either way."""
    error = among_others(pool(1), raise_local)
    assert "Local" in type(error).__name__ or isinstance(error, RemoteError)
    assert "made in the task" in str(error)


def test_falsy_exception_is_an_exception(pool: MakePool) -> None:
    """The truth of an exception is nobody's business."""
    executor = pool(1)
    future = executor.submit(raise_new, Falsy)
    assert isinstance(future.exception(), Falsy)
    with pytest.raises(Falsy):
        future.result()
    with pytest.raises(Falsy):
        next(executor.map(raise_new, [Falsy]))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration])
def test_exceptions_that_are_signals(pool: MakePool, kind: type[BaseException]) -> None:
    """Exceptions that end programs elsewhere end the task here, and arrive."""
    executor = pool(1)
    pid = executor.submit(os.getpid).result()
    assert type(among_others(executor, raise_new, kind)) is kind
    assert executor.submit(os.getpid).result() == pid


def test_exception_group(pool: MakePool) -> None:
    """A group arrives with its members."""
    error = among_others(pool(1), raise_group)
    assert [str(member) for member in error.exceptions] == ["one", "two"]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------------- what can


def test_lambdas_closures_and_local_classes_travel(pool: MakePool) -> None:
    """What plain pickle cannot send goes all the same: as callable, argument and result."""
    executor = pool(2)
    offset = 40

    class Local:
        value = 2

    assert executor.submit(lambda x: x + offset, 2).result() == 42
    assert executor.submit(lambda thing: thing.value + offset, Local()).result() == 42
    assert list(executor.map(lambda x: lambda: x, range(5)))[3]() == 3
    assert executor.submit(lambda: Local).result().value == 2
    assert list(executor.map(pow, [2] * 3, range(3))) == [1, 2, 4]
    assert executor.submit([5, 6].pop).result() == 6


@pytest.mark.parametrize("size", [0, 1, 1000, 32 * 1024, 33 * 1024, 1 << 20, 5 << 20])
def test_bytes_of_any_size_there_and_back(pool: MakePool, size: int) -> None:
    """Small ones in frames, large ones through memory: as bytes, bytearray, text and arrays."""
    executor = pool(1)
    pattern = bytes(range(251))
    value = (pattern * (size // 251 + 1))[:size]
    assert executor.submit(same, value).result() == value
    for kind in (bytearray(value), value.decode("latin-1"), [value, value]):
        again = executor.submit(same, kind).result()
        assert type(again) is type(kind)
        assert again == kind
    array = np.frombuffer(value, np.uint8).copy()
    array_again = executor.submit(same, {"array": array}).result()["array"]
    assert np.array_equal(array_again, array)
    if size:
        array_again[0] = 9  # it is its own: nothing shared with the worker


def test_arrays_in_a_stream(pool: MakePool) -> None:
    """Many arrays of different sizes, through memory that is used again and again, arrive whole and in order."""
    executor = pool(2, window_bytes=8 << 20)
    sizes = [(number * 7919) % 200_000 + 1 for number in range(150)]
    arrays = executor.map(np.arange, sizes, buffersize=20)
    for size, array in zip(sizes, arrays, strict=True):
        assert array.shape == (size,)
        assert (array[0], array[-1]) == (0, size - 1)


def test_views_and_noncontiguous_arrays(pool: MakePool) -> None:
    """A transposed or sliced array arrives with its values."""
    executor = pool(1)
    array = np.arange(90_000).reshape(300, 300)
    for view in (array.T, array[::2, ::3], array[5]):
        assert np.array_equal(executor.submit(same, view).result(), view)


def test_larger_than_lane_memory(pool: MakePool) -> None:
    """What does not fit into shared memory goes through the pipe, there and back."""
    size = 260 << 20
    value = pool(1).submit(same, bytes(size)).result()
    assert len(value) == size


@pytest.mark.parametrize("room", [0, 100_000])
def test_many_buffers_without_room_in_lane_memory(pool: MakePool, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Arguments that find no room there go behind the frame, hundreds of them in one, and are the task's own."""
    monkeypatch.setattr("ordered_executor._channel.shared_memory.BUFFER_BYTES", room)
    executor = pool(1)
    arrays = [np.full(5000, number) for number in range(300)]
    assert list(executor.map(add_one, arrays, chunksize=300)) == [5000 * (number + 1) for number in range(300)]
    futures = [executor.submit(add_one, array) for array in arrays]
    assert [future.result() for future in futures] == [5000 * (number + 1) for number in range(300)]
    text = "x" * 5_000_000  # a pickle that is large itself
    assert executor.submit(same, text).result() == text


def test_arguments_are_gone_when_their_task_is(pool: MakePool) -> None:
    """Neither future nor executor keeps the arguments of a task that is done."""
    executor = pool(1)
    thing = Thing()
    gone = threading.Event()
    weakref.finalize(thing, gone.set)
    future = executor.submit(same, [thing])
    del thing
    future.result()
    assert gone.wait(10)


def test_a_function_that_no_worker_can_load(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its calls fails by itself, in a batch, in a map and alone; those beside them are well."""
    ghost = ModuleType("ordered_executor_tests_ghost")
    exec("def f(number): return number", ghost.__dict__)
    monkeypatch.setitem(sys.modules, ghost.__name__, ghost)
    executor = pool(1)
    assert isinstance(executor.submit(ghost.f, 1).exception(), ModuleNotFoundError)
    assert isinstance(among_others(executor, ghost.f, 1), ModuleNotFoundError)
    for future in [executor.submit(ghost.f, number) for number in range(50)]:
        assert isinstance(future.exception(), ModuleNotFoundError)
    results = executor.map(ghost.f, range(50))
    for _ in range(50):
        with pytest.raises(ModuleNotFoundError):
            next(results)
    assert executor.submit(same, 1).result() == 1


def test_functions_that_kill_whoever_loads_them(pool: MakePool, tmp_path: Path) -> None:
    """Each call costs a worker, and itself alone; it says which task that was."""
    (tmp_path / "ordered_executor_tests_killer.py").write_text(
        "import os, sys\nif os.environ.get('HERE') != 'the parent': os._exit(7)\ndef f(number): return number\n"
    )
    sys.path.insert(0, str(tmp_path))
    os.environ["HERE"] = "the parent"
    try:
        executor = pool(1, env={"HERE": ""})
        killer = importlib.import_module("ordered_executor_tests_killer")
        list(executor.map(same, range(2000)))
        futures = [executor.submit(killer.f, number) for number in range(3)]
        errors = [future.exception() for future in futures]
    finally:
        del os.environ["HERE"]
        sys.path.remove(str(tmp_path))
        sys.modules.pop("ordered_executor_tests_killer", None)
    assert [getattr(error, "ticket", None) for error in errors] == [future.ticket for future in futures]


def test_a_function_whose_pickling_wants_to_exit(pool: MakePool) -> None:
    """Whatever pickling raises is the task's own affair, with simple arguments too."""
    names: dict[str, Any] = {"__name__": "__main__", "exits": Hostile(pack=leave)}
    exec("def f(number): return exits", names)
    assert type(among_others(pool(1), names["f"], 1)) is pickle.PicklingError


def test_calls_of_a_map_share_no_argument(pool: MakePool) -> None:
    """A call that changes its argument changes it for itself, whatever travelled with it."""
    row = [0, 0]
    assert list(pool(1).map(grow, [row] * 30, chunksize=10)) == [3] * 30
    assert list(pool(1).map(grow, [(row,)] * 30, chunksize=10)) == [3] * 30


def test_fresh_methods_have_fresh_objects(pool: MakePool) -> None:
    """A bound method is sent with its object, each time as it was."""
    executor = pool(1)
    list(executor.map(same, range(2000)))
    assert [future.result() for future in [executor.submit([1, 2, 3].pop) for _ in range(30)]] == [3] * 30
