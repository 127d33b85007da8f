"""Batches on their way to a cluster: packed, cut into parts, and taken apart again.  It knows neither Dask nor Ray.

A *part* is one task to the cluster: consecutive tickets of a batch, mostly all of it.  A ticket that needs something of
the cluster (a reference among its arguments) is a part of its own, since it waits for that.  So are tickets that the
cluster is to treat differently (`Options.extra`), and each ticket of a part that was lost or stopped: any of them may
be to blame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pickle import PickleBuffer
from typing import Any

from ordered_executor._base.tasks import Batch, Options
from ordered_executor._clusters.task import Cargo, Carried, Packed, Shared, value_of
from ordered_executor._pickling.calls import dumps_call, pack_calls
from ordered_executor._pickling.functions import may_be_shared, pack_function
from ordered_executor._pickling.picklers import PROTOCOL, pickle_as


@dataclass(frozen=True)
class Slot:
    """The key of a lane.  Equal by its number; an outcome's own one says in which process it was made."""

    number: int
    pid: int | None = field(default=None, compare=False)


# --------------------------------------------------------------------------------------------------------- references


class _Found(threading.local):
    """The references that were met in what is being pickled; None: not for a cluster."""

    now: list[Any] | None = None


_found = _Found()


def send_references(kind: type) -> None:
    """Objects of this class, wherever they are among the arguments of a task, become its dependencies."""

    def reduce(reference: Any) -> Any:
        if _found.now is None:
            return reference.__reduce_ex__(PROTOCOL)
        _found.now.append(reference)
        return value_of, (len(_found.now) - 1,)

    pickle_as(kind, reduce)


# ------------------------------------------------------------------------------------------------------------- parcels


# A buffer from here on may be shared: it is looked at whether it was sent before.
SHARE_BYTES = 1024 * 1024


class _LargeBytes:
    """A large bytes object among the arguments: its content travels as a buffer, like that of an array."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return bytes, (PickleBuffer(self._value),)


def _beside(value: Any) -> Any:
    return _LargeBytes(value) if type(value) is bytes and len(value) >= SHARE_BYTES else value


class Parcel:
    """A batch, packed: kept until all of it is home, as a part may have to be sent again.

    `share` takes a large buffer, and may return something that stands for it: then many parcels have the same.
    """

    def __init__(self, batch: Batch, share: Callable[[Any], Any]) -> None:
        self.batch = batch
        self._share = share
        self.kills: dict[int, BaseException] = {}  # what the tickets end with that were stopped
        self.needs: dict[int, list[Any]] = {}  # of a ticket: the references among its arguments
        self.fns, self.calls = pack_calls(batch, self._pack, pack_function)
        for index in batch.failed:
            self.needs.pop(index, None)

    def _pack(self, index: int, fn: Any, args: Any, kwargs: Any) -> tuple[bool, bytes | Packed]:
        shared = may_be_shared(fn)
        args = tuple(map(_beside, args))
        kwargs = {name: _beside(value) for name, value in kwargs.items()} if kwargs else kwargs
        found: list[Any] = []
        _found.now = found
        try:
            packed = dumps_call((args, kwargs) if shared else (fn, args, kwargs))
        finally:
            _found.now = None
        if found:
            self.needs[index] = found
        sent = packed if type(packed) is bytes else self._beside(packed)
        self.batch.load += _length(sent)
        return shared, sent

    def _beside(self, packed: Any) -> Packed:
        return Packed(bytes(packed.head), [self._share(buffer) for buffer in packed.buffers])

    def options(self, index: int) -> Options:
        return self.batch.options(index)

    def killed(self, index: int) -> BaseException | None:
        """What its ticket ends with if it was stopped."""
        return self.kills.get(index)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Where its parts begin, and how many tickets they have."""
        begin, count = 0, self.batch.count
        for index in range(1, count):
            before, extra = self.options(index - 1).extra, self.options(index).extra
            alike = extra is before or extra == before
            if not alike or index in self.needs or index - 1 in self.needs:
                yield begin, index - begin
                begin = index
        yield begin, count - begin


def _length(packed: bytes | Packed) -> int:
    if type(packed) is not Packed:
        return len(packed)
    return len(packed.head) + sum(len(each.buffer) for each in packed.buffers if type(each) is Carried)


# --------------------------------------------------------------------------------------------------------------- parts


class Part:
    """See the module."""

    def __init__(self, parcel: Parcel, slot: Hashable, start: int, count: int) -> None:
        self.parcel = parcel
        self.slot = slot
        self.start = start
        self.count = count
        self.ticket = parcel.batch.first + start
        self.task: Any = None  # the cluster's name for it; None: it was given up, or is home
        self.gone = False  # it is no part any more: it was taken apart
        self.ended = False  # the cluster is done with it, well or not
        self.offered = False  # it stands among those that may come home
        self.size: int | None = None  # of its outcomes, in bytes, where the cluster tells it before they travel
        self.guess: int | None = None  # the bytes it is expected to have, while it travels
        self.losses = 0  # that it is charged with
        self.accidents = 0  # losses that are nobody's fault
        self.failure: BaseException | None = None  # what all of it ends with, without a worker
        self.attempt = -1  # the number of its last start, where its tasks have time limits

    def timeout(self, index: int) -> float | None:
        """Of the ticket with that index in the part."""
        return self.parcel.options(self.start + index).timeout

    @property
    def timed(self) -> bool:
        return any(self.timeout(index) is not None for index in range(self.count))

    @property
    def extra(self) -> Any:
        return self.parcel.options(self.start).extra

    @property
    def needs(self) -> list[Any]:
        return self.parcel.needs.get(self.start, [])

    def shared(self) -> list[Any]:
        """What stands for buffers of its calls that many parcels have."""
        calls = self.parcel.calls[self.start : self.start + self.count]
        buffers = [each for call in calls if call and type(call[1]) is Packed for each in call[1].buffers]
        return list(dict.fromkeys(each for each in buffers if type(each) is not Carried))

    def cargo(self, watch: Callable[[int], object] | None = None, lying: list[Any] | None = None) -> Cargo:
        """What is sent; `lying`: of `shared()`, what lies on the cluster.  What does not is sent along."""
        places = {each: Shared(number) for number, each in enumerate(lying or ())}

        def place(packed: Any) -> Any:
            if type(packed) is not Packed:
                return packed
            placed = [each if type(each) is Carried else places.get(each, each.carried) for each in packed.buffers]
            return Packed(packed.head, placed)

        calls = self.parcel.calls[self.start : self.start + self.count]
        return Cargo(self.parcel.fns, [call and (call[0], place(call[1])) for call in calls], watch)
