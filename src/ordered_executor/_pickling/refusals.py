"""Arguments that cannot travel to a worker: finds which one it is, and says what to do instead.

It runs when the pickling of a call has failed, so it may take its time.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from ordered_executor._base.error_tools import add_note
from ordered_executor._pickling.exceptions import class_name
from ordered_executor._pickling.picklers import CloudPickler

_ADVICE: tuple[tuple[Any, str], ...] = (
    (Future, "give the task what `future.result()` returns, or let a done-callback submit it"),
    (GeneratorType, "give the task a list of what it yields, or the function that makes it"),
    (CoroutineType, "await it, and give the task what comes of it"),
    (AsyncGeneratorType, "give the task a list of what it yields, or the function that makes it"),
    (Executor, "let the task make an executor of its own, or return what is to be submitted next"),
    (io.IOBase, "give the task its path, and open it there"),
)


class _Nowhere:
    @staticmethod
    def write(part: Any) -> int:
        return len(part)


def refusal(error: BaseException, args: Iterable[Any], kwargs: dict[str, Any]) -> BaseException:
    """What to raise in place of an error from pickling these arguments: one that names the argument, where it can."""
    for place, value in _places(args, kwargs):
        for found in _within(value):
            advice = next((advice for kind, advice in _kinds() if isinstance(found, kind)), None)
            if advice is not None:
                it = f"{place} is" if found is value else f"{place}, of type {class_name(type(value))}, holds"
                kind = class_name(type(found))
                return TypeError(f"{it} a {kind}, which cannot travel to a worker ({error}): {advice}")
    for place, value in _places(args, kwargs):
        if not _can_travel(value):
            add_note(error, f"This is about {place}, of type {class_name(type(value))}.")
            break
    return error


def _kinds() -> Iterator[tuple[Any, str]]:
    yield from _ADVICE
    if (asyncio := sys.modules.get("asyncio")) is not None:
        yield asyncio.Future, "await it, and give the task what comes of it"


def _places(args: Iterable[Any], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for index, value in enumerate(args, 1):
        yield f"argument {index}", value
    for name, value in kwargs.items():
        yield f"argument {name!r}", value


def _within(value: Any) -> Iterator[Any]:
    """An argument, and what stands in it if it is a plain container."""
    yield value
    if type(value) in (list, tuple, set):
        yield from value
    elif type(value) is dict:
        yield from value.values()


def _can_travel(value: Any) -> bool:
    try:
        CloudPickler(_Nowhere(), lambda _: None).dump(value)
    except BaseException:
        return False
    return True
