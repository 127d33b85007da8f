"""Readers of the stream: `results()` and `outcomes()`, as iterators and asynchronous iterators."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ordered_executor._base.checks import check_seconds
from ordered_executor._base.errors import ResultsTimeoutError
from ordered_executor._core.future import Future
from ordered_executor._core.outcome import About, Outcome

if TYPE_CHECKING:
    import asyncio
from ordered_executor._core.stream import End, Stream

T = TypeVar("T")


class Results(Iterator[T], AsyncIterator[T], Generic[T]):
    """An ordered stream of outcomes: an iterator, and an asynchronous iterator.

    Ends when everything that was submitted has been yielded; with `follow=True` when, moreover, the executor is shut
    down.  Several readers share what there is: each outcome is yielded once.
    """

    def __init__(
        self,
        stream: Stream,
        tail: Callable[[], int],
        read: Callable[[Future[Any]], T],
        timeout: float | None,
        follow: bool,
    ) -> None:
        self._stream = stream
        self._tail = tail
        self._read = read
        self._timeout = timeout
        self.follow = follow
        stream.ask()
        stream.readers.add(self)
        stream.all_readers.add(self)

    def __repr__(self) -> str:
        return f"<Results: {self._stream.delivered} yielded, {self._stream.unread()} there, follow={self.follow}>"

    @property
    def position(self) -> int:
        """How many outcomes the stream has delivered so far, to all its readers."""
        return self._stream.delivered

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        return self._next(self._timeout)

    def next(self, timeout: float | None = None) -> T:
        """The next outcome.  Waits for it, at most `timeout` seconds (`None`: as long as it takes).

        The limit that was given to `results` is for loops, and does not count here.
        Raises `StopIteration` at the end, `ResultsTimeoutError` if nothing came in time (ask again: nothing is lost),
        and what the task raised, if it failed (the next call goes on behind it).
        """
        timeout = check_seconds("timeout", timeout, zero=True)
        return self._next(timeout)

    def _next(self, timeout: float | None) -> T:
        try:
            future = self._stream.take(timeout, self.follow, self._tail)
        except End:
            self._stream.readers.discard(self)
            raise StopIteration from None
        try:
            return self._read(future)
        finally:
            del future  # no cycle through the traceback of an error

    def __aiter__(self) -> Results[T]:
        return self

    async def __anext__(self) -> T:
        import asyncio  # noqa: PLC0415 (there a loop runs, so it is loaded; workers do without)

        loop = asyncio.get_running_loop()
        deadline = None if self._timeout is None else loop.time() + self._timeout
        arrived = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(arrived.set)

        self._stream.watch(wake)
        try:
            future = await self._take_soon(arrived, deadline)
        finally:
            self._stream.unwatch(wake)
        try:
            return self._read(future)
        finally:
            del future

    async def _take_soon(self, arrived: asyncio.Event, deadline: float | None) -> Future[Any]:
        """Take the next future; wait for `arrived` in between.  Taking does not await, so who is cancelled has none."""
        import asyncio  # noqa: PLC0415 (as above)

        while True:
            arrived.clear()
            try:
                return self._stream.take(0, self.follow, self._tail)
            except End:
                self._stream.readers.discard(self)
                raise StopAsyncIteration from None
            except ResultsTimeoutError:
                remaining = None if deadline is None else deadline - asyncio.get_running_loop().time()
                if remaining is not None and remaining <= 0:
                    raise self._stream.too_late(self._timeout) from None
            with contextlib.suppress(TimeoutError):  # look once more, then say so
                await asyncio.wait_for(arrived.wait(), remaining)


def read_value(future: Future[Any]) -> Any:
    """The value, or the task's exception raised.

    A task that raised StopIteration or StopAsyncIteration must not end the reader's loop: it comes as the cause of a
    `RuntimeError`, as Python does it for generators.
    """
    value, error = future.peek()
    if error is None:
        return value
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        raise RuntimeError(f"the task with ticket {future.first} raised {type(error).__name__}") from error
    try:
        raise error
    finally:
        del future, error  # no cycle through the traceback


def read_either(future: Future[Any]) -> Any:
    """The value, or the task's exception as a value."""
    value, error = future.peek()
    return value if error is None else error


def read_outcome(future: Future[Any]) -> Outcome:
    value, error = future.peek()
    given_up = future.run is None and future.losses > future.options.retries  # else it was begun once more
    about = About(future.claimed_at, future.run, future.losses + (not given_up), future.kept_call)
    return Outcome.make(future.first, value, error, about)
