"""What users see, from where it is."""

from ._current import CurrentTask, current_task
from ._depot import end_idle_workers
from ._errors import (
    RemoteError,
    ResultsTimeoutError,
    ShutdownTimeoutError,
    TaskKilledError,
    TaskTimeoutError,
    TerminatedWorkerError,
)
from ._executor import OptionsView, OrderedExecutor
from ._future import Future
from ._outcome import Outcome, Waits
from ._results import Results
from ._running import Running
from ._statistics import Statistics
from ._trace import trace
from .process_pool import OrderedProcessPoolExecutor

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
    "current_task",
    "end_idle_workers",
    "trace",
]
