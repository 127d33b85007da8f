"""The code that runs on a cluster's worker: a part of a batch, call by call; and the values that travel there and back.

Every object of the user's is a pickle of ours inside, so that the cluster's own handling of objects does not touch it.
Large buffers stand beside their pickle in a `Carried`, which goes out of band if the cluster's own pickling does that
(protocol 5).  It imports neither Dask nor Ray.

A task gets buffers of its own: the buffers that came may belong to the cluster, which keeps them to run the task again,
or many tasks may share them.  The same holds for a result: buffers that the task goes on using are not those that stay
on the cluster.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ordered_executor._base.error_tools import add_note
from ordered_executor._pickling.outcomes import KIND_BYTES, pack_error, pack_value
from ordered_executor._pickling.picklers import BASIC, Buffer, Large, loads


class Carried:
    """A large buffer on its way."""

    __slots__ = ("buffer",)

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Carried, (pickle.PickleBuffer(self.buffer) if protocol >= 5 else bytes(self.buffer),)

    def __sizeof__(self) -> int:  # what Dask goes by when it counts a worker's memory
        return len(self.buffer)


class Shared(int):
    """In the place of a buffer: the number of one that lies on the cluster already."""


class Packed(NamedTuple):
    """A pickle, and the large buffers that belong to it: each a `Carried`, or what stands for one."""

    head: bytes
    buffers: list[Any]


class Cargo:
    """Calls on their way to a worker: each is `(which function, packed arguments)`, or None to keep a place.

    `which` is -1 if the function travels with its arguments.  `watch` is called before each of them, with its index.
    """

    def __init__(
        self, fns: list[bytes], calls: list[tuple[int, bytes | Packed] | None], watch: Callable[[int], object] | None
    ) -> None:
        self.fns = fns
        self.calls = calls
        self.watch = watch


class Home:
    """Outcomes on their way home, the process that made them, the seconds they took, and how large they are."""

    def __init__(self, outcomes: list[Any], pid: int, seconds: float) -> None:
        self.outcomes = outcomes
        self.pid = pid
        self.seconds = seconds
        self.size: int = sum(map(_size, outcomes))

    def __sizeof__(self) -> int:
        return self.size


def _size(outcome: Any) -> int:
    if type(outcome) is Packed:
        return len(outcome.head) + sum(len(carried.buffer) for carried in outcome.buffers)
    return len(outcome) if type(outcome) in (bytes, str) else 8


class _Values(threading.local):
    """The values of the references among the arguments that are being unpickled."""

    now: Sequence[Any] = ()


_values = _Values()


def value_of(index: int) -> Any:
    """In a pickle, in the place of a reference to something on the cluster: its value."""
    return _values.now[index]


def run_part(cargo: Cargo, lying: int = 0, *values: Any) -> Home:
    """Run the calls of a part, one after the other.

    `values`: first the buffers that lie on the cluster, so many; then those of the references among the arguments.
    """
    begun = time.monotonic()
    loaded: dict[int, Any] = {}
    outcomes = []
    for index, call in enumerate(cargo.calls):
        if cargo.watch is not None:
            cargo.watch(index)
        outcomes.append(None if call is None else _outcome(cargo.fns, loaded, call, values[:lying], values[lying:]))
    return Home(outcomes, os.getpid(), time.monotonic() - begun)


def run_and_tell(cargo: Cargo, lying: int = 0, *values: Any) -> tuple[int, Home]:
    """The same, and first how large it is: that is known before the rest travels."""
    home = run_part(cargo, lying, *values)
    return home.size, home


def _outcome(fns: list[bytes], loaded: dict[int, Any], call: Any, shared: Sequence[Any], values: Sequence[Any]) -> Any:
    """Run one ticket; its value if that is of a basic type, else packed."""
    which, packed = call
    try:
        value = _run(fns, loaded, which, packed, shared, values)
        return value if type(value) in BASIC else _carried(pack_value(value))
    except BaseException as error:
        return _carried(pack_error(error))


def _run(
    fns: list[bytes], loaded: dict[int, Any], which: int, packed: Any, shared: Sequence[Any], values: Sequence[Any]
) -> Any:
    try:
        _values.now = values
        if type(packed) is Packed:
            packed = Large(packed.head, [_own(buffer, shared) for buffer in packed.buffers])
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
    finally:
        _values.now = ()
    return fn(*args, **kwargs)


def _own(buffer: Any, shared: Sequence[Any]) -> bytearray:
    carried = shared[buffer] if type(buffer) is Shared else buffer
    return bytearray(carried.buffer)


def _carried(packed: bytes | Large) -> bytes | Packed:
    """The same with buffers that can travel, and that are not the user's any more."""
    if type(packed) is bytes:
        return packed
    assert type(packed) is Large
    buffers = [Carried(each if type(each) is bytes else bytearray(each)) for each in packed.buffers]
    return Packed(bytes(packed.head), buffers)


def come_home(outcome: Any) -> Any:
    """An outcome as the core takes it: its buffers are nobody else's, and can be written to."""
    if type(outcome) is not Packed:
        return outcome
    own = bytes if outcome.head == KIND_BYTES else _writable
    return Large(outcome.head, [own(carried.buffer) for carried in outcome.buffers])


def _writable(buffer: Buffer) -> Buffer:
    """The buffer itself if it can be written to, and does not keep the memory of others that came with it."""
    if type(buffer) is bytearray:
        return buffer
    view = memoryview(buffer)
    alone = memoryview(view.obj).nbytes <= 1.1 * view.nbytes
    return view if alone and not view.readonly else bytearray(view)
