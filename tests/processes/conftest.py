"""For tests with real processes: pools, valves and journals, and a leak check after each test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import Journal, Script, Valve, nothing_is_left, start_what_stays

MakePool = Callable[..., OrderedProcessPoolExecutor]
MakeValve = Callable[[], Valve]
StartScript = Callable[..., Script]


@pytest.fixture(scope="session", autouse=True)
def what_stays() -> None:
    """The helpers of multiprocessing and loky live as long as the process: start them before any check."""
    start_what_stays()


failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test failed: its traceback holds what it had."""
    report = yield
    item.stash[failed] = item.stash.get(failed, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def leak_check(what_stays: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """No process, thread, descriptor or shared memory is left behind by a test."""
    with contextlib.ExitStack() as checks:
        checks.enter_context(nothing_is_left())
        yield
        if request.node.stash.get(failed, False):
            checks.pop_all()


@pytest.fixture
def pool(leak_check: None) -> Iterator[MakePool]:
    """Make executors.  At the end each must shut down in time; after a test that failed, too."""
    made: list[OrderedProcessPoolExecutor] = []

    def make(*args: Any, **kwargs: Any) -> OrderedProcessPoolExecutor:
        made.append(OrderedProcessPoolExecutor(*args, **kwargs))
        return made[-1]

    yield make
    try:
        for one in made:
            one.shutdown(timeout=10)
    finally:
        for one in made:
            one.shutdown(kill_workers=True, timeout=10)
        made.clear()


@pytest.fixture
def valve(pool: MakePool, tmp_path: Path) -> Iterator[MakeValve]:
    """Make valves.  Those that a test leaves closed are opened at its end, before its executors shut down."""
    made: list[Valve] = []

    def make() -> Valve:
        made.append(Valve(tmp_path / f"valve{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        one.open()


@pytest.fixture
def journal(leak_check: None, tmp_path: Path) -> Iterator[Journal]:
    """A journal for tasks to write and the test to read."""
    book = Journal(tmp_path / "journal")
    yield book
    book.close()


@pytest.fixture
def script(leak_check: None, tmp_path: Path) -> Iterator[StartScript]:
    """Start programs: `script("-c", code)`.  None of their processes outlives the test."""
    started: list[Script] = []

    def start(*command: str, stdin: str | None = None) -> Script:
        started.append(Script(list(command), tmp_path, stdin))
        return started[-1]

    yield start
    for one in started:
        one.clean_up()
