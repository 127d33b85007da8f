"""When another worker is started, and when it is tried again."""

from __future__ import annotations

import errno
import time
from typing import Any

from ordered_executor._processes.alarms import NEVER
from ordered_executor._processes.start import HOLD_SECONDS, Starter

KIND: Any = None  # nothing is started here


def test_those_that_were_idle_have_the_first_tasks_to_themselves() -> None:
    """For a moment, once: then others are started beside them."""
    starter, now = Starter(KIND), time.monotonic()
    assert starter.due() == NEVER
    assert starter.holds_back(serving=True)
    assert now < starter.due() <= time.monotonic() + HOLD_SECONDS
    assert not starter.look(now)  # too early
    assert starter.holds_back(serving=True)
    assert not starter.look(starter.due())  # nothing has failed: whoever has tasks asks again
    assert starter.due() == NEVER
    assert not starter.holds_back(serving=True)


def test_where_nobody_was_idle_workers_start_at_once() -> None:
    """And later, beside those, too."""
    starter = Starter(KIND)
    assert not starter.holds_back(serving=False)
    assert not starter.holds_back(serving=True)
    assert starter.due() == NEVER


def test_a_start_that_failed_is_tried_again_by_the_clock() -> None:
    """Once for each failure."""
    starter = Starter(KIND)
    assert starter.failed(OSError(errno.EMFILE, "too many"), 1, stuck=False) is None
    due = starter.due()
    assert time.monotonic() < due < NEVER
    assert not starter.look(due - 0.001)
    assert starter.look(due)
    assert not starter.look(due)
    assert starter.due() == NEVER
