"""The batches that a lane's worker has been sent, and how they are packed.

For each batch it keeps what is needed until the outcomes are home: large buffers in lane memory, time limits, and the
tasks that are to be stopped.

A batch travels in one of two forms.  *Many*: calls of one function whose arguments nobody can change, in one pickle.
*Calls*: each call in a pickle of its own, loaded just before it runs.  So a bad call harms only itself, and no two
calls share an object that one of them may change.  Calls that could not be packed or loaded together go that way, too.
The functions stand apart, so that a batch of one function carries it once.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from itertools import chain
from typing import Any

from ordered_executor._base.error_tools import copy_error
from ordered_executor._base.tasks import Batch
from ordered_executor._channel import frames
from ordered_executor._channel.arena import BufferRoom
from ordered_executor._channel.shared_memory import COUNT_MASK, TO_WORKER, LaneMemory
from ordered_executor._pickling.calls import dumps_call, pack_calls
from ordered_executor._pickling.functions import is_thing, may_be_shared, pack_for_home
from ordered_executor._pickling.outcomes import without_frames
from ordered_executor._pickling.picklers import BASIC, LARGE_BYTES, PROTOCOL, Large
from ordered_executor._script.definitions import Table
from ordered_executor._script.large_callables import LARGE_CALLABLE, carry, stand_in
from ordered_executor._script.records import Needs

# Values of these types are complete in themselves: nobody can change them.
FLAT = BASIC | {bytes}


class SentBatch:
    """A batch as the lane knows it: what must be kept until its outcomes are home."""

    __slots__ = (
        "blocks",
        "count",
        "first",
        "held",
        "home",
        "kills",
        "look_at",
        "looked",
        "number",
        "placed",
        "recorded",
        "row",
        "seen",
        "shortest",
        "still_since",
        "timeouts",
        "typical",
    )

    def __init__(self, batch: Batch) -> None:
        self.number = batch.number
        self.first = batch.first
        self.count = batch.count
        self.typical = batch.seconds / batch.count  # seconds a task; less in a batch whose size was asked for
        self.recorded = batch.recorded
        self.home = 0  # how many outcomes have come home: a prefix
        self.seen: tuple[int, int] = (0, 0)  # how far the worker was when it was last looked at
        self.held: list[Any] = []  # things of the script that its outcomes may refer to
        self.blocks = 0  # large buffers in lane memory
        self.placed = 0  # bytes of large buffers, wherever they went
        self.timeouts: list[float | None] = []
        self.shortest = 0.0
        self.look_at: float | None = None
        self.row: tuple[int, ...] = ()  # of the worker, as it was when it was last looked at
        self.still_since = 0.0  # since when it has been so
        self.looked = 0.0  # when that was
        self.kills: dict[int, BaseException] = {}  # tasks to be stopped when they run


class PackedCall:
    """A call that was packed: its arguments are what they were then, also if it must be sent again."""

    __slots__ = ("args", "fn", "kwargs", "needs", "packed", "shared")

    def __init__(
        self,
        fn: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shared: bool,
        packed: bytes | Large,
        needs: Needs | None = None,
    ) -> None:
        self.fn = fn  # because it is packed once a batch
        self.args, self.kwargs = args, kwargs  # with `fn` for messages, and for whoever asks what has failed
        self.needs = needs  # what of the script its arguments refer to
        self.shared = shared  # whether it is packed apart from its arguments
        self.packed = packed

    @classmethod
    def of(cls, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shared: bool) -> PackedCall:
        if shared and not kwargs and BASIC.issuperset(map(type, args)):
            return cls(fn, args, kwargs, True, pickle.dumps((args, kwargs), PROTOCOL))
        needs = Needs()
        large = None if shared else stand_in(fn, needs)
        packed = dumps_call((args, kwargs) if shared else (large or fn, args, kwargs), needs)
        if not shared and large is None and _size(packed) >= LARGE_CALLABLE:
            large = carry(fn, _size(packed), needs)
            if large is not None:
                packed = dumps_call((large, args, kwargs), needs)
        return cls(fn, args, kwargs, shared, packed, needs if needs.all else None)


def _size(packed: bytes | Large) -> int:
    return len(packed) if type(packed) is bytes else packed.size  # type: ignore[union-attr]


def _fail_all(batch: Batch, error: BaseException) -> None:
    error = without_frames(error)
    batch.failed = {index: copy_error(error) for index in range(batch.count)}


def _cannot_change(values: list[Any]) -> bool:
    """Whether all of them are numbers, strings, bytes, or tuples of these."""
    kinds = set(map(type, values))
    if tuple in kinds:
        kinds.remove(tuple)
        kinds.update(map(type, chain.from_iterable(value for value in values if type(value) is tuple)))
    return kinds <= FLAT


def _stands_apart(batch: Batch, fn: Any) -> bool:
    """Whether the calls of a batch share one copy of a function, which then travels apart from their arguments."""
    return batch.one_function or may_be_shared(fn) or is_thing(fn)


class SentBatches:
    """The batches a worker has, oldest first."""

    def __init__(self, memory: LaneMemory) -> None:
        self._memory = memory
        self._room = BufferRoom(memory, TO_WORKER)
        self.sent: deque[SentBatch] = deque()
        self.table = Table()  # what the worker has of the script
        self._needs = Needs()  # of the batch that is being packed
        self._inline: list[bytes] = []  # of the batch that is being packed: what found no room in lane memory
        self._given_up: deque[SentBatch] = deque()
        self.outstanding = 0  # outcomes that the worker has still to send, also if they were fetched from its memory

    def forget(self) -> None:
        """For a new lease."""
        self.sent.clear()
        self._given_up.clear()
        self.outstanding = 0
        self._room.forget()

    def pack(self, batch: Batch, generation: int) -> tuple[list[Any], list[bytes]]:
        """The bodies of two frames, in parts: what the worker has not yet of the script, if anything, and the batch.

        What cannot be packed goes into `batch.failed`.
        """
        sent = SentBatch(batch)
        self._inline = []
        self._needs = Needs()
        single, many = False, None
        calls: list[Any] = []
        packed = self._pack_many(batch, sent)
        if packed is not None:
            single, many, fns = packed
        else:
            fns, calls = self._pack_calls(batch, sent)
        try:
            definitions = self.table.update(self._needs)
        except BaseException as error:  # an object of the script refuses to be looked at
            definitions = []
            _fail_all(batch, error)
            many, calls, fns = None, [None] * batch.count, []
        sent.held = self._needs.held
        sent.timeouts = batch.timeouts()
        if timed := bool(sent.timeouts):
            sent.shortest = min(limit for limit in sent.timeouts if limit is not None)
            sent.look_at = time.monotonic() + sent.shortest
        self.sent.append(sent)
        self.outstanding += batch.count
        head = generation, batch.number, batch.first, batch.count, batch.seconds, timed, batch.recorded, batch.losses()
        body = frames.pack((*head, fns, single, many, calls))
        batch.load = len(body) + sent.placed
        inline, self._inline = self._inline, []
        return definitions, [frames.LENGTH.pack(len(body)), body, *inline]

    def _pack_many(self, batch: Batch, sent: SentBatch) -> tuple[bool, Any, list[Any]] | None:
        """Calls of one function whose arguments nobody can change, and which so always load, in one pickle.

        None: they are not like that, or it fails; then each of them is to have an error of its own.
        """
        alike = None if batch.apart else batch.alike()
        if alike is None or not _stands_apart(batch, alike.fn):
            return None
        args = alike.args
        if not _cannot_change(args if alike.single else list(chain.from_iterable(args))):
            return None
        try:
            fns = [self._place_function(alike.fn, sent)]
            return alike.single, self._place(pickle.dumps(args, PROTOCOL), sent), fns
        except BaseException:
            return None

    def _pack_calls(self, batch: Batch, sent: SentBatch) -> tuple[list[Any], list[Any]]:
        one_function = batch.one_function

        def pack(index: int, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
            if one_function:  # nothing is kept of it: see `Batch.keep_packed`
                return True, self._place(dumps_call((args, kwargs), self._needs), sent)
            call = batch.packed(index)
            if call is None:
                call = PackedCall.of(fn, args, kwargs, _stands_apart(batch, fn))
                batch.keep_packed(index, call)
            if call.needs is not None:
                self._needs.merge(call.needs)
            return call.shared, self._place(call.packed, sent)

        return pack_calls(batch, pack, lambda fn: self._place_function(fn, sent))

    def _place_function(self, fn: Any, sent: SentBatch) -> Any:
        if may_be_shared(fn):
            return self._place(pack_for_home(fn, self._needs), sent)
        large = stand_in(fn, self._needs)
        packed = pack_for_home(fn if large is None else large, self._needs)
        if large is None and len(packed) >= LARGE_CALLABLE:
            large = carry(fn, len(packed), self._needs)
            if large is not None:
                packed = pack_for_home(large, self._needs)
        return self._place(packed, sent)

    def _place(self, packed: bytes | Large, sent: SentBatch) -> Any:
        """What goes into the frame for something packed; large buffers into lane memory, if there is room."""
        if type(packed) is bytes:
            if len(packed) < LARGE_BYTES:
                return packed
            packed = Large(b"", [packed])
        assert type(packed) is Large
        places: list[Any] = []
        for buffer in packed.buffers:
            view = memoryview(buffer).cast("B")
            sent.placed += len(view)
            at = self._room.take(len(view)) if len(view) else None
            if at is None:  # behind the frame: from a place below zero on, one's complement
                places.append((~sum(map(len, self._inline)), len(view)))
                self._inline.append(buffer if type(buffer) is bytes else bytes(view))
            else:
                self._memory.bytes[at : at + len(view)] = view
                places.append((at, len(view)))
                sent.blocks += 1
        return (bytes(packed.head), places)

    def arrived(self, number: int, upto: int) -> None:
        """The outcomes of a batch are home up to this index."""
        for sent in self.sent:
            if sent.number == number:
                sent.home = max(sent.home, upto)

    def acknowledged(self, count: int) -> None:
        """So many outcomes came by a frame."""
        self.outstanding -= count
        assert self.outstanding >= 0, self.outstanding

    def home(self, number: int) -> int:
        """How many outcomes of a batch are home; more than there are if all are, and it is done with."""
        return next((sent.home for sent in self.sent if sent.number == number), COUNT_MASK)

    @property
    def busy(self) -> bool:
        """Whether the worker has something to do, or to send: until then its memory is its own."""
        return bool(self.sent) or self.outstanding > 0

    @property
    def current(self) -> SentBatch | None:
        """The batch the worker is at: the first that is not wholly home (of one before the scheduler may yet hear)."""
        for sent in self.sent:
            if sent.home < sent.count:
                return sent
        return None

    def give_back(self, kept: int = 0) -> None:
        """Nothing is on its way: let the system have the memory that was used for arguments, but for so many bytes."""
        assert not self.busy
        self._room.give_back(kept)

    def done(self, number: int) -> None:
        """Everything of the batch is home: its place in lane memory is free."""
        sent = self.sent.popleft()
        assert sent.number == number, (sent.number, number)
        self._given_up.append(sent)
        self._free_blocks()

    def handed_back(self, number: int, start: int) -> None:
        """The worker has sent home the batch up to `start`; the rest, and those behind it, are not its."""
        while self.sent and self.sent[-1].number != number:
            self.outstanding -= self.sent[-1].count
            self._given_up.appendleft(self.sent.pop())
        assert self.sent, "a lane handed back a batch that it does not have"
        self.outstanding -= self.sent[-1].count - start
        self._given_up.appendleft(self.sent.pop())
        self._free_blocks()

    def _free_blocks(self) -> None:
        # Blocks are freed in the order made: not before those of the batches in front of them.
        while self._given_up and (not self.sent or self._given_up[0].number < self.sent[0].number):
            self._room.free(self._given_up.popleft().blocks)
