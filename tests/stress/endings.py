"""How a pipeline is ended: shutdown in all its forms, at the end and half way.

Each ending leaves an executor that is shut down (or that nobody holds any more).  `held` is the only place that holds
it, so that an ending can let it go.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ordered_executor import OrderedProcessPoolExecutor, ShutdownTimeoutError

if TYPE_CHECKING:
    from .play import Play

Held = list[OrderedProcessPoolExecutor]

# `shutdown(timeout=t)` promises to be back within t and half a second; a loaded machine needs more.
SLACK_SECONDS = 2.0


def end(play: Play, held: Held) -> None:
    """End the pipeline as its plan says."""
    ending = play.plan.ending
    if ending.startswith("half way"):
        play.over.wait(play.plan.ending_at)
        play.record.cut = True
        _HALF_WAY[ending.removeprefix("half way: ")](play, held)
    else:
        _AT_THE_END[ending](play, held)
    if held:
        _shutdown(play, held[0])  # a second time, or in earnest
    held.clear()


def _all_submitted(play: Play) -> None:
    play.submitted.wait()
    for thread in play.maps:
        thread.join()


def _shutdown(play: Play, executor: OrderedProcessPoolExecutor, **how: Any) -> None:
    with _unseen(play):
        executor.shutdown(**how)
    play.watch.beat()


@contextlib.contextmanager
def _unseen(play: Play) -> Iterator[None]:
    """With `unseen_errors="raise"` a shutdown may raise what nobody looked at, which is no fault."""
    try:
        yield
    except BaseException as error:
        if play.plan.unseen_errors != "raise" or not hasattr(error, "exceptions"):
            raise


# ------------------------------------------------------------------------------------------------------ at the end


def _with(play: Play, held: Held) -> None:
    with _unseen(play), held[0]:
        _all_submitted(play)


def _plain(play: Play, held: Held) -> None:
    _all_submitted(play)
    _shutdown(play, held[0])


def _without_waiting(play: Play, held: Held) -> None:
    _all_submitted(play)
    held[0].shutdown(wait=False)


def _dropped(play: Play, held: Held) -> None:
    """Nobody holds it any more: it finishes what was submitted, and goes."""
    _all_submitted(play)
    play.over.set()
    held.clear()
    gc.collect()


_AT_THE_END = {
    "with": _with,
    "shutdown": _plain,
    "shutdown without waiting": _without_waiting,
    "dropped": _dropped,
}


# -------------------------------------------------------------------------------------------------------- half way


def _with_a_timeout(play: Play, held: Held) -> None:
    begun = time.monotonic()
    with contextlib.suppress(ShutdownTimeoutError):
        _shutdown(play, held[0], timeout=0.05)
    took = time.monotonic() - begun
    if took > 0.05 + SLACK_SECONDS:
        play.record.complain(f"shutdown(timeout=0.05) took {took:.2f} s")


def _cancelling(play: Play, held: Held) -> None:
    _shutdown(play, held[0], cancel_futures=True)


def _killing(play: Play, held: Held) -> None:
    _shutdown(play, held[0], kill_workers=True)


def _cancelling_and_killing(play: Play, held: Held) -> None:
    _shutdown(play, held[0], cancel_futures=True, kill_workers=True)


def _from_a_callback(play: Play, held: Held) -> None:
    """In a done-callback, `shutdown()` does not wait for itself."""
    executor = held[0]
    _, future = play.pick_future(0.9)
    if future is not None:
        future.add_done_callback(lambda _: executor.shutdown())


def _twice(play: Play, held: Held) -> None:
    both = threading.Barrier(2)

    def shut() -> None:
        both.wait()
        _shutdown(play, held[0])

    thread = play.start(shut)
    shut()
    thread.join()


def _interrupted(play: Play, held: Held) -> None:
    with contextlib.suppress(KeyboardInterrupt), held[0]:
        raise KeyboardInterrupt


_HALF_WAY = {
    "shutdown": lambda play, held: _shutdown(play, held[0]),
    "with a timeout, then again": _with_a_timeout,
    "cancel_futures": _cancelling,
    "kill_workers": _killing,
    "cancel_futures and kill_workers": _cancelling_and_killing,
    "from a callback": _from_a_callback,
    "twice, from two threads": _twice,
    "interrupted": _interrupted,
}
