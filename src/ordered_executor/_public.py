"""The public names, imported from their modules."""

from ordered_executor._base.current_task import CurrentTask, current_task
from ordered_executor._base.errors import (
    RemoteError,
    ResultsTimeoutError,
    ShutdownTimeoutError,
    TaskKilledError,
    TaskTimeoutError,
    TerminatedWorkerError,
)
from ordered_executor._core.executor import OptionsView, OrderedExecutor
from ordered_executor._core.future import Future
from ordered_executor._core.outcome import Outcome, Waits
from ordered_executor._core.results import Results
from ordered_executor._core.running import Running
from ordered_executor._core.statistics import Statistics
from ordered_executor._core.trace import trace
from ordered_executor._processes.idle_workers import end_idle_workers
from ordered_executor._script.changed import changed
from ordered_executor.process_pool import OrderedProcessPoolExecutor

__all__ = [
    "CurrentTask",
    "Future",
    "OptionsView",
    "OrderedExecutor",
    "OrderedProcessPoolExecutor",
    "Outcome",
    "RemoteError",
    "Results",
    "ResultsTimeoutError",
    "Running",
    "ShutdownTimeoutError",
    "Statistics",
    "TaskKilledError",
    "TaskTimeoutError",
    "TerminatedWorkerError",
    "Waits",
    "changed",
    "current_task",
    "end_idle_workers",
    "trace",
]
