"""`python -m tests.benchmarks.command`: the command beside a plain loop, GNU parallel and xargs, in one run.

Two rows.  *lines*: a regular expression over the lines of a log of two million lines (--lines), which is generated.
*programs*: 300 programs of ten milliseconds.  Each contestant runs --repeat times, in turn; the best time counts, and
the processor time that belongs to it, with all children.  The output must be the same for all.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

FUNCTION = r"""
import re, sys

PATTERN = re.compile(r"^(\S+) (\w+)\[(\d+)\]: user=(\w+) path=(\S+) status=(\d+) took (\d+) ms ref=([0-9a-f]+)$")
NUMBER = re.compile(r"\d+")

def parse(line):
    match = PATTERN.match(line)
    path = NUMBER.sub("N", match[5])
    return f"{match[1]} {match[4]} {path} {match[6]} {match[7]}"

if __name__ == "__main__":
    for line in sys.stdin:
        print(parse(line.removesuffix("\n")))
"""
WORKERS = 2
PROGRAMS = 300


class Contestant(NamedTuple):
    """A command line for the shell."""

    name: str
    script: str


class Result(NamedTuple):
    """Seconds, and a digest of the output."""

    wall: float
    processor: float
    digest: str


def make_log(path: Path, lines: int) -> None:
    """Some 106 bytes a line, the same ones each time."""
    chance = random.Random(1)
    words = [f"{chance.getrandbits(40):x}" for _ in range(5000)]
    with path.open("w") as file:
        for number in range(lines):
            user, page, part, ref = (chance.choice(words) for _ in range(4))
            file.write(
                f"2026-11-29T12:{number // 60 % 60:02d}:{number % 60:02d} app[{number % 5000}]: user=u{user} "
                f"path=/a/{page}/{part} status={200 + number % 5} took {number % 1000} ms ref={ref}\n"
            )


def play(contestant: Contestant, folder: Path) -> Result:
    """Run it once."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "out").open("wb") as out:
        subprocess.run(
            ["bash", "-c", contestant.script], cwd=folder, stdout=out, stderr=subprocess.DEVNULL, check=False
        )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "out").open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Result(wall, processor, digest)


def contest(title: str, contestants: list[Contestant], folder: Path, repeat: int) -> None:
    """All in turn; prints the table."""
    results: dict[str, list[Result]] = {each.name: [] for each in contestants}
    for _ in range(repeat):
        for each in contestants:
            results[each.name].append(play(each, folder))
    best = {name: min(found) for name, found in results.items()}
    first = best[contestants[0].name]
    print(f"\n{title}\n\n| | seconds | times the first | processor seconds | times the first | output |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, result in best.items():
        wall, processor = result.wall / first.wall, result.processor / first.processor
        same = "the same" if result.digest == first.digest else "ANOTHER"
        print(f"| {name} | {result.wall:.2f} | {wall:.2f} | {result.processor:.2f} | {processor:.2f} | {same} |")


def lines_row(folder: Path, lines: int, repeat: int) -> None:
    """A function over a log."""
    make_log(folder / "big.log", lines)
    (folder / "rx.py").write_text(FUNCTION)
    python = sys.executable
    contestants = [
        Contestant("plain loop", f"{python} rx.py < big.log"),
        Contestant("ordered-executor", f"{python} -m ordered_executor -j{WORKERS} rx:parse big.log"),
        Contestant("ordered-executor, from a pipe", f"cat big.log | {python} -m ordered_executor -j{WORKERS} rx:parse"),
    ]
    if shutil.which("parallel"):
        for block in ("1M", "4M", "16M"):
            options = f"--will-cite -j{WORKERS} -k --block {block}"
            contestants += [
                Contestant(
                    f"parallel -k --pipe --block {block}", f"parallel {options} --pipe {python} rx.py < big.log"
                ),
                Contestant(
                    f"parallel -k --pipepart --block {block}",
                    f"parallel {options} --pipepart -a big.log {python} rx.py",
                ),
            ]
    size = (folder / "big.log").stat().st_size / 1e6
    contest(f"{lines} lines, {size:.0f} MB, a regular expression each, {WORKERS} workers", contestants, folder, repeat)


def programs_row(folder: Path, repeat: int) -> None:
    """Short programs."""
    program = "sh -c 'sleep 0.01; echo $0' {}"
    (folder / "numbers").write_text("".join(f"{number}\n" for number in range(PROGRAMS)))
    ours = f"{sys.executable} -m ordered_executor -j{WORKERS} numbers -- {program}"
    contestants = [Contestant("ordered-executor", ours)]
    if shutil.which("parallel"):
        quoted = shlex.quote(program)
        contestants.append(Contestant("parallel -k", f"parallel --will-cite -j{WORKERS} -k {quoted} < numbers"))
    contestants.append(Contestant("xargs -P (in no order)", f"xargs -P{WORKERS} -I{{}} {program} < numbers"))
    contest(f"{PROGRAMS} programs of 10 ms, {WORKERS} workers", contestants, folder, repeat)


def main() -> None:
    """Play both rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.command", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="lines, programs; default: both")
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not arguments.rows or "lines" in arguments.rows:
            lines_row(folder, arguments.lines, arguments.repeat)
        if not arguments.rows or "programs" in arguments.rows:
            programs_row(folder, arguments.repeat)


if __name__ == "__main__":
    main()
