"""Workers that lose their turn at the worst moment: what the parent has fetched meanwhile makes nothing wrong.

The parent looks into the memory of a worker whose batch has the head and does not end ("peeks"), and so may be done
with outcomes that the worker is still about to send.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, TerminatedWorkerError, end_idle_workers
from ordered_executor._processes import idle_workers
from ordered_executor._processes.timers import look_for_outcomes
from ordered_executor._processes.worker import runner
from ordered_executor._processes.worker_handle import SERVING, STARTING
from tests.helpers import until

from .conftest import MakePool

SECONDS = 0.3  # much longer than a peek takes to come
LATE_TO_FLUSH, LATE_TO_ASK = ("_flush",), ("_ask",)  # kept: a warm worker is lent to who gives the same objects


def be_late(method: str) -> None:
    """The initializer: from now on this worker takes a while before it does that."""
    really: Callable[..., None] = getattr(runner.Runner, method)

    def late(*args: Any, **kwargs: Any) -> None:
        time.sleep(SECONDS)
        really(*args, **kwargs)

    setattr(runner.Runner, method, late)


def make(what: tuple[str, int] | float) -> str:
    """Return a text so many times; or take so many seconds."""
    if isinstance(what, float):
        time.sleep(what)
        return "slept"
    text, times = what
    return text * times


def make_or_exit(what: tuple[str, int] | float | None) -> str:
    """As `make`; given nothing, take a while and die."""
    if what is None:
        time.sleep(0.06)
        os._exit(1)
    return make(what)


@pytest.mark.parametrize("times", [1, 100_000], ids=["small", "large"])
def test_the_next_executor_does_not_read_the_outcomes_of_the_one_before(times: int) -> None:
    """A batch is fetched whole before its worker has sent it; the executor ends; the next one wants a warm worker."""
    for text in "abc":
        with OrderedProcessPoolExecutor(1, initializer=be_late, initargs=LATE_TO_FLUSH) as executor:
            mapped = executor.map(make, [(text, times), (text.upper(), times)], chunksize=2)
            assert list(mapped) == [text * times, text.upper() * times]
    end_idle_workers()


def test_a_head_that_was_fetched_is_asked_for(pool: MakePool) -> None:
    """What is larger than a lane's credit is fetched when it is the head, before its worker asks for it."""
    executor = pool(2, window_bytes=200_000, initializer=be_late, initargs=LATE_TO_ASK)
    list(executor.map(make, [0.1, 0.1], chunksize=1))  # both workers are there
    mapped = executor.map(make, [0.1, 0.0, ("x", 150_000), 0.0], chunksize=2)
    assert list(mapped) == ["slept", "slept", "x" * 150_000, "slept"]


def test_a_worker_at_the_gate_is_not_kept_warm() -> None:
    """The last outcome of an executor is fetched before its worker asks; the next executor has workers that work."""
    for _ in range(2):
        with OrderedProcessPoolExecutor(2, window_bytes=200_000, initializer=be_late, initargs=LATE_TO_ASK) as executor:
            list(executor.map(make, [0.1, 0.1], chunksize=1))
            mapped = executor.map(make, [0.1, 0.0, 0.0, ("x", 150_000)], chunksize=2)
            assert list(mapped) == ["slept", "slept", "slept", "x" * 150_000]
    end_idle_workers()


def be_late_to_say_that_all_ran() -> None:
    """The initializer: the last task of a batch has ended, and for a while the worker does not go on."""
    really: Callable[..., tuple[int, Any]] = runner.Runner._run_unhindered

    def late(*args: Any, **kwargs: Any) -> tuple[int, Any]:
        stopped_at = really(*args, **kwargs)
        time.sleep(SECONDS)
        return stopped_at

    runner.Runner._run_unhindered = late  # type: ignore[method-assign]


def test_nothing_runs_any_more_when_its_time_is_looked_at(pool: MakePool) -> None:
    """A task has ended, and is the last of its batch; the worker has not said so when its time limit is over."""
    limited = pool(1, initializer=be_late_to_say_that_all_ran).options(timeout=SECONDS / 2)
    assert limited.submit(make, ("x", 1)).result() == "x"
    assert list(limited.map(make, [("x", 1), ("y", 1)], chunksize=2)) == ["x", "y"]


def be_second_and_take_a_while(directory: Path) -> None:
    """The initializer: the second worker says that it begins, and a while later that it is through."""
    with contextlib.suppress(FileExistsError):
        (directory / "first").mkdir()
        return
    (directory / "begun").touch()
    time.sleep(SECONDS)
    (directory / "ended").touch()


