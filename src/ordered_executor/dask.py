"""`OrderedDaskExecutor`: ordered execution on a Dask cluster.

It has the backend for a `distributed.Client` (see `_clusters.backend`): a part of a batch is one Dask task, with
`priority=-ticket`.

All of it runs on the scheduler, except the coroutines.  These run on the client's loop and only put into `_posts`.  The
scheduler finds out by itself that the client was closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import time
import uuid
import warnings
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import dask
import distributed
from distributed.protocol import dask_deserialize, dask_serialize

from ordered_executor._base.checks import check_seconds
from ordered_executor._base.tasks import Options
from ordered_executor._clusters.backend import ClusterBackend, Fetched
from ordered_executor._clusters.executor import ClusterExecutor, check_bounds
from ordered_executor._clusters.parts import Part, send_references
from ordered_executor._clusters.store import Common
from ordered_executor._clusters.task import Cargo, Carried, Home, run_part
from ordered_executor._core.executor import OptionsView
from ordered_executor._pickling.picklers import PROTOCOL
from ordered_executor.process_pool import DEFAULT_WINDOW_BYTES

__all__ = ["OrderedDaskExecutor"]

logger: logging.Logger = logging.getLogger("ordered_executor")

# Why Dask says that a task was cancelled when nobody wanted that.
ACCIDENTS = {"scheduler-connection-lost", "scheduler-restart", "lost dependencies"}
# What `dask.annotate` may say.
ANNOTATIONS = {"allow_other_workers", "priority", "resources", "span", "workers"}
# How long a worker may take to start again before nobody waits for that.
RESTART_SECONDS = 30.0
# Between two gathers, where nobody loses by it: one costs the scheduler as much as a task.
GATHER_SECONDS = 0.05
# How much further a task of the next higher `priority=` is than any ticket.
PRIORITY_STEP = 10**12

# Until when deaths of these workers are of our making, whichever executor of the program stopped something there.
_restarted: dict[str, float] = {}

send_references(distributed.Future)


# ------------------------------------------------------------------------------------------------------- on the cluster


def run(cargo: Cargo, lying: int = 0, *values: Any) -> Home:
    """A Dask task: a part of a batch.  Here, so that workers load this module and know how its outcome travels."""
    return run_part(cargo, lying, *values)


class TellBegun:
    """Tells the parent, in a task, that the call with an index begins."""

    def __init__(self, topic: str, attempt: int) -> None:
        self._topic = topic
        self._attempt = attempt

    def __call__(self, index: int) -> None:
        distributed.get_worker().log_event(self._topic, [self._attempt, index])


async def _remove(dask_scheduler: Any, worker: str) -> None:
    """On the scheduler: a worker without a nanny that says nothing is not waited for."""
    await dask_scheduler.remove_worker(address=worker, stimulus_id="ordered-executor-stalled")


def _to_frames(obj: Any) -> tuple[dict[str, Any], list[Any]]:
    """Dask's own way to send an object: its pickle, and its buffers beside it.

    Left to its pickling they would be copied into the pickle, as the scheduler has it use an old protocol.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(obj, PROTOCOL, buffer_callback=buffers.append)
    return {}, [head, *(buffer.raw() for buffer in buffers)]


def _from_frames(_: dict[str, Any], frames: list[Any]) -> Any:
    return pickle.loads(frames[0], buffers=frames[1:])


for _kind in (Home, Carried):
    dask_serialize.register(_kind)(_to_frames)
    dask_deserialize.register(_kind)(_from_frames)


# -------------------------------------------------------------------------------------------------------- for the user


