"""The watchdog: when nothing has moved for a while, it says where everybody stands, and ends the hunt.

Whoever makes progress calls `beat`.  Waiting and asking again is not progress.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import psutil

from .scoreboard import rows


class Watchdog:
    """A thread that looks at the clock."""

    def __init__(self, patience: float, last_words: Callable[[], str]) -> None:
        self._patience = patience
        self._last_words = last_words
        self._beaten = time.monotonic()
        self._doing = "starting"
        self._executor: Callable[[], Any] = lambda: None
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()

    def beat(self, doing: str = "", executor: Any = None) -> None:
        """Something moved."""
        self._beaten = time.monotonic()
        if doing:
            self._doing = doing
            self._executor = (lambda: None) if executor is None else weakref.ref(executor)

    def close(self) -> None:
        """The hunt is over."""
        self._over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            still = time.monotonic() - self._beaten
            if still > self._patience:
                self._dump(still)
                _kill_children()
                os._exit(3)

    def _dump(self, still: float) -> None:
        say(f"\n=== NOTHING MOVED for {still:.0f} s, while {self._doing}")
        say(self._last_words())
        executor = self._executor()
        if executor is not None:
            with contextlib.suppress(Exception):
                scheduler = executor._scheduler
                sequencer, dispatcher = scheduler.sequencer, scheduler.dispatcher
                say(f"head {sequencer.head}, tail {sequencer.tail}, waiting {dispatcher.waiting_tickets}")
                for queue in dispatcher.lanes.values():
                    say(f"  pid {queue.key.pid} quota {queue.quota}: {[_short(batch) for batch in queue.batches]}")
                for row in rows(executor):
                    say(f"  {row}")
        say("--- this process")
        faulthandler.dump_traceback(all_threads=True)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                say(f"--- pid {child.pid}, {child.status()}: {' '.join(child.cmdline())[:150]}")
                dump_process(child.pid)


def _short(batch: Any) -> str:
    return f"batch {batch.number}: {batch.home} of {batch.first}+{batch.count}"


def dump_process(pid: int) -> None:
    """Print the stacks of another process: by py-spy if it is there, else by a signal that our tasks know."""
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=os.path.dirname(sys.executable))  # noqa: PTH120
    if spy is None:
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.3)  # nobody tells when it is printed
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        found = subprocess.run(
            [spy, "dump", "--pid", str(pid)], capture_output=True, text=True, timeout=10, check=False
        )
        say(found.stdout or found.stderr)


def _kill_children() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def say(text: str) -> None:
    """Print it at once."""
    print(text, file=sys.stderr, flush=True)
