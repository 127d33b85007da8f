"""`python -m tests.benchmarks`: ours and its peers in one run, and what is to be reached.

Each contestant has a process of its own, with its workers started and warm before anything is timed; the
rounds of a row go through all contestants in turn. Figures are medians over the rounds, ratios are medians
of the ratios within the rounds. Rows can be named to play them alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata

from tests.benchmarks.contest import contest
from tests.benchmarks.row import Setting
from tests.benchmarks.rows import ROWS
from tests.benchmarks.table import heading, lines, markdown, markdown_heading, write

PACKAGES = ("ordered-executor", "loky", "joblib", "mpire", "pebble", "numpy")


def versions() -> Iterator[str]:
    """Yield what is compared here."""
    yield f"Python {platform.python_version()}"
    for package in PACKAGES:
        try:
            yield f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            yield f"{package} not installed"


def about() -> str:
    """Say what machine this is and how busy it is."""
    load = os.getloadavg()[0]
    return f"{', '.join(versions())}; {os.cpu_count()} cores, load {load:.1f}, {platform.system()}"


def main() -> None:
    """Play the rows and print the table as it comes."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=summary, epilog=f"{details} Rows: {', '.join(ROWS)}."
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="play only these")
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten, rougher figures")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds for each row (long ones: fewer)")
    parser.add_argument("--markdown", action="store_true", help="a line a row, for the docs")
    arguments = parser.parse_args()
    if arguments.repeat is not None and arguments.repeat < 1:
        parser.error("--repeat takes a number of rounds, 1 or more")
    unknown = set(arguments.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")

    begin = time.perf_counter()
    setting = Setting(quick=arguments.quick, repeat=arguments.repeat)
    print(f"{about()}; {setting.workers} workers\n")
    print(markdown_heading() if arguments.markdown else heading())
    for name in arguments.rows or ROWS:
        row = ROWS[name]
        if arguments.markdown:
            print(markdown(row, contest(row, setting)), flush=True)
            continue
        print(f"{row.name}: {row.title}", flush=True)
        for line in lines(row, contest(row, setting)):
            print(write(line), flush=True)
    print(f"\n{time.perf_counter() - begin:.0f} seconds")


if __name__ == "__main__":
    main()
