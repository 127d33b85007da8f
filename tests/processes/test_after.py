"""After the block nothing is heard: however the program goes on, and however it ends, it prints nothing of ours."""

from __future__ import annotations

import signal

import pytest

from tests.helpers import until

from .conftest import StartScript

BLOCK = """
import multiprocessing, os, signal, sys, time, warnings
from ordered_executor import OrderedProcessPoolExecutor

warnings.simplefilter("always")
context = None if METHOD == "loky" else multiprocessing.get_context(METHOD)

def work():
    with OrderedProcessPoolExecutor(2, context) as executor:
        assert list(executor.map(abs, range(100), chunksize=1)) == list(range(100))
"""
AFTERWARDS = """
if __name__ == "__main__":
    work()
    END
"""
MEANWHILE = """
if __name__ == "__main__":
    executor = OrderedProcessPoolExecutor(2, context)
    assert executor.submit(abs, -1).result() == 1
    running = executor.submit(time.sleep, 60)
    while not running.running():
        time.sleep(0.001)
    END
"""
# How a program may end, and its exit status.
ENDS = {
    "by itself": ("pass", 0),
    "os._exit": ("os._exit(3)", 3),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "exec": ("os.execv(sys.executable, [sys.executable, '-c', 'pass'])", 0),
    "a signal to the group": ("os.killpg(0, signal.SIGTERM)", -signal.SIGTERM),
}
AND_FIRST = {
    "a fork": "pid = os.fork(); pid or os._exit(0); assert os.waitpid(pid, 0)[1] == 0",
    "a process": "p = multiprocessing.get_context('fork').Process(target=int);"
    "p.start(); p.join(); assert not p.exitcode",
    "the tracker stopped": "multiprocessing.resource_tracker._resource_tracker._stop()",
    "another block": "work()",
}


def silent(script: StartScript, code: str, method: str, status: int) -> None:
    """The program ends so, says nothing, and leaves nobody."""
    started = script("-c", f"METHOD = {method!r}\n{BLOCK}{code}")
    assert started.wait() == (status, "", "")
    until(lambda: not started.processes(), "the end of all its processes", 5.0)
    assert not started.names()


@pytest.mark.parametrize("method", ["loky", "spawn", "forkserver"])
@pytest.mark.parametrize("end", ENDS)
def test_end_after_the_block(script: StartScript, end: str, method: str) -> None:
    """Workers wait warm for the next executor when the program ends."""
    code, status = ENDS[end]
    silent(script, AFTERWARDS.replace("END", code), method, status)


@pytest.mark.parametrize("method", ["loky", "spawn", "forkserver"])
@pytest.mark.parametrize("end", [end for end in ENDS if end != "by itself"])
def test_end_while_it_works(script: StartScript, end: str, method: str) -> None:
    """A worker runs a task when the program ends."""
    code, status = ENDS[end]
    silent(script, MEANWHILE.replace("END", code), method, status)


@pytest.mark.parametrize("what", AND_FIRST)
def test_what_may_follow_a_block(script: StartScript, what: str) -> None:
    """A fork warns of no threads, as there are none; the tracker of multiprocessing misses nothing."""
    silent(script, AFTERWARDS.replace("END", AND_FIRST[what]), "loky", 0)


def test_no_thread_is_left(script: StartScript) -> None:
    """While workers wait warm, the program has its own thread only."""
    count = "import threading; assert threading.active_count() == 1, threading.enumerate()"
    tasks = "; assert not os.path.isdir('/proc/self/task') or len(os.listdir('/proc/self/task')) == 1"
    silent(script, AFTERWARDS.replace("END", count + tasks), "loky", 0)
