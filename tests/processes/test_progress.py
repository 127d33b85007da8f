"""Progress bars, drawn by tqdm into a file of the test's own."""

from __future__ import annotations

import errno
import io
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from operator import length_hint
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor, TerminatedWorkerError
from ordered_executor._core.map import length_of
from ordered_executor.parallel_queue import ParallelQueue
from tests.helpers import Journal, Valve, fail, note_and_die, same, stand, until

pytest.importorskip("tqdm")

from tqdm import tqdm

from ordered_executor.progress import process_map, progress

tqdm.get_lock()  # it makes a semaphore, once for the program
tqdm.monitor_interval = 0  # its thread, which looks for bars that stand still, would outlive the tests
PLAIN = {"tqdm_class": tqdm, "ascii": True, "mininterval": 0, "ncols": 140}


class Screen(io.StringIO):
    """What was drawn."""

    def last(self) -> str:
        """What a reader sees at the end."""
        return self.getvalue().strip("\n").rpartition("\r")[2]

    def shows(self, text: str) -> bool:
        """Whether it was ever there."""
        return text in self.getvalue()


class BadScreen(Screen):
    """A terminal that goes away."""

    broken = 0

    def write(self, text: str) -> int:
        """Raise, once it is broken."""
        if self.broken:
            raise OSError(self.broken, os.strerror(self.broken))
        return super().write(text)


# -------------------------------------------------------------------------------------------------------- process_map


def test_process_map_is_the_call_of_tqdm() -> None:
    """Results in order, as a list; tqdm's settings, the executor's and the map's."""
    screen = Screen()
    found = process_map(
        pow, range(50), itertools.repeat(2), max_workers=1, chunksize=5, window=40, desc="powers", file=screen, **PLAIN
    )
    assert found == [number**2 for number in range(50)]
    assert "powers: 100%" in screen.last()
    assert "50/50" in screen.last()


def test_process_map_takes_an_executor_that_goes_on() -> None:
    """Its earlier tasks are not counted, and it is not shut down."""
    screen = Screen()
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 1).result()
        assert process_map(same, [1, 2, 3], executor=executor, file=screen, **PLAIN) == [1, 2, 3]
        assert "3/3" in screen.last()
        assert executor.submit(same, 2).result() == 2
        with pytest.raises(TypeError, match="max_workers: settings of a new executor"):
            process_map(same, [1], executor=executor, max_workers=2)


def test_process_map_raises_what_a_task_raised() -> None:
    """The bar is closed, and the error comes out."""
    screen = Screen()
    with pytest.raises(ValueError, match="boom"):
        process_map(fail, ["boom"], max_workers=1, file=screen, **PLAIN)
    assert "failed 1" in screen.last()


# ----------------------------------------------------------------------------------------------------------- progress


def test_bar_says_what_waits_behind_a_slow_head(tmp_path: Path) -> None:
    """Finished and released are two things then; the head is named, with its seconds and pid."""
    valve, screen = Valve(tmp_path / "valve"), Screen()
    with (
        OrderedProcessPoolExecutor(2) as executor,
        progress(executor, total=10, head_seconds=0.0, file=screen, **PLAIN) as bar,
    ):
        try:
            executor.submit(stand, valve, "head")
            valve.reached()
            for number in range(9):
                executor.submit(same, number)
            until(lambda: bar.n == 9)
            until(lambda: screen.shows("released 0, head 0: tests.helpers.stand(<tests.helpers.Valve>, 'head'), "))
            assert f" s, pid {executor.running()[0].pid}" in screen.getvalue()
        finally:
            valve.open()
        executor.shutdown()
    assert "10/10" in screen.last()
    assert "head" not in screen.last()


def test_bar_counts_failures_and_retries(tmp_path: Path) -> None:
    """Of the block only, not those before it."""
    journal, screen = Journal(tmp_path / "journal"), Screen()
    with OrderedProcessPoolExecutor(1, retries=1, unseen_errors="ignore") as executor:
        assert executor.submit(fail, "before").exception() is not None
        with progress(executor, file=screen, **PLAIN):
            assert executor.submit(fail, "boom").exception() is not None
            with pytest.raises(TerminatedWorkerError):
                executor.submit(note_and_die, journal, 1).result()
        assert "2/2" in screen.last()
        assert "failed 2, run again 1" in screen.last()
    journal.close()


def test_bar_follows_a_queue() -> None:
    """What is put counts, whatever it is."""
    screen, results = Screen(), ParallelQueue(1)
    with progress(results, total=3, file=screen, **PLAIN):
        results.put(pow, 2, 3)
        results.put("as it is")
        results.put(pow, 2, 4)
        assert [results.get() for _ in range(3)] == [8, "as it is", 16]
        results.stop()
        results.join()
    assert "3/3" in screen.last()


