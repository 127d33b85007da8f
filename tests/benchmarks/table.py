"""The table: medians, ratios of paired rounds, and what is to be reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from tests.benchmarks.contest import Score
from tests.benchmarks.row import BEST, Row

HEADINGS = ("work", "contestant", "median", "unit", "ours / it", "to reach", "")
WIDTHS = (2, 36, 10, 14, 9, 19, 4)
RIGHT = {2, 4}  # columns of numbers


class Line(NamedTuple):
    """One line of the table."""

    work: str = ""
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
        work = f"{row.title} (`{row.name}`)" if score is subject else ""
        if not score.figures:
            yield Line(work, score.name, score.problem or "no figure")
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
        yield Line(work, score.name, number(middle), row.unit, times, to_reach, verdict)
        if score.problem:  # it played, and then something happened
            yield Line("", "", score.problem)


def heading(*, markdown: bool) -> str:
    """Return the head of the table."""
    if markdown:
        rule = "|".join(" ---: " if column in RIGHT else " --- " for column in range(len(HEADINGS)))
        return f"| {' | '.join(HEADINGS)} |\n|{rule}|"
    return f"{write(Line(*HEADINGS), markdown=False)}\n{'-' * (sum(WIDTHS) + len(WIDTHS))}"


def title(row: Row, *, markdown: bool) -> str:
    """Return the line that goes before those of a row; in Markdown their first column says it."""
    return "" if markdown else f"{row.name}: {row.title}\n"


def write(line: Line, *, markdown: bool) -> str:
    """Return a line as text."""
    if markdown:
        return f"| {' | '.join(line)} |"
    cells = (
        cell.rjust(width) if column in RIGHT else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(line._replace(work=""), WIDTHS, strict=True))
    )
    return " ".join(cells).rstrip()
