"""What the system gives, and what takes its place where it does not: handles, lifelines, memory, descriptors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from ordered_executor._base import system
from ordered_executor._base.system import lifeline, process, tree
from ordered_executor._base.system import memory as system_memory
from ordered_executor._base.system.lifeline import Watchdog
from ordered_executor._base.system.process import Process
from tests.helpers import until

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
Child = subprocess.Popen[bytes]


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that sleeps."""
    with subprocess.Popen(SLEEP) as started:
        yield started
        started.kill()


def lose(monkeypatch: pytest.MonkeyPatch, module: Any, *names: str) -> None:
    """As on a system that never had these."""
    for name in names:
        monkeypatch.delattr(module, name, raising=False)


def refuse(*_: Any, **__: Any) -> Any:
    """A call that the system does not know."""
    raise OSError(errno.ENOSYS, "Function not implemented")


# -------------------------------------------------------------------------------------------------------- handles


def no_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that was built for an older system: pidfds by the number of their call."""
    lose(monkeypatch, os, "pidfd_open")
    lose(monkeypatch, signal, "pidfd_send_signal")


def no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without: by number, and by the clock."""
    monkeypatch.setattr(process, "_pidfd_open", refuse)


def no_waitid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on macOS before Python 3.13, without a /proc."""
    no_pidfd(monkeypatch)
    lose(monkeypatch, os, "waitid")
    monkeypatch.setattr(tree, "_status", refuse)


HANDLES = [lambda _: None, no_functions, no_pidfd, no_waitid]


@pytest.mark.parametrize("lack", HANDLES)
def test_a_handle_knows_of_the_end(monkeypatch: pytest.MonkeyPatch, child: Child, lack: Any) -> None:
    """That it has come, and how; a signal to who is gone goes nowhere."""
    lack(monkeypatch)
    process = Process(child.pid, child.poll)
    assert (process.fd is None) == (lack in {no_pidfd, no_waitid})
    assert not process.gone()
    assert not process.wait(0.01)
    assert process.signal(signal.SIGTERM)
    assert process.wait(30)
    assert process.gone()
    assert process.exitcode == -signal.SIGTERM
    child.wait()
    assert not process.signal(signal.SIGTERM)
    process.close()


@pytest.mark.parametrize("lack", HANDLES)
def test_a_handle_knows_that_it_stands(monkeypatch: pytest.MonkeyPatch, child: Child, lack: Any) -> None:
    """Stopped, it does nothing until it is resumed."""
    lack(monkeypatch)
    process = Process(child.pid, child.poll)
    assert process.stop(patience=5.0)
    assert tree.state(child.pid) == "T"
    process.resume()
    until(lambda: tree.state(child.pid) != "T")
    process.close()


def test_a_reaped_child_is_not_taken_for_another(monkeypatch: pytest.MonkeyPatch, child: Child) -> None:
    """Without pidfds: somebody else has taken its exit code, and its number may be another's."""
    no_pidfd(monkeypatch)
    process = Process(child.pid, child.poll)
    child.kill()
    child.wait()
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal to whoever has that number now"))
    assert not process.signal(signal.SIGKILL)
    assert process.exitcode == -signal.SIGKILL


class Kqueue:
    """What macOS has, as far as it is needed: it can be read when the process has ended."""

    made: ClassVar[list[Kqueue]] = []

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.asked: list[Any] = []
        self.made.append(self)

    def control(self, changes: list[Any], most: int) -> list[Any]:
        """Ask for an event."""
        assert most == 0
        self.asked += changes
        if changes[0].ident < 0:
            raise ProcessLookupError
        return []

    def fileno(self) -> int:
        """Itself a descriptor."""
        return self.read

    def close(self) -> None:
        """Let go of it."""
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def kqueue(monkeypatch: pytest.MonkeyPatch) -> list[Kqueue]:
    """A system that has kqueues and no pidfds."""
    no_pidfd(monkeypatch)
    Kqueue.made = []

    def kevent(ident: int, *what: int) -> Any:
        return SimpleNamespace(ident=ident, what=what)

    for name, value in {"kqueue": Kqueue, "kevent": kevent, "KQ_FILTER_PROC": -5, "KQ_EV_ADD": 1}.items():
        monkeypatch.setattr(select, name, value, raising=False)
    monkeypatch.setattr(select, "KQ_NOTE_EXIT", 1 << 31, raising=False)
    return Kqueue.made


def test_a_kqueue_tells_of_the_end(kqueue: list[Kqueue], child: Child) -> None:
    """It is asked for the exit of this process, is what can be waited for, and is closed with the handle."""
    process = Process(child.pid, child.poll)
    (queue,) = kqueue
    assert [(each.ident, each.what) for each in queue.asked] == [(child.pid, (-5, 1, 1 << 31))]
    assert process.fd == queue.fileno()
    child.kill()
    child.wait()
    os.write(queue.write, b"!")  # so the system would say
    assert process.wait(30)
    process.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(queue.read)


def test_a_kqueue_for_a_process_that_is_gone(kqueue: list[Kqueue]) -> None:
    """There is nothing to wait for; the clock tells; nothing stays open."""
    process = Process(-1, lambda: 7)
    assert process.fd is None
    assert process.gone()
    assert process.exitcode == 7
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kqueue[0].read)


def test_descendants_by_ps() -> None:
    """Where there is no /proc, `ps` knows who has started whom."""
    grandchild = "import subprocess, sys; subprocess.run(['sleep', '600'])"
    with subprocess.Popen([sys.executable, "-S", "-c", grandchild]) as parent:
        until(lambda: tree.descendants([parent.pid]))
        by_proc = dict(tree._by_proc())
        by_ps = dict(tree._by_ps())
        (heir,) = tree.descendants([parent.pid])
        assert by_proc[heir] == by_ps[heir] == parent.pid
        system.kill_all([heir])
        parent.wait()


