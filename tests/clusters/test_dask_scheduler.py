"""The executor on a Dask cluster whose scheduler is lost: each part of the cluster is a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import Valve, until

pytest.importorskip("distributed")
pytest.importorskip("psutil")
pytest.importorskip("numpy")
from ordered_executor.dask import OrderedDaskExecutor
from tests.benchmarks.cluster import Processes, processes

from .start import QUIET

pytestmark = [*QUIET, pytest.mark.timeout(180)]
PATIENCE = 90


@pytest.fixture
def start() -> Iterator[Callable[[float], Processes]]:
    """Start a cluster of one worker, whose client waits so long for a lost scheduler."""
    made: list[Any] = []

    def one(patience: float) -> Processes:
        made.append(processes(1, patience=patience))
        cluster: Processes = made[-1].__enter__()
        return cluster

    yield one
    for each in made:
        each.__exit__(None, None, None)


def stand(valve: Valve, value: int) -> int:
    """Return the value when the valve is open."""
    valve.stand()
    return value


def test_a_scheduler_that_comes_back_loses_nothing(start: Callable[[float], Processes], tmp_path: Path) -> None:
    """What ran, what waited and what was not fetched is run again, in order and without any retries."""
    cluster, valve = start(60.0), Valve(tmp_path / "valve")
    with OrderedDaskExecutor(cluster.client, retries=0) as executor:
        before = executor.submit(abs, -1)
        assert before.result(PATIENCE) == 1
        futures = [executor.submit(stand, valve, number) for number in range(6)]
        valve.reached()
        cluster.lose_scheduler()
        valve.open()
        until(lambda: cluster.client.status == "connecting", "the client to notice")
        late = executor.submit(abs, -7)
        cluster.bring_scheduler_back()
        assert [future.result(PATIENCE) for future in futures] == list(range(6))
        assert late.result(PATIENCE) == 7


def test_a_scheduler_that_does_not_come_back_ends_the_executor(
    start: Callable[[float], Processes], tmp_path: Path
) -> None:
    """When the client has given up, what is unfinished fails, in order; nobody waits for ever."""
    cluster, valve = start(3.0), Valve(tmp_path / "valve")
    executor = OrderedDaskExecutor(cluster.client, unseen_errors="ignore")
    first = executor.submit(abs, -1)
    assert first.result(PATIENCE) == 1
    futures = [executor.submit(stand, valve, number) for number in range(3)]
    valve.reached()
    cluster.lose_scheduler()
    valve.open()
    assert [type(future.exception(PATIENCE)) for future in futures] == [BrokenProcessPool] * 3
    executor.shutdown(timeout=PATIENCE)
    with pytest.raises((BrokenProcessPool, RuntimeError)):
        executor.submit(abs, 1)
