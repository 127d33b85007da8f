"""When each task of a batch began and ended."""

from __future__ import annotations

from array import array
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._base.times import Times


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(0, 1)), min_size=1, max_size=30), st.data())
def test_starts_are_those_that_were_written_or_the_ends_before(tasks: list[tuple[float, float]], data: Any) -> None:
    """Whatever part is looked at, and however it was put together."""
    clock, starts, ends, exact = 100.0, [], [], []
    for index, (seconds, pause) in enumerate(tasks):
        starts.append(clock if pause or not index else 0.0)
        exact.append((clock, clock + seconds))
        ends.append(clock + seconds)
        clock += seconds + (tasks[index + 1][1] if index + 1 < len(tasks) else 0.0)
    whole = Times(array("d", starts), array("d", ends))
    raw = whole.starts.tobytes() + whole.ends.tobytes()
    begin = data.draw(st.integers(0, len(tasks) - 1))
    for times, expected in ((whole, exact), (Times.read(raw, len(tasks)), exact), (whole.behind(begin), exact[begin:])):
        assert [times.at(index) for index in range(len(times))] == expected
    joined = Times(whole.starts[:begin], whole.ends[:begin])
    joined.join(whole.behind(begin))
    assert [joined.at(index) for index in range(len(joined))] == exact
