"""Outcomes of tickets that no worker had."""

from __future__ import annotations

from tests.fake import HandExecutor


def test_a_mark_has_neither_times_nor_a_call() -> None:
    """It was nowhere."""
    executor = HandExecutor(1)
    executor.mark("here")
    executor.step()
    (mark,) = executor.outcomes()
    assert tuple(mark) == (0, "here", None)
    assert (mark.seconds, mark.waits, mark.pid, mark.function) == (None, None, None, None)
    executor.end()
