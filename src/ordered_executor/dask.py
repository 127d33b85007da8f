"""`OrderedDaskExecutor`: ordered execution on a Dask cluster.

The backend of a `distributed.Client`: a batch is one Dask task, and a lane is a slot for batches, one for each thread
of the cluster.

    send --> client.submit(priority=-ticket) --> a worker runs it --> its outcomes stay there
                                                                            |  "done" (a message, no outcomes)
    releaser <-- [_posts] <-- client.gather <-- inside the window? <--------+

Guarantees: outcomes travel to the parent only when all their tickets are before `head + window`, and one lane's come
in the order they were sent.  What is further ahead stays on the cluster, where it keeps no worker from running other
things: so the head always gets a thread, and nothing can wait in a circle.

Why parts: a batch begins as one Dask task.  If that is lost (its workers died) or stopped (`kill`), any of its tickets
may be to blame: then each goes on as a Dask task of its own.

Why lanes never end here: Dask replaces its workers by itself, so a loss concerns a part, and never a lane.

All of it runs on the releaser, but `wake`, and `_watch` and `_fetch` on the client's loop, which only put into
`_posts`.  The releaser's wait is ended by one of these, or finds out by itself that the client was closed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import distributed

from . import _exit
from ._backend import Arrived, Broken, Ended, Event, Ready
from ._check import check_count, check_optional_count
from ._dispatcher import Slice
from ._errors import TerminatedWorkerError, add_note, copy_error
from ._executor import OptionsView, OrderedExecutor
from ._functions import may_be_shared, pack_function
from ._gate import Window
from ._payload import BASIC, PROTOCOL, Large, dumps, loads, pack_error, pack_value, without_frames
from ._ticket import Batch, Failure
from .process_pool import DEFAULT_WINDOW_BYTES

__all__ = ["OrderedDaskExecutor"]

# Closing a client tells nobody.  While something is on the cluster and nothing is heard, look so often.
LOOK_SECONDS = 1.0
# How fast a large outcome is forgotten when the size of the next ones is guessed.
FORGET = 0.8


class OrderedDaskExecutor(OrderedExecutor):
    """A `concurrent.futures.Executor` on a Dask cluster whose futures complete in the order of submission.

    Args:
        client: a `distributed.Client` (not an asynchronous one).  It stays open: whoever made it closes it, later.
        window: how many tickets past the head an outcome may travel.  What is further ahead stays on the cluster.
            Default: wide; `window_bytes` bounds the memory.
        window_bytes: how many bytes of outcomes the parent may hold before their turn.  Kept by a guess from the
            sizes of the last ones: only the cluster knows how large an outcome is before it travels.
        backlog: how many tickets may be submitted and not yet read; then `submit` waits.  Default: any number.
        retries: how often a task is sent again that Dask has given up because its workers died.
        keep_results: keep unread outcomes for `results()`.
        unseen_errors: what becomes of failures nobody looked at: `"log"`, `"raise"` (at shutdown) or `"ignore"`.

    As many batches run at a time as the cluster has threads now.  There is no `task_timeout`: Dask stops no thread.
    Raises `TypeError` or `ValueError`, naming the argument.
    """

    def __init__(
        self,
        client: distributed.Client,
        *,
        window: int | None = None,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        backlog: int | None = None,
        retries: int = 0,
        keep_results: bool = True,
        unseen_errors: str = "log",
    ) -> None:
        if not isinstance(client, distributed.Client):
            raise TypeError(f"client must be a distributed.Client, not {client!r}")
        if client.asynchronous:
            raise ValueError("client must not be an asynchronous one: make it without asynchronous=True")
        window = check_optional_count("window", window, 1)
        window_bytes = check_count("window_bytes", window_bytes, 1)
        threads = max(1, sum(client.nthreads().values()))
        bounds = Window(window, window_bytes, threads)
        super().__init__(
            DaskBackend(client, bounds, threads),
            bounds,
            threads,
            backlog=backlog,
            retries=retries,
            timeout=None,
            keep_results=keep_results,
            unseen_errors=unseen_errors,
        )

    def options(self, *, retries: int | None = None, timeout: float | None = None) -> OptionsView:
        """A light view on this executor whose `submit` and `map` use other `retries`.  No `timeout`: see the class."""
        if timeout is not None:
            raise ValueError("timeout must be None: Dask cannot stop a task that runs")
        return super().options(retries=retries)


# ------------------------------------------------------------------------------------------------------- on the cluster


def run_batch(packed: bytes) -> bytes:
    """Run the calls of a part, one after the other; return their outcomes, the process, and the seconds they took.

    Bytes in and out: what Dask would do to the user's objects on their way does not happen.
    """
    fns, calls = pickle.loads(packed)
    begun = time.monotonic()
    loaded: dict[int, Any] = {}
    outcomes = [_outcome(fns, loaded, call) for call in calls]
    return pickle.dumps((outcomes, os.getpid(), time.monotonic() - begun), PROTOCOL)


def _outcome(fns: list[bytes], loaded: dict[int, Any], call: Any) -> Any:
    """Run one ticket; its value if that is of a basic type, else packed."""
    if call is None:
        return None  # the parent has its outcome already; this keeps its place
    try:
        value = _run(fns, loaded, *call)
        return value if type(value) in BASIC else _portable(pack_value(value))
    except BaseException as error:
        return _portable(pack_error(error))


def _run(fns: list[bytes], loaded: dict[int, Any], which: int, packed: Any) -> Any:
    try:
        if which < 0:
            fn, args, kwargs = loads(packed)
        else:
            if which not in loaded:
                loaded[which] = pickle.loads(fns[which])
            fn = loaded[which]
            args, kwargs = loads(packed)
    except BaseException as error:
        add_note(error, "The task did not run: its function or arguments could not be unpickled in the worker.")
        raise
    return fn(*args, **kwargs)


def _portable(packed: bytes | Large) -> bytes | Large:
    """The same with buffers that can be pickled, and that are not the user's any more."""
    if type(packed) is bytes:
        return packed
    assert type(packed) is Large
    return Large(bytes(packed.head), [bytearray(buffer) for buffer in packed.buffers])


