"""One executor for a test, with and without a backlog; at the end nothing of it lies unread."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import until

# After an error its callbacks read nothing.  Such outcomes are let go when there are many (see `_core.retention`).
LEFT_BY_JOBLIB = 20

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They run when they are asked for by name.  What other libraries warn of is their affair."""
    asked_for = any(Path(argument.split("::")[0]).resolve().is_relative_to(HERE) for argument in config.args)
    for item in [item for item in items if HERE in item.path.parents]:
        if not asked_for:
            items.remove(item)
        else:
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(params=[None, 8], ids=["", "backlog"])
def executor(request: pytest.FixtureRequest) -> Iterator[OrderedProcessPoolExecutor]:
    """With its defaults, and with a backlog that is smaller than what most clients submit at once."""
    with OrderedProcessPoolExecutor(2, backlog=request.param) as made:
        yield made
        until(lambda: made.statistics().in_flight == 0, "everything to end")
        gc.collect()  # cycles of the library's own
        until(lambda: made.statistics().unread <= LEFT_BY_JOBLIB, "everything to be let go")
