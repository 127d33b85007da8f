"""One executor for a test, with and without a backlog; at the end nothing of it lies unread."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import until

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What other libraries warn of is their affair."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(params=[None, 8], ids=["", "backlog"])
def executor(request: pytest.FixtureRequest) -> Iterator[OrderedProcessPoolExecutor]:
    """With its defaults, and with a backlog that is smaller than what most clients submit at once."""
    with OrderedProcessPoolExecutor(2, backlog=request.param) as made:
        yield made
        until(lambda: made.statistics().in_flight == 0, "everything to end")
        gc.collect()  # cycles of the library's own
        until(lambda: made.statistics().unread == 0, "everything to be let go")
        assert made.releaser_backlog() == 0 if hasattr(made, "releaser_backlog") else True
