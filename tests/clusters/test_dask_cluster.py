"""The executor on a Dask cluster of processes: it follows the cluster, and what is Dask's own works."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import TaskKilledError, TaskTimeoutError
from tests.helpers import PATIENCE, Valve, until

distributed = pytest.importorskip("distributed")
import dask  # noqa: E402 (only where distributed is)

from ordered_executor.dask import OrderedDaskExecutor  # noqa: E402 (the same)

from .start import QUIET, dask_client, dask_cluster  # noqa: E402 (the same)

pytestmark = [*QUIET, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers with nannies, each a process of one thread; one has a resource."""
    with dask_cluster(2, resources={"GPU": 1}) as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """A client of its own for each test; two workers at its begin."""
    cluster.scale(2)
    with distributed.Client(cluster, set_as_default=False) as made:
        made.wait_for_workers(2, timeout=60)
        yield made


@pytest.fixture
def valves(client: Any, tmp_path: Path) -> Iterator[list[Valve]]:
    """All are open at the end."""
    made = [Valve(tmp_path / f"valve{number}") for number in range(4)]
    yield made
    for valve in made:
        valve.open()


def stand(valve: Valve, value: Any = None) -> Any:
    """Return the value when the valve is open."""
    valve.stand()
    return value


def where(_: Any = None) -> str:
    """The address of the worker."""
    return str(distributed.get_worker().address)


def stop_once(path: Path) -> int:
    """Stop this process, unless one was stopped here before; return its number."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


def add(one: Any, more: list[Any], *, scale: dict[str, Any]) -> int:
    """The sum, scaled."""
    return int((one + sum(more)) * scale["by"])


def boom() -> None:
    """Fail."""
    raise ValueError("no such thing")


# ------------------------------------------------------------------------------------------------------ its size


def test_workers_that_come_are_used(cluster: Any, client: Any, valves: list[Valve]) -> None:
    """An executor made on two workers runs four tasks at a time when there are four."""
    with OrderedDaskExecutor(client) as executor:
        futures = [executor.submit(stand, valve, number) for number, valve in enumerate(valves)]
        valves[0].reached()
        valves[1].reached()
        cluster.scale(4)
        valves[2].reached()
        valves[3].reached()
        until(lambda: executor.statistics().max_workers == 4, "the executor to see them")
        for valve in valves:
            valve.open()
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2, 3]


def test_from_no_worker_to_some(cluster: Any, client: Any) -> None:
    """What is submitted when there is no worker runs when there is one."""
    cluster.scale(0)
    until(lambda: not client.nthreads(), "the workers to go")
    with OrderedDaskExecutor(client) as executor:
        futures = [executor.submit(abs, -number) for number in range(20)]
        assert not futures[0].done()
        cluster.scale(2)
        assert [future.result(60) for future in futures] == list(range(20))


def test_a_bound_on_the_workers(client: Any, valves: list[Valve]) -> None:
    """`max_workers` batches run at a time, not more."""
    with OrderedDaskExecutor(client, max_workers=1, window=4) as executor:
        first = executor.submit(stand, valves[0], 0)
        second = executor.submit(stand, valves[1], 1)
        valves[0].reached()
        assert executor.statistics().max_workers == 1
        assert executor.statistics().waiting == 1
        valves[0].open()
        valves[1].open()
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (0, 1)


def test_a_restart_of_the_cluster_loses_nothing(client: Any, valves: list[Valve]) -> None:
    """It is nobody's fault: what ran and what waited is run again, without any retries."""
    with OrderedDaskExecutor(client, retries=0) as executor:
        futures = [executor.submit(stand, valves[0], number) for number in range(4)]
        valves[0].reached()
        client.restart(wait_for_workers=False)
        valves[0].open()
        assert [future.result(90) for future in futures] == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------------------------ what stops


