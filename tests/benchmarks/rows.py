"""All rows, in the order of the table."""

from __future__ import annotations

from tests.benchmarks import memory, rows_eyes, rows_scale, rows_schedule, rows_script, rows_speed

ALL = [*rows_speed.ROWS, *rows_script.ROWS, *rows_schedule.ROWS, *rows_scale.ROWS, *rows_eyes.ROWS, *memory.ROWS]
ROWS = {row.name: row for row in ALL}
