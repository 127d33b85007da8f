"""What serves and schedules: asyncio, AnyIO, Trio, Tornado, APScheduler, more-executors."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import PATIENCE

from . import tasks


def test_asyncio(executor: OrderedProcessPoolExecutor) -> None:
    """Many at a time; given up; groups that fail; and wrapped futures."""

    async def group(call: Any) -> None:
        async with asyncio.TaskGroup() as made:
            for number in range(40):
                made.create_task(call(tasks.refuse, number))

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def call(function: Any, number: int) -> Any:
            return await loop.run_in_executor(executor, function, number)

        assert await asyncio.gather(*(call(tasks.square, n) for n in range(100))) == [n * n for n in range(100)]
        for number in range(30):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(call(tasks.late, number), 0.001)
        with pytest.raises(ExceptionGroup):
            await group(call)
        done, _ = await asyncio.wait([asyncio.wrap_future(executor.submit(tasks.square, n)) for n in range(30)])
        assert sorted(future.result() for future in done) == [n * n for n in range(30)]

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(executor: OrderedProcessPoolExecutor, backend: str) -> None:
    """A thread of its own waits for the future."""
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend)
    got: list[int] = []

    async def call(number: int) -> None:
        got.append(await anyio.to_thread.run_sync(lambda: executor.submit(tasks.square, number).result()))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(call, number)
        with anyio.move_on_after(0.01):
            await anyio.to_thread.run_sync(executor.submit(tasks.late, 1).result, abandon_on_cancel=True)

    anyio.run(main, backend=backend)
    assert sorted(got) == [number * number for number in range(60)]


def test_tornado(executor: OrderedProcessPoolExecutor) -> None:
    """`run_in_executor` of its loop."""
    ioloop = pytest.importorskip("tornado.ioloop")

    async def main() -> list[Any]:
        loop = ioloop.IOLoop.current()
        return list(await asyncio.gather(*(loop.run_in_executor(executor, tasks.square, n) for n in range(60))))

    assert asyncio.run(main()) == [number * number for number in range(60)]


def test_apscheduler(executor: OrderedProcessPoolExecutor) -> None:
    """Jobs that run, jobs that fail, in a pool executor made of ours."""
    pool = pytest.importorskip("apscheduler.executors.pool")
    background = pytest.importorskip("apscheduler.schedulers.background")
    events = pytest.importorskip("apscheduler.events")

    class Executor(pool.BasePoolExecutor):  # type: ignore[misc,name-defined]  # no types
        def __init__(self) -> None:
            super().__init__(executor)

        def shutdown(self, wait: bool = True) -> None:
            """The pool is the test's."""

    scheduler = background.BackgroundScheduler(executors={"default": Executor()}, timezone=dt.UTC)
    ended: list[Any] = []
    over = threading.Event()

    def hear(event: Any) -> None:
        ended.append(event.retval if event.code == events.EVENT_JOB_EXECUTED else type(event.exception))
        if len(ended) == 40:
            over.set()

    scheduler.add_listener(hear, events.EVENT_JOB_EXECUTED | events.EVENT_JOB_ERROR)
    scheduler.start()
    for number in range(20):
        scheduler.add_job(tasks.square, args=[number], misfire_grace_time=None)
        scheduler.add_job(tasks.refuse, args=[5], misfire_grace_time=None)
    assert over.wait(PATIENCE)
    scheduler.shutdown()
    assert sorted(one for one in ended if one is not ValueError) == [number * number for number in range(20)]
    assert ended.count(ValueError) == 20


def test_more_executors(executor: OrderedProcessPoolExecutor) -> None:
    """Retry, throttle, map and timeout around ours; it reads futures in done-callbacks."""
    more = pytest.importorskip("more_executors")
    throttled = more.ThrottleExecutor(more.MapExecutor(executor, tasks.square), count=4)
    futures = [throttled.submit(tasks.square, number) for number in range(60)]
    assert [future.result(PATIENCE) for future in futures] == [number**4 for number in range(60)]
    policy = more.ExceptionRetryPolicy(max_attempts=2, sleep=0.01, max_sleep=0.01)
    retrying = more.RetryExecutor(executor, retry_policy=policy)
    failed = retrying.submit(tasks.refuse, 1)
    with pytest.raises(ValueError, match="1"):
        failed.result(PATIENCE)
    late = more.TimeoutExecutor(executor, 0.01).submit(tasks.late, 1)
    assert late.result(PATIENCE) == 1  # its cancel() comes too late for a task that runs
