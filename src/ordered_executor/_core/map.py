"""`map`: many calls of one function, without a future for each.

A `Span` owns a run of tickets, one for each call; the dispatcher cuts batches out of it.  Its outcomes are handed over
segment by segment.  The reader unpacks them one by one as it yields them: nothing that was yielded is kept.  An
`Intake` draws the inputs and makes spans of them.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from operator import length_hint
from typing import Any, Protocol

from ordered_executor._base.atomic import snapshot
from ordered_executor._base.errors import ResultsTimeoutError
from ordered_executor._base.locks import AT_ONCE, Lock
from ordered_executor._base.tasks import Options, Run, Skip
from ordered_executor._base.waiting import ParkingLot
from ordered_executor._core.batches import CoreBatch
from ordered_executor._core.outcome import Outcome, Raw
from ordered_executor._pickling.outcomes import is_failure, unpack
from ordered_executor._pickling.picklers import BASIC
from ordered_executor._pickling.texts import call_name, call_text

NEVER_ENDS = float("inf")  # the length of an endless input


class Passed:
    """An error that has its place among a map's outcomes, and no ticket: of the input, or of an earlier stage."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Refused(Passed):
    """The executor takes no more of the input.  It is raised, also where errors are yielded: the map is cut short."""

    __slots__ = ()


