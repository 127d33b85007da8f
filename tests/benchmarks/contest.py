"""Plays a row: all contestants in turn, round after round, so that what else goes on hits all alike."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.row import Row, Setting

GOODBYE = 20.0  # seconds that a contestant has for shutting down


@dataclass
class Score:
    """What a contestant made of a row."""

    name: str
    figures: list[float] = field(default_factory=list)
    trace: list[tuple[float, float]] = field(default_factory=list)  # of the last round
    problem: str = ""


class Contestant:
    """The process that plays for one contestant; see player.py."""

    def __init__(self, row: Row, name: str, setting: Setting) -> None:
        self.score = Score(name)
        self._patience = row.patience
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in close)
        options = ["--workers", str(setting.workers)] + ["--quick"] * setting.quick
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.player", row.name, name, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # so that its workers can be ended with it
        )

    def warm(self) -> None:
        """Wait for its workers and find the size of a round."""
        self._ask("warm")

    def play(self) -> None:
        """Play one round and keep the figure. After a problem there are no more rounds."""
        answer = self._ask("play")
        if answer:
            self.score.figures.append(answer["value"])
            self.score.trace = answer["trace"]

    def close(self) -> None:
        """End it, by force if it does not end by itself."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(GOODBYE)
        except subprocess.TimeoutExpired:
            self.score.problem = self.score.problem or f"does not end within {GOODBYE:g} s"
            self._kill()
        self._process.stdout.close()
        self._errors.close()

    def _ask(self, command: str) -> dict[str, Any]:
        """Give a command and return the answer, or nothing and note the problem."""
        if self.score.problem:
            return {}
        assert self._process.stdin
        with suppress(OSError):  # it has ended; its last words tell more
            self._process.stdin.write(command.encode() + b"\n")
        answer = self._read()
        self.score.problem = answer.get("problem", "")
        return {} if self.score.problem else answer

    def _read(self) -> dict[str, Any]:
        """Return the next answer, which can be that there was none."""
        assert self._process.stdout
        line, deadline = b"", time.monotonic() + self._patience
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._kill()
                    return {"problem": f"no answer within {self._patience:g} s"}
                more = os.read(self._process.stdout.fileno(), 1 << 16)
                if not more:
                    return {"problem": f"it died: {self._last_words()}"}
                line += more
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        return " / ".join(self._errors.read().splitlines()[-3:])

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def contest(row: Row, setting: Setting) -> list[Score]:
    """Play a row; the scores come in the order of its entries."""
    with ExitStack() as stack:
        contestants = [Contestant(row, name, setting) for name in row.entries]
        for contestant in contestants:
            stack.callback(contestant.close)
        for contestant in contestants:
            contestant.warm()
        for turn in range(row.times(setting)):
            for contestant in contestants if turn % 2 == 0 else reversed(contestants):
                contestant.play()
    return [contestant.score for contestant in contestants]
