"""Interleavings without threads: an intruder that acts at a chosen point of what somebody else does.

A play is repeated with the intruder coming at the first point, at the second, and so on, until it has come at all of
them; in the last round it comes while the actor sleeps, or not before the actor is through.  What a point is, the play
says: each instruction of the interpreter in some of our files (`stepping`), or an operation on something both share, a
lying deque, say.  An actor that goes to sleep when the intruder has been there already would sleep for ever: that is a
lost wake-up, and fails.

Where the actor holds a lock the intruder needs, it could not come (`is_kept_out`).

The second half is for Ctrl-C and other signals: `interruptions` runs a handler at the first place where the interpreter
would, at the second, and so on.
"""

# ruff: noqa: D102 (stand-ins do what their originals do)

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from ordered_executor._base import waiting


def nobody() -> None:
    """The act of an intruder that has none yet: as long as that is so, it does not come."""


class Intruder:
    """Acts once: at its point, in the actor's sleep, or afterwards."""

    def __init__(self, point: int) -> None:
        self.act: Callable[[], object] = nobody
        self.came = self.came_at_point = False
        self.acting = False
        self._point = point
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
            self.came = self.acting = True
            try:
                self.act()
            finally:
                self.acting = False

    def wake(self) -> None:
        """The actor sleeps, and only the intruder can wake it."""
        if self.acting:
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


class LyingLock:
    """For the locks that sleepers of a parking lot wait at: the intruder must open it."""

    def __init__(self, intruder: Intruder) -> None:
        self._intruder = intruder
        self._locked = False

    def acquire(self, timeout: float = -1) -> bool:
        if self._locked:
            self._intruder.wake()
            assert not self._locked, "the intruder did not wake the sleeper"
        self._locked = True
        return True

    def release(self) -> None:
        if not self._locked:
            raise RuntimeError("release unlocked lock")
        self._locked = False


@contextmanager
def stepping(intruder: Intruder, *modules: ModuleType) -> Iterator[None]:
    """Each instruction of this thread in these modules is a point; where it parks, it waits for the intruder."""
    files = {module.__file__ for module in modules}
    actor, make_lock = threading.get_ident(), threading.Lock

    def step(filename: str) -> None:
        if filename in files and threading.get_ident() == actor and not intruder.acting:
            intruder.pass_by()

    def lock() -> Any:
        return LyingLock(intruder) if threading.get_ident() == actor else make_lock()

    locks = SimpleNamespace(Lock=lock, TIMEOUT_MAX=threading.TIMEOUT_MAX)
    with mock.patch.object(waiting, "threading", locks), _each_instruction(step):
        yield


if sys.version_info >= (3, 12):  # settrace misses the first run of a function there

    @contextmanager
    def _each_instruction(step: Callable[[str], None]) -> Iterator[None]:
        tool, events = sys.monitoring.DEBUGGER_ID, sys.monitoring.events
        sys.monitoring.use_tool_id(tool, "interleave")
        sys.monitoring.register_callback(tool, events.INSTRUCTION, lambda code, _: step(code.co_filename))
        sys.monitoring.set_events(tool, events.INSTRUCTION)
        try:
            yield
        finally:
            sys.monitoring.set_events(tool, events.NO_EVENTS)
            sys.monitoring.free_tool_id(tool)

else:

    @contextmanager
    def _each_instruction(step: Callable[[str], None]) -> Iterator[None]:
        def trace(frame: FrameType, event: str, _: Any) -> Any:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if event == "opcode":
                step(frame.f_code.co_filename)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


def ctrl_c() -> None:
    """What Python does."""
    raise KeyboardInterrupt


class Interruption:
    """A signal that comes once: Ctrl-C, or one with another handler."""

    def __init__(self, place: int, handler: Callable[[], object] = ctrl_c) -> None:
        self.came = False
        self.where = "nowhere"
        self._place = place
        self._handler = handler

    def press(self, act: Callable[[], object]) -> None:
        """Act; the handler runs at its place: where a C function has returned to Python, or a Python one begins."""

        def profile(frame: FrameType, event: str, what: Any) -> None:
            if event not in ("call", "c_return"):
                return
            if self._place == 0:
                sys.setprofile(None)
                self.came = True
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}, {event} {what or frame.f_code.co_name}"
                self._handler()
            self._place -= 1

        try:
            sys.setprofile(profile)
            act()
        except KeyboardInterrupt:
            assert self.came
        finally:
            sys.setprofile(None)


def interruptions(step: int = 1, handler: Callable[[], object] = ctrl_c) -> Iterator[Interruption]:
    """One for each place there is (or for one in `step`), and a last one that did not come."""
    for place in range(0, 10_000, step):
        interruption = Interruption(place, handler)
        yield interruption
        if not interruption.came:
            return
    raise AssertionError("the places do not end")
