"""What the tests here have their workers run.

Apart from the tests, so that a worker does not import pytest to run it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import ordered_executor
from ordered_executor._base import system
from ordered_executor._processes.worker import runner
from tests.helpers import Journal, Valve, getpid, note, note_and_die, same, stand_with_pid

T = TypeVar("T")


class Thing:
    """Something that can be referred to weakly."""


def make_thing(_: object = None) -> Thing:
    """A new one."""
    return Thing()


def reciprocal(number: int) -> float:
    """Fails for zero."""
    return 1 / number


# ----------------------------------------------------------------------------------- one argument each, for map


def note_pair(argument: tuple[Journal, int]) -> int:
    """Write the number down."""
    return note(*argument)


def die_at_five(argument: tuple[Journal, int]) -> int:
    """Write the number down; die of five."""
    journal, number = argument
    if number == 5:
        note_and_die(journal, number)
    return note(journal, number)


def stand_if_told(argument: tuple[Journal, Valve | None, int]) -> int:
    """Write the number down, and stand at the valve, if there is one."""
    journal, valve, number = argument
    note(journal, number)
    if valve is not None:
        valve.stand()
    return number


# ------------------------------------------------------------------------------------------------ initializers

given: list[Any] = []


def give(*values: Any) -> None:
    """An initializer that keeps what it is given."""
    given[:] = values


def read_given(valve: Valve) -> tuple[int, list[Any]]:
    """Stand at the valve; then say which worker this is, and what its initializer was given."""
    valve.stand()
    return os.getpid(), given


def take_all() -> int:
    """Take the given semaphore until it has nothing more."""
    taken = 0
    while given[0].acquire(block=False):
        taken += 1
    return taken


def put_given(value: object) -> None:
    """Put the value into the given queue."""
    given[0].put(value)


def fail_to_start(queue: Any = None) -> NoReturn:
    """An initializer that fails, and has what is logged of it put into a queue."""
    if queue is not None:
        logger = logging.getLogger("concurrent.futures")
        logger.addHandler(QueueHandler(queue))
        logger.propagate = False
    raise ValueError("error in initializer")


def start_a_child() -> int:
    """Start a child of multiprocessing, which a process waits for at its end; return its pid."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=False)
    child.start()
    assert child.pid is not None
    return child.pid


def leave() -> NoReturn:
    """Exit as a program does."""
    sys.exit(8)


# ------------------------------------------------------------------------------------------------ what a worker is like


def variable(name: str) -> str | None:
    """A variable of the worker's environment."""
    return os.environ.get(name)


def interrupt_myself() -> str:
    """Get a SIGINT."""
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"


def interrupt_a_program() -> int:
    """Start a program, and send it a SIGINT; return its exit code."""
    program = subprocess.Popen(["sleep", "60"])
    program.send_signal(signal.SIGINT)
    return program.wait()


# -------------------------------------------------------------------------------------------------- death and delay


def make_or_stand(what: int | Valve) -> bytes | None:
    """Return so many bytes; or stand at a valve until it is open."""
    if isinstance(what, Valve):
        what.stand()
        return None
    return bytes(what)


def note_and_make(journal: Journal, number: int, size: int) -> bytes:
    """Write the number into the journal, and return a byte of that value, so many times."""
    journal.write(number)
    return bytes([number]) * size


def stand_and_make(journal: Journal, valve: Valve, size: int) -> bytes:
    """Return so many bytes, once the valve is open."""
    stand_with_pid(journal, valve)
    return bytes(size)


def stand_and_exit(valve: Valve) -> NoReturn:
    """Leave without a word, once the valve is open."""
    valve.stand()
    os._exit(1)


def die_first(journal: Journal) -> str:
    """Die when this is called for the first time with this journal."""
    journal.write("ran")
    marker = Path(journal.path + ".ran")
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()
    return "second run"


def start_a_program_and_die(journal: Journal) -> None:
    """Leave a program behind that holds whatever it has inherited."""
    program = subprocess.Popen(["sleep", "60"], close_fds=False, start_new_session=True)
    note_and_die(journal, program.pid)


def wait_for_a_program(journal: Journal) -> None:
    """Start a program that takes long, and wait for it."""
    program = subprocess.Popen(["sleep", "60"])
    journal.write(program.pid)
    program.wait()


def stop_myself() -> None:
    """Stop this process."""
    os.kill(os.getpid(), signal.SIGSTOP)


def raise_timeout() -> NoReturn:
    """A timeout of the task's own."""
    raise TimeoutError("mine")


def note_slowly(journal: Journal, number: int) -> int:
    """Be busy for 0.3 ms, and write the number down."""
    end = time.monotonic() + 0.0003
    while time.monotonic() < end:
        pass
    return note(journal, number)


# ------------------------------------------------------------------------------------------------------------- nested


def nested(depth: int) -> list[int]:
    """Use an executor inside a worker, and one inside that, and so on."""
    if depth == 0:
        return [0]
    with ordered_executor.OrderedProcessPoolExecutor(1) as executor:
        return [*executor.submit(nested, depth - 1).result(), depth]