def test_bar_that_is_closed_early_is_no_error() -> None:
    """Nothing is drawn any more, and the work goes on."""
    screen = Screen()
    with OrderedProcessPoolExecutor(1) as executor, progress(executor, total=5, file=screen, **PLAIN) as bar:
        executor.submit(same, 1).result()
        bar.close()
        drawn = screen.getvalue()
        assert list(executor.map(same, range(100))) == list(range(100))
    assert screen.getvalue() == drawn
    assert not any(thread.name == "ordered-executor-progress" for thread in threading.enumerate())


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_terminal_that_goes_away_costs_the_bar_only(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged once, the results are all there, and the next bar is drawn."""
    screen = BadScreen()
    with OrderedProcessPoolExecutor(1) as executor, progress(executor, file=screen, **PLAIN):
        executor.submit(same, 1).result()
        screen.broken = number
        assert executor.submit(_wait_a_look).result() is None
        assert list(executor.map(same, range(1000))) == list(range(1000))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("the progress bar is not drawn any more, the work goes on: ")
    test_process_map_is_the_call_of_tqdm()


class BadBar(tqdm):  # type: ignore[misc]
    """A bar with a defect of its own."""

    def set_postfix_str(self, *_: Any, **__: Any) -> None:
        """Raise."""
        raise ZeroDivisionError("in the bar")


def test_bar_with_a_defect_costs_the_bar_only(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked once."""
    with OrderedProcessPoolExecutor(1) as executor, progress(executor, file=Screen(), **PLAIN | {"tqdm_class": BadBar}):
        assert executor.submit(_wait_a_look).result() is None
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["in the bar"]


def _wait_a_look() -> None:
    threading.Event().wait(0.5)


def test_program_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no standard error at all, nothing is drawn."""
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 1).result()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", None)
            assert process_map(same, range(10), executor=executor) == list(range(10))


def test_executor_that_was_shut_down_can_be_followed() -> None:
    """There is nothing to be seen, and nothing is raised."""
    screen = Screen()
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 1)
    with progress(executor, file=screen, **PLAIN):
        pass
    assert "0/0" in screen.last() or "0task" in screen.last()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"total": -1}, "total"), ({"total": "many"}, "total"), ({"head_seconds": -1}, "head_seconds")],
)
def test_bad_settings_are_named(settings: dict[str, Any], complaint: str) -> None:
    """And nothing is drawn."""
    with (
        OrderedProcessPoolExecutor(1) as executor,
        pytest.raises((TypeError, ValueError), match=complaint),
        progress(executor, **settings),
    ):
        pass


def test_what_cannot_be_followed_is_named() -> None:
    """An executor of somebody else's."""
    with pytest.raises(TypeError, match="ordered executor or a queue"), progress("an executor"):  # type: ignore[arg-type]
        pass


# ---------------------------------------------------------------------------------------------------- tqdm of a map


def test_tqdm_and_rich_know_the_total_of_a_map() -> None:
    """Where the input has a length; else they count without one."""
    rich = pytest.importorskip("rich.progress")
    with OrderedProcessPoolExecutor(1) as executor:
        with tqdm(executor.map(same, range(30)), file=Screen()) as bar:
            assert bar.total == 30
            assert list(bar) == list(range(30))
        with tqdm(executor.map(same, iter(int, 1), buffersize=3), file=Screen()) as bar:
            assert bar.total is None
        assert list(rich.track(executor.map(same, range(30)), disable=True)) == list(range(30))


def test_length_of_a_map_is_what_is_still_to_come() -> None:
    """Before the first, in between, at the end; also where the input is taken bit by bit."""
    with OrderedProcessPoolExecutor(1) as executor:
        maps: list[Any] = [executor.map(same, range(20)), executor.map(same, [0] * 20, buffersize=4)]
        for mapped in maps:
            assert len(mapped) == length_hint(mapped) == 20
            for left in range(19, -1, -1):
                next(mapped)
                assert len(mapped) == left
            assert bool(mapped)
            assert list(mapped) == []
        unknown: Any = executor.map(same, (number for number in range(5)), buffersize=2)
        with pytest.raises(TypeError, match="no length"):
            len(unknown)
        assert length_hint(unknown, 77) == 77
        assert bool(unknown)
        assert list(unknown) == list(range(5))


class Liar:
    """It does not know how long it is."""

    def __len__(self) -> int:
        raise OSError("not now")

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])


@pytest.mark.parametrize(
    ("iterables", "length"),
    [
        (([1, 2, 3],), 3),
        (([1, 2, 3], "ab"), 2),
        (([1, 2, 3], itertools.repeat(1)), 3),
        (([1, 2, 3], itertools.repeat(1, 2)), 2),
        (([1, 2, 3], itertools.count()), 3),
        ((itertools.repeat(1),), None),
        (([1, 2, 3], iter(int, 1)), None),
        ((iter([1, 2]),), 2),
        ((Liar(),), None),
        ((), None),
    ],
)
def test_length_of_inputs(iterables: Any, length: int | None) -> None:
    """As far as it is known without taking anything from them: the shortest counts, the endless do not."""
    assert length_of(iterables) == length
