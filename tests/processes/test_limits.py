"""Tight limits make it slower, or are named in the error: address space, file size, descriptors, places for memory."""

from __future__ import annotations

import os
from textwrap import dedent

import pytest

from ordered_executor import OrderedProcessPoolExecutor
from ordered_executor._channel.shared_memory import LEFT, STATE
from ordered_executor._processes import idle_workers
from tests.helpers import getpid, same, until

from .conftest import MakePool, StartScript
from .test_exit import finish
from .test_surroundings import without

WORK = """
import resource, sys
from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import same
which, limit = resource.{which}, {limit}
resource.setrlimit(which, (limit, limit))
with OrderedProcessPoolExecutor(2, reuse=False) as executor:
    assert executor.submit(pow, 2, 3).result() == 8
    assert [len(each) for each in executor.map(bytes, [3 << 20] * 4)] == [3 << 20] * 4
    assert [len(each) for each in executor.map(same, [bytes(3 << 20)] * 4)] == [3 << 20] * 4
    assert [len(each) for each in executor.map(bytes, [8 << 20] * 2)] == [8 << 20] * 2
"""


@pytest.mark.parametrize(
    ("which", "limit"),
    [
        ("RLIMIT_AS", 600_000 * 1024),
        ("RLIMIT_AS", 1 << 30),
        ("RLIMIT_FSIZE", 10_000 * 1024),
        ("RLIMIT_FSIZE", 1 << 20),
        ("RLIMIT_FSIZE", 400 << 10),
    ],
)
def test_limits_of_memory_and_files(script: StartScript, which: str, limit: int) -> None:
    """A lane takes less of what is limited; what finds no room goes through the pipe."""
    assert finish(script("-c", WORK.format(which=which, limit=limit))) == ""


def test_few_descriptors(script: StartScript) -> None:
    """Where no worker can be started the error says what is short; it comes after some seconds of trying again."""
    code = """
    import logging, resource
    logging.getLogger("ordered_executor").setLevel("CRITICAL")
    from ordered_executor import OrderedProcessPoolExecutor
    from ordered_executor._processes import start as _starter
    _starter.SOON_SECONDS = (0.01, 0.01)
    executor = OrderedProcessPoolExecutor(2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
    error = executor.submit(pow, 2, 3).exception()
    resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
    print(type(error).__name__, error)
    """
    out = finish(script("-c", dedent(code)))
    assert out.startswith("BrokenProcessPool no worker can be started: OSError: [Errno 24]")
    assert "ulimit -n" in out


def test_few_descriptors_are_enough_for_one(script: StartScript) -> None:
    """With 24 of them there is a worker, though not two."""
    code = (
        "import logging, resource\n"
        "logging.disable()\n"
        "from ordered_executor import OrderedProcessPoolExecutor\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))\n"
        "with OrderedProcessPoolExecutor(2) as executor:\n"
        "    print(sum(executor.map(abs, range(1000))))\n"
    )
    assert finish(script("-c", code)) == "499500\n"


@pytest.mark.parametrize(
    "mounts", ["mount -t tmpfs none /dev && mkdir /dev/fd && : > /dev/null", "mount -t tmpfs -o ro none /dev/shm"]
)
def test_dev_shm_absent_or_read_only(mounts: str) -> None:
    """Nothing of ours needs it where there are memfds; where there are none, the disk does."""
    for lose in ("", "os.__dict__.pop('memfd_create', None)"):
        code = (
            f"import os\n{lose}\n"
            "from ordered_executor import OrderedProcessPoolExecutor\n"
            "with OrderedProcessPoolExecutor(2, reuse=False) as executor:\n"
            "    assert [len(each) for each in executor.map(bytes, [3 << 20] * 4)] == [3 << 20] * 4\n"
        )
        ended = without(mounts, code)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# ------------------------------------------------------------------------------------------------- idle workers


def test_worker_that_leaves_as_it_is_lent(monkeypatch: pytest.MonkeyPatch, pool: MakePool) -> None:
    """1. A worker has left; 2. the parent has not noticed, and lends it; 3. what it was sent goes to another."""
    with OrderedProcessPoolExecutor(1, idle_timeout=0.01) as executor:
        first = executor.submit(getpid).result()
    (lane,) = [lane for _, lane in idle_workers._lanes if lane.pid == first]
    until(lambda: lane.memory.words[STATE] == LEFT)
    monkeypatch.setattr(type(lane), "lives", lambda _: True)
    monkeypatch.setattr(idle_workers, "_bury_the_dead_locked", lambda: None)
    executor = pool(1)
    futures = [executor.submit(same, number) for number in range(3)]
    assert [future.result() for future in futures] == [0, 1, 2]
    assert executor.submit(getpid).result() != first


def test_workers_that_left_are_let_go_of_by_the_next(pool: MakePool) -> None:
    """Their descriptors and exit codes are, too, when an executor is used again."""
    with OrderedProcessPoolExecutor(1, idle_timeout=0) as executor:
        pid = executor.submit(getpid).result()
    until(lambda: all(lane.process.gone() for _, lane in idle_workers._lanes))
    assert pid in [lane.pid for _, lane in idle_workers._lanes]
    assert pool(1).submit(same, 1).result() == 1
    assert pid not in [lane.pid for _, lane in idle_workers._lanes]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
