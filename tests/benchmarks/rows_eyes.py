"""Rows about what it costs to look: the same work with and without."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import engines, tasks
from tests.benchmarks.engines import Each, Engine
from tests.benchmarks.row import OURS, Entry, Row, throughput

PLAIN = "ours, without"


def traced(executor: Any) -> AbstractContextManager[Any]:
    """With a trace, in a folder that goes."""
    from ordered_executor import trace

    stack = ExitStack()
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    stack.enter_context(trace(executor, Path(folder) / "job.json"))
    return stack


def with_bar(executor: Any) -> AbstractContextManager[Any]:
    """With a bar that nobody sees."""
    from ordered_executor.progress import progress

    bar: AbstractContextManager[Any] = progress(executor, file=io.StringIO())
    return bar


@contextmanager
def looked_at(workers: int, look: Any = None, submit: bool = False, **options: Any) -> Iterator[Each]:
    """Ours, by `map` or by `submit`, with something that looks."""
    with engines.ours(workers, **options) as executor, ExitStack() as stack:
        if look is not None:
            stack.enter_context(look(executor))
        if submit:
            yield engines.submit_then_results(executor)
        else:
            yield lambda task, arguments, _: executor.map(task, arguments)


def pair(task: Any, look: Any = None, submit: bool = False, **options: Any) -> dict[str, Entry]:
    """With, and without."""
    seen: Engine = partial(looked_at, look=look, submit=submit, **options)
    return {OURS: throughput(seen, task), PLAIN: throughput(partial(looked_at, submit=submit), task)}


@contextmanager
def mapped_outcomes(workers: int) -> Iterator[Each]:
    """A map that yields outcomes."""
    with engines.ours(workers) as executor:
        yield lambda task, arguments, _: (o.value for o in executor.map(task, arguments, errors="outcome"))


ROWS = [
    Row("trace-1ms", "tasks of 1 ms, traced", "tasks/s", pair(tasks.busy_1ms, traced), against={PLAIN: 0.95}),
    Row("trace-noop", "no-op tasks: map, traced", "tasks/s", pair(tasks.noop, traced)),
    Row("bar-noop", "no-op tasks: map, with a bar", "tasks/s", pair(tasks.noop, with_bar), against={PLAIN: 0.95}),
    Row(
        "bar-submit",
        "no-op tasks: submit, with a bar",
        "tasks/s",
        pair(tasks.noop, with_bar, True),
        against={PLAIN: 0.95},
    ),
    Row(
        "logs-noop",
        "no-op tasks: map, forward_logs=True",
        "tasks/s",
        pair(tasks.noop, forward_logs=True),
        against={PLAIN: 0.95},
    ),
    Row(
        "outcomes-1ms",
        "tasks of 1 ms: map that yields outcomes",
        "tasks/s",
        {OURS: throughput(mapped_outcomes, tasks.busy_1ms), PLAIN: throughput(looked_at, tasks.busy_1ms)},
        against={PLAIN: 0.95},
    ),
]
