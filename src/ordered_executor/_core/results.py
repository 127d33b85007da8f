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
    """An ordered stream of outcomes.  It is an iterator and an asynchronous iterator.

    It ends when everything that was submitted has been yielded; with `follow=True` it also waits until the executor is
    shut down.  All readers share one stream: each outcome is yielded to one of them.
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
        """The number of outcomes that the stream has delivered so far, to all readers together."""
        return self._stream.delivered

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        return self._next(self._timeout)

    def next(self, timeout: float | None = None) -> T:
        """Return the next outcome.  Waits for it, at most `timeout` seconds; `None` means without a limit.

        The limit that was given to `results` holds for loops, not here.  Raises `StopIteration` at the end, and
        `ResultsTimeoutError` if nothing came in time; nothing is lost then, and you can ask again.  If the task failed,
        its exception is raised, and the next call goes on behind it.
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
        """Take the next future; wait for `arrived` in between.

        Taking a future does not await anything, so a read that asyncio cancels has not taken one.
        """
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
    """Return the value, or raise the task's exception.

    A StopIteration or StopAsyncIteration of a task must not end the reader's loop.  It becomes the cause of a
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
    """Return the value, or the task's exception."""
    value, error = future.peek()
    return value if error is None else error


def read_outcome(future: Future[Any]) -> Outcome:
    value, error = future.peek()
    given_up = future.run is None and future.losses > future.options.retries  # else it was begun once more
    about = About(future.claimed_at, future.run, future.losses + (not given_up), future.kept_call)
    return Outcome.make(future.first, value, error, about)
