"""All rows, in the order of the table."""

from __future__ import annotations

from tests.benchmarks import memory, rows_scale, rows_schedule, rows_speed

ROWS = {row.name: row for row in [*rows_speed.ROWS, *rows_schedule.ROWS, *rows_scale.ROWS, *memory.ROWS]}
