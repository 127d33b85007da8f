"""The simulation of window against efficiency, on cases small enough to be worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.simulate import DISTRIBUTIONS, best_makespan, draw, longest_over_mean, simulate

durations = st.lists(st.integers(0, 20).map(float), max_size=40)
counts = st.integers(1, 6)


def test_nothing_takes_no_time() -> None:
    """No tasks end at once and waste nothing."""
    assert best_makespan([], 2, 3) == 0
    assert simulate([], 2, 3).efficiency == 1


def test_slow_head_gates_the_other_worker() -> None:
    """With window=2 and a slow head one early outcome passes, and the worker is held with the next.

    Ticket 0 runs from 0 to 5. Ticket 1 runs from 0 to 1 and is within the window; ticket 2 runs from 1 to 2
    and is held until ticket 0 is released at 5; then 3 and 4 run from 5 to 6.
    """
    schedule = simulate([5, 1, 1, 1, 1], workers=2, window=2)
    assert schedule.makespan == 6
    assert schedule.gated == 3  # ticket 2, from 2 to 5
    assert schedule.busy == 3  # tickets 2 to 4, the second half


def test_wide_window_hides_a_slow_head() -> None:
    """The same tasks need no more than the slow one alone once the window holds all behind it."""
    assert [best_makespan([5, 1, 1, 1, 1], 2, window) for window in (1, 2, 3, 4, 5)] == [7, 6, 6, 5, 5]


def test_early_outcomes_are_released_together_with_the_head() -> None:
    """With the head go the early outcomes behind it, and a gated one that is next goes at the same moment.

    Ticket 0 runs from 0 to 4, 1 from 0 to 1, 2 from 0 to 2. Ticket 3 runs from 1 to 3 and is gated until 0 to
    2 are released at 4; ticket 4 runs from 2 to 5 and is not gated, since it is the head by then.
    """
    schedule = simulate([4, 1, 2, 2, 3, 1], workers=3, window=3)
    assert schedule.makespan == 5
    assert schedule.gated == 1  # ticket 3, from 3 to 4


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_window_of_one_works_in_lockstep(workers: int) -> None:
    """With window=1 only the head may leave its worker, so that each start waits for a release."""
    # One worker: the sum. Two: 0 (0 to 3) and 1 (0 to 1) leave at 3, 2 (3 to 4) at 4, 3 (3 to 5) at 5 and
    # 4 (4 to 7) at 7. Three: 0, 1 and 2 leave at 3, 3 (3 to 5) at 5 and 4 (3 to 6) at 6.
    expected = {1: 10, 2: 7, 3: 6}
    assert best_makespan([3, 1, 1, 2, 3], workers, window=1) == expected[workers]


def list_schedule(tasks: list[float], workers: int) -> float:
    """Schedule without a window, in the plain way: each task to the worker that is free first."""
    free = [0.0] * workers
    for duration in tasks:
        free[free.index(min(free))] += duration
    return max(free)


def step_by_step(tasks: list[float], workers: int, window: int) -> float:
    """Play the rules one unit of time after the other, with the states of workers and outcomes spelt out."""
    head = tail = now = 0
    running: dict[int, float] = {}  # ticket -> when it finishes
    gated: set[int] = set()
    early: set[int] = set()
    while True:
        moved = True
        while moved:  # all that happens at this moment: finish, pass, release, start
            moved = False
            for ticket in [t for t, finish in running.items() if finish <= now]:
                del running[ticket]
                gated.add(ticket)
            for ticket in [t for t in gated if t < head + window]:
                gated.remove(ticket)
                early.add(ticket)
            while head in early:
                early.remove(head)
                head += 1
                moved = True
            while tail < len(tasks) and len(running) + len(gated) < workers:
                running[tail] = now + tasks[tail]
                tail += 1
                moved = True
        if head == len(tasks):
            return now
        now += 1


@given(durations, counts)
def test_no_window_is_list_scheduling(tasks: list[float], workers: int) -> None:
    """Without a window, or with one that holds everything, the schedule is that of a plain list."""
    assert best_makespan(tasks, workers, None) == list_schedule(tasks, workers)
    assert best_makespan(tasks, workers, len(tasks) + 1) == list_schedule(tasks, workers)


@given(durations, counts, counts)
def test_agrees_with_the_rules_played_out(tasks: list[float], workers: int, window: int) -> None:
    """The short cut by running maxima gives what the rules give when they are played out step by step."""
    assert best_makespan(tasks, workers, window) == step_by_step(tasks, workers, window)


@given(durations, counts)
def test_wider_windows_are_never_slower(tasks: list[float], workers: int) -> None:
    """The makespan only falls as the window grows."""
    spans = [best_makespan(tasks, workers, window) for window in range(1, len(tasks) + 2)]
    assert spans == sorted(spans, reverse=True)


@given(durations, counts)
def test_more_workers_with_a_window_each_are_never_slower(tasks: list[float], workers: int) -> None:
    """A window that grows with the workers never makes one more worker a loss."""
    assert best_makespan(tasks, workers + 1, 2 * (workers + 1)) <= best_makespan(tasks, workers, 2 * workers)


def test_rule_of_thumb_costs_nothing() -> None:
    """A window of workers x longest / average task keeps the workers busy, whatever the distribution."""
    for name in DISTRIBUTIONS:
        tasks = draw(name, 20_000)
        for workers in (2, 16, 64):
            window = round(workers * longest_over_mean(tasks))
            assert simulate(tasks * 2, workers, window).efficiency > 0.97, (name, workers)


@pytest.mark.parametrize(("workers", "window"), [(0, 1), (1, 0)])
def test_sizes_are_checked(workers: int, window: int) -> None:
    """No workers, or a window that lets nothing pass, is an error."""
    with pytest.raises(ValueError, match="at least 1"):
        simulate([1.0], workers, window)
