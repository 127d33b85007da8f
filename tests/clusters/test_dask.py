"""The executor on a Dask cluster of this very process, so that tasks and tests share valves and journals.

A task stands still at a `threading.Event`, which is found by its name: what is sent to a worker is pickled, here too.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ordered_executor import OrderedExecutor, ShutdownTimeoutError, TaskKilledError, TerminatedWorkerError
from tests.helpers import PATIENCE, settled, until

distributed = pytest.importorskip("distributed")
from ordered_executor._clusters.parts import Part  # noqa: E402 (as below)
from ordered_executor.dask import DaskBackend, OrderedDaskExecutor  # noqa: E402 (only where distributed is)

from .start import QUIET, dask_client  # noqa: E402 (the same)

pytestmark = QUIET

THREADS = 3
_valves: dict[str, threading.Event] = {}
_journal: list[Any] = []


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of threads, for all tests of the module."""
    with dask_client(1, threads=THREADS, processes=False) as made:
        yield made


@pytest.fixture
def valves() -> Iterator[dict[str, threading.Event]]:
    """Valves by name; whatever happens, all are open at the end."""
    _valves.clear()
    _journal.clear()
    for name in "abcdef":
        _valves[name] = threading.Event()
    yield _valves
    for valve in _valves.values():
        valve.set()


def stand(name: str, value: Any = None) -> Any:
    """Return the value once the valve is open."""
    _journal.append(value)
    assert _valves[name].wait(PATIENCE)
    return value


def note(value: Any) -> Any:
    """Write the value into the journal, and return it."""
    _journal.append(value)
    return value


def take_a_while(value: Any) -> Any:
    """Return the value after a random time, for what a random duration may mix up."""
    time.sleep(random.random() * 0.01)
    return value


def fail_if_even(number: int) -> int:
    """Raise for every second number."""
    if number % 2 == 0:
        raise ValueError(number)
    return number


def die_once(path: Path, number: int) -> int:
    """Die if nobody has died here before."""
    if not path.exists():
        path.touch()
        os._exit(3)
    return number


def die_if(number: int, victim: int) -> int:
    """Die if the number is the victim's."""
    if number == victim:
        os._exit(3)
    return number


def on_the_cluster(client: Any) -> int:
    """How many Dask tasks the client holds."""
    return len(client.futures)


def part_of(executor: OrderedDaskExecutor, ticket: int) -> Part:
    """The part that the ticket travels in."""
    backend: Any = executor._scheduler.backend
    for parts in list(backend._lanes.values()):
        for part in list(parts):
            if part.ticket <= ticket < part.ticket + part.count:
                return part  # type: ignore[no-any-return]
    raise AssertionError(f"ticket {ticket} is with no lane")


# ------------------------------------------------------------------------------------------------------------- order


def test_results_come_in_the_order_of_submission(client: Any) -> None:
    """Whoever finishes first, results come in ticket order."""
    with OrderedDaskExecutor(client) as executor:
        futures = [executor.submit(take_a_while, number) for number in range(60)]
        ends: list[int] = []
        for future in futures:
            future.add_done_callback(lambda done: ends.append(done.result()))
        assert list(executor.results()) == list(range(60))
    assert ends == list(range(60))


