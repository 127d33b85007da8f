"""The start of a worker: the user's initializer, pickled for the place where the script is at home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ordered_executor._pickling.picklers import dumps_once
from ordered_executor._script.records import Needs


class Start:
    """The user's initializer and its arguments.  They are pickled while a process is being spawned.

    Only then multiprocessing's primitives can be.  They are unpickled when the worker has what they need of the script.
    """

    def __init__(self, initializer: Callable[..., object], initargs: tuple[Any, ...]) -> None:
        self._call = initializer, initargs
        self.needs = Needs()

    def __reduce__(self) -> tuple[Any, ...]:
        self.needs = Needs()
        return bytes, (dumps_once(self._call, self.needs),)
