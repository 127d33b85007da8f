"""What tests with real processes share: tasks that stand still until they are let go, journals, and leak checks.

No task sleeps to be late: it stands at a `Valve`, and the test opens it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

import ordered_executor  # what it has is loaded when it is used: workers that run tasks of this module need none of it

if TYPE_CHECKING:
    from ordered_executor import OrderedExecutor

T = TypeVar("T")

# Long enough for a loaded machine, shorter than the limit of a test: so that the test says what it waited for.
PATIENCE = 30.0


def until(condition: Callable[[], T], what: str = "", patience: float = PATIENCE) -> T:
    """Wait for a condition that has no event (a number of `statistics()`, a process); return its true value."""
    deadline = time.monotonic() + patience
    pause = 0.00002  # most waits are for a thread that is about to do it
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience} s for {what or condition}")
        time.sleep(pause)
        pause = min(2 * pause, 0.002)
    return value


# --------------------------------------------------------------------------------------------------- valves, journals


class Valve:
    """A place where tasks stand until the test lets them go on: a named FIFO.  Picklable: send it as an argument.

    A task calls `stand()`.  The test calls `reached()`, which returns when a task stands there, and `open()`, after
    which nobody stands there any more, now or later.  `Valve(path)` is the same valve in another program.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self._held: int | None = None
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path)

    def stand(self) -> None:
        """In a task: wait until the valve is opened."""
        with Path(self.path).open("rb") as fifo:
            fifo.read()

    def reached(self) -> None:
        """Return when a task stands here: a FIFO can be opened to write once it has a reader.  Lets nobody go on."""
        if self._held is None:
            self._held = until(self._open_to_write, "a task to reach the valve")

    def _open_to_write(self) -> int | None:
        try:
            return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return None

    def open(self) -> None:
        """Let everybody go on, those who come later too."""
        held = os.open(self.path, os.O_RDWR)  # does not wait; whoever waits in open() gets through to read()
        plain = Path(self.path + ".open")
        plain.touch()
        plain.replace(self.path)  # whoever comes from here on finds an empty file
        os.close(held)
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_held": None}


class Journal:
    """Lines that tasks write and the test reads, in the order written: a named FIFO.  Picklable."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR)  # one writer always: reading waits instead of ending
        self._lines = os.fdopen(os.dup(self._fd), "r")

    def write(self, line: object) -> None:
        """In a task.  One write, so that lines do not mix, and nothing is lost when the process dies after it."""
        fd = os.open(self.path, os.O_WRONLY)
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)

    def read(self) -> str:
        """The next line; waits for it."""
        return self._lines.readline().rstrip("\n")

    def read_all(self) -> list[str]:
        """All that was written and not read yet; no task writes any more."""
        os.write(self._fd, b"the end\n")
        return list(iter(self.read, "the end"))

    def close(self) -> None:
        """The test reads no more."""
        self._lines.close()
        os.close(self._fd)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}


# ----------------------------------------------------------------------------------------------------- what tasks run


def stand(valve: Valve, value: Any = None) -> Any:
    """Return the value once the valve is open."""
    valve.stand()
    return value


def stand_and_raise(valve: Valve, error: BaseException) -> None:
    """Raise the error once the valve is open."""
    valve.stand()
    raise error


def note(journal: Journal, value: T) -> T:
    """Write the value into the journal, and return it."""
    journal.write(value)
    return value


def stand_with_pid(journal: Journal, valve: Valve) -> int:
    """Write the worker's pid into the journal, and return it once the valve is open."""
    journal.write(os.getpid())
    valve.stand()
    return os.getpid()


def note_and_die(journal: Journal, value: object, signal_number: int = signal.SIGKILL) -> None:
    """Write the value into the journal, and die."""
    journal.write(value)
    os.kill(os.getpid(), signal_number)
    threading.Event().wait()  # a signal sent to oneself may take a moment


def note_and_exit(journal: Journal, value: object, code: int) -> None:
    """Write the value into the journal, and leave without a word."""
    journal.write(value)
    os._exit(code)


def same(value: T) -> T:
    """Return the argument."""
    return value


def fail(message: object) -> None:
    """Raise a ValueError."""
    raise ValueError(message)


def take_a_while(value: T, seconds: float) -> T:
    """Return the value after some time, for tests of what a random duration may mix up."""
    time.sleep(seconds)
    return value


def getpid(_: object = None) -> int:
    """The pid of the worker."""
    return os.getpid()


def hold_the_gil(journal: Journal) -> None:
    """Stand in C code that never lets another thread of this process run."""
    import ctypes

    journal.write(os.getpid())
    ctypes.PyDLL(None).sleep(600)  # a PyDLL keeps the interpreter lock


# ---------------------------------------------------------------------------------------------------------- leak check