def test_an_initializer_that_runs_at_shutdown_is_not_cut_short(tmp_path: Path) -> None:
    """It is the user's code; a worker that is ready then is kept like any other."""
    with OrderedProcessPoolExecutor(2, initializer=be_second_and_take_a_while, initargs=(tmp_path,)) as executor:
        futures = [executor.submit(make, 0.0) for _ in range(2)]
        assert [future.result() for future in futures] == ["slept"] * 2
        until((tmp_path / "begun").exists)
    assert (tmp_path / "ended").exists()
    assert [lane.state for _, lane in idle_workers._lanes] == [SERVING, SERVING]
    end_idle_workers()


NEVER_STARTS = """
import os, time
try:
    os.mkdir(os.path.join(os.path.dirname(__file__), "first"))
except FileExistsError:
    print("starting", flush=True)
    time.sleep(60)
    raise SystemExit("its program was not there any more")
"""


@pytest.mark.parametrize("reuse", [True, False])
def test_a_worker_that_starts_at_shutdown_is_gone_then(tmp_path: Path, reuse: bool) -> None:
    """1. The second worker has not come to our code yet; 2. the executor shuts down; 3. that waits for its end.

    Else it would start in a program, in a folder, that may be gone by then, and say so.
    """
    (tmp_path / "sitecustomize.py").write_text(NEVER_STARTS)
    with OrderedProcessPoolExecutor(2, env={"PYTHONPATH": str(tmp_path)}, reuse=reuse) as executor:
        futures = [executor.submit(make, 0.0) for _ in range(2)]
        assert [future.result() for future in futures] == ["slept"] * 2
        backend: Any = executor._scheduler.backend
        (starting,) = [lane.pid for lane in backend._lanes if lane.state == STARTING]
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    with pytest.raises(ProcessLookupError):
        os.kill(starting, 0)
    end_idle_workers()


class Mixed:
    """Pickled as so many characters beside a buffer: with 30 kB more the stream of outcomes is full."""

    def __init__(self, *_: object) -> None:
        pass

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return Mixed, (pickle.PickleBuffer(bytes(10_000)), "x" * 240_000)


def make_slowly(what: tuple[int, float]) -> bytes | Mixed:
    """Return so many bytes after so many seconds; if none, something mixed."""
    size, seconds = what
    time.sleep(seconds)
    return bytes(size) if size else Mixed()


def test_what_comes_in_parts_counts(pool: MakePool) -> None:
    """Outcomes of a batch that is not done wait for a slow head: they count for `window_bytes`.

    Each batch: a large result, a small one, and a slow task whose result makes the worker send those before it.
    """
    executor = pool(2, window_bytes=8_000_000)
    list(executor.map(make, [0.1, 0.1], chunksize=1))
    head = executor.submit(make, 2.0)
    mapped = executor.map(make_slowly, [(2_000_000, 0.0), (30_000, 0.0), (0, 0.06)] * 20, chunksize=3)
    assert head.result() == "slept"
    assert executor.statistics().peak_early <= 3 * 3  # those of one lane, whose share is half of it
    assert [len(value) for value in mapped if not isinstance(value, Mixed)] == [2_000_000, 30_000] * 20


def test_what_was_fetched_counts_when_it_comes(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a peek its bytes are not counted, and then by its frame, once: in the end nothing is owed to any worker.

    Workers die behind what was fetched, too, and their share of `window_bytes` is small.
    """
    fetched = []

    def note(*args: Any, **kwargs: Any) -> Any:
        peeked = look_for_outcomes(*args, **kwargs)
        fetched.append(peeked is not None)
        return peeked

    monkeypatch.setattr("ordered_executor._processes.backend.look_for_outcomes", note)
    executor = pool(2, window_bytes=200_000)
    calls: list[Any] = [*[("x", 3_000)] * 10, 0.06, ("x", 70_000), *[("x", 1)] * 10, None] * 8
    futures = [executor.submit(make_or_exit, call) for call in calls]
    for call, future in zip(calls, futures, strict=True):
        if call is None:
            assert isinstance(future.exception(), TerminatedWorkerError)
        else:
            assert future.result() == make(0.0 if isinstance(call, float) else call)
    assert any(fetched)
    backend: Any = executor._scheduler.backend
    until(lambda: not any(seat.unreleased for seat in [*backend._free_seats, *backend._seated]))
