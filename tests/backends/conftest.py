"""One executor for each backend: lanes, threads, the hand-driven fake with a thread, Dask, Ray where it is installed.

Or for the one that `--backend` names: see docs/backends.md.
Ray takes a quarter of a minute to start: its tests run where `ORDERED_EXECUTOR_RAY` is set.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from tests.examples.thread_backend import OrderedThreadExecutor
from tests.fake import ThreadedExecutor
from tests.helpers import Valve, start_what_stays

Make = Callable[..., Any]


@dataclass
class Tried:
    """A backend, and what is not to be had with it."""

    make: Make
    in_process: bool = False  # its workers cannot die, and share what tasks are given
    waits: bool = True  # a task may wait: it does not run on the scheduler


def _lanes() -> Iterator[Tried]:
    start_what_stays()
    yield Tried(partial(OrderedProcessPoolExecutor, 2))


def _fake() -> Iterator[Tried]:
    def make(**options: Any) -> Any:
        executor = ThreadedExecutor(2, **options)
        executor.work_by_itself()
        return executor

    yield Tried(make, in_process=True, waits=False)


def _dask() -> Iterator[Tried]:
    pytest.importorskip("distributed")

    from ordered_executor.dask import OrderedDaskExecutor
    from tests.clusters.start import dask_client

    with dask_client(2, failures=0) as client:
        yield Tried(partial(OrderedDaskExecutor, client))


def _ray() -> Iterator[Tried]:
    if not os.environ.get("ORDERED_EXECUTOR_RAY"):
        pytest.skip("Ray takes its time to start: set ORDERED_EXECUTOR_RAY=1")
    ray = pytest.importorskip("ray")

    from ordered_executor.ray import OrderedRayExecutor

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    yield Tried(OrderedRayExecutor)
    ray.shutdown()


def _threads() -> Iterator[Tried]:
    yield Tried(partial(OrderedThreadExecutor, 2), in_process=True)


BACKENDS = {"lanes": _lanes, "threads": _threads, "fake": _fake, "dask": _dask, "ray": _ray}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All that there are, or the one that `--backend` names."""
    if "backend" in metafunc.fixturenames:
        given = metafunc.config.getoption("--backend")
        metafunc.parametrize("backend", [given] if given else BACKENDS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Iterator[Tried]:
    """A backend, and how its executors are made."""
    name: str = request.param
    if name in BACKENDS:
        yield from BACKENDS[name]()
    else:
        make = pkgutil.resolve_name(name)
        yield Tried(make, in_process=getattr(make, "in_process", False))


@pytest.fixture
def make(backend: Tried) -> Iterator[Make]:
    """Make executors.  At the end each must shut down in time."""
    made: list[Any] = []

    def one(**options: Any) -> Any:
        made.append(backend.make(**options))
        return made[-1]

    yield one
    for executor in made:
        executor.shutdown(kill_workers=True, timeout=30)


@pytest.fixture
def valve(backend: Tried, make: Make, tmp_path: Path) -> Iterator[Valve]:
    """Tasks can stand at it.  Not on the fake, whose tasks run on the scheduler."""
    if not backend.waits:
        pytest.skip("a task cannot wait here: it runs on the scheduler")
    one = Valve(tmp_path / "valve")
    yield one
    one.open()


@pytest.fixture
def processes(backend: Tried) -> None:
    """A worker can die, and has copies of what it is given."""
    if backend.in_process:
        pytest.skip("there is no process that can die")
