"""`map`: many calls of one function, without a future each.

A `Span` owns a run of tickets, one per call; the dispatcher cuts batches out of it.  Its outcomes are handed over
segment by segment and unpacked by the reader, one by one, as it yields them: nothing yielded is kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, Protocol

from ._errors import ResultsTimeoutError
from ._locks import AT_ONCE, Lock
from ._parking import ParkingLot
from ._payload import BASIC, call_name, unpack
from ._ticket import Options, Skip

# How long one refill of a bounded map may pull from the input before the reader gets its outcome.
REFILL_SECONDS = 0.001


class Delivery:
    """Where the releaser puts a map's outcomes.  Apart from the reader, so that a reader nobody holds can go."""

    def __init__(self) -> None:
        self.segments: deque[tuple[int, list[Any]]] = deque()
        self.reader = ParkingLot()
        self.closed = False

    def put(self, first: int, outcomes: list[Any]) -> None:
        """Outcomes from ticket `first` on, in order.  On the releaser."""
        if self.closed:
            return
        self.segments.append((first, outcomes))
        self.reader.unpark_all()

    def has_some(self) -> bool:
        """Whether a reader has nothing to wait for."""
        return bool(self.segments) or self.closed


class Span:
    """Consecutive calls `fn(*args[i])`, or `fn(args[i])` if `single`, with the tickets `first + i`."""

    def __init__(
        self,
        delivery: Delivery,
        fn: Callable[..., Any],
        args: list[Any],
        single: bool,
        options: Options,
        chunksize: int | None,
    ) -> None:
        self.first = -1
        self.count = len(args)
        self.fn = fn
        self.args = args  # one becomes None when its outcome is home
        self.single = single
        self.options = options
        self.chunksize = chunksize  # how many go to a worker together, at most; None: as many as pays
        self.losses: dict[int, int] = {}  # per index, how often its worker died
        self.cancelled = False
        self.delivery = delivery


class Claimer(Protocol):
    """What a map asks of the executor."""

    def claim_span(self, span: Span) -> None: ...
    def cancel_span(self, span: Span) -> None: ...
    def must_not_wait(self) -> str | None: ...


