"""What a task may end with, and why.  Used by `checks`.

`sort` names an outcome; `expected` says which sort a task's own fault leads to; the `Court` knows what was done from
outside, and decides whether another sort is excused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

from ordered_executor import RemoteError, TaskKilledError, TaskTimeoutError, TerminatedWorkerError

from . import cargo
from .plan import (
    ARGUMENT_FAULTS,
    DIES_ONCE,
    FATAL_INITIALIZERS,
    HARMLESS,
    KILLERS,
    RESULT_FAULTS,
    STUCK,
    Plan,
    Task,
)
from .record import Final, Record
from .tasks import RAISERS

# So many deaths in a row break an executor.
DEATHS_IN_VAIN = 4


def tasks_of(plan: Plan) -> list[Task]:
    """All tasks, those of the maps too."""
    return [*plan.tasks, *(task for one in plan.maps for task in one.tasks)]


def expected(task: Task) -> str:
    """What its own fault makes of a task."""
    if task.fault == "" or task.fault in HARMLESS:
        return "value"
    if task.fault == DIES_ONCE:
        return "value" if task.retries else "died"
    if task.fault in KILLERS:
        return "died"
    if task.fault in STUCK:
        return "timeout"
    return "own error"


def sort_of(task: Task, final: Final) -> str:
    """The sort of an outcome; anything that is not known is said in full."""
    error = final.error
    if final.cancelled:
        return "cancelled"
    if error is None:
        kind = ("str", 5) if task.call == "mark" else (task.answer, task.size)
        return "value" if cargo.same(*kind, task.uid, final.value) else f"a wrong value: {final.value!r:.200}"
    if isinstance(error, TerminatedWorkerError):
        return "died"
    if isinstance(error, TaskTimeoutError):
        return "timeout"
    if isinstance(error, TaskKilledError):
        return "killed"
    if isinstance(error, BrokenProcessPool):
        return "broken"
    return "own error" if _is_own(task, error) else f"another error: {_text(error)}"


def _is_own(task: Task, error: BaseException) -> bool:
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
        error = error.__cause__  # how a stream says it
    text = _text(error)
    if task.fault in RAISERS:
        name = error.type_name.rsplit(".")[-1] if isinstance(error, RemoteError) else type(error).__name__
        return name in RAISERS[task.fault][0] and (str(task.uid) in text or name == "Mute")
    if task.fault in ARGUMENT_FAULTS or task.fault in RESULT_FAULTS:
        return "this is not to be" in text and str(task.uid) in text
    return False


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}{error.args!r}: {error}"
    except Exception:
        return f"{type(error).__name__}, which cannot be printed"


class Court:
    """Knows the causes."""

    def __init__(self, record: Record) -> None:
        self.record = record
        plan = record.plan
        self._tasks = {task.uid: task for task in tasks_of(plan)}
        self._sorts: dict[int, str] = {}
        self._shot = {shot.pid for shot in record.shots if shot.kills}
        self._touched = {shot.pid for shot in record.shots}
        self._lines = {(line.uid, line.pid) for line in record.lines}
        self._victims: Counter[int] = Counter()
        self.finals = dict(record.finals)
        for one, seen in zip(plan.maps, record.maps):  # noqa: B905
            self.finals.update((task.uid, final) for task, final in zip(one.tasks, seen.finals))  # noqa: B905
        self.skipped = {uid for uid, final in record.finals.items() if final.cancelled} | record.cancelled
        # Whether the stream need not be complete: a future that was read, and that nobody holds, may be let go; and who
        # was cancelled by the ending is known by the futures only.
        cancelling = record.cancelled_all or (record.cut and ("cancel" in plan.ending or "interrupted" in plan.ending))
        self.given_away = not plan.hold and (bool(plan.futures) or cancelling)
        # A worker that dies of its task does not die in vain: that is the task's fault.
        in_vain = len(self._shot) + (plan.initializer == "dies the first time")
        self.may_break = plan.initializer in FATAL_INITIALIZERS or in_vain >= DEATHS_IN_VAIN

    def sort(self, task: Task, final: Final) -> str:
        """`sort_of`, once for each task."""
        if task.uid not in self._sorts:
            self._sorts[task.uid] = sort_of(task, final)
        return self._sorts[task.uid]

    def judge_delivery(self, uid: int, value: object, error: BaseException | None) -> Iterator[str]:
        """An outcome that only the stream has seen."""
        self.finals[uid] = Final(value, error)
        return self.judge(uid, self.finals[uid])

    def judge(self, uid: int, final: Final) -> Iterator[str]:
        """Complain, unless the task may end so."""
        task = self._tasks[uid]
        sort = self.sort(task, final)
        error = final.error
        if isinstance(error, TerminatedWorkerError) and error.pid is not None:
            self._victims[error.pid] += 1
        may_start = self.record.plan.initializer not in FATAL_INITIALIZERS or task.call == "mark"
        if not (may_start and sort == expected(task)) and not self._excused(task, sort, error):
            yield f"task {uid}: {sort}, not {expected(task)} (fault {task.fault!r}); {error!r:.300}"

    def _excused(self, task: Task, sort: str, error: BaseException | None) -> bool:
        record, uid, ending = self.record, task.uid, self.record.plan.ending
        pid = getattr(error, "pid", None)
        if sort == "died":
            return pid in self._shot or (task.fault in KILLERS and (uid, pid) in self._lines)
        if sort == "timeout":
            return task.timeout is not None and pid in self._touched
        if sort == "killed":
            by_ending = record.cut and ("kill" in ending or "interrupted" in ending)
            return uid in record.killed or record.killed_all or by_ending
        if sort == "cancelled":
            by_ending = record.cut and ("cancel" in ending or "interrupted" in ending)
            return uid in record.cancelled or uid in record.killed or record.cancelled_all or by_ending
        return sort == "broken" and self.may_break

    def unexplained_deaths(self) -> Iterator[str]:
        """A worker dies once, and takes one task with it."""
        for pid, count in self._victims.items():
            if count > 1:
                yield f"{count} tasks were charged with the death of the worker with pid {pid}"