def test_short_tasks_travel_together(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short tasks are sent in batches: far fewer Dask tasks than tickets, and in order all the same."""
    sent: list[int] = []
    send = DaskBackend.send

    def noting(self: DaskBackend, lane: Any, batch: Any) -> None:
        sent.append(batch.count)
        send(self, lane, batch)

    monkeypatch.setattr(DaskBackend, "send", noting)
    with OrderedDaskExecutor(client) as executor:
        assert list(executor.map(abs, range(0, -5000, -1))) == list(range(5000))
    assert len(sent) < 2500


def test_what_is_sent_is_what_it_was(client: Any) -> None:
    """Lambdas, keywords, large buffers and odd numbers arrive as they were, and buffers can be written to."""
    factor = 3
    with OrderedDaskExecutor(client) as executor:
        closure = executor.submit(lambda number: number * factor, 14)
        keyword = executor.submit(sorted, [1, 3, 2], reverse=True)
        large = executor.submit(bytearray, b"x" * 200_000)
        number = executor.submit(pow, 10, 100)
        text = executor.submit(str, "\ud800")
        assert closure.result() == 42
        assert keyword.result() == [3, 2, 1]
        assert large.result() == b"x" * 200_000
        assert number.result() == 10**100
        assert text.result() == "\ud800"


def test_marks_keep_their_place(client: Any, valves: dict[str, threading.Event]) -> None:
    """A mark comes out behind what was submitted before it, though it needs no cluster."""
    with OrderedDaskExecutor(client) as executor:
        executor.submit(stand, "a", 1)
        mark = executor.mark("batch done")
        executor.submit(abs, -2)
        until(lambda: _journal == [1])
        assert not mark.done()
        valves["a"].set()
        assert list(executor.results()) == [1, "batch done", 2]


def test_a_map_with_a_buffer_is_bounded(client: Any) -> None:
    """A map over an endless input takes as much of it as its buffer has room for, and yields in order."""
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    with OrderedDaskExecutor(client) as executor:
        mapped: Any = executor.map(take_a_while, endless(), buffersize=8)
        assert [next(mapped) for _ in range(30)] == list(range(30))
        assert len(taken) <= 30 + 8
        mapped.close()


# ------------------------------------------------------------------------------------------------------------ window


def test_the_window_is_kept(client: Any, valves: dict[str, threading.Event]) -> None:
    """While the head stands, `window - 1` outcomes come home; what is further ahead stays on the cluster."""
    with OrderedDaskExecutor(client, window=4) as executor:
        head = executor.submit(stand, "a", 0)
        futures = [executor.submit(note, number) for number in range(1, 12)]
        settled(executor, early=3, gated=THREADS - 1)
        assert 4 in _journal, "what is gated has run"
        assert not any(future.done() for future in futures)
        until(lambda: on_the_cluster(client) == THREADS, "what is early to leave the cluster")
        valves["a"].set()
        assert head.result() == 0
        assert [future.result() for future in futures] == list(range(1, 12))
        assert executor.statistics().peak_early <= 3


def test_a_window_of_one_keeps_everything_on_the_cluster(client: Any, valves: dict[str, threading.Event]) -> None:
    """With `window=1` nothing comes home but the head."""
    with OrderedDaskExecutor(client, window=1) as executor:
        executor.submit(stand, "a", 0)
        for number in range(1, 6):
            executor.submit(note, number)
        settled(executor, early=0, gated=THREADS - 1)
        valves["a"].set()
        assert list(executor.results()) == list(range(6))
        assert executor.statistics().peak_early == 0


def test_the_bytes_are_kept(client: Any, valves: dict[str, threading.Event]) -> None:
    """Outcomes that would not fit into `window_bytes` stay on the cluster; the head comes home whatever its size."""
    with OrderedDaskExecutor(client, window_bytes=250_000) as executor:
        assert executor.submit(bytes, 100_000).result() == bytes(100_000)  # so that sizes can be guessed
        executor.submit(stand, "a", 0)
        mapped = executor.map(bytes, [100_000] * 6, chunksize=1)
        settled(executor, early=2, gated=4)
        assert executor.statistics().early_bytes <= 250_000
        assert executor.statistics().peak_early_bytes <= 250_000
        huge = executor.submit(bytes, 1_000_000)
        valves["a"].set()
        assert len(huge.result()) == 1_000_000
        assert list(mapped) == [bytes(100_000)] * 6


# ------------------------------------------------------------------------------------------------------------ errors


def test_errors_come_at_their_place(client: Any) -> None:
    """A task that raises costs its own ticket, with its traceback, and not the others of its batch."""
    with OrderedDaskExecutor(client, unseen_errors="ignore") as executor:
        for number in range(40):
            executor.submit(fail_if_even, number)
        got = list(executor.results(errors="yield"))
        assert [type(each) if number % 2 == 0 else each for number, each in enumerate(got)] == [
            ValueError if number % 2 == 0 else number for number in range(40)
        ]
        assert "fail_if_even" in str(got[0].__cause__)


def test_what_cannot_be_pickled_fails_by_itself(client: Any) -> None:
    """An argument or a result that cannot be pickled costs its own ticket only."""
    lock = threading.Lock()
    with OrderedDaskExecutor(client) as executor:
        before = executor.submit(abs, -1)
        argument = executor.submit(id, lock)
        result = executor.submit(threading.Lock)
        after = executor.submit(abs, -2)
        assert isinstance(error := argument.exception(), TypeError)
        assert error.__traceback__ is None  # but as text: its frames would keep the batch
        assert "lock" in str(error.__cause__)
        assert isinstance(result.exception(), TypeError)
        assert (before.result(), after.result()) == (1, 2)


def test_a_task_that_was_cancelled_by_others_is_lost(client: Any, valves: dict[str, threading.Event]) -> None:
    """A Dask task that somebody cancels fails its ticket, at its place, and no other."""
    with OrderedDaskExecutor(client) as executor:
        victim = executor.submit(stand, "a", 0)
        until(lambda: _journal == [0])
        after = executor.submit(abs, -1)
        client.cancel([part_of(executor, 0).task], force=True)
        assert isinstance(victim.exception(PATIENCE), TerminatedWorkerError)
        assert after.result(PATIENCE) == 1


# --------------------------------------------------------------------------------------------------- cancel, kill, end


def test_cancel_skips_what_waits(client: Any, valves: dict[str, threading.Event]) -> None:
    """What no slot has is cancelled at once, never runs, and does not hold up what is behind it."""
    with OrderedDaskExecutor(client) as executor:
        for number in range(THREADS):
            executor.submit(stand, "a", number)
        until(lambda: len(_journal) == THREADS)
        waiting = executor.submit(note, "cancelled")
        last = executor.submit(abs, -1)
        assert waiting.cancel()
        with pytest.raises(CancelledError):
            waiting.result()
        valves["a"].set()
        assert last.result(PATIENCE) == 1
        assert list(executor.results()) == [*range(THREADS), 1]
    assert "cancelled" not in _journal


def test_kill_stops_waiting_for_a_task_that_runs(client: Any, valves: dict[str, threading.Event]) -> None:
    """A task that is killed fails at its place, and its slot goes on; its neighbours notice nothing."""
    with OrderedDaskExecutor(client) as executor:
        before = executor.submit(stand, "a", 0)
        stuck = executor.submit(stand, "b", 1)
        after = executor.submit(abs, -2)
        until(lambda: sorted(_journal) == [0, 1])
        assert stuck.kill()
        assert not stuck.done(), "it has its place behind the head"
        valves["a"].set()
        assert isinstance(stuck.exception(PATIENCE), TaskKilledError)
        assert (before.result(PATIENCE), after.result(PATIENCE)) == (0, 2)


def test_kill_in_a_batch_costs_one_ticket(client: Any, valves: dict[str, threading.Event]) -> None:
    """If the killed task travels with others, these are run again, apart, and succeed."""
    with OrderedDaskExecutor(client) as executor:
        assert list(executor.map(abs, range(500))) == list(range(500))  # tasks are short: batches form
        for _ in range(THREADS):
            executor.submit(stand, "a", -1)
        until(lambda: len(_journal) == THREADS)
        futures = [executor.submit(stand, "b", n) if n == 1 else executor.submit(note, n) for n in range(20)]
        valves["a"].set()
        until(lambda: 1 in _journal)
        assert part_of(executor, futures[1].ticket).count > 1
        assert futures[1].kill()
        assert isinstance(futures[1].exception(PATIENCE), TaskKilledError)
        valves["b"].set()
        assert [future.result(PATIENCE) for future in futures if future is not futures[1]] == [
            n for n in range(20) if n != 1
        ]


def test_shutdown_waits_and_leaves_the_client_alone(client: Any, valves: dict[str, threading.Event]) -> None:
    """`shutdown` in time, or `ShutdownTimeoutError` and again; afterwards the cluster has nothing, and goes on."""
    executor = OrderedDaskExecutor(client)
    future = executor.submit(stand, "a", 1)
    with pytest.raises(ShutdownTimeoutError):
        executor.shutdown(timeout=0.05)
    valves["a"].set()
    executor.shutdown()
    assert future.result() == 1
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)
    until(lambda: on_the_cluster(client) == 0, "the cluster to forget")
    assert client.submit(abs, -1, pure=False).result() == 1


def test_shutdown_kill_does_not_wait_for_tasks(client: Any, valves: dict[str, threading.Event]) -> None:
    """`shutdown(kill_workers=True)` fails what runs and what waits, in order, and returns."""
    executor = OrderedDaskExecutor(client, unseen_errors="ignore")
    futures = [executor.submit(stand, "a", number) for number in range(2 * THREADS)]
    until(lambda: len(_journal) == THREADS)
    executor.shutdown(kill_workers=True)
    assert [type(future.exception()) for future in futures] == [TaskKilledError] * (2 * THREADS)
    until(lambda: on_the_cluster(client) == 0, "the cluster to forget")


def test_cancel_futures_at_shutdown(client: Any, valves: dict[str, threading.Event]) -> None:
    """`shutdown(cancel_futures=True)` cancels what no slot has, and finishes the rest."""
    executor = OrderedDaskExecutor(client)
    running = [executor.submit(stand, "a", number) for number in range(THREADS)]
    until(lambda: len(_journal) == THREADS)
    waiting = [executor.submit(note, "waiting") for _ in range(3)]
    executor.shutdown(wait=False, cancel_futures=True)
    valves["a"].set()
    executor.shutdown()
    assert [future.result() for future in running] == list(range(THREADS))
    assert all(future.cancelled() for future in waiting)


def test_two_executors_share_a_client(client: Any, valves: dict[str, threading.Event]) -> None:
    """The end of one executor does not touch the tasks of another on the same client."""
    with OrderedDaskExecutor(client) as one:
        kept = one.submit(stand, "a", 1)
        until(lambda: _journal == [1])
        other = OrderedDaskExecutor(client, unseen_errors="ignore")
        other.submit(stand, "b", 2)
        other.shutdown(kill_workers=True)
        valves["a"].set()
        assert kept.result(PATIENCE) == 1


# --------------------------------------------------------------------------------------------- the client, the workers


def test_a_client_that_is_closed_breaks_the_executor(valves: dict[str, threading.Event]) -> None:
    """If the client is closed too early, what is unfinished fails, and nobody waits for ever."""
    with dask_client(1, processes=False) as made:
        executor = OrderedDaskExecutor(made, unseen_errors="ignore")
        futures = [executor.submit(stand, "a", number) for number in range(3)]
        until(lambda: _journal == [0])
        threading.Timer(0.5, valves["a"].set).start()  # a cluster of threads waits for them at its end
        made.close()
        assert all(isinstance(future.exception(PATIENCE), BrokenProcessPool) for future in futures)
        executor.shutdown()
        with pytest.raises((BrokenProcessPool, RuntimeError)):
            executor.submit(abs, 1)


@pytest.fixture
def processes() -> Iterator[Any]:
    """A cluster of two processes that gives a task up when one worker has died of it."""
    with dask_client(2, failures=0) as made:
        yield made


def test_a_dead_worker_costs_the_task_it_ran(processes: Any) -> None:
    """The ticket whose worker died fails at its place; the others of its batch are run again, and succeed."""
    with OrderedDaskExecutor(processes) as executor:
        assert list(executor.map(abs, range(300))) == list(range(300))  # tasks are short: batches form
        # Dask counts it against what only waited in that worker, too.
        views = [executor.options(retries=0 if number == 7 else 3) for number in range(12)]
        futures = [view.submit(die_if, number, 7) for number, view in enumerate(views)]
        assert isinstance(futures[7].exception(PATIENCE), TerminatedWorkerError)
        assert [future.result(PATIENCE) for future in futures if future is not futures[7]] == [
            number for number in range(12) if number != 7
        ]


def test_a_lost_task_is_sent_again(processes: Any, tmp_path: Path) -> None:
    """With `retries`, a task whose worker died is run again."""
    with OrderedDaskExecutor(processes, retries=2) as executor:
        assert executor.submit(die_once, tmp_path / "died", 5).result(PATIENCE) == 5


def test_a_silent_worker_is_replaced_whatever_it_has_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only one that has the head: a client has few gathers on the way, which may all wait for such a worker."""
    stub, spoke = mock.Mock(), {"runs": 0, "keeps": 0, "nothing": 0, "speaks": 0}
    stub.nthreads.return_value = {}
    stub.cluster = None
    stub.scheduler_info = lambda **_: {"workers": {name: {"last_seen": at, "nanny": 1} for name, at in spoke.items()}}
    stub.processing.return_value = {"runs": ("mine",), "speaks": ("mine",)}
    stub.has_what.return_value = {"keeps": ("mine too",), "nothing": ("another's",)}
    clock = [0.0]
    monkeypatch.setattr("ordered_executor.dask.time.monotonic", lambda: clock[0])
    backend = DaskBackend(stub, None, 1000, None, 60.0)
    for now in range(0, 60, 20):
        clock[0], spoke["speaks"] = now, now
        backend._see({"mine", "mine too"})
    assert not stub.restart_workers.called
    clock[0], spoke["speaks"] = 61, 61
    backend._see({"mine", "mine too"})
    assert [call.args[0] for call in stub.restart_workers.call_args_list] == [["runs"], ["keeps"]]


# ---------------------------------------------------------------------------------------------------------- arguments


def test_wrong_arguments_are_named(client: Any) -> None:
    """What is not a client, and what is no window or time limit, is refused."""
    with pytest.raises(TypeError, match="client"):
        OrderedDaskExecutor("tcp://127.0.0.1:8786")
    with pytest.raises(ValueError, match="window"):
        OrderedDaskExecutor(client, window=0)
    with OrderedDaskExecutor(client) as executor:
        assert isinstance(executor, OrderedExecutor)
        with pytest.raises(ValueError, match="timeout"):
            executor.options(timeout=0)
        assert executor.options(retries=2).submit(abs, -1).result() == 1