def is_left(valve: Valve) -> bool:
    """Nobody stands there any more."""
    try:
        os.close(os.open(valve.path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return True
    return False


def test_kill_stops_the_task(client: Any, tmp_path: Path) -> None:
    """Where workers have nannies, a task that is killed does not go on; others notice nothing."""
    valve = Valve(tmp_path / "valve")
    with OrderedDaskExecutor(client) as executor:
        stuck = executor.submit(stand, valve, 0)
        after = executor.submit(abs, -2)
        with Path(valve.path).open("wb", buffering=0):  # held by the test: whoever leaves is seen
            assert stuck.kill()
            assert isinstance(stuck.exception(60), TaskKilledError)
        assert after.result(60) == 2
    until(lambda: is_left(valve), "the task to stop")


def test_a_stopped_task_charges_no_other(tmp_path: Path) -> None:
    """Its worker is restarted: another executor's task there is run again, also where one death is one too many."""
    valves = [Valve(tmp_path / "one"), Valve(tmp_path / "other")]
    with (
        dask_client(1, threads=2, failures=0) as client,
        OrderedDaskExecutor(client) as one,
        OrderedDaskExecutor(client) as other,
    ):
        stuck, neighbour = one.submit(stand, valves[0], 1), other.submit(stand, valves[1], 2)
        for valve in valves:
            valve.reached()
        assert stuck.kill()
        until(lambda: is_left(valves[0]), "the worker to end")
        valves[1].open()
        assert isinstance(stuck.exception(60), TaskKilledError)
        assert neighbour.result(60) == 2


def test_a_time_limit_stops_the_task(client: Any, valves: list[Valve]) -> None:
    """From its start in the worker; its neighbours are run again."""
    with OrderedDaskExecutor(client, task_timeout=1.0, unseen_errors="ignore") as executor:
        futures = [executor.submit(abs, -1), executor.submit(stand, valves[0], 0), executor.submit(abs, -3)]
        assert isinstance(futures[1].exception(60), TaskTimeoutError)
        assert (futures[0].result(60), futures[2].result(60)) == (1, 3)
        assert executor.options(timeout=float("inf")).submit(abs, -4).result(60) == 4


def test_a_stopped_worker_does_not_hold_the_head(client: Any, tmp_path: Path) -> None:
    """A worker that has the head and says nothing is restarted, and another runs the task."""
    with OrderedDaskExecutor(client, stall_timeout=2.0) as executor:
        assert executor.submit(stop_once, tmp_path / "stopped").result(90)
        assert executor.submit(abs, -1).result(60) == 1


# ------------------------------------------------------------------------------------------------------ what is Dask's


def test_placement(client: Any) -> None:
    """`workers=` on the executor, in `options()` and by `dask.annotate`: the nearest counts."""
    one, other = sorted(client.nthreads())
    with OrderedDaskExecutor(client, workers=one) as executor:
        assert {executor.submit(where).result(60) for _ in range(5)} == {one}
        assert set(executor.options(workers=[other]).map(where, range(5))) == {other}
        with dask.annotate(workers=[other]):
            assert executor.submit(where).result(60) == one, "what the executor says is nearer"
    with OrderedDaskExecutor(client, priority=3) as executor, dask.annotate(workers=[other], priority=1):
        assert executor.submit(where).result(60) == other
        assert set(executor.map(where, range(5))) == {other}
        assert executor.options(resources={"GPU": 1}, priority=2).submit(abs, -1).result(60) == 1


def test_what_cannot_be_honoured_is_refused(client: Any) -> None:
    """By a sentence, not in silence."""
    with OrderedDaskExecutor(client) as executor:
        with dask.annotate(retries=3), pytest.raises(ValueError, match="retries"):
            executor.submit(abs, 1)
        with dask.annotate(colour="red"), pytest.raises(ValueError, match="colour"):
            executor.map(abs, range(3))
        with pytest.raises(ValueError, match="allow_other_workers"):
            executor.options(allow_other_workers=True)
        with pytest.raises(TypeError, match="resources"):
            executor.options(resources=3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="priority"):
            executor.options(priority="high")  # type: ignore[arg-type]


def test_dask_futures_are_dependencies(client: Any) -> None:
    """Scattered or computed, wherever they are among the arguments; one that fails fails the task, and no other."""
    with OrderedDaskExecutor(client, unseen_errors="ignore") as executor:
        two, three = client.scatter(2), client.submit(int, "3", pure=False)
        found = executor.submit(add, two, [three, 4, two], scale={"by": three})
        failed = executor.submit(abs, client.submit(boom, pure=False))
        after = executor.submit(abs, -5)
        assert found.result(60) == (2 + 3 + 4 + 2) * 3
        assert isinstance(failed.exception(60), ValueError)
        assert after.result(60) == 5
        assert list(executor.map(abs, [two, -1, three])) == [2, 1, 3]


def test_a_large_argument_is_sent_once(client: Any) -> None:
    """When many tasks have it; also as bytes, and not when it was changed."""
    np = pytest.importorskip("numpy")
    array, text = np.arange(400_000), b"x" * 3_000_000
    with OrderedDaskExecutor(client) as executor:
        backend: Any = executor._scheduler.backend
        assert [executor.submit(len, array).result(60) for _ in range(6)] == [400_000] * 6
        assert [executor.submit(len, text).result(60) for _ in range(6)] == [3_000_000] * 6
        assert len(backend._store._commons) == 2
        assert all(common.ref is not None for common in backend._store._commons.values())
        array[7] = -1
        assert executor.submit(np.min, array).result(60) == -1