def nest_and_stand(journal: Journal) -> None:
    """Use an executor inside a worker, whose worker is busy for ever."""
    with ordered_executor.OrderedProcessPoolExecutor(1) as executor:
        journal.write(executor.submit(getpid).result())
        executor.submit(time.sleep, 600).result()


def use_in_child(connection: Any) -> None:
    """Use an executor, and send the results."""
    with ordered_executor.OrderedProcessPoolExecutor(2) as executor:
        connection.send([*executor.map(same, range(20))])


# ------------------------------------------------------------------------------------------------------------ payload


class KillsWhenDropped:
    """In the process that made it nothing happens; the other dies when it lets go of its copy."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.home:
            os._exit(3)


class Hostile:
    """An object whose pickling or unpickling does something else."""

    def __init__(self, pack: Callable[[], object] | None = None, load: Callable[[], object] | None = None) -> None:
        self.pack, self.load = pack, load

    def __reduce__(self) -> Any:
        if self.pack is not None:
            self.pack()
        return (self.load, ()) if self.load is not None else (Hostile, ())


def refuse() -> NoReturn:
    """Fail as pickle does."""
    raise pickle.UnpicklingError("hostile")


def crash() -> NoReturn:
    """End the process."""
    os._exit(7)


def make(kind: Callable[..., Any], *args: Any) -> Any:
    """Make the object here: so it is pickled in the worker."""
    return kind(*args)


class NeedsTwo(Exception):
    """Its `__init__` takes something else than its `args`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Unpicklable(Exception):
    """Holds what cannot travel."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Falsy(Exception):
    """An exception that is false is an exception all the same."""

    def __bool__(self) -> bool:
        return False


class BadText(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def raise_new(kind: Callable[..., BaseException], *args: Any) -> NoReturn:
    """Raise a new exception."""
    raise kind(*args)


def raise_with_lock(kind: type[Exception]) -> NoReturn:
    """Raise one that cannot travel."""
    raise kind(threading.Lock())


def stand_until_terminated(journal: Journal, and_then: str) -> None:
    """Tell by the journal that it stands, and then that SIGTERM came; then go, or stand on."""

    def tell(*_: object) -> None:
        journal.write("in order")
        if and_then == "go":
            os._exit(0)

    signal.signal(signal.SIGTERM, tell)
    journal.write(os.getpid())
    while True:
        signal.pause()


def raise_local() -> NoReturn:
    """Raise one of a class that nobody else knows."""

    class LocalError(Exception):
        pass

    raise LocalError("made in the task")


def raise_group() -> NoReturn:
    """Raise a group."""
    raise ExceptionGroup("group", [ValueError("one"), TypeError("two")])


def fork_and_come_back() -> str:
    """Fork, and return from both processes, as careless code does."""
    child = os.fork()
    if child == 0:
        return "child"
    os.waitpid(child, 0)
    return "parent"


def use_much_memory() -> int:
    """Make three objects of 8 MiB and free them; return how many page faults that took."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [number.to_bytes(1, "little") * 8 * 1024 * 1024 for number in range(1, 4)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def wait_for_ever(*_: object) -> NoReturn:
    """What nobody ends."""
    while True:
        time.sleep(60)


def start_idle_threads(count: int) -> None:
    """The initializer: this worker has threads that wait."""
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def work(seconds: float, value: T) -> T:
    """Keep the processor busy for a while; return the value."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return value


def block_signals_and_take_time() -> None:
    """The initializer: no signal comes through but SIGKILL and SIGSTOP, and a batch may take as long as it likes."""
    runner.OVERRUN_SECONDS = 1e9
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def outlive_its_sentence(what: str) -> str:
    """Return what it is given; if "condemned", once it is to be killed; in a worker that is to be killed, never."""
    if what == "condemned":
        while system.STACK_SIGNAL not in signal.sigpending():
            time.sleep(0.001)
    elif system.STACK_SIGNAL in signal.sigpending():
        wait_for_ever()
    return what


# A program with idle threads, which counts in the first word of a file until it is killed as a worker is.
COUNT_UNTIL_KILLED = """
import mmap, sys, threading
from ordered_executor._base import system
file = open(sys.argv[1], "r+b")
counter = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
for _ in range(20):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
system.dump_stack_on_signal(file.fileno(), 4096)
while True:
    counter[0] += 1
"""


class StuckWhenLoaded:
    """An argument that can be pickled, and never unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return wait_for_ever, ()


class StuckWhenPacked:
    """A result that can never be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        wait_for_ever()


def stuck_when_packed() -> StuckWhenPacked:
    """A new one."""
    return StuckWhenPacked()


def most_memory() -> int:
    """The most that this process has had resident, in KiB (Linux; `getrusage` counts what its parent had, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def add_one(array: Any) -> int:
    """Change an array in place; return its sum."""
    array += 1
    return int(array.sum())


def grow(row: Any) -> int:
    """Change the argument."""
    inner = row[0] if isinstance(row, tuple) else row
    inner.append(1)
    return len(inner)
