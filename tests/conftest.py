"""For all tests.  What only some need stands beside them."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

LACKING = Path(__file__).parent / "lacking"

if "LACKING" in os.environ and str(LACKING) not in sys.path:
    # All processes that tests start take away what is lacking when they begin; this one does so now, before it loads
    # anything of ours.
    sys.path.insert(0, str(LACKING))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(LACKING), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.modules.pop("sitecustomize", None)
    importlib.import_module("sitecustomize")

# What cannot hold where something is taken away, each with the reason.
_CANCEL = "test_what_has_not_begun_does_not_begin"
NEEDS = {
    **dict.fromkeys(
        [f"{_CANCEL}[one_by_one]", f"{_CANCEL}[backwards]", f"{_CANCEL}[in_a_finalizer]", f"{_CANCEL}[in_a_callback]"],
        ("syscall", "without barriers cancel() answers False where a worker has the task: see docs/systems.md"),
    ),
    "test_workers_start_anyway[a folder that is gone]": (
        "memfd",
        "with names taken from os, multiprocessing's own tracker ends there in a SystemError of CPython 3.13.0",
    ),
    "test_the_main_thread_takes_the_signal": ("syscall", "no signal goes to one thread"),
    "test_memory_of_idle_workers_goes_back": ("madvise", "pages cannot be given back while they are mapped"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """For tests/backends: see docs/backends.md."""
    parser.addoption(
        "--backend",
        metavar="MODULE:NAME",
        help="try this backend: what the name stands for takes the options of OrderedExecutor, and returns an executor "
        "of two workers; its attribute `in_process` says that workers share the memory of the tests",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs something that is taken away."""
    if "LACKING" not in os.environ:
        return
    lacking = importlib.import_module("sitecustomize").lacking()
    for item in items:
        what, reason = NEEDS.get(item.name) or NEEDS.get(item.name.partition("[")[0], ("", ""))
        if item.path.name == "test_system.py":
            item.add_marker(pytest.mark.skip(reason="it takes away by itself, one after the other"))
        elif what in lacking:
            item.add_marker(pytest.mark.skip(reason=f"lacking {what}: {reason}"))


# Whoever is started in the background of a shell ignores Ctrl-C, and so would every program of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline for one example: the machine may be loaded.  No database: a run leaves nothing behind.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")
