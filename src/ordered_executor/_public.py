"""What users see, from where it is."""

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
from ._results import Results
from ._statistics import Statistics
from ._ticket import Outcome
from .process_pool import OrderedProcessPoolExecutor

__all__ = [
    "Future",
    "OptionsView",
    "OrderedExecutor",
    "OrderedProcessPoolExecutor",
    "Outcome",
    "RemoteError",
    "Results",
    "ResultsTimeoutError",
    "ShutdownTimeoutError",
    "Statistics",
    "TaskKilledError",
    "TaskTimeoutError",
    "TerminatedWorkerError",
    "end_idle_workers",
]
