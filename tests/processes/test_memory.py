"""Memory of the parent, descriptors and threads: bounded, however much runs through."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from textwrap import dedent

import psutil
import pytest

from ordered_executor import Future
from tests.helpers import Traces, same, until, warm_up

from .conftest import MakePool, MakeValve, StartScript
from .tasks import most_memory

# Programs print the growth of their resident memory, in MiB: measured in a process of its own, because a test process
# keeps what other tests left free.
MEASURE = dedent("""
    import itertools, sys, threading, time
    import numpy as np
    import psutil
    from ordered_executor import OrderedProcessPoolExecutor
    from tests.helpers import Valve, same, stand, until

    MIB = 1024 * 1024

    def make(number):
        return np.full(MIB // 8, number, np.int64)

    def resident():
        return psutil.Process().memory_info().rss / MIB

    class Peak:
        def __init__(self):
            self.before = self.most = resident()

        def look(self):
            self.most = max(self.most, resident())

        @property
        def growth(self):
            return self.most - self.before
""")


def growth_of(script: StartScript, code: str) -> float:
    """Run a program that prints one number."""
    status, out, err = script("-c", MEASURE + dedent(code)).wait(50)
    assert status == 0, err
    assert err == ""
    return float(out)


def test_slow_head(script: StartScript, valve: MakeValve) -> None:
    """While the head is slow, the parent holds the window's results of 1 MiB each, not those of all tasks."""
    slow = valve()
    grown = growth_of(
        script,
        f"""
        with OrderedProcessPoolExecutor(2, window=8, reuse=False, keep_results=False) as executor:
            list(executor.map(make, range(4)))
            peak = Peak()
            head = executor.submit(stand, Valve({slow.path!r}))
            for number in range(2000):
                executor.submit(make, number)
            until(lambda: executor.statistics().gated)
            peak.look()
            assert not head.done()
            Valve({slow.path!r}).open()
            until(lambda: peak.look() or executor.statistics().head > 2000)
        print(peak.growth)
        """,
    )
    assert grown < (8 + 2 + 2) + 30


def test_slow_reader_of_a_backlog(script: StartScript) -> None:
    """With `backlog`, submitting waits for the reader: 2,000 results of 1 MiB never lie in the parent together."""
    grown = growth_of(
        script,
        """
        with OrderedProcessPoolExecutor(2, window=8, backlog=10, reuse=False) as executor:
            executor.submit(make, 0).result()
            list(executor.results())
            peak = Peak()

            def submit():
                for number in range(2000):
                    executor.submit(make, number)
                executor.shutdown(wait=False)

            thread = threading.Thread(target=submit)
            thread.start()
            for number, value in enumerate(executor.results(follow=True)):
                assert value[0] == number
                peak.look()
                if number % 100 == 0:
                    time.sleep(0.05)  # a slow reader
            thread.join()
            print(peak.growth)
        """,
    )
    assert grown < 10 + (8 + 2 + 2) + 30


def test_slow_reader_of_a_map(script: StartScript) -> None:
    """With `buffersize`, an endless input and a slow reader take constant memory."""
    grown = growth_of(
        script,
        """
        with OrderedProcessPoolExecutor(2, window=8, reuse=False) as executor:
            list(executor.map(make, range(4)))
            peak = Peak()
            for number, value in enumerate(executor.map(make, itertools.count(), buffersize=10)):
                assert value[0] == number
                peak.look()
                if number % 100 == 0:
                    time.sleep(0.05)  # a slow reader
                if number == 2000:
                    break
            print(peak.growth)
        """,
    )
    assert grown < 10 + (8 + 2 + 2) + 30


def test_large_arguments_are_let_go(script: StartScript) -> None:
    """Arguments of 1 MiB each are gone from the parent when their tasks are done."""
    grown = growth_of(
        script,
        """
        with OrderedProcessPoolExecutor(2, reuse=False, keep_results=False) as executor:
            executor.submit(len, make(0)).result()
            peak = Peak()
            futures = []
            for number in range(2000):
                futures.append(executor.submit(len, make(number)))
                if number % 10 == 9:
                    assert futures[-1].result() == MIB // 8
                    peak.look()
            print(peak.growth)
        """,
    )
    assert grown < 10 + 30


def test_large_arguments_travel_in_small_batches(pool: MakePool) -> None:
    """However short the tasks: a worker is not sent hundreds of megabytes at once."""
    executor = pool(1)
    assert list(executor.map(len, (bytes(1024 * 1024) for _ in range(300)))) == [1024 * 1024] * 300
    kibibytes = executor.submit(most_memory).result()
    assert kibibytes < 150 * 1024


@pytest.fixture
def mebibyte(leak_check: None) -> Iterator[str]:
    """A file system of 1 MiB, in memory."""
    with tempfile.TemporaryDirectory() as folder:
        mount = shutil.which("mount")
        if (
            mount is None
            or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode
        ):
            pytest.skip("only root may mount a file system")
        try:
            yield folder
            assert os.listdir(folder) == []
        finally:
            subprocess.run(["umount", folder], check=True)


# Without memory that never had a name, lane memory is an unlinked file: in /dev/shm, or where temporary files lie.
SMALL = dedent("""
    import logging, os, sys, tempfile
    import numpy as np
    os.__dict__.pop("memfd_create", None)
    tempfile.tempdir = {folder!r}
    logging.basicConfig(level="ERROR")
    from ordered_executor import OrderedProcessPoolExecutor
    from ordered_executor._base.system import memory as _os_memory
    _os_memory.SHM_FOLDER, _os_memory._posix = {folder!r}, _os_memory._file_on_disk
    from tests.helpers import same

    def free():
        found = os.statvfs({folder!r})
        return found.f_bavail * found.f_frsize
""")


def test_in_a_mebibyte_of_shared_memory(script: StartScript, mebibyte: str) -> None:
    """What finds no room in lane memory goes through the pipe: whatever its size, it arrives as it was."""
    code = """
    with OrderedProcessPoolExecutor(2, reuse=False) as executor:
        arrays = [np.arange(size // 8) for size in (1024, 65536, 300_000, 1_000_000, 5_000_000) * 8]
        for sent, back in zip(arrays, executor.map(same, arrays)):
            assert (sent == back).all()
        assert free() < 1024 * 1024 - 2 * 260 * 1024, free()
    print(free())
    """
    status, out, err = script("-c", SMALL.format(folder=mebibyte) + dedent(code)).wait(50)
    assert (status, err) == (0, "")
    assert int(out) == 1024 * 1024


def test_where_not_every_worker_finds_memory(script: StartScript, mebibyte: str) -> None:
    """Eight workers where there is room for three: it goes on with those, and everything arrives."""
    code = """
    logging.getLogger("ordered_executor").setLevel("CRITICAL")
    with OrderedProcessPoolExecutor(8, reuse=False) as executor:
        assert list(executor.map(same, range(3000), chunksize=10)) == list(range(3000))
        print(len(executor.statistics().pids))
    """
    status, out, err = script("-c", SMALL.format(folder=mebibyte) + dedent(code)).wait(50)
    assert (status, err) == (0, "")
    assert 1 <= int(out) <= 3


def test_a_million_tasks(script: StartScript) -> None:
    """Through a map, futures and the stream, read as they come: memory, descriptors and threads stay as they were."""
    grown = growth_of(
        script,
        """
        from tests.helpers import Traces, until

        def through_futures(executor, count):
            futures = [executor.submit(same, number) for number in range(count)]
            assert sum(future.result() for future in futures) == sum(range(count))

        def through_the_stream(executor, count):
            def submit():
                for number in range(count):
                    executor.submit(same, number)

            thread = threading.Thread(target=submit)
            thread.start()
            assert sum(itertools.islice(executor.results(follow=True), count)) == sum(range(count))
            thread.join()

        with OrderedProcessPoolExecutor(2, backlog=20_000, reuse=False) as executor:
            sum(executor.map(same, range(20_000), buffersize=5000))
            through_futures(executor, 10_000)
            through_the_stream(executor, 10_000)
            until(lambda: len(executor.statistics().pids) == 2)  # both have all that a worker takes
            traces, peak = Traces(), Peak()
            for _ in range(10):
                assert sum(executor.map(same, range(70_000), buffersize=5000)) == sum(range(70_000))
                through_futures(executor, 10_000)
                through_the_stream(executor, 20_000)
                peak.look()
            assert executor.statistics().tail > 1_000_000
            left = Traces().left_since(traces)
            assert not left, left
            print(peak.growth)
        """,
    )
    assert grown < 25


def test_descriptors_and_threads_stay_flat(pool: MakePool, valve: MakeValve) -> None:
    """Tens of thousands of tasks, some of them failing and some cancelled, open nothing."""
    executor = pool(2, unseen_errors="ignore")
    warm_up(executor, valve)
    before = Traces()
    for number in range(20):
        list(executor.map(same, range(1000)))
        futures = [executor.submit(int, "x" if n % 10 == 0 else n) for n in range(200)]
        for n, future in enumerate(futures):
            if n % 7 == number % 7:
                future.cancel()
        executor.submit(same, 1).result()
    assert Traces().left_since(before) == []


def test_replaced_workers_leave_nothing(pool: MakePool) -> None:
    """Worker after worker, ended or dead: descriptors and threads do not grow."""
    executor = pool(1, max_tasks_per_child=2)
    list(executor.map(same, range(3)))
    before = Traces()
    assert list(executor.map(same, range(9))) == list(range(9))
    assert executor.submit(os._exit, 1).exception() is not None
    executor.submit(same, 1).result()
    after = Traces()
    assert len(after.descriptors) <= len(before.descriptors) + 16  # what one more worker takes that starts or ends
    assert after.threads.total() <= before.threads.total() + 2


@pytest.mark.parametrize("workers", [1, 2])
def test_backlog_is_kept(pool: MakePool, workers: int) -> None:
    """An executor with backlog=100 and a slow reader holds at most 100 unread tickets."""
    executor = pool(workers, backlog=100)
    submitted = itertools.count()
    most = 0

    def submit() -> None:
        for _ in range(2000):
            executor.submit(same, next(submitted))
        executor.shutdown(wait=False)

    thread = threading.Thread(target=submit)
    thread.start()
    for number, value in enumerate(executor.results(follow=True)):
        assert value == number
        seen = executor.statistics()
        most = max(most, seen.tail - number - 1)
    thread.join()
    assert most <= 100
    assert number == 1999


def test_no_future_has_a_dictionary(pool: MakePool) -> None:
    """Read, failed, cancelled, waited for, called back: none costs more than its attributes."""
    executor = pool(2)
    futures = [executor.submit(divide, number % 5) for number in range(300)]
    for future in futures[::2]:
        future.add_done_callback(Future.done)
    for future in futures[::7]:
        future.cancel()
    wait(futures)
    for future in futures:
        assert future.done()
        assert future.cancelled() or (future.exception() is None) == bool(future.ticket % 5)
    assert not [future.ticket for future in futures for part in gc.get_referents(future) if type(part) is dict]


def divide(number: int) -> float:
    """Fails for zero."""
    return 1 / number


@pytest.mark.parametrize("kept", ["open", "warm"])
def test_memory_of_idle_workers_goes_back(pool: MakePool, monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    """What large arguments and results took, in workers and between them and us, is the system's after a while."""
    monkeypatch.setattr("ordered_executor._processes.worker_handle.TRIM_SECONDS", 0.2)
    monkeypatch.setattr("ordered_executor._processes.timers.TRIM_SECONDS", 0.2)
    executor = pool(2, idle_timeout=60)
    size = 50_000_000
    pids = {executor.submit(add_to, bytearray(size)).result()[0] for _ in range(4)}
    pids |= {pid for pid, _ in executor.map(add_to, [bytearray(size)] * 4, chunksize=1)}
    workers = [psutil.Process(pid) for pid in pids]
    if kept == "warm":
        executor.shutdown()
    until(lambda: all(worker.memory_info().rss < 70_000_000 for worker in workers), "memory to go back")
    _, changed = pool(1).submit(add_to, bytearray(size)).result()
    assert (len(changed), changed[-1]) == (size, 1)


def add_to(what: bytearray) -> tuple[int, bytearray]:
    """Return this worker's pid, and what was given, changed."""
    what[-1] += 1
    return os.getpid(), what
