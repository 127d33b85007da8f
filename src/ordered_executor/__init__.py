"""Ordered parallel execution: results come in the order the work went in."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

# A worker loads this package for `_worker` alone: what else there is, is loaded when somebody asks for it.
_HOMES = {
    "Future": "_future",
    "OptionsView": "_executor",
    "OrderedExecutor": "_executor",
    "OrderedProcessPoolExecutor": "process_pool",
    "Outcome": "_ticket",
    "RemoteError": "_errors",
    "Results": "_results",
    "ResultsTimeoutError": "_errors",
    "ShutdownTimeoutError": "_errors",
    "Statistics": "_statistics",
    "TaskKilledError": "_errors",
    "TaskTimeoutError": "_errors",
    "TerminatedWorkerError": "_errors",
    "end_idle_workers": "_depot",
}

if not TYPE_CHECKING:  # or no misspelt name would be noticed

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
