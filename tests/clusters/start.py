"""Dask clusters for tests, started in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

distributed = pytest.importorskip("distributed")
import dask  # noqa: E402 (only where distributed is)

# Dask and Tornado warn of each other, of sockets that close late, of clusters without a dashboard: not our business.
QUIET = [
    pytest.mark.filterwarnings("default:::distributed"),
    pytest.mark.filterwarnings("default:::tornado"),
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def dask_cluster(workers: int, *, threads: int = 1, failures: int = 3, **options: Any) -> Iterator[Any]:
    """Workers with nannies, each a process; a task is given up when more than so many workers have died of it."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": failures}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=":0", **{"processes": True, **options}
        ) as cluster,
    ):
        yield cluster


@contextmanager
def dask_client(workers: int, **options: Any) -> Iterator[Any]:
    """The client of a cluster of its own."""
    with dask_cluster(workers, **options) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client
