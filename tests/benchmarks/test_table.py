"""The benchmarks' table: medians, ratios of paired rounds, and what is to be reached."""

from __future__ import annotations

from tests.benchmarks.contest import Score
from tests.benchmarks.row import BEST, MEMORY, OURS, Row
from tests.benchmarks.table import lines, markdown


def row(unit: str = "tasks/s") -> Row:
    """A row to be judged."""
    return Row("name", "title", unit, {}, against={BEST: 2.0}, limits={OURS: 10.0})


def score(name: str, *figures: float, problem: str = "") -> Score:
    """What a contestant came to."""
    made = Score(name)
    made.figures.extend(figures)
    made.problem = problem
    return made


def test_ratios_are_medians_of_rounds_played_next_to_each_other() -> None:
    """And only the best peer is what is to be beaten."""
    found = list(lines(row(), [score(OURS, 10, 30, 20), score("fast", 10, 10, 10), score("slow", 1, 2, 3)]))
    assert [(line.figure, line.ratio, line.target, line.verdict) for line in found] == [
        ("20", "", ">= 10", "yes"),
        ("10", "2.00 x", ">= 2 x the best", "yes"),
        ("2", "10.00 x", "", ""),
    ]


def test_what_is_not_reached_and_who_did_not_play() -> None:
    """They are said, not left out."""
    found = list(lines(row(), [score(OURS, 9), score("gone", problem="not there"), score("fast", 9)]))
    assert [line.verdict for line in found] == ["NO", "", "NO"]
    assert found[1].figure == "not there"


def test_one_line_a_row_for_a_page() -> None:
    """Our figure, then ratios; for memory everybody's own."""
    scores = [score(OURS, 20), score("fast", 10), score("gone", problem="not there")]
    assert markdown(row(), scores) == "| title | 20 tasks/s | fast: 2.00 x; gone: not there |"
    assert markdown(row(MEMORY), scores) == "| title | 20 MiB | fast: 10 MiB; gone: not there |"
    assert markdown(row("% of the best"), scores) == "| title | 20% of the best | fast: 2.00 x; gone: not there |"
