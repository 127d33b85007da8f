"""Which faults were injected, and which of them the pipelines survived."""

from __future__ import annotations

from collections import Counter

from .outcomes import Court, expected, tasks_of
from .record import Record


class Table:
    """Counts over all pipelines.  A fault has survived if its pipeline passed every check."""

    def __init__(self) -> None:
        self.injected: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()
        self.pipelines = 0
        self.tasks = 0
        self.failed: list[int] = []

    def add(self, faults: Counter[str], number: int, passed: bool, tasks: int) -> None:
        """One pipeline more."""
        self.pipelines += 1
        self.tasks += tasks
        self.injected.update(faults)
        if passed:
            self.survived.update(faults)
        else:
            self.failed.append(number)

    def __str__(self) -> str:
        lines = [f"{self.pipelines} pipelines, {self.tasks} tasks, {len(self.failed)} pipelines with a complaint", ""]
        lines += ["| fault | injected | survived |", "| --- | ---: | ---: |"]
        lines += [f"| {fault} | {count} | {self.survived[fault]} |" for fault, count in sorted(self.injected.items())]
        return "\n".join(lines)


def faults_of(record: Record) -> Counter[str]:
    """What really went wrong in a pipeline: a planned fault counts if its task came to it."""
    found: Counter[str] = Counter()
    court = Court(record)
    ran = {line.uid for line in record.lines}
    for task in tasks_of(record.plan):
        final = court.finals.get(task.uid)
        if task.fault and (task.uid in ran or (final is not None and court.sort(task, final) == expected(task))):
            found[f"task: {task.fault}"] += 1
    for what, count in record.mischief_done.items():
        prefix = "worker: " if " while " in what or what.startswith("stopped") else "parent: "
        found[prefix + what] += count
    if record.plan.initializer not in {"", "works"}:
        found[f"initializer: {record.plan.initializer}"] += 1
    if record.plan.ending != "with":
        found[f"shutdown: {record.plan.ending}"] += 1
    return found
