"""The calls of a batch, packed each by itself, for backends that send them to other processes.

So a bad call harms only itself, and no two calls share an object that one of them may change.  Calls may share a
function: the functions stand apart, so that a batch of one function carries it once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ordered_executor._base.tasks import Batch
from ordered_executor._pickling.outcomes import without_frames
from ordered_executor._pickling.picklers import MOST_HEAD_BYTES, Large, dumps, dumps_whole
from ordered_executor._pickling.reducers import References
from ordered_executor._pickling.refusals import refusal


def pack_calls(
    batch: Batch,
    pack: Callable[[int, Any, tuple[Any, ...], dict[str, Any]], tuple[bool, Any]],
    pack_function: Callable[[Any], Any],
) -> tuple[list[Any], list[tuple[int, Any] | None]]:
    """The functions that stand apart, and the calls.

    A call is `(which function, packed)`, the first -1 if its function is in what is packed; or None, to keep the place
    of a ticket that cannot run: why, goes into `batch.failed`.

    `pack` gets the index of a ticket and its call; it returns whether the function stands apart, and what is packed.
    """
    functions: list[Any] = []
    known: dict[int, int] = {}
    calls: list[tuple[int, Any] | None] = []
    batch.failed.update(batch.killed())
    failed = batch.failed
    for index, (fn, args, kwargs) in enumerate(batch.calls()):
        call = None
        if index not in failed:
            try:
                apart, packed = pack(index, fn, args, kwargs)
                if not apart:
                    call = -1, packed
                else:
                    if id(fn) not in known:
                        functions.append(pack_function(fn))
                        known[id(fn)] = len(functions) - 1
                    call = known[id(fn)], packed
            except BaseException as error:
                failed[index] = without_frames(error)
        calls.append(call)
    return functions, calls


def dumps_call(call: tuple[Any, ...], references: References | None = None) -> bytes | Large:
    """Pickle a tuple that ends with arguments and keywords; an error names the argument, where that can be known."""
    try:
        packed = dumps(call, references)
    except BaseException as error:
        named = refusal(error, *call[-2:])
        if named is error:
            raise
        raise named from error
    return dumps_whole(call, references) if type(packed) is Large and len(packed.head) >= MOST_HEAD_BYTES else packed