# ------------------------------------------------------------------------------------------------------- in the parent


@dataclass(frozen=True)
class Slot:
    """The key of a lane.  Equal by its number; an outcome's own one says in which process it was made."""

    number: int
    pid: int | None = field(default=None, compare=False)


class Parcel:
    """A batch, packed: kept until all of it is home, as a part may have to be sent again."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.fns: list[bytes] = []
        self.calls: list[tuple[int, bytes | Large] | None] = []
        known: dict[int, int] = {}
        for index, (fn, args, kwargs) in enumerate(_calls(batch)):
            try:
                self.calls.append(self._pack(known, fn, args, kwargs))
            except BaseException as error:
                batch.failed[index] = without_frames(error)
                self.calls.append(None)

    def _pack(self, known: dict[int, int], fn: Any, args: Any, kwargs: Any) -> tuple[int, bytes | Large]:
        """The index of its function, or -1 if that travels with its arguments; and what travels."""
        if not may_be_shared(fn):
            return -1, _portable(dumps((fn, args, kwargs)))
        if id(fn) not in known:
            self.fns.append(pack_function(fn))
            known[id(fn)] = len(self.fns) - 1
        return known[id(fn)], _portable(dumps((args, kwargs)))

    def retries(self, index: int) -> int:
        owners = self.batch.owners
        options = owners[0].options if type(owners[0]) is Slice else owners[index].options
        return int(options.retries)

    def killed(self, index: int) -> BaseException | None:
        """What its ticket ends with if it was stopped by `kill()`."""
        owners = self.batch.owners
        return None if type(owners[0]) is Slice else owners[index].killed


def _calls(batch: Batch) -> list[tuple[Any, Any, dict[str, Any]]]:
    piece = batch.owners[0]
    if type(piece) is not Slice:
        return [future.call for future in batch.owners]
    span = piece.span
    args = span.args[piece.start : piece.start + piece.count]
    return [(span.fn, (mine,) if span.single else mine, {}) for mine in args]


class Part:
    """Consecutive tickets of a batch that are one Dask task."""

    def __init__(self, parcel: Parcel, start: int, count: int) -> None:
        self.parcel = parcel
        self.start = start
        self.count = count
        self.ticket = parcel.batch.first + start
        self.task: Any = None  # the Dask future; None: it was given up, or is home
        self.ended = False  # the cluster is done with it, well or not
        self.guess: int | None = None  # the bytes it is expected to have, while it travels
        self.losses = 0
        self.failure: BaseException | None = None  # what all of it ends with, without a worker


class DaskBackend:
    """Lanes on a Dask cluster.  See `_backend.Backend`."""

    def __init__(self, client: Any, window: Window, max_lanes: int) -> None:
        self._client = client
        self._window = window
        self._max_lanes = max_lanes
        self._lanes: dict[Slot, deque[Part]] = {}  # what each has, in ticket order
        self._posts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._events: list[Event] = []
        self._head = 0
        self._limit = 0
        self._unreleased = 0  # bytes that are home and not released
        self._travelling = 0  # bytes expected on their way
        self._each: float | None = None  # bytes of an outcome, guessed from the last ones: rather too many
        self._gated = 0
        self._closing = False
        self._broken = False

    # ------------------------------------------------------------------------------------------------------ the lanes

    def want(self, lanes: int) -> None:
        for number in range(len(self._lanes), min(lanes, self._max_lanes)):
            slot = Slot(number)
            self._lanes[slot] = deque()
            self._events.append(Ready(slot))
        _exit.register()

    def retire(self, lane: Any) -> None:
        del self._lanes[lane]
        self._events.append(Ended(lane))

    def send(self, lane: Any, batch: Batch) -> None:
        part = Part(Parcel(batch), 0, batch.count)
        self._lanes[lane].append(part)
        self._submit(part)

    def _submit(self, part: Part) -> None:
        """Have the cluster run it.  Does not wait."""
        part.ended = False
        calls = part.parcel.calls[part.start : part.start + part.count]
        try:
            packed = pickle.dumps((part.parcel.fns, calls), PROTOCOL)
            # Lowest ticket first: left alone, what is submitted close together runs last in, first out.
            part.task = self._client.submit(run_batch, packed, pure=False, priority=-part.ticket)
            self._client.loop.add_callback(self._watch, part, part.task)
        except Exception as error:
            self._give_up(part)
            part.failure = without_frames(error)
            self._look_at_client()

    def _give_up(self, part: Part) -> None:
        """Let the cluster forget it: what has not begun does not begin, what it keeps it drops.  Does not wait."""
        if part.task is not None:
            part.task.release()
            part.task = None

    def done(self, lane: Hashable, batch: Batch) -> None:
        """Nothing is kept for it but its parts, which are gone."""

    # ----------------------------------------------------------------------------------------------------- the window

    def open(self, head: int, limit: int) -> None:
        self._head, self._limit = head, limit  # `wait` comes next, and lets in who may

    def give_back(self, lane: Hashable, size: int) -> None:
        self._unreleased -= size

    def _let_in(self) -> None:
        """Fetch what is at the front of its lane and inside the window."""
        self._gated = 0
        for slot, parts in self._lanes.items():
            while parts and parts[0].failure is not None:
                self._fail(slot, parts.popleft())
            if parts and parts[0].ended and parts[0].guess is None:
                self._judge(parts[0])

    def _judge(self, part: Part) -> None:
        guess = int(part.count * (self._window.bytes if self._each is None else self._each))
        inside = part.ticket + part.count <= self._limit
        if part.ticket == self._head or (inside and self._unreleased + self._travelling + guess <= self._window.bytes):
            part.guess = guess
            self._travelling += guess
            self._client.loop.add_callback(self._fetch, part, part.task)
        else:
            self._gated += 1

    def _fail(self, slot: Slot, part: Part) -> None:
        assert part.failure is not None
        outcomes = [Failure(copy_error(part.failure)) for _ in range(part.count)]
        # "rescued", as it passed no gate
        self._events.append(Arrived(slot, part.parcel.batch.number, part.start, outcomes, 0, 0.0, rescued=True))

    # ------------------------------------------------------------------------------------------------- from the cluster

    async def _watch(self, part: Part, task: Any) -> None:
        """On the client's loop: wait until the cluster is done with it.  Fetches nothing.

        Not a done-callback: Dask has one thread for those of the whole program, which may be busy, and which cannot be
        started any more at the program's end.
        """
        with contextlib.suppress(BaseException):  # what became of it, `_fetch` will see
            await task.exception()
        self._posts.put(partial(self._on_ended, part, task))

    async def _fetch(self, part: Part, task: Any) -> None:
        """On the client's loop.  Never cancelled: others may be waiting for the same transfer."""
        packed, error = None, None
        try:
            packed = await self._client.gather(task, asynchronous=True)
        except BaseException as reason:  # what became of the task; also Dask's way to say "cancelled"
            error = reason
        self._posts.put(partial(self._on_fetched, part, task, packed, error))
        del part, task, packed, error  # this frame is in the traceback, which lives as long as the error

    def wait(self, timeout: float | None) -> list[Event]:
        self._let_in()
        if self._events:
            timeout = 0
        elif any(self._lanes.values()) and (timeout is None or timeout > LOOK_SECONDS):
            timeout = LOOK_SECONDS
        try:
            self._posts.get(timeout=timeout)() if timeout != 0 else self._posts.get_nowait()()
            while True:
                self._posts.get_nowait()()
        except queue.Empty:
            pass
        if any(self._lanes.values()):
            self._look_at_client()
        events, self._events = self._events, []
        return events

    def wake(self) -> None:
        self._posts.put(_nothing)

    def _on_ended(self, part: Part, task: Any) -> None:
        if part.task is task:
            part.ended = True

    def _on_fetched(self, part: Part, task: Any, packed: bytes | None, error: BaseException | None) -> None:
        assert part.guess is not None
        self._travelling -= part.guess
        part.guess = None
        if part.task is not task:
            return  # closed meanwhile
        self._give_up(part)
        slot, parts = next((slot, parts) for slot, parts in self._lanes.items() if parts and parts[0] is part)
        if packed is None:
            assert error is not None
            self._on_lost(parts, part, error)
            return
        parts.popleft()
        outcomes, pid, seconds = pickle.loads(packed)  # basic types, bytes and buffers: nothing of the user's runs here
        size = len(packed)
        self._unreleased += size
        self._each = max(size / part.count, FORGET * (self._each or 0.0))
        batch = part.parcel.batch
        self._events.append(Arrived(Slot(slot.number, pid), batch.number, part.start, outcomes, size, seconds))

    def _on_lost(self, parts: deque[Part], part: Part, error: BaseException) -> None:
        """Dask has given it up: its workers died, somebody cancelled it, or it could not even be loaded there."""
        if part.count > 1:
            self._take_apart(parts, part)
            return
        part.losses += 1
        part.failure = part.parcel.killed(part.start)
        if part.failure is not None:
            return
        if part.losses <= part.parcel.retries(part.start):
            self._submit(part)
            return
        text = f"the Dask task of ticket {part.ticket} was lost: {type(error).__name__}: {error}"
        part.failure = TerminatedWorkerError(text, part.ticket)
        part.failure.__cause__ = error

    def _take_apart(self, parts: deque[Part], part: Part) -> None:
        """From now on each of its tickets is a Dask task; one that was stopped ends with the reason instead."""
        place = parts.index(part)
        del parts[place]
        for index in range(part.start, part.start + part.count):
            single = Part(part.parcel, index, 1)
            parts.insert(place + index - part.start, single)
            single.failure = part.parcel.killed(index)
            if single.failure is None:
                self._submit(single)

    def _look_at_client(self) -> None:
        if self._client.status in ("closing", "closed") and not self._broken and not self._closing:
            self._broken = True
            self._events.append(Broken(BrokenProcessPool("the Dask client was closed before its executor")))

    # ------------------------------------------------------------------------------------------------- kill and close

    def kill(self, lane: Any, number: int, index: int, reason: BaseException) -> None:
        for part in self._lanes[lane]:
            if part.parcel.batch.number == number and part.start <= index < part.start + part.count:
                if not part.ended and part.failure is None:
                    self._give_up(part)
                    self._take_apart(self._lanes[lane], part)
                return

    def close(self, kill: bool) -> None:
        self._closing = True
        for parts in self._lanes.values():
            for part in parts:
                self._give_up(part)
        self._lanes.clear()

    @property
    def closed(self) -> bool:
        return self._closing

    def release(self) -> None:
        """There is nothing: the client is its maker's."""

    def abandon(self) -> None:
        # Dask futures stay referenced: letting go of one would tell the parent's cluster.
        self._posts = queue.SimpleQueue()

    def snapshot(self) -> dict[str, Any]:
        return {"workers": len(self._lanes), "gated": self._gated, "pids": ()}


def _nothing() -> None:
    """What wakes whoever waits for posts."""
