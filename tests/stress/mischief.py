"""Faults from outside: signals to workers in a wanted state, cancels, kills, forks, at the moments of the plan."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .plan import FOR_EVER, Mischief
from .record import Shot
from .scoreboard import Row, rows, send

if TYPE_CHECKING:
    from .play import Play

AIM_SECONDS = 0.25  # how long to wait for a worker in the wanted state; then any worker does
START_SECONDS = 2.0  # how long to wait for the first worker
FORK_PATIENCE = 20.0
MANY = 200  # futures that are cancelled in a row
STOPPED_WHILE = ("running", "running", "idle", "loading", "sending", "holding", "gated")


class Troublemaker:
    """Plays the mischief of a plan."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._record = play.record
        self._stopped: list[Row] = []

    def run(self) -> None:
        """All of it, each at its moment; ends early when the pipeline is over."""
        begun = time.monotonic()
        for one in self._record.plan.mischief:
            if self._play.over.wait(max(0.0, begun + one.at - time.monotonic())):
                break
            what = self._do(one)
            if what is not None:
                self._record.mischief_done[what] += 1
        self._play.over.wait()
        for row in self._stopped:
            send(row, signal.SIGCONT)

    def _do(self, one: Mischief) -> str | None:
        """Do it; say what it was in the end (None: there was nothing to do it to)."""
        if " while " in one.what:
            how, state = one.what.split(" while ")
            return self._kill(one, how, state)
        acts: dict[str, Callable[[Mischief], str | None]] = {
            "stopped for a while": self._stop_for_a_while,
            FOR_EVER: self._stop_for_ever,
            "cancel": self._cancel,
            "cancel many": self._cancel_many,
            "cancel pending": self._cancel_pending,
            "cancel pending and kill": self._cancel_pending,
            "kill": self._kill_future,
            "fork": self._fork,
            "look": self._look,
        }
        return acts[one.what](one)

    # ------------------------------------------------------------------------------------------------- signals

    def _aim(self, state: str, pick: float) -> Row | None:
        """A worker in that state; after a while, a worker in any.  The while begins when one has started."""
        deadline = time.monotonic() + START_SECONDS
        started = state == "starting"
        while True:
            there = rows(self._play.executor())
            wanted = [row for row in there if row.state == state]
            if not started and any(row.state != "starting" for row in there):
                started = True
                deadline = time.monotonic() + AIM_SECONDS
            late = time.monotonic() > deadline
            if wanted or (there and late):
                choice = wanted or there
                return choice[int(pick * len(choice))]
            if late or self._play.over.wait(0.0003):
                return None

    def _kill(self, one: Mischief, how: str, state: str) -> str | None:
        row = self._aim(state, one.pick)
        if row is None:
            return None
        self._record.shots.append(Shot(row.pid, how, kills=True))
        return f"{how} while {row.state}" if send(row, signal.Signals[how]) else None

    def _stop_for_a_while(self, one: Mischief) -> str | None:
        """A worker loses its turn, in whatever it does: what the parent does meanwhile makes nothing wrong."""
        row = self._aim(STOPPED_WHILE[int(one.pick * 1000) % len(STOPPED_WHILE)], one.pick)
        if row is None:
            return None
        self._record.shots.append(Shot(row.pid, one.what, kills=False))
        stopped = send(row, signal.SIGSTOP)
        self._play.over.wait(0.05 + one.pick / 5)
        send(row, signal.SIGCONT)
        return one.what if stopped else None

    def _stop_for_ever(self, one: Mischief) -> str | None:
        """Stop a worker in whatever it does: its task's timeout, or that it stands still, is to end it.

        One that has nothing to do when all is over goes on: it may serve the next pipeline.
        """
        row = self._aim(STOPPED_WHILE[int(one.pick * 1000) % len(STOPPED_WHILE)], one.pick)
        if row is None or row.state in ("starting", "initializing"):
            return None
        self._record.shots.append(Shot(row.pid, one.what, kills=False))
        if not send(row, signal.SIGSTOP):
            return None
        self._stopped.append(row)
        return one.what

    # ------------------------------------------------------------------------------------------------- futures

    def _cancel(self, one: Mischief) -> str | None:
        return "cancel" if self._cancelled(*self._play.pick_future(one.pick)) else None

    def _cancelled(self, uid: int, future: Any) -> bool:
        if future is None or not future.cancel():
            return False
        self._record.cancelled.add(uid)
        if not future.cancelled() or not future.done():
            self._record.complain(f"task {uid} was cancelled, and is {future!r}")
        return True

    def _cancel_many(self, one: Mischief) -> str | None:
        """In a row, forwards or backwards, every one or every third: what is between is taken back, and runs."""
        held = list(self._play.futures.items())
        chosen = held[int(one.pick * len(held)) :: (1, 3)[int(one.pick * 100) % 2]][:MANY]
        if int(one.pick * 1000) % 2:
            chosen.reverse()
        count = sum(self._cancelled(uid, future) for uid, future in chosen)
        return "cancel many" if count else None

    def _cancel_pending(self, one: Mischief) -> str | None:
        executor = self._play.executor()
        if executor is None:
            return None
        kill = one.what.endswith("kill")
        self._record.cancelled_all = True  # before: they may end at once
        self._record.killed_all |= kill
        executor.cancel_pending(kill=kill)
        return one.what

    def _kill_future(self, one: Mischief) -> str | None:
        uid, future = self._play.pick_future(one.pick)
        if future is None:
            return None
        self._record.killed.add(uid)  # before: it may end at once
        if not future.kill():
            return None
        return "kill"

    def _look(self, one: Mischief) -> str | None:
        """A future is not done before one with a lower ticket, unless it was cancelled."""
        held = dict(self._play.futures)
        if len(held) < 2:
            return None
        uids = sorted(held, key=lambda uid: held[uid].ticket)
        place = int(one.pick * (len(uids) - 1))
        later = held[uids[place + 1]]
        done = later.done() and not later.cancelled()
        if done and not held[uids[place]].done():
            self._record.complain(f"ticket {later.ticket} was done before ticket {held[uids[place]].ticket}")
        return None

    # ---------------------------------------------------------------------------------------------------- fork

    def _fork(self, one: Mischief) -> str | None:
        """A forked child cannot use the executor, and leaves without harm to it."""
        executor = self._play.executor()
        if executor is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                try:
                    executor.submit(int)
                except RuntimeError:
                    code = 0
            os._exit(code)
        deadline = time.monotonic() + FORK_PATIENCE
        while time.monotonic() < deadline:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                if status:
                    self._record.complain(f"in a forked child, submit() did not raise: status {status}")
                return "fork"
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._record.complain("a forked child hangs")
        return "fork"
