"""`OrderedProcessPoolExecutor`: ordered execution on loky's worker processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from multiprocessing.context import BaseContext
from typing import Any

from ordered_executor._base import system
from ordered_executor._base.checks import check_callable, check_count, check_flag, check_optional_count, check_seconds
from ordered_executor._core.executor import OrderedExecutor
from ordered_executor._core.window import Window
from ordered_executor._processes.backend import LokyBackend
from ordered_executor._processes.worker_handle import LaneKind

DEFAULT_WINDOW_BYTES = 64 * 1024 * 1024


class OrderedProcessPoolExecutor(OrderedExecutor):
    """A `concurrent.futures.Executor` on worker processes whose futures complete in the order of submission.

    Args:
        max_workers: how many processes, at most; started on demand.  Default: the CPUs this process may use, fewer if
            its limit on open files is low.
        mp_context: a multiprocessing context to start workers with.  Default: loky's.  Not a `fork` one.  With `spawn`
            and `forkserver`, scripts need `if __name__ == "__main__":`.
        initializer: a callable that each worker runs first, with `initargs`.  If it fails, the executor is broken.
        initargs: arguments for it; locks, queues and other primitives of multiprocessing may be among them, if they
            were made in a `spawn` context.
        max_tasks_per_child: a worker is replaced after exactly so many tasks.
        window: how many tickets past the head an outcome may travel.  A worker that is further ahead waits with it.
            Default: wide; `window_bytes` bounds the memory.
        window_bytes: how many bytes of outcomes the parent may hold before their turn; each worker has an equal share.
            Default: 64 MiB.
        backlog: how many tickets may be submitted and not yet read (not yet done, with `keep_results=False`); then
            `submit` waits.  Default: any number.
        task_timeout: seconds a task may run before it is stopped and gets `TaskTimeoutError`.  It holds for the
            initializer, too.  Default: any time.
        retries: how often a task is run again whose worker died.  Default: not at all.
        keep_results: what is kept for `results()`.  Default: an outcome is kept until its future was read, waited for
            or given up, and nobody holds it; once `results()` has been called, until it was read.  `True`: until it
            was read, but not in a done-callback.  `False`: nothing is kept.
        unseen_errors: what becomes of failures nobody looked at, when their future goes or at shutdown: `"log"`,
            `"raise"` (at shutdown, as a group) or `"ignore"`.
        reuse: lend warm workers of earlier executors, and leave these to later ones.  Of executors, that is, with the
            same `mp_context`, `env`, `initializer` and `initargs`; never with `max_tasks_per_child`.
        idle_timeout: seconds that idle workers wait for the next executor; None: until the program ends.
        env: environment variables for the workers.  With loky's default context only.
        forward_logs: what tasks log comes to this process's loggers and handlers, as it is logged, with `ticket`,
            `attempt` and `worker` on the record.  The handlers run on the executor's own thread, as done-callbacks do.

    Raises `TypeError` or `ValueError`, naming the argument.  Starts no process before the first task.

    >>> with OrderedProcessPoolExecutor(max_workers=2) as ex:
    ...     futures = [ex.submit(pow, 2, n) for n in range(4)]
    ...     print(list(ex.results()))
    [1, 2, 4, 8]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        window: int | None = None,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        backlog: int | None = None,
        task_timeout: float | None = None,
        retries: int = 0,
        keep_results: bool | None = None,
        unseen_errors: str = "log",
        reuse: bool = True,
        idle_timeout: float | None = 10.0,
        env: Mapping[str, str] | None = None,
        forward_logs: bool = False,
    ) -> None:
        workers = system.default_workers() if max_workers is None else check_count("max_workers", max_workers, 1)
        _check_context(mp_context)
        if initializer is not None:
            check_callable("initializer", initializer)
        if not isinstance(initargs, tuple):
            raise TypeError(f"initargs must be a tuple, not {initargs!r}")
        quota = check_optional_count("max_tasks_per_child", max_tasks_per_child, 1)
        window = check_optional_count("window", window, 1)
        window_bytes = check_count("window_bytes", window_bytes, 1)
        task_timeout = check_seconds("task_timeout", task_timeout)
        check_flag("reuse", reuse)
        idle = check_seconds("idle_timeout", idle_timeout, zero=True)
        _check_env(env, mp_context)
        bounds = Window(window, window_bytes, workers)
        kind = LaneKind(mp_context, initializer, initargs, None if env is None else dict(env))
        check_flag("forward_logs", forward_logs)
        self._backend = backend = LokyBackend(kind, bounds, workers, quota, task_timeout, reuse, idle, forward_logs)
        try:
            super().__init__(
                backend,
                bounds,
                workers,
                backlog=backlog,
                retries=retries,
                timeout=task_timeout,
                keep_results=keep_results,
                unseen_errors=unseen_errors,
            )
        except BaseException:
            backend.release()
            raise

    # ----------------------------------------------------------------------------------------- end at once

    def kill_workers(self) -> None:
        """Shut down at once: cancel what waits, kill the workers.  As `ProcessPoolExecutor` has it from Python 3.14 on.

        What a worker has had gets `TaskKilledError`.  Does not wait for the end of the
        workers: `shutdown()` does.  May be called again, from any thread.
        """
        self._shutdown(False, None, cancel_futures=True, kill_workers=True, may_raise=False)

    def terminate_workers(self) -> None:
        """The same by SIGTERM, which a task may handle, to put something in order.

        Its worker is killed after 5 seconds, or by `kill_workers()`.
        """
        self._inbox.close_claims()
        self._inbox.cancel_waiting()
        self._inbox.kill_all(self._backend.terminate)


def _check_context(context: object) -> None:
    if context is None:
        return
    if not isinstance(context, BaseContext):
        raise TypeError(f"mp_context must be a multiprocessing context, not {context!r}")
    if context.get_start_method() == "fork":
        raise ValueError(
            "mp_context must not be a 'fork' context: a forked worker inherits the locks of this process's threads, "
            "and may wait for ever for one that was held; take 'spawn', 'forkserver' or loky's"
        )


def _check_env(env: object, context: BaseContext | None) -> None:
    if env is None:
        return
    if not isinstance(env, Mapping) or not all(isinstance(part, str) for pair in env.items() for part in pair):
        raise TypeError(f"env must be a mapping of strings to strings, not {env!r}")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"env has what no environment can hold: {name!r}: {value!r}")
    if env and context is not None and context.get_start_method() != "loky":
        method = context.get_start_method()
        raise ValueError(f"env is for loky's own context: the {method!r} one in mp_context ignores it; leave that out")
