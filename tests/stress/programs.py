"""Pipelines in a program of their own, which is then killed: nothing of it may stay.

The program (`python -m tests.stress --inside …`) makes executors by its plan, submits and reads, until the end comes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil

from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import Script

from .journal import read
from .plan import ARGUMENT_FAULTS, EXIT, FATAL_INITIALIZERS, Plan, Task
from .play import call_of, make_executor
from .record import Record
from .watchdog import Watchdog, dump_process

# The promise is a second for Ctrl-C and two after a SIGKILL; a loaded machine needs more.
GONE_SECONDS = 6.0
FINISHED_SECONDS = 60.0
# The folder of a fork server's socket: multiprocessing makes it, and leaves it when its process is killed.
MULTIPROCESSINGS = "pymp-"
_CODES = {"SIGINT": {-signal.SIGINT, 130}, "SIGTERM": {-signal.SIGTERM}, EXIT: {0}}
READY = "ready"


_kept: list[object] = []


def run_inside(plan: Plan, book: str) -> None:
    """The program: says when it is ready, and goes on until somebody kills it; or submits, and just ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs in the background is started without
    print(READY, flush=True)
    if plan.signal == EXIT:
        executor = make_executor(replace(plan, backlog=None), book)
        _kept.append(executor)
        with contextlib.suppress(RuntimeError):  # it may break
            _submit(executor, plan.tasks, book)
        return
    while True:
        with make_executor(plan, book) as executor, contextlib.suppress(RuntimeError):  # it may break
            step = plan.backlog or len(plan.tasks)
            for start in range(0, len(plan.tasks), step):
                _submit(executor, plan.tasks[start : start + step], book)
                for _ in executor.outcomes():
                    pass


def _submit(executor: OrderedProcessPoolExecutor, tasks: tuple[Task, ...], book: str) -> None:
    for task in tasks:
        fn, arguments = call_of(task, book)
        executor.options(retries=task.retries, timeout=task.timeout).submit(fn, *arguments)


def run_program(plan: Plan, watch: Watchdog) -> Record:
    """Start the program of a plan, kill it at its moment, and look for what stays."""
    record = Record(plan)
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "journal"
        book.touch()
        which = ["--seed", str(plan.seed), "--pipeline", str(plan.number)]
        command = ["-m", "tests.stress", *which, "--inside", str(book)]
        program = Script(command, Path(folder))
        try:
            assert program.process.stdout is not None
            first = program.process.stdout.readline()
            watch.beat(f"program {plan.number} of seed {plan.seed}")
            if first.strip() != READY:
                record.complain(f"the program did not start: {first!r} {program.wait()}")
                return record
            time.sleep(plan.signal_at)  # the moment is random, that is the point
            _send(program, plan.signal)
            record.mischief_done[plan.signal] += 1
            _look(program, plan, record)
            left = [name for name in os.listdir(program.temporary) if not name.startswith(MULTIPROCESSINGS)]
            record.complaints += [f"left in the temporary folder: {name}" for name in left]
        finally:
            program.clean_up()
        record.lines = read(str(book))
        if plan.signal == EXIT:
            _look_at_executions(plan, record)
    _look_at_shared_memory(program, plan, record)
    return record


def _look_at_executions(plan: Plan, record: Record) -> None:
    """At the end of a program everything is finished that was submitted."""
    runs = Counter(line.uid for line in record.lines if line.what == "run")
    if plan.initializer not in FATAL_INITIALIZERS:
        never = [task.uid for task in plan.tasks if not runs[task.uid] and task.fault not in ARGUMENT_FAULTS]
        record.complaints += [f"the program ended, and task {uid} never ran" for uid in never]
    for task in plan.tasks:
        if runs[task.uid] > 1 + task.retries:
            record.complain(f"task {task.uid} ran {runs[task.uid]} times")


def _send(program: Script, what: str) -> None:
    if what == EXIT:
        return
    if what == "SIGKILL to the group":
        os.killpg(program.process.pid, signal.SIGKILL)
    else:
        program.process.send_signal(signal.Signals[what])


def _look(program: Script, plan: Plan, record: Record) -> None:
    """All its processes are gone in time; it ended as the signal says; no worker said a word."""
    deadline = time.monotonic() + (FINISHED_SECONDS if plan.signal == EXIT else GONE_SECONDS)
    drain = _Drain(program)
    while left := program.processes():
        if time.monotonic() > deadline:
            record.complain(f"after {plan.signal}, there are still {[_describe(process) for process in left]}")
            for process in left:
                dump_process(process.pid)
            program.kill_all()
            break
        time.sleep(0.01)
    code = program.process.wait()
    out = drain.text()
    wanted = _CODES.get(plan.signal, {-signal.SIGKILL})
    if code not in wanted:
        record.complain(f"after {plan.signal} the program ended with {code}: {out[-2000:]}")
    if plan.signal == "SIGINT" and ("\nProcess " in out or out.count("\nKeyboardInterrupt") > 1):
        record.complain(f"Ctrl-C was followed by a spray: {out[-4000:]}")


class _Drain:
    """Reads what the program says, so that it never waits for us."""

    def __init__(self, program: Script) -> None:
        self._program = program
        self._parts: list[str] = []
        self._threads = [threading.Thread(target=self._read, args=(pipe,), daemon=True) for pipe in self._pipes()]
        for thread in self._threads:
            thread.start()

    def _pipes(self) -> list[object]:
        return [self._program.process.stdout, self._program.process.stderr]

    def _read(self, pipe: object) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed under our hands
            self._parts.append(pipe.read())  # type: ignore[attr-defined]

    def text(self) -> str:
        for thread in self._threads:
            thread.join(2)
        return "\n".join(self._parts)


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:120]}"
    return "gone"


def _look_at_shared_memory(program: Script, plan: Plan, record: Record) -> None:
    """No name of the program stays; loky's do if its tracker is killed with all others, and then we remove them."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := program.names()) and time.monotonic() < deadline and plan.signal != "SIGKILL to the group":
        time.sleep(0.02)
    for name in left:
        Path("/dev/shm", name).unlink(missing_ok=True)
        if plan.signal != "SIGKILL to the group" or not name.startswith("sem.loky-"):
            record.complain(f"left in shared memory: {name}")
