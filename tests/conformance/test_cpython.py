"""`test.test_concurrent_futures`, with our class in the place of `ProcessPoolExecutor`.

Python ships these tests as a package (from 3.12 on) or as one module; some builds leave them out.
"""

from __future__ import annotations

import importlib
import os
import sys
import unittest
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from ordered_executor import OrderedProcessPoolExecutor, end_idle_workers
from tests.helpers import nothing_is_left, start_what_stays

from .exclusions import EXCLUDED

# The classes with tests for process pools, and the part of the package that each is in.
PARTS = {
    "ProcessPoolExecutorTest": "test_process_pool",
    "ProcessPoolShutdownTest": "test_shutdown",
    "WaitTests": "test_wait",
    "AsCompletedTests": "test_as_completed",
    "InitializerMixin": "test_init",
    "FailingInitializerMixin": "test_init",
    "ExecutorDeadlockTest": "test_deadlock",
    "FailingInitializerResourcesTest": "test_init",
}
# Loky's is the default.  The newest Python has the tests of the older ones, which so need not repeat them in each way.
CONTEXTS = ("loky", "spawn", "forkserver") if sys.version_info >= (3, 15) else ("loky",)
# How a worker was started is nothing to these, and they take their time: for the default only.
OF_FUTURES = ("WaitTests", "AsCompletedTests")


@pytest.fixture(scope="module", autouse=True)
def leak_check() -> Iterator[None]:
    """Whatever the tests of this file did, nothing of it is left."""
    start_what_stays()
    with nothing_is_left():
        yield


def load(part: str) -> ModuleType | None:
    """A part of the interpreter's tests, from the package or the single module; None if they are not there."""
    try:
        suite = importlib.import_module("test.test_concurrent_futures")
    except ImportError:
        return None
    if not hasattr(suite, "__path__"):
        return suite
    return importlib.import_module(f"test.test_concurrent_futures.{part}")


class OurCase(unittest.TestCase):
    """The base of all cases: programs that the tests start find our class."""

    parts: tuple[ModuleType, ...]
    manager: Any

    def create_event(self) -> Any:
        """An event that tasks share with the test, as the mixins for process pools have it from Python 3.14 on."""
        return self.manager.Event()

    def setUp(self) -> None:
        """Have the tests' programs start with our class in scope, and one test's warm workers lent to the next."""
        os.environ["PYTEST_CURRENT_TEST"] = "always the same: workers are lent where the environment is the same only"
        if self._testMethodName == "test_python_finalization_error":
            end_idle_workers()  # it wants the start of a worker to fail
        for part in self.parts:
            if hasattr(part, "assert_python_ok"):
                patch = mock.patch.object(part, "assert_python_ok", for_our_class(part.assert_python_ok))
                patch.start()
                self.addCleanup(patch.stop)


def for_our_class(run: Callable[..., Any]) -> Callable[..., Any]:
    """`assert_python_ok` for programs that import the class under test from concurrent.futures."""
    theirs = f"from concurrent.futures import {OrderedProcessPoolExecutor.__name__}"
    ours = f"import multiprocessing; from ordered_executor import {OrderedProcessPoolExecutor.__name__}"

    def run_ours(*arguments: str) -> Any:
        path = os.pathsep.join(filter(None, sys.path))
        return run(*(a.replace(theirs, ours) for a in arguments), __isolated=False, PYTHONPATH=path)

    return run_ours


def make_case(context: str, name: str) -> type[unittest.TestCase] | None:
    """The tests of one of the interpreter's classes, for one way to start workers."""
    part, util = load(PARTS[name]), load("util")
    if part is None or util is None:
        return None
    theirs = getattr(part, name, None)
    if theirs is None:  # older Pythons do not have all of them
        return None
    members: dict[str, Any] = {"executor_type": OrderedProcessPoolExecutor, "ctx": context, "parts": (part,)}
    for test, reason in EXCLUDED.get(name, {}).items():
        if hasattr(theirs, test):
            members[test] = unittest.skip(reason)(getattr(theirs, test))
    return type(f"{context.title()}{name}", (theirs, util.ExecutorMixin, OurCase), members)


def make_cases() -> Iterator[type[unittest.TestCase]]:
    """All of the interpreter's classes, for all ways to start workers."""
    for context in CONTEXTS:
        for name in PARTS:
            case = make_case(context, name) if context == CONTEXTS[0] or name not in OF_FUTURES else None
            if case is not None:
                yield case


globals().update({case.__name__: case for case in make_cases()})


def test_the_interpreter_ships_its_tests() -> None:
    """Where the interpreter's tests are left out, the suite says so."""
    if load("util") is None:
        pytest.skip("this Python comes without test.test_concurrent_futures")


@pytest.mark.skipif(sys.version_info < (3, 15), reason="older Pythons do not have all of these tests")
@pytest.mark.parametrize("name", EXCLUDED)
def test_exclusions_exist(name: str) -> None:
    """Every exclusion names a test that the interpreter has: none outlives its reason unseen."""
    part = load(PARTS[name])
    if part is None:
        pytest.skip("this Python comes without test.test_concurrent_futures")
    assert set(EXCLUDED[name]) <= set(dir(getattr(part, name)))
