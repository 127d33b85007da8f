"""What runs in the workers."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import subprocess
import threading
import time
from typing import Any

from . import cargo as cargos
from .journal import executions, note

# For the watchdog: print all stacks.  A pipeline's processes have imported this module, but those that only start.
with contextlib.suppress(Exception):  # standard error may be something without a descriptor
    faulthandler.register(signal.SIGUSR1, all_threads=True)

_initialized_with: list[int] = []


class Planned(Exception):
    """A plain failure; args: uid."""


class Odd(Exception):
    """An `__init__` that takes something else than `args`."""

    def __init__(self, left: int, *, right: int) -> None:
        super().__init__(f"odd {left}")
        self.right = right


class Locked(Exception):
    """Has an attribute that cannot be pickled."""

    def __init__(self, uid: int) -> None:
        super().__init__(uid)
        self.lock = threading.Lock()


class Shut(Exception):
    """Refuses to be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("shut")


class Stay(Exception):
    """Loads again in the process where it was made, and nowhere else."""

    def __reduce__(self) -> Any:
        return _only_here, (os.getpid(), self.args)


def _only_here(pid: int, args: Any) -> Stay:
    if os.getpid() != pid:
        raise ValueError("made elsewhere")
    return Stay(*args)


class Mute(Exception):
    """Cannot be printed."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


def _raise_with_cause(uid: int) -> None:
    try:
        raise Locked(uid)
    except Locked as error:
        raise Planned(uid) from error


def _raise_group(uid: int) -> None:
    raise ExceptionGroup(f"group {uid}", [Planned(uid), Odd(uid, right=0)])


# fault -> the names under which it may arrive, and what raises it
RAISERS: dict[str, tuple[tuple[str, ...], Any]] = {
    "raises": (("Planned",), Planned),
    "raises with an odd __init__": (("Odd",), lambda uid: Odd(uid, right=uid)),
    "raises with a lock in it": (("Locked",), Locked),
    "raises what cannot be pickled": (("Shut",), Shut),
    "raises what cannot be unpickled": (("Stay",), Stay),
    "raises what cannot be printed": (("Mute",), Mute),
    "raises with a cause": (("Planned",), _raise_with_cause),
    "raises a group": (("ExceptionGroup",), _raise_group),
    "raises StopIteration": (("StopIteration",), StopIteration),
    "raises KeyboardInterrupt": (("KeyboardInterrupt",), KeyboardInterrupt),
    "raises SystemExit": (("SystemExit",), SystemExit),
}


def _misbehave(book: str, uid: int, fault: str) -> None:
    """Do what the fault says; come back if it is to go on."""
    if fault in RAISERS:
        raise RAISERS[fault][1](uid)
    if fault.startswith("dies by "):
        cargos.die(fault.removeprefix("dies by "))
    if fault == "dies the first time" and executions(book, uid) == 1:
        cargos.die("SIGKILL")
    if fault == "dies with a child alive":
        # It has our pipes, and outlives us for a while: nobody may wait for it.
        subprocess.Popen(["/bin/sleep", "1.5"], close_fds=False)
        cargos.die("SIGKILL")
    if fault == "is stuck":
        threading.Event().wait()
    if fault == "is stuck in C":
        ctypes.PyDLL(None).sleep(600)  # a PyDLL keeps the interpreter lock
    if fault == "stops its process":
        os.kill(os.getpid(), signal.SIGSTOP)
        threading.Event().wait()


def _take_a_risk(fault: str) -> None:
    """Do what a worker may stumble over, and go on."""
    if fault == "forks a child that goes on":
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
    if fault == "leaves a child behind":
        subprocess.Popen(["/bin/sleep", "1"], close_fds=False).returncode = 0  # nobody is to wait for it
    if fault == "nests an executor":
        from ordered_executor import OrderedProcessPoolExecutor

        with OrderedProcessPoolExecutor(1) as inner:
            assert list(inner.map(abs, [-1, 2])) == [1, 2]


def perform(book: str, uid: int, seconds: float, fault: str, answer: str, size: int, cargo: Any = None) -> Any:
    """One task: note that it runs, look at its argument, take a while, go wrong or answer."""
    note(book, "run", uid)
    faulthandler.disable()  # loky's, which would say a word about each SIGSEGV
    if cargo is not None and not cargos.same(*cargo):
        raise AssertionError(f"the argument of {uid} was garbled: {cargo[:3]}")
    if seconds:
        time.sleep(seconds)
    if fault:
        _misbehave(book, uid, fault)
        _take_a_risk(fault)
    if fault.startswith("result "):
        return cargos.Bomb(fault, book, uid)
    return cargos.make(answer, size, uid)


class Performer:
    """For tasks that are methods."""

    def perform(self, *args: Any) -> Any:
        """The same."""
        return perform(*args)


def initialize(book: str, how: str) -> None:
    """The workers' initializer; `how` as in `plan.INITIALIZERS`."""
    note(book, "init", 0)
    _initialized_with.append(os.getpid())
    if how == "raises":
        raise Planned("the initializer")
    if how == "dies":
        cargos.die("SIGKILL")
    if how == "dies the first time":
        from .journal import read

        if sum(line.what == "init" for line in read(book)) == 1:
            cargos.die("os._exit")
    if how == "hangs":
        threading.Event().wait()