class OrderedDaskExecutor(ClusterExecutor):
    """A `concurrent.futures.Executor` on a Dask cluster whose futures complete in the order of submission.

    Args:
        client: A `distributed.Client` that is not asynchronous.  The executor does not close it.
        max_workers: The largest number of batches that run at a time.  Default: one for each thread of the cluster,
            also when the cluster grows or shrinks.
        window: How many tickets past the head an outcome may travel.  Outcomes further ahead stay on the cluster.
            Default: a wide window; `window_bytes` bounds the memory.
        window_bytes: How many bytes of early outcomes the parent may hold.  The parent estimates the size of an outcome
            from the sizes of the last ones: before an outcome travels, only the cluster knows its size.
        backlog: How many tickets may be unread before `submit` waits.  Default: no limit.
        task_timeout: How many seconds a task may run, from its start in the worker.  Then it gets `TaskTimeoutError`.
            `options(timeout=...)` sets it for some tasks.  If the worker has a nanny it is restarted, and its other
            tasks run again.  If it has none, its thread goes on, and nobody waits for that thread any more.
        stall_timeout: How many seconds a worker that has the head may say nothing.  Then it is restarted, or removed if
            it has no nanny, so that another worker runs the task.
        retries: How many times to send a task again that Dask has given up because its workers died.
        keep_results: What to keep for `results()`: see `OrderedProcessPoolExecutor`.
        unseen_errors: What to do with a failure that nobody looked at: `"log"`, `"raise"` (at shutdown) or `"ignore"`.
        resources, workers, allow_other_workers, priority: Options of `Client.submit`, for all tasks.

    A `distributed.Future` of this client among the arguments of a task is replaced by its value.  A wrong value of an
    option raises `TypeError` or `ValueError` with the name of the argument.
    """

    def __init__(
        self,
        client: distributed.Client,
        *,
        max_workers: int | None = None,
        window: int | None = None,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        backlog: int | None = None,
        task_timeout: float | None = None,
        stall_timeout: float = 60.0,
        retries: int = 0,
        keep_results: bool | None = None,
        unseen_errors: str = "log",
        resources: Mapping[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool | None = None,
        priority: int | None = None,
    ) -> None:
        if not isinstance(client, distributed.Client):
            raise TypeError(f"client must be a distributed.Client, not {client!r}")
        if client.asynchronous:
            raise ValueError("client must not be an asynchronous one: make it without asynchronous=True")
        max_workers, window, window_bytes = check_bounds(max_workers, window, window_bytes)
        extra = self._check_extra(
            {}, resources=resources, workers=workers, allow_other_workers=allow_other_workers, priority=priority
        )
        stall = check_seconds("stall_timeout", stall_timeout)
        assert stall is not None
        backend = DaskBackend(client, window, window_bytes, max_workers, stall)
        super().__init__(
            backend,
            extra,
            backlog=backlog,
            retries=retries,
            timeout=task_timeout,
            keep_results=keep_results,
            unseen_errors=unseen_errors,
        )

    def options(
        self,
        *,
        retries: int | None = None,
        timeout: float | None = None,
        resources: Mapping[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
        allow_other_workers: bool | None = None,
        priority: int | None = None,
    ) -> OptionsView:
        """Return a light view on this executor whose `submit` and `map` use other settings.

        `resources`, `workers`, `allow_other_workers` and `priority` are options of `Client.submit`.  A setting that
        you leave out is the executor's.
        """
        return self._view(
            retries,
            timeout,
            resources=resources,
            workers=workers,
            allow_other_workers=allow_other_workers,
            priority=priority,
        )

    @staticmethod
    def _check_extra(
        base: Mapping[str, Any],
        *,
        resources: Mapping[str, float] | None,
        workers: str | Iterable[str] | None,
        allow_other_workers: bool | None,
        priority: int | None,
    ) -> dict[str, Any]:
        extra = dict(base)
        if resources is not None:
            if not isinstance(resources, Mapping):
                raise TypeError(f"resources must be a mapping of names to numbers, not {resources!r}")
            extra["resources"] = dict(resources)
        if workers is not None:
            extra["workers"] = [workers] if isinstance(workers, str) else list(workers)
        if allow_other_workers is not None:
            if not isinstance(allow_other_workers, bool):
                raise TypeError(f"allow_other_workers must be True or False, not {allow_other_workers!r}")
            extra["allow_other_workers"] = allow_other_workers
        if priority is not None:
            if isinstance(priority, bool) or not isinstance(priority, int):
                raise TypeError(f"priority must be an int, not {priority!r}")
            extra["priority"] = priority
        if extra.get("allow_other_workers") and not extra.get("workers"):
            raise ValueError("allow_other_workers says something only together with workers")
        return extra

    def _submit(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options) -> Any:
        return super()._submit(fn, args, kwargs, _annotated(options))

    def _map(  # pyright: ignore[reportIncompatibleMethodOverride]  # it is called by position
        self, fn: Any, iterables: tuple[Iterable[Any], ...], *settings: Any
    ) -> Any:
        *others, options = settings
        return super()._map(fn, iterables, *others, _annotated(options))  # type: ignore[call-arg]


# ----------------------------------------------------------------------------------------------------------- placement


def _annotated(options: Options) -> Options:
    """The same with what `dask.annotate` says around the caller; what the view says itself comes first."""
    found = dask.get_annotations()
    if not found:
        return options
    for name, value in found.items():
        if name not in ANNOTATIONS or callable(value):
            raise ValueError(
                f"dask.annotate({name}={value!r}) cannot be honoured for an ordered task: it takes "
                f"{', '.join(sorted(ANNOTATIONS - {'span'}))}. For retries say options(retries=...)"
            )
    given = {name: found.get(name) for name in ("resources", "workers", "allow_other_workers", "priority")}
    extra = {**OrderedDaskExecutor._check_extra({}, **given), **options.extra}
    if "span" in found:
        extra["span"] = found["span"]
    return options._replace(extra=extra)


# ------------------------------------------------------------------------------------------------------ in the parent


class DaskBackend(ClusterBackend):
    """Lanes on a Dask cluster."""

    def __init__(
        self, client: Any, window: int | None, window_bytes: int, max_workers: int | None, stall_seconds: float
    ) -> None:
        self._client = client
        self._max_workers = max_workers
        self._background: set[asyncio.Task[Any]] = set()  # the loop itself holds them weakly only
        # One group of tasks for the scheduler.  What is of a small group it assigns to a worker at once; of a large one
        # it keeps what no thread is free for, and so can give it to workers that come later.
        self._group = f"ordered_executor-{uuid.uuid4().hex}"
        workers = self._bounded(sum(client.nthreads().values()))
        super().__init__(window, window_bytes, workers)
        self._homeward.pause = GATHER_SECONDS
        self._stall_seconds = stall_seconds
        self._seen: dict[str, tuple[Any, float]] = {}  # of workers: when they spoke last; since when that is so
        self._attempts: dict[int, Part] = {}  # parts whose tasks have time limits, by the number of their start
        self._subscribed = False
        self._on_workers(workers, self._grows())

    # ------------------------------------------------------------------------------------------------- how large it is

    def _bounded(self, threads: int) -> int:
        return threads if self._max_workers is None else min(threads, self._max_workers)

    def _grows(self) -> bool:
        """Whether the cluster starts workers when there is more to do."""
        return getattr(self._client.cluster, "_adaptive", None) is not None

    def _look(self) -> None:
        self._on_loop(self._count())

    def _why_gone(self) -> str | None:
        closed = self._client.status in ("closing", "closed")
        return "the Dask client was closed before its executor" if closed else None

    async def _count(self) -> None:
        """On the client's loop."""
        with contextlib.suppress(Exception):  # the scheduler may be away for a moment
            threads = await self._client.scheduler.ncores()
            workers = self._bounded(sum(threads.values()))
            changed = self._elastic or workers != self._workers or self._grows()
            self._posts.put(partial(self._on_workers, workers, changed))

    # ------------------------------------------------------------------------------------------------------------ tasks

    def _on_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        def begin() -> None:
            task = asyncio.ensure_future(coroutine)
            self._background.add(task)
            task.add_done_callback(self._background.discard)

        self._client.loop.add_callback(begin)

    def _start(self, parts: list[Part]) -> None:
        """As few messages as can be: what the scheduler does for one costs it more than a task."""
        groups: list[list[tuple[Part, list[Any]]]] = []
        for part in sorted(parts, key=lambda part: part.ticket):
            call = self._call(part)
            for group in groups:
                lead, other = group[0]
                if lead.extra == part.extra and len(other) == len(call):
                    group.append((part, call))
                    break
            else:
                groups.append([(part, call)])
        for group in groups:
            self._submit(group)

    def _call(self, part: Part) -> list[Any]:
        """What `run` gets."""
        lying = [common for common in part.shared() if common.ref is not None]
        return [part.cargo(self._clock_for(part), lying), len(lying), *(each.ref for each in lying), *part.needs]

    def _submit(self, group: list[tuple[Part, list[Any]]]) -> None:
        """Those that the cluster is to treat alike."""
        lead = group[0][0]
        extra = dict(lead.extra)
        # Lowest ticket first: left alone, what is submitted close together runs last in, first out.
        settings = {"pure": False, "priority": extra.pop("priority", 0) * PRIORITY_STEP - lead.ticket, **extra}
        span = settings.pop("span", None)
        keys = [(self._group, next(self._numbers)) for _ in group]
        with warnings.catch_warnings(), dask.annotate(**({} if span is None else {"span": span})):
            warnings.filterwarnings("ignore", message="Sending large graph")
            tasks = self._client.map(run, *zip(*(call for _, call in group), strict=True), key=keys, **settings)
        for (part, _), task in zip(group, tasks, strict=True):
            part.task = task
        self._on_loop(self._watch([(part, part.task) for part, _ in group]))

    async def _watch(self, started: list[tuple[Part, Any]]) -> None:
        """On the client's loop: say of each when the cluster is done with it.  Fetches nothing.

        Not a done-callback: Dask has one thread for those of the whole program, which may be busy, and which cannot be
        started any more at the program's end.
        """
        await asyncio.gather(*(self._watch_one(part, task) for part, task in started))

    async def _watch_one(self, part: Part, task: Any) -> None:
        with contextlib.suppress(BaseException):  # what became of it, `_bring` will see
            await task.exception()
        self._posts.put(partial(self._on_ended, part, task))

    def _fetch(self, parts: list[Part]) -> None:
        self._on_loop(self._bring([(part, part.task) for part in parts]))

    async def _bring(self, wanted: list[tuple[Part, Any]]) -> None:
        """On the client's loop.  Never cancelled: others may be waiting for the same transfer."""
        homes: list[Any] = []
        if len(wanted) > 1 and all(task.status == "finished" for _, task in wanted):
            with contextlib.suppress(BaseException):  # one of them: which, shows below
                homes = await self._client.gather([task for _, task in wanted], asynchronous=True)
        if homes:
            fetched = [Fetched(part, task, home, None) for (part, task), home in zip(wanted, homes, strict=True)]
            self._posts.put(partial(self._on_fetched, fetched))
            return
        await asyncio.gather(*(self._bring_one(part, task) for part, task in wanted))

    async def _bring_one(self, part: Part, task: Any) -> None:
        home, error = None, None
        try:
            home = await self._client.gather(task, asynchronous=True)
        except BaseException as reason:  # what became of the task; also Dask's way to say "cancelled"
            error = reason
        self._posts.put(partial(self._on_fetched, [Fetched(part, task, home, error)]))
        del part, task, home, error  # this frame is in the traceback, which lives as long as the error

    def _forget(self, task: Any) -> None:
        task.release()

    # ----------------------------------------------------------------------------------------------- time, and its ends

    def _clock_for(self, part: Part) -> TellBegun | None:
        """What tells when each of its tasks begins, if that must be known."""
        if not part.timed:
            return None
        if not self._subscribed:
            self._subscribed = True
            self._client.subscribe_topic(self._group, self._hear_begun)
        part.attempt = next(self._numbers)
        self._attempts[part.attempt] = part
        return TellBegun(self._group, part.attempt)

    def _hear_begun(self, event: Any) -> None:
        """On the client's loop."""
        attempt, index = event[1]
        part = self._attempts.get(attempt)
        if part is not None:
            self._posts.put(partial(self._on_begun, part, attempt, index))

    def _on_ended(self, part: Part, task: Any) -> None:
        super()._on_ended(part, task)
        self._attempts.pop(part.attempt, None)

    def _stop(self, parts: list[Part]) -> None:
        tasks = [part.task for part in parts]
        for part in parts:
            part.task = None  # it is let go when its worker is known
            self._attempts.pop(part.attempt, None)
        self._on_loop(self._stop_there(tasks))

    async def _stop_there(self, tasks: list[Any]) -> None:
        with contextlib.suppress(Exception):  # the client may be closed by now
            keys = {task.key for task in tasks}
            found = await asyncio.to_thread(self._where, keys)
            for task in tasks:
                task.release()
            await asyncio.to_thread(self._restart, found)
        for task in tasks:
            task.release()

    def _where(self, keys: set[Any]) -> list[str]:
        """The workers that have one of these."""
        return [worker for worker, mine in self._client.processing().items() if keys & set(mine)]

    def _restart(self, workers: list[str]) -> None:
        """Those that have a nanny are killed and started again; what else they ran, others run."""
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        if watched := [worker for worker in workers if known.get(worker, {}).get("nanny")]:
            _blame_nobody(watched)
            self._client.restart_workers(watched, timeout=RESTART_SECONDS, raise_for_error=False)

    def _look_after(self, tasks: list[Any]) -> None:
        self._on_loop(self._see_workers_of({task.key for task in tasks}))

    async def _see_workers_of(self, keys: set[Any]) -> None:
        with contextlib.suppress(Exception):
            await asyncio.to_thread(self._see, keys)

    def _see(self, keys: set[Any]) -> None:
        """Restart or remove workers that have some of these, if the scheduler has heard nothing of them for too long.

        Any of them may hold up the head: one runs it, or keeps its outcome; or keeps another, and the few gathers that
        a client has on the way at a time wait for that.
        """
        known, now = self._client.scheduler_info(n_workers=-1)["workers"], time.monotonic()
        before, self._seen = self._seen, {}
        for worker, info in known.items():
            seen, since = before.get(worker, (None, now))
            self._seen[worker] = info["last_seen"], since if seen == info["last_seen"] else now
        silent = [worker for worker, (_, since) in self._seen.items() if now - since >= self._stall_seconds]
        if not silent:
            return
        running, kept = self._client.processing(silent), self._client.has_what(silent)
        for worker in silent:
            if not keys.isdisjoint([*running.get(worker, ()), *kept.get(worker, ())]):
                self._replace(worker)

    def _replace(self, worker: str) -> None:
        self._seen.pop(worker, None)  # it is given as long again
        logger.warning("Dask worker %s said nothing for %s s; another runs what it had", worker, self._stall_seconds)
        with contextlib.suppress(Exception):  # its nanny may be gone, too
            self._restart([worker])
        if worker in self._client.scheduler_info(n_workers=-1)["workers"]:
            _blame_nobody([worker])
            self._client.run_on_scheduler(_remove, worker=worker)

    # ------------------------------------------------------------------------------------------------- what tasks share

    def _put(self, common: Common) -> None:
        self._on_loop(self._scatter(common))

    async def _scatter(self, common: Common) -> None:
        """On the client's loop."""
        ref = None
        with contextlib.suppress(Exception):  # it goes along with each task, then
            ref = await self._client.scatter(common.carried, hash=False, asynchronous=True)
        self._posts.put(partial(self._on_put, common, ref))

    # ----------------------------------------------------------------------------------------------------------- losses

    def _is_accident(self, error: BaseException) -> bool:
        if isinstance(error, distributed.KilledWorker):  # of what else its worker had, too
            return time.monotonic() < _restarted.get(error.last_worker.address, 0.0)
        return getattr(error, "reason", None) in ACCIDENTS

    def _own_failure(self, part: Part, error: BaseException) -> BaseException | None:
        if part.needs and any(need.status == "error" for need in part.needs):
            return error
        return None


def _blame_nobody(workers: list[str]) -> None:
    """They are about to end: see `_restarted`."""
    now = time.monotonic()
    for worker in [worker for worker, until in list(_restarted.items()) if until < now]:
        _restarted.pop(worker, None)
    _restarted.update(dict.fromkeys(workers, now + 2 * RESTART_SECONDS))
