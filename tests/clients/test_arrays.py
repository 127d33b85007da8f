"""Libraries of large arrays: Dask, xarray, Zarr."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ordered_executor import OrderedProcessPoolExecutor

from . import tasks


def test_dask(executor: OrderedProcessPoolExecutor) -> None:
    """`scheduler=` takes an executor: for delayed calls, bags and arrays."""
    dask = pytest.importorskip("dask")
    bag = pytest.importorskip("dask.bag")
    array = pytest.importorskip("dask.array")
    total = dask.delayed(sum)([dask.delayed(tasks.square)(number) for number in range(60)])
    assert total.compute(scheduler=executor) == sum(number * number for number in range(60))
    numbers = bag.from_sequence(range(100), npartitions=20).map(tasks.square)
    assert numbers.sum().compute(scheduler=executor) == sum(number * number for number in range(100))
    with dask.config.set(scheduler=executor):
        assert int((array.arange(10_000, chunks=500) ** 2).sum().compute()) == sum(n * n for n in range(10_000))
    with pytest.raises(ValueError, match="5"):
        dask.delayed(tasks.refuse)(5).compute(scheduler=executor)


def test_xarray(executor: OrderedProcessPoolExecutor) -> None:
    """Through Dask."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("dask.array")
    whole = xarray.DataArray(np.arange(1200.0).reshape(30, 40), dims=("x", "y"))
    lazy = xarray.apply_ufunc(tasks.square, whole.chunk({"x": 3}), dask="parallelized", output_dtypes=[float])
    assert lazy.compute(scheduler=executor).equals(whole * whole)


def test_zarr(executor: OrderedProcessPoolExecutor, tmp_path: Path) -> None:
    """Chunks that workers read and write: by the executor's own map, and through Dask."""
    zarr = pytest.importorskip("zarr")
    array = pytest.importorskip("dask.array")
    store = zarr.open_array(str(tmp_path / "a.zarr"), mode="w", shape=(400,), chunks=(50,), dtype="f8")
    store[:] = np.arange(400.0)
    lazy = array.from_zarr(str(tmp_path / "a.zarr"))
    assert float((lazy * 2).sum().compute(scheduler=executor)) == float(np.arange(400.0).sum() * 2)
    array.to_zarr(lazy + 1, str(tmp_path / "b.zarr"), compute=False).compute(scheduler=executor)
    assert np.array_equal(zarr.open_array(str(tmp_path / "b.zarr"), mode="r")[:], np.arange(400.0) + 1)
    assert sum(executor.map(sum_of_chunk, [str(tmp_path / "a.zarr")] * 8, range(8))) == float(np.arange(400.0).sum())


def sum_of_chunk(path: str, number: int) -> float:
    """Read one chunk."""
    import zarr

    return float(np.sum(zarr.open_array(path, mode="r")[number * 50 : number * 50 + 50]))
