"""Plays one pipeline: threads that submit, read, map and make trouble; the main thread ends it.

What each thread sees goes into the record.  Nothing is judged here, but what cannot wait: an error where none may be.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from loky.backend import get_context  # knows those of multiprocessing, too

from ordered_executor import OrderedProcessPoolExecutor
from ordered_executor._core.statistics import take_statistics

from . import cargo, tasks
from .endings import end
from .journal import read
from .mischief import Troublemaker
from .plan import ARGUMENT_FAULTS, Map, Plan, Task
from .readers import FUTURE_READERS, IMPATIENCE, InputError, read_future, read_log, read_map, read_stream_async
from .record import Delivery, MapRecord, Record
from .watchdog import Watchdog


def make_executor(plan: Plan, book: str) -> OrderedProcessPoolExecutor:
    """The executor of a plan."""
    initializer = (tasks.initialize, (book, plan.initializer)) if plan.initializer else (None, ())
    return OrderedProcessPoolExecutor(
        plan.max_workers,
        None if plan.context is None else get_context(plan.context),
        *initializer,
        max_tasks_per_child=plan.max_tasks_per_child,
        window=plan.window,
        window_bytes=plan.window_bytes,
        backlog=plan.backlog,
        task_timeout=plan.task_timeout,
        retries=plan.retries,
        keep_results=plan.keep_results,
        unseen_errors=plan.unseen_errors,
        reuse=plan.reuse,
        idle_timeout=plan.idle_timeout,
    )


def call_of(task: Task, book: str) -> tuple[Any, tuple[Any, ...]]:
    """A task's callable and arguments."""
    arguments: tuple[Any, ...] = (book, task.uid, task.seconds, task.fault, task.answer, task.size)
    if task.fault in ARGUMENT_FAULTS:
        arguments += (cargo.Bomb(task.fault, book, task.uid),)
    elif task.argument:
        kind = (task.argument, task.argument_size, task.uid)
        arguments += ((*kind, cargo.make(*kind)),)
    if task.call == "closure":
        return _closure(tasks.perform), arguments
    if task.call == "partial":
        return functools.partial(tasks.perform, book), arguments[1:]
    if task.call == "method":
        return tasks.Performer().perform, arguments
    return tasks.perform, arguments


def _closure(perform: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*given: Any) -> Any:
        return perform(*given)

    return inner


class _Inputs(Iterator[tuple[Any, ...]]):
    """The input of a map: arguments, and errors before some of them."""

    def __init__(self, plan: Map, book: str) -> None:
        self._tasks = iter(plan.tasks)
        self._fails = list(plan.input_fails)
        self._given = 0
        self._book = book

    def __next__(self) -> tuple[Any, ...]:
        if self._fails and self._fails[0] == self._given:
            del self._fails[0]
            raise InputError
        self._given += 1
        _, arguments = call_of(next(self._tasks), self._book)
        return (*arguments, None)[:7]


