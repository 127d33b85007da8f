"""`map`, with real workers."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Iterator

import pytest

from ordered_executor import TerminatedWorkerError
from tests.helpers import Journal, same, stand, until

from .conftest import MakePool, MakeValve
from .tasks import die_at_five, make_thing, note_pair, reciprocal


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_map_yields_what_builtin_map_yields(pool: MakePool, chunksize: int | None) -> None:
    """Several iterables, the shortest ends it; whatever the chunksize."""
    executor = pool(2)
    assert list(executor.map(pow, range(300), itertools.cycle([1, 2, 3]), chunksize=chunksize)) == [
        pow(a, b) for a, b in zip(range(300), itertools.cycle([1, 2, 3]))
    ]
    assert list(executor.map(same, [], chunksize=chunksize)) == []


def test_map_of_an_endless_iterable_runs_in_bounds(pool: MakePool) -> None:
    """With buffersize an endless input is taken as it is yielded, never more than that ahead."""
    executor = pool(2)
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    for yielded, value in enumerate(executor.map(same, numbers(), buffersize=50), start=1):
        assert value == yielded
        assert taken - yielded <= 50
        if yielded == 5000:
            break


def test_map_goes_on_after_a_failed_call(pool: MakePool) -> None:
    """A call that fails raises at its place, and the iterator goes on behind it."""
    results = pool(2).map(reciprocal, [1, 2, 0, 4, 0, 5], chunksize=2)
    got: list[object] = []
    while True:
        try:
            got.append(next(results))
        except StopIteration:
            break
        except ZeroDivisionError:
            got.append("failed")
    assert got == [1, 0.5, "failed", 0.25, "failed", 0.2]


@pytest.mark.parametrize("buffersize", [None, 4])
def test_error_of_the_input_comes_at_its_place(pool: MakePool, buffersize: int | None) -> None:
    """What the input raises is raised behind the results of what it gave before."""

    def broken() -> Iterator[int]:
        yield from range(10)
        raise KeyError("input")

    results = pool(2).map(same, broken(), buffersize=buffersize)
    assert [next(results) for _ in range(10)] == list(range(10))
    with pytest.raises(KeyError, match="input"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_closing_cancels_what_has_not_started(pool: MakePool, valve: MakeValve, journal: Journal) -> None:
    """A map that is closed half way starts nothing more; a later map is served."""
    executor = pool(1)
    blocked = valve()
    head = executor.submit(stand, blocked)
    blocked.reached()
    results = executor.map(note_pair, [(journal, number) for number in range(200)], chunksize=1)
    results.close()  # type: ignore[attr-defined]
    blocked.open()
    head.result()
    assert list(executor.map(same, [1, 2])) == [1, 2]
    assert len(journal.read_all()) <= 2  # a batch that was sent ahead


def test_map_that_is_let_go_unread_runs_all(pool: MakePool, journal: Journal) -> None:
    """A map whose results nobody asks for runs for its side effects, as the standard ones do."""
    executor = pool(2)
    executor.map(note_pair, [(journal, number) for number in range(20)])
    executor.shutdown()
    assert sorted(map(int, journal.read_all())) == list(range(20))


def test_yielded_results_are_not_kept(pool: MakePool) -> None:
    """As soon as the caller lets a result go, it is gone."""
    for value in pool(2).map(make_thing, range(50)):
        reference = weakref.ref(value)
        del value
        assert reference() is None


def test_dead_worker_costs_one_call_of_a_chunk(pool: MakePool, journal: Journal) -> None:
    """A worker that dies in the middle of a chunk loses the call it ran; the rest of the chunk runs once, elsewhere."""
    results = pool(1).map(die_at_five, [(journal, number) for number in range(12)], chunksize=12)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(TerminatedWorkerError, match="ticket 5"):
        next(results)
    assert list(results) == list(range(6, 12))
    assert sorted(map(int, journal.read_all())) == list(range(12))


def test_map_retries_lost_calls(pool: MakePool, journal: Journal) -> None:
    """With retries, a call that kills its worker every time runs 1 + n times and fails alone."""
    results = pool(1, retries=2).map(die_at_five, [(journal, number) for number in range(8)])
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(TerminatedWorkerError):
        next(results)
    assert list(results) == [6, 7]
    assert sorted(map(int, journal.read_all())) == [0, 1, 2, 3, 4, 5, 5, 5, 6, 7]


def test_maps_and_submits_share_the_workers(pool: MakePool) -> None:
    """Several maps read in turn, with submits between them, each give their own results."""
    executor = pool(2)
    one, two = executor.map(same, range(100)), executor.map(same, range(100, 200), buffersize=10)
    for number in range(100):
        assert executor.submit(same, -number).result() == -number
        assert (next(one), next(two)) == (number, number + 100)
    assert list(executor.results()) == []


def test_unpicklable_argument_fails_its_own_call(pool: MakePool) -> None:
    """In a chunk, an argument that cannot be pickled costs its own call only."""
    inputs: list[object] = [*range(5), (n for n in ""), *range(6)]
    results = pool(1).map(same, inputs, chunksize=12)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(TypeError, match="generator"):
        next(results)
    assert list(results) == list(range(6))


def test_no_more_workers_than_useful(pool: MakePool) -> None:
    """A map of one call starts one worker."""
    executor = pool(4)
    assert list(executor.map(same, [os.getpid()])) == [os.getpid()]
    until(lambda: executor.statistics().workers == 1)


def test_threads_may_share_an_iterator(pool: MakePool) -> None:
    """Each result goes to one of them, and all of them end."""
    for buffersize in (None, 64):
        results = pool(2).map(same, range(5000), buffersize=buffersize)
        got: list[int] = []
        readers = [threading.Thread(target=got.extend, args=(results,)) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert sorted(got) == list(range(5000))


def test_ctrl_c_while_inputs_are_read_loses_none(pool: MakePool) -> None:
    """What was taken from the input before it has its results."""

    class Inputs(Iterator[int]):
        number = -1
        pressed = False

        def __next__(self) -> int:
            if self.number == 69 and not self.pressed:
                self.pressed = True
                raise KeyboardInterrupt
            self.number += 1
            if self.number == 100:
                raise StopIteration
            return self.number

    results = pool(2).map(same, Inputs(), buffersize=64)
    got: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        got.extend(iter(results.__next__, None))
    assert [*got, *results] == list(range(100))


@pytest.mark.parametrize("errors", ["raise", "yield", "pass", "outcome"])
def test_a_map_that_shutdown_cuts_short_raises(pool: MakePool, errors: str) -> None:
    """Also where errors are yielded: a reader must not take a part of the input for all of it."""
    executor = pool(1)
    results = executor.map(abs, itertools.count(), buffersize=4, errors=errors)
    next(results)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule"):
        list(results)
    with pytest.raises(StopIteration):
        next(results)
