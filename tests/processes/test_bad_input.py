"""Odd input that means something is taken; and `end_idle_workers` looks at its argument first."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ordered_executor import OrderedProcessPoolExecutor, end_idle_workers
from ordered_executor._processes import idle_workers


@pytest.mark.parametrize(
    "good",
    [
        {"window": np.int64(4), "window_bytes": np.uint8(200), "backlog": np.int32(3), "retries": np.int8(0)},
        {"window": 2**100, "window_bytes": 2**100, "backlog": 2**100, "retries": 2**100, "max_tasks_per_child": 2**100},
        {"task_timeout": math.inf, "idle_timeout": math.inf},
        {"task_timeout": 1e300, "idle_timeout": 10**400},
        {"task_timeout": Fraction(1, 2), "idle_timeout": np.float32(0.5)},
        {"idle_timeout": None},
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in each process
)
def test_odd_numbers_that_mean_something_are_taken(good: dict[str, Any]) -> None:
    """NumPy's numbers, huge ones and infinity are made plain where they come in; a mark goes through with them."""
    with OrderedProcessPoolExecutor(max_workers=1, **good) as executor:
        assert executor.mark("value").result(timeout=30) == "value"


@pytest.mark.parametrize("patience", ["soon", -1, float("nan"), True])
def test_end_idle_workers_refuses_bad_patience(patience: Any) -> None:
    """And it ends no worker before it has looked at what it was given."""
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(abs, 1).result()
    (pid,) = (lane.pid for _, lane in idle_workers._lanes)
    with pytest.raises((TypeError, ValueError), match="patience must be"):
        end_idle_workers(patience)
    assert [lane.pid for _, lane in idle_workers._lanes] == [pid]
    end_idle_workers(None)  # however long it takes
    assert not idle_workers._lanes
