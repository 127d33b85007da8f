"""Progress bars: how far, how fast, how many tasks failed, and what the head does if everything waits for it.

They need the extra `[progress]`, which installs tqdm; tqdm draws them.  A bar has a thread that looks at the executor
five times a second.  An executor without a bar pays nothing.

    from ordered_executor.progress import process_map, progress

    squares = process_map(square, numbers, max_workers=4, desc="squares")

    with OrderedProcessPoolExecutor() as executor, progress(executor, total=len(paths)):
        for path in paths:
            executor.submit(parse, path)
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ordered_executor._base.checks import check_optional_count, check_seconds
from ordered_executor._base.waiting import Latch
from ordered_executor._core.executor import OrderedExecutor
from ordered_executor._core.map import length_of
from ordered_executor._core.running import Running
from ordered_executor._core.statistics import Statistics
from ordered_executor.parallel_queue import ParallelQueue, ParallelSingleTaskQueue
from ordered_executor.process_pool import OrderedProcessPoolExecutor

try:
    from tqdm.auto import tqdm
except ImportError as _error:  # pragma: no cover
    raise ImportError(
        "progress bars are drawn by tqdm, which is not installed: pip install 'ordered-executor[progress]'"
    ) from _error

T = TypeVar("T")
logger: logging.Logger = logging.getLogger("ordered_executor")

_LOOK_SECONDS = 0.2
_THEIRS = frozenset(inspect.signature(OrderedProcessPoolExecutor).parameters)
_MAPS = frozenset(inspect.signature(OrderedExecutor.map).parameters) - {"self", "fn", "iterables"}


def process_map(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    executor: OrderedExecutor | None = None,
    tqdm_class: Any = tqdm,
    lock_name: str | None = None,
    **settings: Any,
) -> list[T]:
    """Return the results of `fn` for the arguments in `iterables`, as a list in their order, and show a bar meanwhile.

    It has the signature of `tqdm.contrib.concurrent.process_map`, and runs on an `OrderedProcessPoolExecutor`.
    `settings` are options of the executor (`max_workers`, `window`, `task_timeout`, …), of its `map` (`chunksize`,
    `buffersize`, `timeout`, …) and of tqdm (`desc`, `unit`, `leave`, …).  If you give an `executor`, it is used, and
    goes on afterwards.  `lock_name` is accepted, as tqdm's function has it, and is ignored.

    It raises the first error of a task, and `TypeError` if you give both an `executor` and options for a new one.
    """
    del lock_name
    ours = {name: settings.pop(name) for name in list(settings) if name in _THEIRS and name not in _MAPS}
    mapped = {name: settings.pop(name) for name in list(settings) if name in _MAPS}
    if executor is not None and ours:
        raise TypeError(f"{', '.join(ours)}: settings of a new executor, and one is given in `executor`")
    settings.setdefault("total", length_of(iterables))
    with contextlib.ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(OrderedProcessPoolExecutor(**ours))
        stack.enter_context(progress(executor, tqdm_class=tqdm_class, **settings))
        results: list[Any] = list(executor.map(fn, *iterables, **mapped))
        return results


@contextlib.contextmanager
def progress(
    executor: OrderedExecutor | ParallelQueue | ParallelSingleTaskQueue,
    total: int | None = None,
    *,
    head_seconds: float = 2.0,
    tqdm_class: Any = tqdm,
    **settings: Any,
) -> Iterator[Any]:
    """Follow an executor, or a queue, with a bar while the block runs.  Yields the bar.

    The bar counts every ticket that was not released when the block began: submitted, mapped, put or marked.  It shows
    how many of them are *finished* as far as the parent has heard.  The text behind it says how many were *released*
    if these are fewer (the others wait for the head), how many failed, and how many were run again.  If the head has
    been the head for longer than `head_seconds`, the text says what it is doing.

    `total`: how many tickets there will be.  Without it, the total is the number of those submitted so far.
    `settings`: options of tqdm.  The block waits for nothing.  You may close the bar early; then nothing more is drawn,
    and the work goes on.
    """
    total = check_optional_count("total", total, 0)
    threshold = check_seconds("head_seconds", head_seconds, zero=True)
    followed = executor if isinstance(executor, OrderedExecutor) else getattr(executor, "_executor", None)
    if not isinstance(followed, OrderedExecutor):
        raise TypeError(f"progress() follows an ordered executor or a queue of this package, not {executor!r}")
    if sys.stderr is None and settings.get("file") is None:
        settings["disable"] = True  # a program without a terminal, and without anything in its place
    follower = _Follower(followed, total, float(threshold or 0.0), tqdm_class, settings)
    follower.thread.start()
    try:
        yield follower.bar
    finally:
        follower.end()


def _say_that_it_ended(error: Exception) -> None:
    logger.warning("the progress bar is not drawn any more, the work goes on: %s: %s", type(error).__name__, error)


class _Screen:
    """What tqdm draws on: an error of it ends the drawing, and is not raised.

    Raised, it would leave the lock taken that all bars of the process have in common (tqdm's `refresh` has no
    `finally`), and the next bar would wait for ever.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._file == other)  # tqdm asks whether it is the standard one

    __hash__ = None  # type: ignore[assignment]

    def write(self, text: str) -> None:
        self._draw(lambda: self._file.write(text))

    def flush(self) -> None:
        self._draw(self._file.flush)

    def _draw(self, call: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            call()
        except Exception as error:
            self._gone = True
            _say_that_it_ended(error)


class _Follower:
    """A bar, and the thread that moves it."""

    def __init__(
        self, executor: OrderedExecutor, total: int | None, head_seconds: float, cls: Any, settings: dict[str, Any]
    ) -> None:
        self._executor = executor
        self._grows = total is None
        self._failed_once = False
        self._said = ""
        self._head_seconds = head_seconds
        self._start = executor.statistics().head
        self._failed, self._retried = _counts(executor.statistics())
        settings.setdefault("unit", "task")
        settings["file"] = _Screen(settings.get("file") or sys.stderr)
        self.bar = cls(total=total, **settings)
        self._over = Latch()
        self.thread = threading.Thread(target=self._run, name="ordered-executor-progress", daemon=True)

    def _run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            if not self._shown():
                return

    def end(self) -> None:
        """The last look, and the bar is closed."""
        self._over.set()
        self.thread.join()
        if self._shown():
            self.bar.close()

    def _shown(self) -> bool:
        """Look, and draw; False if that cannot be done any more.  The work goes on all the same."""
        try:
            if self._failed_once or self.bar.disable:  # closed early, or never meant to be seen
                return False
            self._show(self._executor.statistics())
        except Exception as error:  # a bar of the user's own class
            self._failed_once = True
            _say_that_it_ended(error)
            return False
        return True

    def _show(self, now: Statistics) -> None:
        bar = self.bar
        released = now.head - self._start
        if self._grows:
            bar.total = max(now.tail - self._start, bar.initial)
        said, self._said = self._said, self._text(now, released)
        bar.set_postfix_str(self._said, refresh=False)
        moved = released + now.early - (bar.n - bar.initial)
        if moved:
            bar.update(moved)
        if self._said != said:
            bar.refresh()

    def _text(self, now: Statistics, released: int) -> str:
        failed, retried = _counts(now)
        parts = [f"released {released}"] if now.early else []
        parts += [f"failed {failed - self._failed}"] if failed > self._failed else []
        parts += [f"run again {retried - self._retried}"] if retried > self._retried else []
        if now.in_flight and now.head_seconds >= self._head_seconds:
            parts += [text for worker in self._executor.running()[:1] if (text := head_text(worker, now))]
        return ", ".join(parts)


def _counts(now: Statistics) -> tuple[int, int]:
    return now.failed, now.retried


def head_text(worker: Running, now: Statistics) -> str | None:
    """What the head does, if that is the task of this worker.

    >>> head_text(Running(0, 4711, "running", 40, "parse", "parse('a.csv')", 1, 12.3), type("S", (), {"head": 40}))
    "head 40: parse('a.csv'), 12 s, pid 4711"
    """
    if worker.ticket != now.head:
        return None
    where = f", pid {worker.pid}" if worker.pid is not None else ""
    again = f", attempt {worker.attempt}" if worker.attempt not in (None, 1) else ""
    return f"head {worker.ticket}: {worker.call}, {worker.seconds:.0f} s{where}{again}"