class MapResults(Iterator[Any]):
    """The results of a `map`, in order.

    A call that failed raises here, and the next `next()` goes on behind it.  Closing it (or letting it go) cancels
    the calls that no worker has.  Results that were yielded are not kept.
    """

    def __init__(
        self,
        claimer: Claimer,
        fn: Callable[..., Any],
        inputs: Iterator[Any],
        single: bool,
        options: Options,
        timeout: float | None,
        buffersize: int | None,
        chunksize: int | None,
    ) -> None:
        self._claimer = claimer
        self._fn = fn
        self._inputs: Iterator[Any] | None = inputs
        self._single = single
        self._options = options
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._buffersize = buffersize
        self._chunksize = chunksize
        self._step = 1 if buffersize is None else max(1, buffersize // 8)
        self._input_error: BaseException | None = None
        self._spans: deque[Span] = deque()
        self._refills = buffersize is not None
        self._open = 0  # claimed, and not yet in _current
        self._delivery = Delivery()
        self._started = False
        self._current: list[Any] = []  # outcomes of one segment, last first
        self._behind = -1  # the ticket behind those in _current
        self._reading = Lock()  # threads may share the iterator; each result goes to one of them
        self._pull(buffersize)

    def _pull(self, most: int | None) -> None:
        """Take inputs, at most `most`, and claim tickets for them."""
        if self._inputs is None:
            return
        args: list[Any] = []
        try:
            if most is None or not self._spans:
                args.extend(islice(self._inputs, most))
                ended = most is None or len(args) < most
            else:
                ended = False
                until = time.monotonic() + REFILL_SECONDS
                for _ in range(most):
                    args.append(next(self._inputs))
                    if time.monotonic() > until:
                        break
        except StopIteration:
            ended = True
        except BaseException as error:
            # An error of the input has its place behind the inputs before it.
            if not isinstance(error, Exception):
                if args and self._started:
                    self._claim(args)  # Ctrl-C: what was taken is not lost, unless it was in the call of map() itself
                raise
            ended, self._input_error = True, error
        if ended:
            self._end_input()
        if args:
            self._claim(args)

    def _claim(self, args: list[Any]) -> None:
        span = Span(self._delivery, self._fn, args, self._single, self._options, self._chunksize)
        try:
            self._claimer.claim_span(span)
        except Exception as error:
            if not self._started:
                raise  # the call of map() itself
            # The executor was shut down or broke: that has its place behind what was claimed, as an error of the input.
            self._end_input()
            self._input_error = error
        else:
            self._open += len(args)
            self._spans.append(span)

    def _end_input(self) -> None:
        self._inputs = None
        self._refills = False

    def __iter__(self) -> MapResults:
        return self

    def __next__(self) -> Any:
        while True:
            if not self._current:
                self._next_segment()
            if self._refills:
                self._refill()  # before taking the outcome: interrupted, it loses none
            try:
                outcome = self._current.pop()
            except IndexError:
                continue  # another thread was faster
            if type(outcome) in BASIC:
                return outcome
            try:
                return self._unpack(outcome)
            finally:
                del outcome  # if it has the error that is raised, it would be in a cycle with this frame

    def _refill(self) -> None:
        if self._has_room() and self._reading @ AT_ONCE:  # else another thread is at it
            try:
                if self._has_room():
                    self._pull(self._step)
            finally:
                -self._reading

    def _has_room(self) -> bool:
        assert self._buffersize is not None
        return self._open + len(self._current) - 1 + self._step <= self._buffersize

    def _unpack(self, outcome: Any) -> Any:
        ticket = self._behind - len(self._current) - 1
        value, error = unpack(outcome, lambda: f"ticket {ticket}: {call_name(self._fn)}(…), in a map")
        del outcome
        if error is None:
            return value
        if isinstance(error, StopIteration):
            raise RuntimeError(f"the call with ticket {ticket} raised StopIteration") from error
        try:
            raise error
        finally:
            del error, value

    def _next_segment(self) -> None:
        """Fetch what is to be yielded next.  Waits for a thread that is at it, as that one does: see `_wait`."""
        why = self._claimer.must_not_wait()
        if why is None:
            +self._reading
            try:
                self._next_segment_locked()
            finally:
                -self._reading
        elif self._reading @ AT_ONCE:
            try:
                self._next_segment_locked()
            finally:
                -self._reading
        else:
            raise _never_ends(why)

    def _next_segment_locked(self) -> None:
        if self._current:
            return  # another thread was faster
        self._started = True
        if self._delivery.closed:
            raise StopIteration
        if not self._open:
            error, self._input_error = self._input_error, None
            try:
                if error is not None:
                    raise error
            finally:
                del error
            if self._inputs is None:
                self._spans.clear()
                raise StopIteration
            self._pull(self._step)
            if not self._open:
                self._next_segment_locked()
                return
        self._wait()
        segments = self._delivery.segments
        try:
            first, outcomes = segments[0]
        except IndexError:  # somebody closed it, in a signal handler or in another thread
            raise StopIteration from None
        if type(outcomes[0]) is Skip:
            # The executor was shut down with cancel_futures: as with the standard ones, the rest is cancelled.
            self._delivery.closed = True
            self._input_error = None
            raise CancelledError(f"the calls from ticket {first} on were cancelled")
        while self._spans and self._spans[0].first + self._spans[0].count <= first:
            self._spans.popleft()
        count, current = len(outcomes), outcomes[::-1]
        # From here to the last step nothing is called: an interrupt finds the segment taken, or not at all.
        self._behind = first + count
        self._open -= count
        self._current = current
        segments.popleft()

    def _wait(self) -> None:
        """Until a segment is there, or the map is closed.

        Ended by `Delivery.put`: the releaser delivers every ticket, skips included; and by `close`.
        """
        delivery = self._delivery
        if delivery.has_some():
            return
        if (why := self._claimer.must_not_wait()) is not None:
            raise _never_ends(why)
        remaining = None if self._deadline is None else self._deadline - time.monotonic()
        if not delivery.reader.park(delivery.has_some, remaining):
            self.close()
            raise ResultsTimeoutError("the results of the map did not all come within its timeout")

    def close(self) -> None:
        """Cancel the calls that no worker has; yield nothing more."""
        if self._delivery.closed:
            return
        self._delivery.closed = True
        self._end_input()
        self._input_error = None  # its traceback leads to whoever called map()
        self._delivery.segments.clear()
        self._current = []
        self._delivery.reader.unpark_all()
        for span in tuple(self._spans):
            self._claimer.cancel_span(span)

    def __del__(self) -> None:
        # As with the standard executors: a map whose results nobody ever asked for is run for its side effects.
        if self.__dict__.get("_started", False):
            self.close()


def _never_ends(why: str | None) -> RuntimeError:
    return RuntimeError(f"waiting for the next result of the map would never end: {why}")