class Delivery:
    """Where the scheduler puts a map's outcomes.  Apart from the reader, so that a reader nobody holds can go."""

    def __init__(self) -> None:
        self.segments: deque[tuple[int, list[Any]]] = deque()
        self.reader = ParkingLot()
        self.closed = False

    def put(self, first: int, outcomes: list[Any]) -> None:
        """Outcomes from ticket `first` on, in order.  On the scheduler."""
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
        outcomes: bool = False,
    ) -> None:
        self.first = -1
        self.claimed_at = 0.0
        self.count = len(args)
        self.fn = fn
        self.args = args  # one becomes None when its outcome is home
        self.single = single
        self.options = options
        self.chunksize = chunksize  # how many go to a worker together, at most; None: as many as pays
        self.outcomes = outcomes  # the reader wants to know more than values
        self.losses: dict[int, int] = {}  # per index, how often its worker died
        self.cancelled = False
        self.sent: dict[int, CoreBatch] = {}  # those that lanes have; by the scheduler, by single dictionary operations
        self.delivery = delivery

    def let_go(self, begin: int, outcomes: list[Any] | None, count: int) -> None:
        """Calls from index `begin` on are home: let go of the arguments, but for those that failed (`None`: no one)."""
        kept = [None] * count
        if outcomes is not None:
            kept = [
                args if is_failure(outcome) else None
                for args, outcome in zip(self.args[begin : begin + count], outcomes, strict=True)
            ]
        self.args[begin : begin + count] = kept

    def raw(self, first: int, outcomes: list[Any], run: Run | None) -> list[Any]:
        """What came home from ticket `first` on, with what is known of each; a skip stays what it is."""
        if type(outcomes[0]) is Skip:
            return outcomes
        losses, begin = self.losses, first - self.first
        lost = run is None  # with its worker; else it was begun once more
        return [
            Raw(first + index, came, self.claimed_at, run, losses.get(begin + index, 0) + (not lost))
            for index, came in enumerate(outcomes)
        ]

    def call_at(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """One of the calls, for messages; without arguments when its outcome is home."""
        args = self.args[index]
        return self.fn, (args,) if self.single and args is not None else args or (), {}


class Claimer(Protocol):
    """What a map asks of the executor."""

    def claim_span(self, span: Span) -> None: ...
    def cancel_span(self, span: Span) -> None: ...
    def must_not_wait(self, ticket: int | None = None) -> str | None: ...


class Source(Protocol):
    """What a reader asks of the intake: see `_core.intake`."""

    slow: bool
    patience: float
    drawn: int
    taken: int
    hand: list[Any]
    ended: bool
    in_thread: bool
    errors: deque[tuple[int, Passed]]
    spans: deque[Span]
    space: ParkingLot

    @property
    def room(self) -> int: ...
    @property
    def error_is_next(self) -> bool: ...
    def pull(self, room: int) -> None: ...
    def refill(self) -> None: ...
    def stop(self) -> None: ...
    def drop(self) -> None: ...


class MapResults(Iterator[Any]):
    """The results of a `map`, in order.

    A call that failed raises here, or is yielded as its error, and so is an error of the input; the next `next()` goes
    on behind it.  Closing it (or letting it go) cancels the calls that no worker has begun.  Results that were yielded
    are not kept.
    """

    def __init__(
        self,
        claimer: Claimer,
        intake: Source,
        delivery: Delivery,
        fn: Callable[..., Any],
        timeout: float | None,
        bounded: bool,
        yields_errors: bool,
        length: int | None = None,
        yields_outcomes: bool = False,
    ) -> None:
        self._yields_outcomes = yields_outcomes
        self._claimer = claimer
        self._intake = intake
        self._delivery = delivery
        self._fn = fn
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._refills = bounded
        self.yields_errors = yields_errors
        self._length = length  # of the input, if it is known
        self._started = False
        self._current: list[Any] = []  # outcomes of one segment, last first
        self._behind = -1  # the ticket behind those in _current
        self._reading = Lock()  # threads may share the iterator; each result goes to one of them

    def __iter__(self) -> MapResults:
        return self

    def __length_hint__(self) -> int:
        """How many results are still to come, if that is known; else `NotImplemented`."""
        intake = self._intake
        here = intake.drawn - intake.taken + len(self._current)
        if intake.ended:
            return here
        return NotImplemented if self._length is None else here + max(0, self._length - intake.drawn)

    def __len__(self) -> int:
        """How many results are still to come: for progress bars.  `TypeError` where the input has no length."""
        known = self.__length_hint__()
        if known is NotImplemented:
            raise TypeError("this map has no length: its input has none, or is not known to end")
        return known

    def __bool__(self) -> bool:
        return True  # as iterators are

    def __repr__(self) -> str:
        known = self.__length_hint__()
        left = "closed" if self._delivery.closed else "more to come" if known is NotImplemented else f"{known} to come"
        return f"<map of {call_name(self._fn)}: {left}>"

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
            if self._refills and self._intake.in_thread:
                self._tell_of_room(outcome)
            if type(outcome) in BASIC:
                return outcome
            try:
                return self._unpack(outcome)
            finally:
                del outcome  # if it has the error that is raised, it would be in a cycle with this frame

    def _refill(self) -> None:
        intake = self._intake
        if intake.in_thread:
            return
        if intake.ended:
            self._refills = False
        elif not intake.slow and self._reading @ AT_ONCE:  # else another thread is at it
            try:
                intake.refill()
            finally:
                -self._reading

    def _tell_of_room(self, outcome: Any) -> None:
        """Wake the thread that draws.  After the outcome was taken: before that the thread finds no room."""
        try:
            self._intake.space.unpark_all()
        except BaseException:  # Ctrl-C: it is the next again
            self._current.append(outcome)
            raise

    def _unpack(self, outcome: Any) -> Any:
        ticket = self._behind - len(self._current) - 1
        if type(outcome) is Raw:
            return self._outcome(outcome)
        value: Any
        error: BaseException | None
        if type(outcome) is Refused:
            refusal = outcome.error
            del outcome
            try:
                raise refusal
            finally:
                del refusal  # no cycle through the traceback
        if type(outcome) is Passed:
            value, error = None, outcome.error
        else:
            value, error = unpack(outcome, lambda: f"ticket {ticket}: {call_text(*self._take_call(ticket))}, in a map")
        del outcome
        if error is None:
            return value
        if isinstance(error, StopIteration) and not self.yields_errors:  # (no input raises it: that is its end)
            raise RuntimeError(f"the call with ticket {ticket} raised StopIteration") from error
        try:
            return self._fail(error)
        finally:
            del error, value

    def _outcome(self, raw: Raw) -> Outcome:
        call = self._take_call(raw.ticket) if is_failure(raw.came) else None
        words = (self._fn, (), {}) if call is None else call
        value, error = unpack(raw.came, lambda: f"ticket {raw.ticket}: {call_text(*words)}, in a map")
        return Outcome.make(raw.ticket, value, error, raw.about(call))

    def _fail(self, error: BaseException) -> Any:
        """Yield the error, or raise it."""
        if self._yields_outcomes:
            return Outcome(-1, None, error)
        if self.yields_errors:
            return error
        try:
            raise error
        finally:
            del error  # no cycle through the traceback

    def _take_call(self, ticket: int) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """The call that failed; its arguments go with it."""
        for span in snapshot(self._intake.spans)[:2]:  # the first, mostly: it goes when the next segment is fetched
            if span.first <= ticket < span.first + span.count:
                call = span.call_at(ticket - span.first)
                span.args[ticket - span.first] = None
                return call
        return self._fn, (), {}

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
        self._started = True
        while not self._current:  # else another thread was faster
            if self._delivery.closed:
                raise StopIteration
            if self._intake.error_is_next:
                self._take_error()
            elif self._delivery.segments:
                self._take_segment()
            else:
                self._draw_or_wait()

    def _draw_or_wait(self) -> None:
        """Nothing is there to be handed out.

        Where there is room, it draws; but for a slow input it gives the calls that run a moment first: about as long as
        an input takes if it can be had without losing much, a quarter of what the input takes on the whole.
        """
        intake = self._intake
        intake.space.unpark_all()  # whoever took the last outcome may have been interrupted before it told of the room
        if intake.taken < intake.drawn or (intake.in_thread and not intake.ended):
            if intake.in_thread or intake.ended or (room := intake.room) <= 0:
                self._wait(None)
            elif not (intake.slow and intake.patience > 0 and self._wait(intake.patience)):
                intake.pull(room)
        elif intake.ended:
            intake.spans.clear()
            raise StopIteration
        else:
            intake.pull(1)

    def _take_error(self) -> None:
        intake = self._intake
        error = intake.errors[0][1]
        # From here to the last step nothing is called: an interrupt finds it taken, or not at all.
        self._current = intake.hand = [error]
        intake.taken += 1
        intake.errors.popleft()

    def _take_segment(self) -> None:
        intake, segments = self._intake, self._delivery.segments
        try:
            first, outcomes = segments[0]
        except IndexError:  # somebody closed it, in a signal handler or in another thread
            raise StopIteration from None
        if type(outcomes[0]) is Skip:
            # They were cancelled with all that waited: as with the standard executors, the rest is cancelled, too.
            self.close()
            raise CancelledError(f"the calls from ticket {first} on were cancelled")
        while intake.spans and intake.spans[0].first + intake.spans[0].count <= first:
            intake.spans.popleft()
        count, current = len(outcomes), outcomes[::-1]
        # From here to the last step nothing is called: an interrupt finds the segment taken, or not at all.
        self._behind = first + count
        self._current = intake.hand = current
        intake.taken += count
        segments.popleft()

    def _next_ticket(self) -> int | None:
        """The ticket of the next outcome, if it was claimed."""
        behind = self._behind
        return next((max(s.first, behind) for s in snapshot(self._intake.spans) if s.first + s.count > behind), None)

    def _has_some(self) -> bool:
        """Whether a reader has nothing to wait for."""
        intake = self._intake
        return self._delivery.has_some() or intake.error_is_next or (intake.ended and intake.taken >= intake.drawn)

    def _wait(self, patience: float | None) -> bool:
        """Until something is there to be handed out, or the map has ended; at most as long as `patience`, if given.

        Ended by `Delivery.put`: the scheduler delivers every ticket, skips included; by the thread that draws, if there
        is one; and by `close`.
        """
        if self._has_some():
            return True
        if (why := self._claimer.must_not_wait(self._next_ticket())) is not None:
            raise _never_ends(why)
        began = time.monotonic()
        remaining = None if self._deadline is None else self._deadline - began
        if patience is None or (remaining is not None and remaining <= patience):
            if not self._delivery.reader.park(self._has_some, remaining):
                self.close()
                raise ResultsTimeoutError("the results of the map did not all come within its timeout")
            return True
        came = self._delivery.reader.park(self._has_some, patience)
        self._intake.patience -= time.monotonic() - began
        return came

    def close(self) -> None:
        """Cancel the calls that no worker has begun; yield nothing more."""
        if self._delivery.closed:
            return
        self._delivery.closed = True
        self._delivery.segments.clear()
        self._current = []
        self._intake.drop()
        self._delivery.reader.unpark_all()

    def __del__(self) -> None:
        # As with the standard executors: a map whose results nobody ever asked for is run for its side effects.
        if self.__dict__.get("_started", False):
            self.close()
        elif "_intake" in self.__dict__:
            self._intake.stop()


def length_of(iterables: Sequence[Iterable[Any]]) -> int | None:
    """How many calls a map over these makes, as far as they know without being iterated; None if it is not known."""
    lengths = [_length_of_one(iterable) for iterable in iterables]
    least = min(lengths, default=NEVER_ENDS)
    return None if -1 in lengths or least == NEVER_ENDS else int(least)


def _length_of_one(iterable: Iterable[Any]) -> float:
    if type(iterable) in (itertools.count, itertools.cycle):
        return NEVER_ENDS
    try:
        length = length_hint(iterable, -1)
        return NEVER_ENDS if length < 0 and type(iterable) is itertools.repeat else length
    except Exception:  # an object that does not know after all
        return -1


def _never_ends(why: str | None) -> RuntimeError:
    return RuntimeError(f"waiting for the next result of the map would never end: {why}")
