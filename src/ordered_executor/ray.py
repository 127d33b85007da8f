"""`OrderedRayExecutor`: ordered execution on a Ray cluster.

It has the backend for a Ray cluster (see `_clusters.backend`): a part of a batch is one Ray task.  It returns two
objects: the size of its outcomes, which comes by itself, and the outcomes, which stay in the object store until the
window reaches them.

All of it runs on the scheduler, with two exceptions, which only put into `_posts`: Ray tells the ends of tasks on a
thread of its own, and the clerk is a thread for calls that may wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future as StandardFuture
from functools import partial
from queue import SimpleQueue
from typing import Any

import ray

from ordered_executor._clusters.backend import ClusterBackend, Fetched
from ordered_executor._clusters.executor import ClusterExecutor, check_bounds
from ordered_executor._clusters.parts import Part, send_references
from ordered_executor._clusters.store import Common
from ordered_executor._clusters.task import run_and_tell
from ordered_executor._core.executor import OptionsView
from ordered_executor.process_pool import DEFAULT_WINDOW_BYTES

__all__ = ["OrderedRayExecutor"]

# A node that goes takes workers and objects with it: no task is to blame.
ACCIDENTS = (
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OwnerDiedError,
    ray.exceptions.RaySystemError,
)

send_references(ray.ObjectRef)


class OrderedRayExecutor(ClusterExecutor):
    """A `concurrent.futures.Executor` on a Ray cluster whose futures complete in the order of submission.

    Call `ray.init()` before you make one.  The executor does not end the cluster.

    Args:
        max_workers: The largest number of batches that run at a time.  Default: as many as the cluster has room for,
            also when the cluster grows or shrinks.
        window: How many tickets past the head an outcome may travel.  Outcomes further ahead stay in the object store.
            Default: a wide window; `window_bytes` bounds the memory.
        window_bytes: How many bytes of early outcomes the parent may hold.
        backlog: How many tickets may be unread before `submit` waits.  Default: no limit.
        retries: How many times to rerun a task whose worker died.
        keep_results: What to keep for `results()`: see `OrderedProcessPoolExecutor`.
        unseen_errors: What to do with a failure that nobody looked at: `"log"`, `"raise"` (at shutdown) or `"ignore"`.
        num_cpus, num_gpus, resources, runtime_env: Options of `ray.remote`, for all tasks.

    A `ray.ObjectRef` among the arguments of a task is replaced by its value.  There is no `task_timeout`.  A wrong
    value of an option raises `TypeError` or `ValueError` with the name of the argument.  Raises `RuntimeError` if Ray
    is not initialized.
    """

    def __init__(
        self,
        *,
        max_workers: int | None = None,
        window: int | None = None,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        backlog: int | None = None,
        retries: int = 0,
        keep_results: bool | None = None,
        unseen_errors: str = "log",
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        if not ray.is_initialized():
            raise RuntimeError("Ray is not initialized: call ray.init() first")
        max_workers, window, window_bytes = check_bounds(max_workers, window, window_bytes)
        extra = self._check_extra(
            {}, num_cpus=num_cpus, num_gpus=num_gpus, resources=resources, runtime_env=runtime_env
        )
        backend = RayBackend(window, window_bytes, max_workers, extra)
        super().__init__(
            backend,
            extra,
            backlog=backlog,
            retries=retries,
            timeout=None,
            keep_results=keep_results,
            unseen_errors=unseen_errors,
        )

    def options(
        self,
        *,
        retries: int | None = None,
        timeout: float | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> OptionsView:
        """A light view on this executor whose `submit` and `map` use other settings.

        `num_cpus`, `num_gpus`, `resources` and `runtime_env` are those of `ray.remote`.  What is not given stays as the
        executor has it.  No `timeout`: see the class.
        """
        if timeout is not None:
            raise ValueError("timeout must be None: nobody but the worker knows when a Ray task has begun; use kill()")
        return self._view(
            retries, None, num_cpus=num_cpus, num_gpus=num_gpus, resources=resources, runtime_env=runtime_env
        )

    @staticmethod
    def _check_extra(
        base: Mapping[str, Any],
        *,
        num_cpus: float | None,
        num_gpus: float | None,
        resources: Mapping[str, float] | None,
        runtime_env: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        extra = dict(base)
        numbers: dict[str, Any] = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        for name, value in numbers.items():
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                    raise TypeError(f"{name} must be a number of at least 0, not {value!r}")
                extra[name] = value
        mappings: dict[str, Any] = {"resources": resources, "runtime_env": runtime_env}
        for name, mapping in mappings.items():
            if mapping is not None:
                if not isinstance(mapping, Mapping):
                    raise TypeError(f"{name} must be a mapping, not {mapping!r}")
                extra[name] = dict(mapping)
        return extra


# ------------------------------------------------------------------------------------------------------ in the parent


class Running:
    """A Ray task: the references to what it returns."""

    def __init__(self, size: Any, home: Any) -> None:
        self.size = size
        self.home = home
        self.bytes = 0  # of its outcomes, once it has ended well
        self.error: BaseException | None = None


class RayBackend(ClusterBackend):
    """Lanes on a Ray cluster."""

    def __init__(
        self, window: int | None, window_bytes: int, max_workers: int | None, extra: Mapping[str, Any]
    ) -> None:
        self._max_workers = max_workers
        self._each_needs = {"CPU": extra.get("num_cpus", 1), "GPU": extra.get("num_gpus", 0)}
        self._each_needs |= extra.get("resources", {})
        # Never run again by Ray itself: a task that kills its worker is to be known.
        self._remote = ray.remote(num_returns=2, max_retries=0)(run_and_tell)
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._clerk: threading.Thread | None = None
        workers = self._room(ray.cluster_resources())
        super().__init__(window, window_bytes, workers)
        self._on_workers(workers, elastic=False)

    # ------------------------------------------------------------------------------------------------- how large it is

    def _room(self, resources: Mapping[str, float]) -> int:
        """How many tasks can run at a time."""
        room = [int(resources.get(name, 0) / need) for name, need in self._each_needs.items() if need]
        most = min(room, default=int(resources.get("CPU", 1)))
        return most if self._max_workers is None else min(most, self._max_workers)

    def _look(self) -> None:
        self._ask_clerk(self._count)

    def _why_gone(self) -> str | None:
        return None if ray.is_initialized() else "Ray was shut down before its executor"

    def _count(self) -> None:
        """On the clerk."""
        workers = self._room(ray.cluster_resources())
        self._posts.put(partial(self._on_workers, workers, self._elastic or workers != self._workers))

    def _ask_clerk(self, call: Callable[[], object]) -> None:
        """Have something called that may wait.  The clerk ends with the executor."""
        self._calls.put(call)
        if self._clerk is None:
            self._clerk = threading.Thread(target=_serve, args=(self._calls,), name="ordered-executor-ray", daemon=True)
            self._clerk.start()

    # ------------------------------------------------------------------------------------------------------------ tasks

    def _start(self, parts: list[Part]) -> None:
        for part in sorted(parts, key=lambda part: part.ticket):
            lying = [common for common in part.shared() if common.ref is not None]
            refs = [common.ref for common in lying]
            remote = self._remote.options(**part.extra) if part.extra else self._remote
            part.task = Running(*remote.remote(part.cargo(None, lying), len(refs), *refs, *part.needs))
            part.task.size.future().add_done_callback(partial(self._hear_end, part, part.task))

    def _hear_end(self, part: Part, task: Running, size: StandardFuture[int]) -> None:
        """On a thread of Ray's."""
        task.error = size.exception()
        if task.error is None:
            task.bytes = size.result()
        else:
            task.home.future().add_done_callback(StandardFuture.exception)  # or Ray says that nobody looked at it
        self._posts.put(partial(self._on_ended, part, task))

    def _on_ended(self, part: Part, task: Running) -> None:
        if part.task is task:
            part.size = task.bytes
        super()._on_ended(part, task)

    def _fetch(self, parts: list[Part]) -> None:
        for part in parts:
            task = part.task
            if task.error is not None:
                self._posts.put(partial(self._on_fetched, [Fetched(part, task, None, task.error)]))
            else:
                task.home.future().add_done_callback(partial(self._hear_home, part, task))

    def _hear_home(self, part: Part, task: Running, home: StandardFuture[Any]) -> None:
        """On a thread of Ray's."""
        error = home.exception()
        fetched = Fetched(part, task, None if error is not None else home.result(), error)
        self._posts.put(partial(self._on_fetched, [fetched]))

    def _forget(self, task: Running) -> None:
        """Nothing need be done: what its references name goes with them."""

    def _stop(self, parts: list[Part]) -> None:
        for part in parts:
            ray.cancel(part.task.home, force=True)  # its worker is killed

    # ------------------------------------------------------------------------------------------------- what tasks share

    def _put(self, common: Common) -> None:
        self._ask_clerk(partial(self._lay_down, common))

    def _lay_down(self, common: Common) -> None:
        """On the clerk."""
        ref = None
        try:
            ref = ray.put(common.carried)
        finally:
            self._posts.put(partial(self._on_put, common, ref))

    # ----------------------------------------------------------------------------------------------------------- losses

    def _is_accident(self, error: BaseException) -> bool:
        return isinstance(error, ACCIDENTS)

    def _own_failure(self, part: Part, error: BaseException) -> BaseException | None:
        if part.needs and isinstance(error, ray.exceptions.RayTaskError):
            cause: BaseException = error.as_instanceof_cause()
            return cause
        return None

    def release(self) -> None:
        self._calls.put(None)

    def abandon(self) -> None:
        super().abandon()
        self._calls = SimpleQueue()


def _serve(calls: SimpleQueue[Callable[[], object] | None]) -> None:
    """The clerk."""
    while (call := calls.get()) is not None:
        try:
            call()
        except Exception:  # Ray was shut down: whoever looks next finds out
            continue
