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
        max_workers: The largest number of processes.  They start on demand.  Default: one for each CPU that this
            process may use, or fewer if its limit on open files is low.
        mp_context: The multiprocessing context that starts the workers.  Default: loky's.  A `fork` context is
            refused.  With `spawn` or `forkserver` your script needs `if __name__ == "__main__":`.
        initializer: A callable that each worker runs before its first task.  If it fails, the executor is broken.
        initargs: The arguments of the initializer.  They may be locks, queues and other primitives of multiprocessing
            that were made in a `spawn` context.
        max_tasks_per_child: Replace a worker after it has run exactly this many tasks.  Default: never.
        window: How many tickets past the head an outcome may travel.  A worker that is further ahead keeps its outcome
            and waits.  Default: a wide window; `window_bytes` bounds the memory.
        window_bytes: How many bytes of early outcomes the parent may hold.  Each worker gets an equal share.
            Default: 64 MiB.
        backlog: How many tickets may be unread before `submit` waits.  With `keep_results=False` it counts the tickets
            that are not done.  Default: no limit.
        task_timeout: How many seconds a task may run.  Then its worker is killed and the task gets `TaskTimeoutError`.
            The initializer has the same limit.  Default: no limit.
        retries: How many times to rerun a task whose worker died.  Default: 0.
        keep_results: What to keep for `results()`.  By default an outcome is kept until its future was read, waited
            for or given up, and nobody holds the future any more; after the first call of `results()` it is kept until
            it was read.  `True` keeps each outcome until it was read outside a done-callback.  `False` keeps nothing.
        unseen_errors: What to do with a failure that nobody looked at.  `"log"` logs it when its future goes or at
            shutdown, `"raise"` raises all such failures at shutdown as a group, `"ignore"` drops them.
        reuse: Reuse idle workers of earlier executors with the same `mp_context`, `env`, `initializer` and `initargs`,
            and leave ours for later ones.  An executor with `max_tasks_per_child` does neither.
        idle_timeout: How many seconds an idle worker waits for the next executor.  `None`: until the program ends.
        env: Environment variables for the workers.  Needs loky's context, which is the default.
        forward_logs: Pass log records of tasks to the loggers and handlers of this process, as they are logged.  Each
            record has `ticket`, `attempt` and `worker`.  The handlers run on the thread that runs done-callbacks.

    A wrong value raises `TypeError` or `ValueError` with the name of the argument.  No process starts before the first
    task.

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
        """Shut down at once: cancel the tasks that no worker has begun, and kill the workers.

        A task that has begun gets `TaskKilledError`.  This call does not wait until the workers have ended; call
        `shutdown()` if you need that.  You may call it again, and from any thread.  `ProcessPoolExecutor` has the same
        method from Python 3.14 on.
        """
        self._shutdown(False, None, cancel_futures=True, kill_workers=True, may_raise=False)

    def terminate_workers(self) -> None:
        """Shut down like `kill_workers`, but by SIGTERM, so that a task can handle the signal and tidy up.

        A worker that has not ended after 5 seconds is killed.  `kill_workers()` kills it earlier.
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
