"""Interleavings without threads: an intruder that acts at a chosen point of what somebody else does.

A play is repeated with the intruder coming at the first point, at the second, and so on, until it has come at all of
them; in the last round it comes while the actor sleeps, or not before the actor is through.  A point is an operation
on something both share: a lying dictionary, deque or condition tells the intruder that one is reached.  An actor that
goes to sleep when the intruder has been there already would sleep for ever: that is a lost wake-up, and fails.

Where the actor holds a lock the intruder needs, it could not come; there the lying things are silent.
"""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any


def nobody() -> None:
    """The act of an intruder that has none yet: as long as that is so, it does not come."""


class Intruder:
    """Acts once: at its point, in the actor's sleep, or afterwards."""

    def __init__(self, point: int) -> None:
        self.act: Callable[[], object] = nobody
        self.came = self.came_at_point = False
        self._point = point
        self._acting = False
        self.is_kept_out: Callable[[], bool] = lambda: False

    def pass_by(self) -> None:
        """The actor is at a point where another thread may come in between."""
        if self.act is nobody or self.came or self.is_kept_out():
            return
        if self._point == 0:
            self.came_at_point = True
            self.come()
        self._point -= 1

    def come(self) -> None:
        """Act now, if it has not acted yet."""
        if not self.came:
            self.came = self._acting = True
            try:
                self.act()
            finally:
                self._acting = False

    def wake(self) -> None:
        """The actor sleeps, and only the intruder can wake it."""
        if self._acting:
            raise AssertionError("the intruder itself would wait for the actor")
        assert not self.came, "a lost wake-up: it sleeps, and who should wake it has been here already"
        self.come()


def intruders() -> Iterator[Intruder]:
    """One intruder for each point there is, and a last one."""
    for point in range(1000):
        intruder = Intruder(point)
        yield intruder
        if not intruder.came_at_point:
            assert intruder.came, "the intruder never came: end the play with intruder.come()"
            return
    raise AssertionError("the points do not end")


class LyingDict(dict[Any, Any]):
    """A dictionary (of an instance, say) each of whose operations is a point."""

    def __init__(self, content: dict[Any, Any], intruder: Intruder) -> None:
        super().__init__(content)
        self.intruder = intruder

    def get(self, *args: Any) -> Any:
        self.intruder.pass_by()
        return super().get(*args)

    def pop(self, *args: Any) -> Any:
        self.intruder.pass_by()
        return super().pop(*args)

    def setdefault(self, *args: Any) -> Any:
        self.intruder.pass_by()
        return super().setdefault(*args)

    def copy(self) -> dict[Any, Any]:
        self.intruder.pass_by()
        return super().copy()

    def __contains__(self, key: object) -> bool:
        self.intruder.pass_by()
        return super().__contains__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.intruder.pass_by()
        super().__setitem__(key, value)


class LyingDeque(deque[Any]):
    """A deque: looking whether something is in it, appending and taking are points."""

    intruder = Intruder(-1)

    def __len__(self) -> int:
        self.intruder.pass_by()
        return super().__len__()

    def __bool__(self) -> bool:
        self.intruder.pass_by()
        return super().__len__() > 0

    def append(self, value: Any) -> None:
        self.intruder.pass_by()
        super().append(value)
        self.intruder.pass_by()


class LyingCondition(threading.Condition):
    """A condition: before it is taken, and while somebody waits, the intruder may come."""

    def __init__(self, intruder: Intruder) -> None:
        super().__init__()
        self.intruder = intruder

    def __enter__(self) -> bool:
        self.intruder.pass_by()
        return super().__enter__()

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None and timeout <= 0:
            return False
        state = self._release_save()  # type: ignore[attr-defined]  # as the real one does
        try:
            self.intruder.wake()
        finally:
            self._acquire_restore(state)  # type: ignore[attr-defined]
        return True


class LyingEvent(threading.Event):
    """An event that the intruder must set."""

    def __init__(self, intruder: Intruder) -> None:
        super().__init__()
        self.intruder = intruder

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.intruder.wake()
            assert self.is_set(), "the intruder did not wake the sleeper"
        return True
