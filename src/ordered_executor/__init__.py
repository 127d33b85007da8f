"""Ordered parallel execution: results come in the order of submission."""
# ruff: noqa: F403, F405 (tests/unit/test_architecture.py compares the two lists of names)

import sys
from multiprocessing.process import current_process
from typing import TYPE_CHECKING, Any

# Python 3.15 can be told to load every module late (PYTHON_LAZY_IMPORTS=all).  But modules of loky need modules that
# multiprocessing has loaded, and do not import them; and some modules are imported for what their import does.
_system: Any = sys
_lazy = _system.get_lazy_imports() if hasattr(_system, "set_lazy_imports") else None
if _lazy is not None:
    _system.set_lazy_imports("normal")

__version__: str  # read from the metadata of the installed package, when it is asked for

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

# A worker loads this package for `_processes.worker.main` alone, and the public names only when a task asks for them:
# most of its start is the loading of modules.  Other processes load them at once: later it may be too late (at the exit
# of the interpreter, after a fork).  Only a private name tells that a process is being made a worker;
# tests/unit/test_private_names.py notices when it goes.
if TYPE_CHECKING or not getattr(current_process(), "_inheriting", False):
    from ordered_executor._public import *

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 (it costs a worker's start some milliseconds)

            globals()[name] = version("ordered-executor")
        elif name in ("CurrentTask", "current_task"):
            from ordered_executor._base import current_task  # noqa: PLC0415 (for tasks: they need no more of this package)

            globals()[name] = getattr(current_task, name)
        elif name in __all__:
            from ordered_executor import _public  # noqa: PLC0415

            globals().update({each: getattr(_public, each) for each in __all__})
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "__version__"})


if _lazy is not None:
    _system.set_lazy_imports(_lazy)
