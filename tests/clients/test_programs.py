"""Programs that make their pool themselves, and get ours: Black, tqdm."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from ordered_executor.progress import process_map

from . import tasks


def test_tqdm(executor: OrderedProcessPoolExecutor) -> None:
    """Around a map: the bar knows how many there are."""
    tqdm = pytest.importorskip("tqdm")
    bar = io.StringIO()
    assert list(tqdm.tqdm(executor.map(tasks.square, range(200)), file=bar)) == [n * n for n in range(200)]
    assert "200/200" in bar.getvalue()


def test_process_map(executor: OrderedProcessPoolExecutor) -> None:
    """Tqdm's own makes its pool itself: ours has its name and its arguments."""
    pytest.importorskip("tqdm")
    bar = io.StringIO()
    assert process_map(tasks.square, range(50), executor=executor, file=bar) == [n * n for n in range(50)]


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
