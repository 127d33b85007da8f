"""The table: medians, ratios of paired rounds, and what is to be reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from tests.benchmarks.contest import Score
from tests.benchmarks.row import BEST, MEMORY, OURS, Row

HEADINGS = ("contestant", "median", "unit", "ours / it", "to reach", "")
WIDTHS = (36, 10, 14, 9, 19, 4)
RIGHT = {1, 3}  # columns of numbers


class Line(NamedTuple):
    """One line of the table."""

    contestant: str = ""
    figure: str = ""
    unit: str = ""
    ratio: str = ""
    target: str = ""
    verdict: str = ""


def number(value: float) -> str:
    """Write a figure with about three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(subject: Score, other: Score) -> float | None:
    """Return the median of the ratios of rounds that were played next to each other."""
    pairs = zip(subject.figures, other.figures, strict=False)
    ratios = [ours / theirs for ours, theirs in pairs if theirs]
    return median(ratios) if ratios else None


def best_peer(row: Row, scores: Sequence[Score]) -> Score | None:
    """Return the peer with the best median, if any played. What starts with "ours" is no peer."""
    peers = [score for score in scores[1:] if score.figures and not score.name.startswith("ours")]
    pick = min if row.less_is_better else max
    return pick(peers, key=lambda score: median(score.figures), default=None)


def target(row: Row, score: Score, best: Score | None) -> tuple[float | None, float | None]:
    """Return the ratio that ours must have to this one, and the figure that it must have itself."""
    against = row.against.get(score.name)
    if score is best:
        against = row.against.get(BEST, against)
    return against, row.limits.get(score.name)


def judge(row: Row, value: float | None, to_reach: float) -> str:
    """Say whether it was reached."""
    if value is None:
        return "?"
    return "yes" if (value <= to_reach if row.less_is_better else value >= to_reach) else "NO"


def lines(row: Row, scores: Sequence[Score]) -> Iterator[Line]:
    """Yield the lines of a row."""
    subject, best = scores[0], best_peer(row, scores)
    sign = "<=" if row.less_is_better else ">="
    for score in scores:
        if not score.figures:
            yield Line(score.name, score.problem or "no figure")
            continue
        middle = median(score.figures)
        found = None if score is subject else ratio(subject, score)
        against, limit = target(row, score, best)
        to_reach = verdict = ""
        if against is not None:
            to_reach, verdict = f"{sign} {against:.3g} x", judge(row, found, against)
            if score is best and BEST in row.against:
                to_reach += " the best"
        if limit is not None:
            to_reach, verdict = f"{sign} {number(limit)}", judge(row, middle, limit)
        times = "" if found is None else f"{found:.2f} x"
        yield Line(score.name, number(middle), row.unit, times, to_reach, verdict)
        if score.problem:  # it played, and then something happened
            yield Line("", score.problem)


def heading() -> str:
    """Return the head of the table."""
    return f"{write(Line(*HEADINGS))}\n{'-' * (sum(WIDTHS) + len(WIDTHS))}"


def write(line: Line) -> str:
    """Return a line as text."""
    cells = (
        cell.rjust(width) if column in RIGHT else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(line, WIDTHS, strict=True))
    )
    return f"   {' '.join(cells).rstrip()}"


def markdown_heading() -> str:
    """Return the head of the table for a page."""
    return "| work | this library | divided by the others |\n| --- | ---: | --- |"


def markdown(row: Row, scores: Sequence[Score]) -> str:
    """Return a row in one line for a page: our figure, and its ratio to each other's (for memory, theirs)."""
    cells = [score.problem or "no figure" for score in scores]
    for index, score in enumerate(scores):
        if score.figures:
            figure, times = number(median(score.figures)), ratio(scores[0], score)
            unit = row.unit if row.unit.startswith("%") else f" {row.unit}"
            as_it_is = index == 0 or row.unit == MEMORY or times is None
            cells[index] = f"{figure}{unit}" if as_it_is else f"{times:.2f} x"
    ours, *others = (
        cell if score.name == OURS else f"{score.name}: {cell}" for score, cell in zip(scores, cells, strict=True)
    )
    return f"| {row.title} | {ours} | {'; '.join(others)} |"
