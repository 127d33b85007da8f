"""`put` and `get` as parallel-queue documented them."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers import PATIENCE, fail, same, stand, until

from .common import arguments, raise_bad_value
from .conftest import MakeQueue, MakeSingle, MakeValve


def test_results_come_in_the_order_of_put(many: MakeQueue) -> None:
    """Callables run with their arguments; what is not callable goes through as it is, in its place."""
    results = many()
    mark = object()  # could not even be pickled and come back as itself
    results.put(int)
    results.put(int, "ff", 16)
    results.put(int, "ff", base=16)
    results.put(mark)
    results.put(None)
    results.put(pow, 2, 5)
    assert [results.get() for _ in range(3)] == [0, 255, 255]
    assert results.get() is mark
    assert [results.get(), results.get()] == [None, 32]


def test_timeout_of_put_is_not_an_argument_of_the_task(many: MakeQueue, single: MakeSingle) -> None:
    """`timeout` is for `put`; all other arguments, whatever their names, are for the task."""
    results, one = many(), single(arguments)
    results.put(arguments)
    results.put(arguments, "value", timeout=1)
    results.put(arguments, timeout=1, other=2, self=3, task=4, args=5)
    one.put()
    one.put("value", timeout=1)
    one.put(timeout=1, other=2, self=3, task=4, args=5)
    for each in (results, one):
        assert each.get() == ((), {})
        assert each.get() == (("value",), {})
        assert each.get() == ((), {"other": 2, "self": 3, "task": 4, "args": 5})


def test_mark_with_further_arguments_is_refused(many: MakeQueue) -> None:
    """What is not callable takes no arguments: a ValueError, and nothing is put."""
    results = many()
    for args, kwargs in (((6, 7), {}), ((6,), {"key": 7}), ((None, None), {})):
        with pytest.raises(ValueError, match="not callable"):
            results.put(*args, **kwargs)
    results.put(8, timeout=1)
    assert results.get() == 8


def test_everything_is_an_argument_of_a_single_task(single: MakeSingle) -> None:
    """A callable put into a single-task queue is an argument, not a task; so is what is not callable."""
    results = single(arguments)
    results.put(len, 1)
    results.put("mark")
    assert [results.get(), results.get()] == [((len, 1), {}), (("mark",), {})]


def test_failed_task_raises_in_its_place(many: MakeQueue) -> None:
    """Its error is raised by `get`, with the worker's traceback as text and as cause; the next `get` goes on."""
    results = many(1)
    results.put(same, 1)
    results.put(raise_bad_value)
    results.put(same, 2)
    assert results.get() == 1
    with pytest.raises(ValueError, match="bad value, bad bad value") as caught:
        results.get(timeout=PATIENCE)
    trace = caught.value.stack_trace  # type: ignore[attr-defined]
    assert trace.startswith("Traceback (most recent call last):\n")
    assert "in raise_bad_value" in trace
    assert trace.endswith("ValueError: bad value, bad bad value")
    assert trace in str(caught.value.__cause__)
    assert results.get() == 2


def test_get_that_finds_nothing_in_time_is_empty(many: MakeQueue, valve: MakeValve) -> None:
    """`queue.Empty`, after the time or at once, and what comes later is not lost; also when nothing was ever put."""
    results, gate = many(), valve()
    with pytest.raises(queue.Empty):
        results.get_nowait()
    results.put(stand, gate, "late")
    for get in (
        results.get_nowait,
        lambda: results.get(block=False),
        lambda: results.get(timeout=PATIENCE, block=False),  # not to block wins, as in the standard library
        lambda: results.get(timeout=0),
        lambda: results.get(0.01),
    ):
        with pytest.raises(queue.Empty):
            get()
    gate.open()
    assert results.get(timeout=PATIENCE) == "late"


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 1, 2)])
def test_put_waits_while_the_queue_is_full(many: MakeQueue, sizes: tuple[int, int, int]) -> None:
    """The three sizes together bound what is put and not yet got; past it, `queue.Full` in time."""
    results = many(in_q_max=sizes[0], out_q_max=sizes[1], worker_q_max=sizes[2])
    for number in range(sum(sizes)):
        results.put(same if number % 2 else number, *[number] * (number % 2), timeout=0)
    for timeout in (0, 0.01):
        with pytest.raises(queue.Full):
            results.put("too many", timeout=timeout)
    assert results.get() == 0
    results.put("again", timeout=0)
    with pytest.raises(queue.Full):
        results.put(same, "too many", timeout=0)
    assert [results.get() for _ in range(sum(sizes))] == [*range(1, sum(sizes)), "again"]


def test_put_goes_on_as_soon_as_there_is_room(many: MakeQueue) -> None:
    """A `put` that waits, without a limit or within its limit, is ended by the next `get`."""
    results = many(in_q_max=1, out_q_max=1, worker_q_max=1)
    for number in range(3):
        results.put(number)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(results.put, "late", timeout=timeout) for timeout in (None, PATIENCE)]
        until(lambda: results._room.parked == 2)
        assert results.get() == 0
        until(lambda: sum(put.done() for put in waiting) == 1)
        until(lambda: results._room.parked == 1)  # the other has looked, and waits again
        assert results.get() == 1
        assert [put.result(PATIENCE) for put in waiting] == [None, None]
    assert [results.get() for _ in range(3)] == [2, "late", "late"]


def test_size_of_zero_is_no_bound(many: MakeQueue) -> None:
    """As in the standard library's queues, a size of zero means: as many as you like."""
    results = many(in_q_max=0)
    for number in range(3000):
        results.put(number, timeout=0)
    assert [results.get() for _ in range(3000)] == list(range(3000))


def test_failed_tasks_count_until_they_are_got(many: MakeQueue) -> None:
    """A place is taken until `get` has raised the error, and free then."""
    results = many(in_q_max=1, out_q_max=1, worker_q_max=1)
    for number in range(30):
        if number >= 3:
            with pytest.raises(queue.Full):
                results.put(fail, "too many", timeout=0)
            with pytest.raises(ValueError, match=str(number - 3)):
                results.get()
        results.put(fail, number, timeout=0)