class Traces:
    """What this process has open: child processes, threads, descriptors, names in shared memory."""

    def __init__(self) -> None:
        self.children = {child.pid: _describe(child) for child in psutil.Process().children(recursive=True)}
        self.threads = Counter(thread.name for thread in threading.enumerate())
        self.descriptors = dict(_descriptors())
        self.shared = {name for name in _names_in("/dev/shm") if f"-{os.getpid()}-" in name}

    def left_since(self, before: Traces) -> list[str]:
        """What is there now and was not there before."""
        left = [f"process {pid}: {what}" for pid, what in self.children.items() if pid not in before.children]
        left += [f"thread {name}" for name in (self.threads - before.threads).elements()]
        left += [f"shared memory {name}" for name in self.shared - before.shared]
        if len(self.descriptors) > len(before.descriptors):
            new = set(self.descriptors.items()) - set(before.descriptors.items())
            left += [f"descriptor {fd}: {target}" for fd, target in sorted(new)]
        return left


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.status()} {' '.join(process.cmdline())[:200]}"
    return "gone"


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            yield int(name), str(Path(f"/dev/fd/{name}").readlink() if sys.platform == "linux" else os.fstat(int(name)))


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def start_what_stays() -> None:
    """The processes that the interpreter and loky keep as long as the parent lives: start them before any check.

    And put aside for the garbage collector what is there already, which is much: many tests call it.
    """
    from multiprocessing import forkserver, resource_tracker

    from loky.backend import resource_tracker as loky_tracker

    from ordered_executor._base.system import watchdog

    resource_tracker.ensure_running()
    loky_tracker.ensure_running()
    forkserver.ensure_running()
    watchdog.start()
    gc.collect()
    gc.freeze()


def end_what_may_end() -> None:
    """Idle workers of other tests end at any moment: end them before a count that is to be the same afterwards."""
    gc.collect()
    ordered_executor.end_idle_workers()


@contextlib.contextmanager
def nothing_is_left(patience: float = 20.0) -> Iterator[None]:
    """Check that no process, thread, descriptor or name in shared memory of ours is left behind."""
    before = Traces()
    yield
    ordered_executor.end_idle_workers()
    deadline = time.monotonic() + patience
    gc.collect()
    while left := Traces().left_since(before):
        # What ends by itself (an executor that was let go, a shutdown that did not wait) may take a moment.
        assert time.monotonic() < deadline, "left behind: " + "; ".join(left)
        time.sleep(0.01)
        ordered_executor.end_idle_workers()
        gc.collect()
        multiprocessing.active_children()  # asks fork servers that were late to tell how a worker ended


def is_dead(pid: int) -> bool:
    """Whether the process runs nothing any more (its parent may not have asked for its exit code yet)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# ------------------------------------------------------------------------------------------------------ other programs

MARK = "ORDERED_EXECUTOR_TEST"


class Script:
    """A program in a process group of its own, whose workers can be found after it is gone."""

    def __init__(self, command: list[str], folder: Path, stdin: str | None = None) -> None:
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.temporary = Path(tempfile.mkdtemp(prefix="oe"))  # a short path: sockets of the fork server live there
        self._names_before = _names_in("/dev/shm")
        environment = os.environ | {
            MARK: self.mark,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TMPDIR": str(self.temporary),
        }
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        self._input = stdin

    def wait(self, timeout: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for its end: exit code, output, errors.  Ends also when a process that it left holds its pipes."""
        try:
            out, err = self.process.communicate(self._input, timeout)
        except subprocess.TimeoutExpired:
            alive = [_describe(process) for process in self.processes()]
            self.process.send_signal(signal.SIGUSR1)
            self.kill_all()
            out, err = self.process.communicate()
            raise AssertionError(f"not over after {timeout} s: {alive}; it said: {out}\n{err}") from None
        return self.process.returncode, out, err

    def processes(self) -> list[psutil.Process]:
        """All its processes that live, itself included."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def names(self) -> list[str]:
        """What it has in shared memory by name.  What was there before is of a process that had its number before."""
        mark = f"-{self.process.pid}-"
        return [name for name in _names_in("/dev/shm") if mark in name and name not in self._names_before]

    def kill_all(self) -> None:
        """Whatever happens, nothing of it stays."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def clean_up(self) -> None:
        """Leave nothing of it."""
        self.kill_all()
        self.process.wait()
        shutil.rmtree(self.temporary)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                if pipe.readable():
                    print(pipe.read())  # pytest shows it if the test failed
                pipe.close()


def settled(executor: OrderedExecutor, *, early: int, gated: int) -> None:
    """Wait until so many outcomes are early and so many workers stand at the gate."""

    def there() -> bool:
        seen = executor.statistics()
        return (seen.early, seen.gated) == (early, gated)

    try:
        until(there)
    except AssertionError:
        raise AssertionError(f"expected {early} early and {gated} gated: {executor.statistics()}") from None


def warm_up(executor: OrderedExecutor, make_valve: Callable[[], Valve]) -> None:
    """Return when all workers run: otherwise the first of them does the work of the others."""
    valves = [make_valve() for _ in range(executor.statistics().max_workers)]
    futures = [executor.submit(stand, valve) for valve in valves]
    for valve in valves:
        valve.reached()
    for valve in valves:
        valve.open()
    for future in futures:
        future.result()
