"""The analysis of a trace: `python -m ordered_executor.timeline job.json -o job.svg`.

It reads a file that `trace` wrote, even if the program has died.  It says in words where the time went and what you can
change.  With `-o` it draws a row for each worker, and the head below; for that it needs the extra `[plot]`: matplotlib.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

HEAD_ROW = 10_000  # as `_core.trace` has it
# Shares of the workers' time that are worth a word.
MUCH = 0.15
# So many times longer than the typical task is a task that others wait for.
UNEVEN = 10.0
SHORT_SECONDS = 0.0002
DRAWN_MOST = 20_000  # slices: more than a picture has points


class Slice(NamedTuple):
    """A part of a row: seconds from the beginning of the trace."""

    begin: float
    end: float
    name: str
    ticket: int | None = None
    failed: bool = False


@dataclass
class Timeline:
    """What is in a trace, by worker."""

    tasks: dict[int, list[Slice]] = field(default_factory=dict)
    gate: dict[int, list[Slice]] = field(default_factory=dict)
    starts: dict[int, list[Slice]] = field(default_factory=dict)
    deaths: list[Slice] = field(default_factory=list)
    head: list[Slice] = field(default_factory=list)
    early: list[tuple[float, int]] = field(default_factory=list)

    @property
    def workers(self) -> list[int]:
        """Their numbers."""
        return sorted({*self.tasks, *self.gate})

    @property
    def all_tasks(self) -> list[Slice]:
        """Of all workers."""
        return [task for tasks in self.tasks.values() for task in tasks]


def read(path: Path) -> Timeline:
    """Read a trace.  An unfinished event at its end is left out: the program died while it wrote it.

    Raises `OSError` if the file cannot be read, and `ValueError` if it is not a trace.
    """
    timeline = Timeline()
    for event in _events(path):
        _enter(timeline, event)
    for rows in (timeline.tasks, timeline.gate, timeline.starts):
        for row in rows.values():
            row.sort()
    return timeline


def _events(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(errors="replace")
    if not text.startswith("["):
        raise ValueError(f"{path} is no trace: it does not begin with a list of events")
    events = []
    for line in text[1:].split("\n"):  # an event a line, as `_core.trace` writes them
        part = line.strip().rstrip(",").rstrip("]")
        if not part:
            continue
        try:
            events.append(json.loads(part))
        except ValueError:
            if events:
                continue  # the last line of a program that died
            raise ValueError(f"{path} is no trace of this package: one event a line is expected") from None
    return events


def _enter(timeline: Timeline, event: dict[str, Any]) -> None:
    row, kind, at = event.get("tid", 0), event.get("cat"), event.get("ts", 0.0) / 1e6
    about = event.get("args", {})
    part = Slice(at, at + event.get("dur", 0.0) / 1e6, event["name"], about.get("ticket"), about.get("failed", False))
    if event["ph"] == "C":
        timeline.early.append((at, about["early"]))
    elif event["ph"] == "i" and part.name.startswith("died"):
        timeline.deaths.append(part)
    elif event["ph"] == "X" and row == HEAD_ROW:
        timeline.head.append(part)
    elif event["ph"] == "X":
        rows = {"gate": timeline.gate, "start": timeline.starts}.get(str(kind), timeline.tasks)
        rows.setdefault(row, []).append(part)


# ------------------------------------------------------------------------------------------------------------ in words


@dataclass
class Shares:
    """Where the workers' time went, from the first task to the last; parts of 1."""

    seconds: float = 0.0
    busy: float = 0.0
    gated: float = 0.0
    starting: float = 0.0
    tail: float = 0.0  # idle behind its own last task, while others still run
    idle: float = 0.0  # whatever else


def shares(timeline: Timeline) -> Shares:
    """Count what each worker did in the time of the whole."""
    tasks, workers = timeline.all_tasks, timeline.workers
    if not tasks:
        return Shares()
    begin, end = min(t.begin for t in tasks), max(t.end for t in tasks)
    for rows in timeline.starts.values():
        begin = min(begin, *(s.begin for s in rows))
    whole = max(1e-9, (end - begin) * len(workers))
    found = Shares(end - begin)
    found.busy = sum(t.end - t.begin for t in tasks) / whole
    found.gated = sum(s.end - s.begin for rows in timeline.gate.values() for s in rows) / whole
    found.starting = sum(s.end - s.begin for rows in timeline.starts.values() for s in rows) / whole
    lasts = [max([t.end for t in [*timeline.tasks.get(w, []), *timeline.gate.get(w, [])]]) for w in workers]
    found.tail = sum(end - last for last in lasts) / whole
    found.idle = max(0.0, 1 - found.busy - found.gated - found.starting - found.tail)
    return found


