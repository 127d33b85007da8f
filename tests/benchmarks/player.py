"""One contestant in a process of its own: it starts, warms up and plays a round whenever it is told to.

A process each, so that no contestant forks another's threads, fills another's heap, or hangs the table.
Commands come in as lines ("warm", "play"), answers go out as lines of JSON; what libraries print goes to the
error output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from tests.benchmarks.row import Play, Setting
from tests.benchmarks.rows import ROWS


def fill(play: Play, least: int, most: int, seconds: float) -> int:
    """Find the size of a round that takes about so many seconds; it is warm afterwards."""
    size = least
    if size < most:
        play(size)  # what a worker imports for its first task is not what is measured
    while size < most:
        begin = time.perf_counter()
        play(size)
        spent = time.perf_counter() - begin
        if spent > seconds / 4:
            return max(least, min(most, round(size * seconds / spent)))
        size = min(most, size * 4)
    return size


@contextmanager
def private_answers() -> Iterator[IO[str]]:
    """Keep the output for the answers, and send there what others print to the error output."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        yield answers


def main() -> None:
    """Play until there are no more commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("row")
    parser.add_argument("contestant")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    row = ROWS[arguments.row]
    setting = Setting(arguments.quick, arguments.workers)

    with private_answers() as answers:

        def answer(**what: Any) -> None:
            print(json.dumps(what), file=answers, flush=True)

        try:
            with row.entries[arguments.contestant](setting) as play:
                size = 0
                for command in sys.stdin:
                    if command == "warm\n":
                        size = fill(play, *row.size(setting), setting.seconds)
                        answer(size=size)
                    else:
                        figure = play(size)
                        answer(value=figure.value, trace=figure.trace)
        except ImportError as missing:
            answer(problem=f"not there: {missing}")
        except Exception as error:
            answer(problem=f"{type(error).__name__}: {error}")
            raise


if __name__ == "__main__":
    main()
