"""One executor for each backend: lanes, the hand-driven fake with a thread, Dask, and Ray where it is installed.

Ray takes a quarter of a minute to start: its tests run where `ORDERED_EXECUTOR_RAY` is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from tests.fake import ThreadedExecutor
from tests.helpers import Valve, start_what_stays

Make = Callable[..., Any]
BACKENDS = ("lanes", "fake", "dask", "ray")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[tuple[str, Make]]:
    """The name of a backend, and how its executors are made."""
    name: str = request.param
    yield from {"lanes": _lanes, "fake": _fake, "dask": _dask, "ray": _ray}[name]()


def _lanes() -> Iterator[tuple[str, Make]]:
    start_what_stays()
    yield "lanes", partial(OrderedProcessPoolExecutor, 2)


def _fake() -> Iterator[tuple[str, Make]]:
    def make(**options: Any) -> Any:
        executor = ThreadedExecutor(2, **options)
        executor.work_by_itself()
        return executor

    yield "fake", make


def _dask() -> Iterator[tuple[str, Make]]:
    distributed = pytest.importorskip("distributed")
    import dask

    from ordered_executor.dask import OrderedDaskExecutor

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.Client(
            processes=True, n_workers=2, threads_per_worker=1, dashboard_address=":0", set_as_default=False
        ) as client,
    ):
        yield "dask", partial(OrderedDaskExecutor, client)


def _ray() -> Iterator[tuple[str, Make]]:
    if not os.environ.get("ORDERED_EXECUTOR_RAY"):
        pytest.skip("Ray takes its time to start: set ORDERED_EXECUTOR_RAY=1")
    ray = pytest.importorskip("ray")

    from ordered_executor.ray import OrderedRayExecutor

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    yield "ray", OrderedRayExecutor
    ray.shutdown()


@pytest.fixture
def make(backend: tuple[str, Make]) -> Iterator[Make]:
    """Make executors.  At the end each must shut down in time."""
    made: list[Any] = []

    def one(**options: Any) -> Any:
        made.append(backend[1](**options))
        return made[-1]

    yield one
    for executor in made:
        executor.shutdown(kill_workers=True, timeout=30)


@pytest.fixture
def valve(backend: tuple[str, Make], make: Make, tmp_path: Path) -> Iterator[Valve]:
    """Tasks can stand at it.  Not on the fake, whose tasks run on the scheduler."""
    if backend[0] == "fake":
        pytest.skip("a task cannot wait here: it runs on the scheduler")
    one = Valve(tmp_path / "valve")
    yield one
    one.open()


@pytest.fixture
def processes(backend: tuple[str, Make]) -> None:
    """A worker can die."""
    if backend[0] == "fake":
        pytest.skip("there is no process that can die")
