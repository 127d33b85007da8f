"""The record of durations answers as a sorted list of all of them would, within its error, in bounded memory."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._base.quantiles import ERROR, Sketch

durations = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=300)
SHARES = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0]


@given(durations, st.integers(1, 3))
def test_quantiles_are_those_of_the_sorted_list(seconds: list[float], times: int) -> None:
    """The value of rank `ceil(share * n)` is met within the error, however often each was added."""
    sketch = Sketch()
    for each in seconds:
        sketch.add(each, times)
    ranked = sorted(seconds * times)
    for share, found in zip(SHARES, sketch.quantiles(*SHARES), strict=True):
        exact = ranked[max(0, math.ceil(share * len(ranked)) - 1)]
        assert abs(found - exact) <= exact * ERROR * 1.001
    assert sketch.longest == max(seconds)


def test_an_empty_record_answers_zeros() -> None:
    """Nothing was recorded: there is nothing to say."""
    assert Sketch().quantiles(0.5, 0.99) == [0.0, 0.0]


def test_many_durations_take_no_more_room_than_few() -> None:
    """The number of buckets depends on the range alone."""
    sketch = Sketch()
    for step in range(100_000):
        sketch.add(1e-7 * 1.0004**step)
    assert len(sketch._counts) < 1700
    sketch.add(0.0)
    sketch.add(math.inf)
    assert len(sketch._counts) < 1700
    assert sketch.longest == math.inf