# ------------------------------------------------------------------------------------------------------ lifelines


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    """On a system that sends no signal of our choice for a pipe."""
    monkeypatch.setattr(lifeline, "_F_SETSIG", None)
    monkeypatch.setattr(lifeline, "_checked", None)
    dog, before = Watchdog(), set(tree.descendants([os.getpid()]))
    yield dog
    dog.in_forked_child()
    for pid in set(tree.descendants([os.getpid()])) - before:  # its process, which ends now
        with contextlib.suppress(ChildProcessError):  # the test has waited for it
            os.waitpid(pid, 0)


def test_the_watchdog_kills_who_is_watched(watchdog: Watchdog, child: Child) -> None:
    """At the end of its parent (here: of its pipe), a stopped one too; not who was gone before."""
    with subprocess.Popen(SLEEP) as other:
        watchdog.watch(other.pid)
        watchdog.watch(child.pid)
        watchdog.forget(other.pid)
        child.send_signal(signal.SIGSTOP)
        watchdog.in_forked_child()  # lets go of the pipe
        assert child.wait(30) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()


def test_a_watchdog_that_was_killed_has_a_successor(watchdog: Watchdog, child: Child) -> None:
    """It is started when it is next told something, and knows of all."""
    before = _watchdogs()
    with subprocess.Popen(SLEEP) as first:
        try:
            watchdog.watch(first.pid)
            until(lambda: _watchdogs() - before)  # a process has its command line a moment after it was started
            (dog,) = _watchdogs() - before
            os.kill(dog, signal.SIGKILL)
            os.waitpid(dog, 0)
            watchdog.watch(child.pid)
            watchdog.in_forked_child()
            assert first.wait(30) == child.wait(30) == -signal.SIGKILL
        finally:
            first.kill()


def _watchdogs() -> set[int]:
    return {pid for pid in tree.descendants([os.getpid()]) if b"pids.discard" in _command(pid)}


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


def test_no_watchdog_where_the_system_kills(child: Child) -> None:
    """On Linux there is none."""
    if not hasattr(fcntl, "F_SETSIG"):
        pytest.skip("lacking")
    dog = Watchdog()
    dog.watch(child.pid)
    assert dog._fd is None


# --------------------------------------------------------------------------------------------------------- memory

PLACES = ["_memfd", "_file_in_shm", "_posix", "_file_on_disk"]


@pytest.mark.parametrize("missing", range(4))
def test_memory_from_the_next_place(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    """Each gives memory without a name, as large as it is asked for, and reserved."""
    for name in PLACES[:missing]:
        monkeypatch.setattr(system_memory, name, refuse)
    shared = set(os.listdir("/dev/shm"))
    fd = system.memory_file(1 << 20, 1 << 16)
    assert os.fstat(fd).st_size == 1 << 20
    assert os.fstat(fd).st_blocks * 512 >= 1 << 16
    assert os.fstat(fd).st_nlink == 0
    assert not os.get_inheritable(fd)
    assert system.reserve(fd, 1 << 16, 1 << 16)
    os.close(fd)
    assert not {name for name in os.listdir("/dev/shm") if name.startswith("oe-")} - shared


def test_memory_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names each place, and the reason."""
    monkeypatch.setattr(system_memory, "_memfd", refuse)
    monkeypatch.setattr(system_memory, "_posix", refuse)
    monkeypatch.setattr(system_memory, "SHM_FOLDER", "/nowhere")
    monkeypatch.setattr("tempfile.tempdir", "/nowhere else")
    with pytest.raises(OSError, match=r"no memory for a lane: memfd_create: .*; /nowhere: No such .*/nowhere else: "):
        system.memory_file(4096)


@pytest.mark.parametrize("error", [None, errno.EINVAL, errno.EOPNOTSUPP])
def test_pages_are_reserved_by_zeros(monkeypatch: pytest.MonkeyPatch, error: int | None) -> None:
    """Where the system has no call for that, or a file system does not know it."""

    def fail(*_: Any) -> None:
        raise OSError(error, "not here")

    if error is None:
        lose(monkeypatch, os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", fail, raising=False)
    fd = system.memory_file(4 << 20)
    assert system.reserve(fd, 4096, 3 << 20)
    assert os.fstat(fd).st_blocks * 512 >= 3 << 20
    os.close(fd)


def test_pages_that_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that is full says so, and an object of virtual memory is never full."""
    lose(monkeypatch, os, "posix_fallocate")
    for number, there in {errno.ENOSPC: False, errno.ENXIO: True}.items():

        def fail(*_: Any, number: int = number) -> int:
            raise OSError(number, "no")

        monkeypatch.setattr(os, "pwrite", fail)
        assert system.reserve(0, 0, 4096) is there


# ---------------------------------------------------------------------------------------------------- descriptors


def test_no_descriptor_of_ours_has_the_number_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard streams are closed, others would write to it."""
    program = (
        "import os; os.close(1); os.close(2)\n"
        "from ordered_executor._base import system as _os\n"
        "assert min(*_os.pipe(), *_os.roomy_pipe(), _os.memory_file(4096)) > 2\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0


def test_a_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the system counts is as good as for ever."""
    asked: list[Any] = []
    poll = SimpleNamespace(register=lambda *_: None, poll=asked.append)
    monkeypatch.setattr(select, "poll", lambda: poll)
    for seconds in (None, 0.5, 1e300):
        system.can_be_read(0, seconds)
    assert asked == [None, 500.0, None]