def explain(timeline: Timeline) -> list[str]:
    """Say in sentences where the time went, and what to change."""
    tasks = timeline.all_tasks
    if not tasks:
        return ["There are no tasks in this trace."]
    part, lengths = shares(timeline), sorted(t.end - t.begin for t in tasks)
    typical, longest = lengths[len(lengths) // 2], max(tasks, key=lambda t: t.end - t.begin)
    ratio = (longest.end - longest.begin) / max(typical, 1e-9)
    failed = sum(t.failed for t in tasks)
    lines = [
        f"{len(tasks):,} tasks on {_count(len(timeline.workers), 'worker')} in {part.seconds:.2f} s"
        + (f"; {failed:,} failed" if failed else "")
        + (f"; {_count(len(timeline.deaths), 'worker')} died" if timeline.deaths else "")
        + ".",
        (
            f"A task takes {_time(typical)} typically, and {_time(longest.end - longest.begin)} at most "
            f"(ticket {longest.ticket}, {longest.name})."
        ),
        (
            f"Workers: busy {part.busy:.0%}, at the gate {part.gated:.0%}, starting {part.starting:.0%}, "
            f"at the end without work {part.tail:.0%}, idle {part.idle:.0%}."
        ),
    ]
    return lines + _advice(timeline, part, typical, ratio)


def _advice(timeline: Timeline, part: Shares, typical: float, ratio: float) -> list[str]:
    advice = []
    if part.gated > MUCH:
        held = max(timeline.head, key=lambda s: s.end - s.begin, default=None)
        whom = f", most for ticket {held.ticket} ({_time(held.end - held.begin)})" if held is not None else ""
        advice.append(
            f"Workers waited at the gate {part.gated:.0%} of the time{whom}: the window is too small for tasks that "
            f"differ {ratio:.0f} x. Make `window` (or `window_bytes`, if results are large) larger."
        )
    if part.starting > MUCH:
        advice.append(
            f"Starting workers took {part.starting:.0%}: the job is short. Use one executor for several jobs "
            "(workers are kept warm for `idle_timeout` seconds), load less in `initializer`, or take fewer workers."
        )
    if part.tail > MUCH and ratio > UNEVEN:
        advice.append(
            f"At the end workers had nothing to do {part.tail:.0%} of the time, while long tasks ran: submit the long "
            "ones first, or split them."
        )
    if part.idle > MUCH and typical < SHORT_SECONDS:
        advice.append(
            f"Workers were idle {part.idle:.0%}: tasks of {_time(typical)} cost more to send than to run. Let one task "
            "do more, or use `map`, which sends many together."
        )
    elif part.idle > MUCH:
        advice.append(
            f"Workers were idle {part.idle:.0%}: they had nothing to do. Whoever submits is too slow, or whoever reads "
            "is, if there is a `backlog` or a `buffersize`: do less between two results, or make it larger."
        )
    if timeline.deaths:
        advice.append(f"The last worker that was lost {timeline.deaths[-1].name}.")
    return advice or ["Nothing is lost that a setting could win: more speed needs more cores, or faster tasks."]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    """A duration for readers.

    >>> _time(0.00001), _time(0.25), _time(75)
    ('10 us', '250 ms', '75 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


# ----------------------------------------------------------------------------------------------------------- a picture


def draw(timeline: Timeline, path: Path) -> None:
    """Draw it into a file; its name says in what format.  Raises `ImportError` without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (an extra; nothing else here needs it)
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'ordered-executor[plot]'") from error
    workers = timeline.workers
    figure = Figure(figsize=(10, 1.6 + 0.4 * (len(workers) + 2)), layout="constrained")
    rows, curve = figure.subplots(2, 1, sharex=True, height_ratios=[len(workers) + 1.5, 1])
    for place, worker in enumerate(workers):
        for parts, color in (
            (timeline.starts.get(worker, []), "#bbbbbb"),
            (timeline.tasks.get(worker, []), "#4477aa"),
            (timeline.gate.get(worker, []), "#eecc66"),
        ):
            _bars(rows, parts, place, color)
    _bars(rows, timeline.head, len(workers), "#cc6677")
    failed = [
        (task.begin, place) for place, w in enumerate(workers) for task in timeline.tasks.get(w, []) if task.failed
    ]
    rows.plot(*zip(*failed, strict=True) if failed else ([], []), "x", color="#882255")
    rows.set_yticks(range(len(workers) + 1), [*(f"worker {number}" for number in workers), "head"])
    rows.invert_yaxis()
    rows.set_title("grey: starts   blue: runs   yellow: waits at the gate   red: the head is waited for", fontsize=8)
    curve.step(*zip(*timeline.early, strict=True) if timeline.early else ([], []), where="post", color="#228833")
    curve.set_ylabel("early")
    curve.set_xlabel("seconds")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _bars(axes: Any, parts: list[Slice], place: int, color: str) -> None:
    step = max(1, len(parts) // DRAWN_MOST)
    bars = [(part.begin, max(1e-6, part.end - part.begin)) for part in parts[::step]]
    axes.broken_barh(bars, (place - 0.4, 0.8), facecolors=color, rasterized=len(bars) > 2000)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 if a file cannot be read or written."""
    parser = argparse.ArgumentParser("python -m ordered_executor.timeline", description="What a trace shows.")
    parser.add_argument("trace", type=Path, help="a file that ordered_executor.trace has written")
    parser.add_argument("-o", "--output", type=Path, help="draw it into this file: .svg, .png or .pdf")
    options = parser.parse_args(arguments)
    try:
        timeline = read(options.trace)
        print("\n".join(explain(timeline)))
        if options.output is not None:
            draw(timeline, options.output)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
