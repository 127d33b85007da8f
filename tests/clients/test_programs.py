"""Programs that make their pool themselves, and get ours: Black, tqdm."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ordered_executor import OrderedProcessPoolExecutor

from . import tasks


def test_tqdm(executor: OrderedProcessPoolExecutor) -> None:
    """Around a map; and `process_map`, whose own pool cannot be chosen."""
    tqdm = pytest.importorskip("tqdm")
    bar = io.StringIO()
    assert list(tqdm.tqdm(executor.map(tasks.square, range(200)), total=200, file=bar)) == [n * n for n in range(200)]
    assert "200/200" in bar.getvalue()


def test_tqdm_process_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is called by code that is not yours."""
    pytest.importorskip("tqdm")
    from tqdm.contrib.concurrent import process_map

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", OrderedProcessPoolExecutor)
    assert process_map(tasks.square, range(50), max_workers=2, chunksize=5, file=io.StringIO()) == [
        number * number for number in range(50)
    ]


def test_black(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It formats many files in a pool."""
    black = pytest.importorskip("black")
    pytest.importorskip("black.concurrency")
    from click.testing import CliRunner

    monkeypatch.setattr("black.concurrency.ProcessPoolExecutor", OrderedProcessPoolExecutor)
    for number in range(20):
        (tmp_path / f"file{number}.py").write_text(f"x  =  {number}\n")
    result = CliRunner().invoke(black.main, ["--workers", "2", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert [(tmp_path / f"file{number}.py").read_text() for number in range(20)] == [f"x = {n}\n" for n in range(20)]
