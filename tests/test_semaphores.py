"""A semaphore's tracker is told of its name before it exists, and that it does not if it could not be made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import loky.backend.resource_tracker
import loky.backend.synchronize
import pytest

from ordered_executor._semaphores import told_early

Events = list[tuple[str, str]]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """What the tracker is told, and when a semaphore is made."""
    found: Events = []

    def note(what: str, really: Callable[..., Any], name_at: int) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            found.append((what, args[name_at]))
            return really(*args)

        return noted

    tracker, synchronize = loky.backend.resource_tracker, loky.backend.synchronize
    monkeypatch.setattr(tracker, "register", note("told", tracker.register, 0))
    monkeypatch.setattr(tracker, "unregister", note("told that it is gone", tracker.unregister, 0))
    monkeypatch.setattr(synchronize, "_SemLock", note("made", synchronize._SemLock, 3))
    return found


def test_the_tracker_is_told_first(events: Events) -> None:
    """And again when it exists; at its end, once that it is gone."""
    with told_early():
        lock = loky.backend.synchronize.Lock()
    name = lock._semlock.name
    assert events == [("told", name), ("made", name), ("told", name)]
    del lock
    assert events[3:] == [("told that it is gone", name)]


def test_others_are_not_told_of_early(events: Events) -> None:
    """Semaphores that are not a worker's are as they always were."""
    lock = loky.backend.synchronize.Lock()
    assert events == [("made", lock._semlock.name), ("told", lock._semlock.name)]


def test_a_semaphore_that_cannot_be_made(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracker is told that it is not there; what was made before stays."""

    def fail(*_: Any) -> None:
        raise OSError("no more of them")

    first: Any = None
    with suppress(OSError), told_early():
        first = loky.backend.synchronize.Lock()
        monkeypatch.setattr(loky.backend.synchronize, "_SemLock", fail)
        loky.backend.synchronize.Lock()
    assert [what for what, _ in events] == ["told", "made", "told", "told", "told that it is gone"]
    assert events[-1][1] == events[-2][1] != first._semlock.name


def test_a_start_that_fails_behind_its_semaphores(events: Events) -> None:
    """They are let go of by themselves."""
    with suppress(RuntimeError), told_early():
        lock = loky.backend.synchronize.Lock()
        raise RuntimeError
    assert [what for what, _ in events] == ["told", "made", "told"]
    del lock
