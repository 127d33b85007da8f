"""Arguments that cannot travel to a worker: the error names them, and says what to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ordered_executor._processes.sent_batches import PackedCall


async def coroutine() -> None:
    """Never awaited."""


def async_future() -> Any:
    """A future of a loop that does not run."""
    loop = asyncio.new_event_loop()
    loop.close()
    return asyncio.Future(loop=loop)


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "Future": (Future, "future.result()"),
    "generator": (lambda: (n for n in "ab"), "a list of what it yields"),
    "ThreadPoolExecutor": (ThreadPoolExecutor, "an executor of its own"),
    "TextIOWrapper": (lambda: open("/dev/null", "w"), "its path"),  # noqa: PTH123, SIM115
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("inside", [False, True])
def test_an_argument_that_cannot_travel_is_named(name: str, inside: bool) -> None:
    """By its place and type; in a plain container, too."""
    make, advice = CASES[name]
    bad = make()
    given = [bad] if inside else bad
    calls: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((1, given), {}, "argument 2"),
        ((), {"key": given}, "argument 'key'"),
    ]
    for args, kwargs, place in calls:
        with pytest.raises(TypeError) as caught:
            PackedCall.of(print, args, kwargs, shared=True)
        assert str(caught.value).startswith(place)
        assert name in str(caught.value)
        assert advice in str(caught.value)
    if hasattr(bad, "close"):
        bad.close()


def test_what_is_to_be_awaited_is_named() -> None:
    """Coroutines and futures of asyncio."""
    bad = coroutine()
    with pytest.raises(TypeError, match=r"argument 1 is a coroutine, .* await it"):
        PackedCall.of(print, (bad,), {}, shared=True)
    bad.close()
    with pytest.raises(TypeError, match=r"argument 1 is a .*Future, .* await it"):
        PackedCall.of(print, (async_future(),), {}, shared=True)


def test_any_other_argument_is_named_in_a_note() -> None:
    """The error is that of its pickling."""
    with pytest.raises(TypeError, match="lock") as caught:
        PackedCall.of(print, (1, threading.Lock()), {}, shared=True)
    assert (
        "This is about argument 2, of type _thread.lock." in caught.value.__notes__
    )  # pickle adds its own from 3.14 on