class Play:
    """A pipeline on its way."""

    def __init__(self, plan: Plan, watch: Watchdog, book: str) -> None:
        self.plan = plan
        self.watch = watch
        self.record = Record(plan)
        self.submitted = threading.Event()  # all that will be
        self.over = threading.Event()  # no more mischief
        self.futures: dict[int, Any] = {}  # uid -> future, if they are held
        self.submissions: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()  # for a reader of futures
        self.threads: list[threading.Thread] = []  # readers
        self.submitters: list[threading.Thread] = []
        self.maps: list[threading.Thread] = []
        self._book = book
        self._executor: Callable[[], OrderedProcessPoolExecutor | None] = lambda: None

    def executor(self) -> OrderedProcessPoolExecutor | None:
        """The executor, as long as somebody holds it."""
        return self._executor()

    def play(self) -> Record:
        """From the first submit to the last reader."""
        logs = _Critical(self.record)
        logging.getLogger("ordered_executor").addHandler(logs)
        try:
            executor = make_executor(self.plan, self._book)
            self._executor = weakref.ref(executor)
            self.watch.beat(f"pipeline {self.plan.number} of seed {self.plan.seed}", executor)
            scheduler = executor._scheduler  # for its last statistics, when nobody holds the executor any more
            self._begin(executor)
            held = [executor]
            del executor
            end(self, held)
            self._finish(scheduler)
        finally:
            logging.getLogger("ordered_executor").removeHandler(logs)
        return self.record

    # ----------------------------------------------------------------------------------------------------- threads

    def start(self, what: Callable[..., object], *arguments: Any) -> threading.Thread:
        """A thread whose errors are complaints."""

        def run() -> None:
            try:
                what(*arguments)
            except BaseException:
                self.record.complain(f"{getattr(what, '__qualname__', what)}: {traceback.format_exc()}")

        thread = threading.Thread(target=run, name=getattr(what, "__qualname__", "thread"), daemon=True)
        thread.start()
        return thread

    def _begin(self, executor: OrderedProcessPoolExecutor) -> None:
        plan = self.plan
        if plan.stream:
            for _ in range(plan.readers):
                self._start_reader(executor)
        if plan.futures:
            self.threads.append(self.start(FUTURE_READERS[plan.futures], self))
        for number in range(len(plan.maps)):
            seen = MapRecord()
            self.record.maps.append(seen)
            self.maps.append(self.start(read_map, self, number, seen))
        parts = [plan.tasks[part :: plan.submitters] for part in range(plan.submitters)]
        self.submitters = [self.start(self._submit_all, part) for part in parts]
        self.threads.append(self.start(self._tell_when_submitted))
        self._trouble = self.start(Troublemaker(self).run)

    def _start_reader(self, executor: OrderedProcessPoolExecutor) -> None:
        kind, follow = self.plan.stream, self.plan.follow
        timeout = None if kind == "async, impatient" or self.plan.number % 2 else IMPATIENCE
        deliveries: list[Delivery] = []
        self.record.streams.append(deliveries)
        if kind in {"outcomes", "async", "async, impatient"}:
            results: Any = executor.outcomes(timeout=timeout, follow=follow)
        else:
            errors = "yield" if kind == "results, errors yielded" else "raise"
            results = executor.results(timeout=timeout, errors=errors, follow=follow)
        reader = read_stream_async if kind.startswith("async") else read_log
        self.threads.append(self.start(reader, self, results, deliveries))

    # ------------------------------------------------------------------------------------------------------ submit

    def _submit_all(self, mine: tuple[Task, ...]) -> None:
        for task in mine:
            if task.pause:
                time.sleep(task.pause)
            executor = self.executor()
            if executor is None:
                return
            try:
                future = self._submit(executor, task)
            except RuntimeError as error:
                self.record.refusals.append(error)
                return
            self.record.tickets[task.uid] = future.ticket
            if self.plan.callbacks:
                future.add_done_callback(functools.partial(self._on_done, task.uid))
            if self.plan.hold:
                self.futures[task.uid] = future
            if self.plan.futures:
                self.submissions.put((task.uid, future))
            del future
            self.watch.beat()

    def _submit(self, executor: OrderedProcessPoolExecutor, task: Task) -> Any:
        if task.call == "mark":
            return executor.mark(cargo.make("str", 5, task.uid))
        fn, arguments = call_of(task, self._book)
        return self._view(executor, task.retries, task.timeout).submit(fn, *arguments)

    def _view(self, executor: OrderedProcessPoolExecutor, retries: int, timeout: float | None) -> Any:
        if (retries, timeout) == (self.plan.retries, self.plan.task_timeout):
            return executor
        return executor.options(retries=retries, timeout=timeout)

    def _tell_when_submitted(self) -> None:
        for thread in self.submitters:
            thread.join()
        self.submitted.set()
        self.submissions.put(None)

    def start_map(self, plan: Map) -> Any:
        """Call `map`."""
        executor = self.executor()
        if executor is None:
            raise RuntimeError("cannot schedule: it was dropped")

        options = plan.tasks[0] if plan.tasks else Task(0, retries=self.plan.retries, timeout=self.plan.task_timeout)
        view = self._view(executor, options.retries, options.timeout)
        return view.map(
            _spread,
            _Inputs(plan, self._book),
            chunksize=plan.chunksize,
            buffersize=plan.buffersize,
            errors=plan.errors,
            prefetch=plan.prefetch,
        )

    def _on_done(self, uid: int, future: Any) -> None:
        self.watch.beat()
        self.record.called_back.append(uid)
        if not future.done():
            self.record.complain(f"task {uid} had its callback before it was done")
        if threading.current_thread().name == "ordered-executor-scheduler" and not future.cancelled():
            self.record.released.append(future.ticket)

    def pick_future(self, pick: float) -> tuple[int, Any]:
        """One of the futures that are held."""
        held = list(self.futures.items())
        return held[int(pick * len(held))] if held else (0, None)

    # ------------------------------------------------------------------------------------------------------ the end

    def _finish(self, scheduler: Any) -> None:
        """The executor was shut down: wait until everybody has noticed, and take stock."""
        self.over.set()
        for thread in [*self.submitters, *self.threads, *self.maps, self._trouble]:
            thread.join()
        if not scheduler.inbox.finished.wait(60):  # "dropped" waits for nobody
            self.record.complain("the executor is not finished after a minute")
        self.record.statistics = take_statistics(scheduler)
        for uid, future in self.futures.items():
            self.record.later_tickets[uid] = future.ticket
            if not future.done():
                self.record.unfinished.append(uid)
                continue
            self.record.finals[uid] = read_future(future, 0)
        self.futures.clear()
        self.record.lines = read(self._book)


def _spread(arguments: tuple[Any, ...]) -> Any:
    return tasks.perform(*arguments)


class _Critical(logging.Handler):
    """What is logged as critical is a complaint: the executor broke down."""

    def __init__(self, record: Record) -> None:
        super().__init__(logging.CRITICAL)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        self._record.complain(logging.Formatter().format(record))
