"""The backend of docs/backends.md; that it keeps the contract, tests/backends shows."""

from __future__ import annotations

from typing import Any

from ordered_executor import Future, TaskKilledError
from ordered_executor._base.tasks import Failure, Options
from ordered_executor._core.backend import Arrived, Ready
from ordered_executor._core.batches import FutureBatch
from ordered_executor._core.window import Window
from tests.examples.thread_backend import ThreadBackend
from tests.helpers import until


def test_a_task_that_was_stopped_before_it_is_sent_does_not_run() -> None:
    """It ends with the reason, at its place; the one behind it runs."""
    ran: list[int] = []
    owner: Any = None
    futures: list[Future[Any]] = [Future(owner, (ran.append, (number,), {}), Options()) for number in range(3)]
    futures[1].killed = reason = TaskKilledError("stopped", 1)
    backend = ThreadBackend(Window(10, 1 << 20, 1), 1)
    backend.want(1)
    (ready,) = backend.wait(10)
    assert type(ready) is Ready
    backend.send(ready.lane, FutureBatch(0, 0, 3, futures=futures))
    outcomes: list[Any] = []

    def all_home() -> bool:
        events = backend.wait(0.1)
        outcomes.extend(one for event in events if type(event) is Arrived for one in event.outcomes)
        return len(outcomes) == 3

    until(all_home)
    backend.close(kill=False)
    until(lambda: backend.wait(0.1) is not None and backend.closed)
    assert ran == [0, 2]
    assert type(outcomes[1]) is Failure
    assert outcomes[1].error is reason
