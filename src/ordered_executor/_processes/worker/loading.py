"""Loading a batch in the worker: from the frame to calls, one after the other.

A batch comes in one of two forms (see `_processes.sent_batches`).  *Many* are loaded all together.  *Calls* are loaded
one by one, each just before it runs.  So a call that cannot be loaded, or kills the process, harms only itself.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat, starmap
from typing import Any

from ordered_executor._base.error_tools import add_note
from ordered_executor._channel.shared_memory import LaneMemory
from ordered_executor._pickling.buffer_pool import buffer_pool
from ordered_executor._pickling.functions import LoadedFunctions


class Loader:
    """What a worker loads batches with; it keeps the functions that it has loaded."""

    def __init__(self, memory: LaneMemory) -> None:
        self._memory = memory
        self._functions = LoadedFunctions()
        self._left = 0
        # The arguments of a batch's last call, until its outcome is stored: should letting go of them kill the worker,
        # it has finished all of the batch.
        self.last_arguments: Any = None
        buffer_pool.hold(self)

    def steps(self, fns: list[Any], single: bool, many: Any, calls: list[Any], inline: memoryview) -> Callable[[], Any]:
        """A function that makes the next call of the batch each time it is called.

        `inline`: the large buffers that found no room in lane memory.  Raises whatever unpickling raises, if the batch
        came all together.
        """
        if many is None:
            self._left = len(calls)
            return partial(self._next_call, fns, iter(calls), inline)
        fn, args = self._load_function(fns[0], inline), self._load(many, inline)
        args.reverse()
        # Each is gone from the list when its task begins.  `IndexError` behind the last, which nobody asks for.
        return (map if single else starmap)(fn, map(list.pop, repeat(args))).__next__

    def _next_call(self, fns: list[Any], calls: Iterator[Any], inline: memoryview) -> Any:
        call = next(calls)
        self._left -= 1
        if call is None:
            return None  # the parent has its outcome already; this keeps its place
        which, packed = call
        try:
            if which < 0:  # the function came with its arguments, for this call alone
                fn, args, kwargs = self._load(packed, inline)
            else:
                fn = self._load_function(fns[which], inline)
                args, kwargs = self._load(packed, inline)
        except BaseException as error:
            add_note(error, "The task did not run: its function or arguments could not be unpickled in the worker.")
            raise
        if not self._left:
            self.last_arguments = args, kwargs
        return fn(*args, **kwargs)

    def _load_function(self, packed: Any, inline: memoryview) -> Any:
        return self._functions.load(packed) if type(packed) is bytes else self._load(packed, inline)

    def _load(self, packed: Any, inline: memoryview) -> Any:
        if type(packed) is bytes:
            return pickle.loads(packed)
        head, places = packed
        memory = self._memory.bytes
        views = [memory[at : at + size] if at >= 0 else inline[~at : ~at + size] for at, size in places]
        if not head:  # a large pickle is a buffer by itself, and is copied as it is loaded
            return pickle.loads(views[0])
        # Copies: the place is used again, and a view would be shared with whatever this process forks.
        return pickle.loads(head, buffers=[buffer_pool.copy(view) for view in views])
