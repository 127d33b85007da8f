"""The two kinds of batches: of futures, and of a map.  Pure.

A backend knows neither: it asks `Batch` (see `_base.tasks`).  The core asks for the rest here, so that no other module
has to know which kind a batch is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ordered_executor._base.tasks import Alike, Batch, Options
from ordered_executor._pickling.outcomes import is_failure
from ordered_executor._pickling.texts import as_call

if TYPE_CHECKING:
    from ordered_executor._core.future import Future
    from ordered_executor._core.map import Span


@dataclass(slots=True)
class CoreBatch(Batch):
    """What the core knows of a batch besides.

    `lane`: the key of the lane that has it.  `again`: some of it may have been with a worker that died.
    `kept`: the tickets from this index on are not with the lane any more: they were taken back.
    `settled`: from this index on the lane begins nothing, which was found out when it was recalled.  Whoever finds it
    out stores it, on any thread.
    """

    lane: Any = None
    again: bool = False
    kept: int = -1
    settled: int | None = None

    def __post_init__(self) -> None:
        self.kept = self.count

    def owners(self, start: int, count: int) -> list[Any]:
        """Those that wait for these outcomes, as a segment has them."""
        raise NotImplementedError

    def take_from(self, start: int) -> list[Any]:
        """Take out what the lane has of it from an index on: futures, or a slice."""
        raise NotImplementedError

    def come_home(self, start: int, outcomes: list[Any], *, failed: bool, keeps_calls: bool) -> None:
        """Outcomes from an index on are home: let go of the arguments, but for those that failed, if any has.

        `keeps_calls`: those of tasks that went well stay, too.
        """
        raise NotImplementedError

    def cancelled(self, index: int) -> bool:
        """Whether the ticket is cancelled.  If it is not, it cannot be any more."""
        raise NotImplementedError

    def charge(self, index: int) -> bool:
        """Charge this ticket with the death of a worker; whether its retries cover that."""
        raise NotImplementedError

    def call_at(self, index: int) -> tuple[Any, Any, Any, int]:
        """Function, arguments, keywords and past losses of a ticket; the arguments may be gone already."""
        raise NotImplementedError

    @property
    def is_told_apart(self) -> bool:
        """Whether somebody may ask for the time of each of its tasks."""
        raise NotImplementedError

    def forget(self) -> None:
        """No lane has it any more."""


class _Home:
    """In the place of a future that is home, or was taken back."""

    call: Any = None
    losses = 0


_HOME: Any = _Home()


@dataclass(slots=True)
class FutureBatch(CoreBatch):
    """Of tickets each of which has a future."""

    futures: list[Future[Any]] = field(default_factory=list)

    # --------------------------------------------------------------------------------------------------- for a backend

    def calls(self) -> list[Any]:
        return [call if type(call := future.call) is tuple else as_call(call) for future in self.futures]

    def alike(self) -> Alike | None:
        if self.count < 2:
            return None
        fn = as_call(self.futures[0].call)[0]
        single = True
        args: list[Any] = []
        for future in self.futures:
            call = future.call
            if type(call) is not tuple or call[0] is not fn or call[2] or future.killed is not None:
                return None
            mine = call[1]
            single = single and len(mine) == 1
            args.append(mine)
        return Alike(fn, [mine[0] for mine in args] if single else args, single)

    @property
    def one_function(self) -> bool:
        return False

    def packed(self, index: int) -> Any:
        call = self.futures[index].call
        return None if type(call) is tuple else call

    def keep_packed(self, index: int, packed: Any) -> None:
        self.futures[index].call = packed

    def options(self, index: int) -> Options:
        return self.futures[index].options

    def timeouts(self) -> list[float | None]:
        limits = [future.options.timeout for future in self.futures]
        return limits if any(limit is not None for limit in limits) else []

    def losses(self) -> dict[int, int]:
        if not self.again:
            return {}
        return {index: future.losses for index, future in enumerate(self.futures) if future.losses}

    def killed(self) -> dict[int, BaseException]:
        return {index: future.killed for index, future in enumerate(self.futures) if future.killed is not None}

    def functions(self) -> list[Any]:
        found = [as_call(future.call)[0] for future in self.futures]
        return found[:1] if all(fn is found[0] for fn in found) else found

    # ---------------------------------------------------------------------------------------------------- for the core

    def owners(self, start: int, count: int) -> list[Any]:
        return self.futures if count == self.count else self.futures[start : start + count]

    def take_from(self, start: int) -> list[Any]:
        rest = self.futures[start : self.kept]
        self._forget(start, self.count - start)
        return rest

    def _forget(self, start: int, count: int) -> None:
        """What the others wait for must not keep these from going with their holders."""
        self.futures[start : start + count] = [_HOME] * count

    def come_home(self, start: int, outcomes: list[Any], *, failed: bool, keeps_calls: bool) -> None:
        for future, outcome in zip(self.owners(start, len(outcomes)), outcomes, strict=True):
            future.sent = None
            if not keeps_calls and not (failed and is_failure(outcome)):  # messages name the rest
                call = future.call
                future.call = call[:1] if type(call) is tuple else (call.fn,)
        if len(outcomes) < self.count:
            self._forget(start, len(outcomes))

    def cancelled(self, index: int) -> bool:
        return not self.futures[index].leave()

    def charge(self, index: int) -> bool:
        future = self.futures[index]
        future.losses += 1
        return future.losses <= future.options.retries

    def call_at(self, index: int) -> tuple[Any, Any, Any, int]:
        future = self.futures[index]
        return *as_call(future.call), future.losses

    @property
    def is_told_apart(self) -> bool:
        return True


class Slice:
    """A part of a span that goes its way as one piece."""

    __slots__ = ("apart", "count", "first", "span", "start")

    def __init__(self, span: Span, start: int, count: int) -> None:
        self.span = span
        self.start = start
        self.count = count
        self.first = span.first + start
        self.apart = False

    def cut(self, count: int) -> Slice:
        """Cut `count` tickets off the front."""
        front = Slice(self.span, self.start, count)
        front.apart = self.apart
        self.start += count
        self.first += count
        self.count -= count
        return front


@dataclass(slots=True, kw_only=True)
class MapBatch(CoreBatch):
    """A slice of a map's calls."""

    slice: Slice

    @classmethod
    def of(cls, piece: Slice, number: int, lane: Any = None) -> MapBatch:
        batch = cls(number, piece.first, piece.count, apart=piece.apart, lane=lane, slice=piece)
        piece.span.sent[number] = batch
        return batch

    @property
    def span(self) -> Span:
        return self.slice.span

    # --------------------------------------------------------------------------------------------------- for a backend

    def calls(self) -> list[Any]:
        fn, args, single = self.alike()
        return [(fn, (mine,) if single else mine, {}) for mine in args]

    def alike(self) -> Alike:
        piece = self.slice
        span = piece.span
        return Alike(span.fn, span.args[piece.start : piece.start + self.count], span.single)

    @property
    def one_function(self) -> bool:
        return True

    def packed(self, index: int) -> None:
        return None

    def keep_packed(self, index: int, packed: Any) -> None:
        """It is not kept."""

    def options(self, index: int) -> Options:
        return self.span.options

    def timeouts(self) -> list[float | None]:
        limit = self.span.options.timeout
        return [] if limit is None else [limit] * self.count

    def losses(self) -> dict[int, int]:
        if not self.again:
            return {}
        start = self.slice.start
        return {index - start: lost for index, lost in self.span.losses.items() if start <= index < start + self.count}

    def killed(self) -> dict[int, BaseException]:
        return {}

    def functions(self) -> list[Any]:
        return [self.span.fn]

    # ---------------------------------------------------------------------------------------------------- for the core

    def owners(self, start: int, count: int) -> list[Any]:
        return [self.slice]

    def take_from(self, start: int) -> list[Any]:
        return [Slice(self.span, self.slice.start + start, self.kept - start)] if start < self.kept else []

    def come_home(self, start: int, outcomes: list[Any], *, failed: bool, keeps_calls: bool) -> None:
        self.span.let_go(self.slice.start + start, outcomes if failed else None, len(outcomes))

    def cancelled(self, index: int) -> bool:
        return self.span.cancelled

    def charge(self, index: int) -> bool:
        losses, place = self.span.losses, self.slice.start + index
        losses[place] = losses.get(place, 0) + 1
        return losses[place] <= self.span.options.retries

    def call_at(self, index: int) -> tuple[Any, Any, Any, int]:
        place = self.slice.start + index
        return *self.span.call_at(place), self.span.losses.get(place, 0)

    @property
    def is_told_apart(self) -> bool:
        return self.span.outcomes

    def forget(self) -> None:
        self.span.sent.pop(self.number, None)
