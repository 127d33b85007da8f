"""`test.test_concurrent_futures`, with our class in the place of `ProcessPoolExecutor`, on each way to start workers.

Python ships it as a package (3.12 and later) or as one module; some distributions leave it out.
"""

from __future__ import annotations

import importlib
import multiprocessing
import unittest
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import nothing_is_left, start_what_stays

from .exclusions import EXCLUDED

# The mixins with tests in them, and the part of the package that each is in.
MIXINS = {
    "ProcessPoolExecutorTest": "test_process_pool",
    "ProcessPoolShutdownTest": "test_shutdown",
    "WaitTests": "test_wait",
    "AsCompletedTests": "test_as_completed",
    "InitializerMixin": "test_init",
    "FailingInitializerMixin": "test_init",
    "ExecutorDeadlockTest": "test_deadlock",
}
CONTEXTS = ("loky", "spawn", "forkserver")


@pytest.fixture(scope="module", autouse=True)
def leak_check() -> Iterator[None]:
    """Whatever the tests of this file did, nothing of it is left."""
    start_what_stays()
    with nothing_is_left():
        yield


def shipped(part: str) -> ModuleType:
    """The part of the interpreter's tests, from the package or the single module."""
    suite = importlib.import_module("test.test_concurrent_futures")
    if not hasattr(suite, "__path__"):
        return suite
    return importlib.import_module(f"test.test_concurrent_futures.{part}")


class OurMixin:
    """What the interpreter's mixins expect of a kind of executor, for ours."""

    executor_type = OrderedProcessPoolExecutor
    executor_kwargs: ClassVar[dict[str, Any]] = {}
    worker_count = 5
    ctx = ""
    module: ModuleType
    executor: Any

    def setUp(self) -> None:
        # Programs that the tests start must import our class from where it is.
        if hasattr(self.module, "assert_python_ok"):
            theirs = self.module.assert_python_ok
            patch = mock.patch.object(self.module, "assert_python_ok", lambda *a: theirs(*map(with_our_import, a)))
            patch.start()
            self.addCleanup(patch.stop)  # type: ignore[attr-defined]
        self.executor = self.executor_type(
            max_workers=self.worker_count, mp_context=self.get_context(), **self.executor_kwargs
        )

    def tearDown(self) -> None:
        self.executor.shutdown(wait=True)

    def get_context(self) -> Any:
        return multiprocessing.get_context(self.ctx)


def with_our_import(code: str) -> str:
    """A program of the interpreter's tests, for our class."""
    ours = "import multiprocessing, loky; from ordered_executor import OrderedProcessPoolExecutor"
    return code.replace("from concurrent.futures import OrderedProcessPoolExecutor", ours)


def test_case(context: str, name: str, module: ModuleType) -> type[unittest.TestCase]:
    """One mixin of the interpreter's, as a test case for one way to start workers."""
    theirs = getattr(module, name)
    members: dict[str, Any] = {"ctx": context, "module": module}
    for test, reason in EXCLUDED.get(name, {}).items():
        if hasattr(theirs, test):
            members[test] = unittest.skip(reason)(getattr(theirs, test))
    # theirs may bring a mixin of its own that makes executors: ours comes before that one
    bases = tuple(base for base in theirs.__mro__ if base.__name__ not in ("ExecutorMixin", "object"))
    return type(f"{context.title()}{name}", (*bases, OurMixin, unittest.TestCase), members)
