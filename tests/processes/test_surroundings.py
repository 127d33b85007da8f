"""Workers start whatever the program's surroundings are, and leave them alone; tasks may use multiprocessing."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ordered_executor import OrderedProcessPoolExecutor

from .conftest import MakePool, StartScript
from .test_exit import finish

BEGIN = """
import io, logging, multiprocessing, os, sys, tempfile
from ordered_executor import OrderedProcessPoolExecutor
said = os.fdopen(os.dup(1), "w")
class NoFlush:
    def write(self, text):
        return len(text)
class Refuses:
    def flush(self):
        raise ZeroDivisionError
def works(times=1):
    with OrderedProcessPoolExecutor(1, reuse=False) as executor:
        for _ in range(times):
            assert executor.submit(pow, 2, 3).result(30) == 8
            executor.submit(os._exit, 3).exception(30)
        assert executor.submit(pow, 2, 3).result(30) == 8
"""
SURROUNDINGS = {
    "no streams": "sys.stdin = sys.stdout = sys.stderr = None",
    "closed streams": "sys.stdin.close(), sys.stdout.close(), sys.stderr.close()",
    "streams of a text": "sys.stdout = sys.stderr = io.StringIO()",
    "streams without flush": "sys.stdout = sys.stderr = NoFlush()",
    "streams that refuse to flush": "sys.stdout = sys.stderr = Refuses()",
    "closed descriptors": "os.close(0), os.close(1), os.close(2)",
    "closed output": "os.close(1)",
    "a logger that is not ready": "multiprocessing.get_logger()",
    "a handler without a formatter": "multiprocessing.get_logger().addHandler(logging.StreamHandler(io.StringIO()))",
    "a handler of another style": "multiprocessing.log_to_stderr().handlers[0].setFormatter("
    "logging.Formatter('{message}', style='{'))",
    "a handler of another style, of the program": "h = logging.NullHandler(); "
    "multiprocessing.get_logger().addHandler(h); "
    "h.setFormatter(logging.Formatter('$message', style='$'))",
    "a formatter that is none": "h = logging.NullHandler(); multiprocessing.get_logger().addHandler(h); "
    "h.formatter = print",
    "a folder that is gone": "with tempfile.TemporaryDirectory() as folder: os.chdir(folder)",
    "a path that is no text": "sys.path.append(None)",
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_workers_start_anyway(script: StartScript, surroundings: str) -> None:
    """The first worker, and one in the place of another."""
    rest = "works(2)\nsaid.write('worked')\nsys.stdout = sys.stderr = None\n"
    assert finish(script("-c", f"{BEGIN}\n{SURROUNDINGS[surroundings]}\n{rest}")) == "worked"


def test_folder_that_goes_meanwhile(script: StartScript, tmp_path: Path) -> None:
    """A worker that takes the place of another starts where the first did, or where it can."""
    code = f"""
with OrderedProcessPoolExecutor(1, reuse=False) as executor:
    executor.submit(pow, 2, 3).result()
    os.mkdir({str(tmp_path / "gone")!r}), os.chdir({str(tmp_path / "gone")!r}), os.rmdir({str(tmp_path / "gone")!r})
    executor.submit(os._exit, 3).exception(30)
    said.write(str(executor.submit(pow, 2, 3).result(30)))
"""
    assert finish(script("-c", BEGIN + code)) == "8"


@pytest.mark.parametrize("method", ["loky", "spawn", "forkserver"])
def test_input_of_the_program_is_its_own(script: StartScript, method: str) -> None:
    """Neither a worker nor a program that a task starts reads it: their descriptor 0 has nothing."""
    code = f"""
import multiprocessing, os, subprocess, sys
from ordered_executor import OrderedProcessPoolExecutor
context = multiprocessing.get_context({method!r})
with OrderedProcessPoolExecutor(1, context, initializer=subprocess.run, initargs=("cat",)) as executor:
    assert executor.submit(os.read, 0, 1).result() == b""
    assert executor.submit(subprocess.check_output, "cat").result() == b""
    assert executor.submit(eval, "__import__('sys').stdin.read()").result() == ""
print(sys.stdin.read())
"""
    assert finish(script("-c", code, stdin="for the program")) == "for the program\n"


@pytest.mark.skipif(sys.version_info < (3, 15), reason="older Pythons load modules at once")
@pytest.mark.parametrize("context", [None, "spawn", "forkserver"])
def test_modules_that_are_loaded_late(
    script: StartScript, monkeypatch: pytest.MonkeyPatch, context: str | None
) -> None:
    """Whatever the environment says of that: we and the workers have what we need, and tasks are told the same."""
    monkeypatch.setenv("PYTHON_LAZY_IMPORTS", "all")
    code = f"""
import multiprocessing, sys
from ordered_executor import OrderedProcessPoolExecutor
with OrderedProcessPoolExecutor(1, {context!r} and multiprocessing.get_context({context!r})) as executor:
    print(executor.submit(pow, 2, 3).result(), sys.get_lazy_imports(), executor.submit(sys.get_lazy_imports).result())
"""
    assert finish(script("-c", code)) == "8 all all\n"


def test_gevent(script: StartScript) -> None:
    """A program whose threads, locks and processes are those of gevent ends."""
    pytest.importorskip("gevent")
    code = """
from gevent import monkey
monkey.patch_all()
import os
from ordered_executor import OrderedProcessPoolExecutor
with OrderedProcessPoolExecutor(2) as executor:
    print(list(executor.map(abs, range(-3, 0))), executor.submit(os._exit, 3).exception() is not None)
executor = OrderedProcessPoolExecutor(1)
executor.submit(abs, -4).add_done_callback(lambda f: print(f.result()))
"""
    assert finish(script("-c", code)) == "[3, 2, 1] True\n4\n"


# ------------------------------------------------------------------------------------------------ multiprocessing


@pytest.mark.parametrize("context", [None, "loky", "spawn", "forkserver"])
@pytest.mark.parametrize("chosen", [None, "spawn", "fork"])
def test_default_of_multiprocessing(script: StartScript, context: str | None, chosen: str | None) -> None:
    """It is the program's own in a task, however the workers are started."""
    code = f"""
import multiprocessing
from ordered_executor import OrderedProcessPoolExecutor
if {chosen!r}:
    multiprocessing.set_start_method({chosen!r})
with OrderedProcessPoolExecutor(1, {context!r} and multiprocessing.get_context({context!r})) as executor:
    there = executor.submit(multiprocessing.get_start_method).result()
assert there == multiprocessing.get_start_method(), there
"""
    assert finish(script("-c", code)) == ""


def use_a_process(method: str | None) -> int | None:
    """Run one, and return how it ended."""
    process: Any = multiprocessing.get_context(method).Process(target=os.getcwd)  # type: ignore[attr-defined]
    process.start()
    process.join(20)
    code: int | None = process.exitcode
    return code


def use_a_pool(method: str | None) -> list[int]:
    """Have two processes do something."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(abs, range(-3, 0))


def use_a_standard_executor(method: str | None) -> list[int]:
    """The same by the standard library's."""
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        return list(executor.map(abs, range(-3, 0)))


def use_ours(method: str | None) -> list[int]:
    """The same by ours."""
    with OrderedProcessPoolExecutor(2) as executor:
        return list(executor.map(abs, range(-3, 0)))


@pytest.mark.parametrize("method", [None, "fork", "spawn", "forkserver"])
def test_tasks_may_start_processes(pool: MakePool, method: str | None) -> None:
    """`multiprocessing` works in a task as elsewhere; the worker goes on, and leaves nothing."""
    executor = pool(1, reuse=False)
    assert executor.submit(use_a_process, method).result() == 0
    assert executor.submit(use_a_pool, method).result() == [3, 2, 1]
    assert executor.submit(use_a_standard_executor, method).result() == [3, 2, 1]
    assert executor.submit(use_ours, method).result() == [3, 2, 1]
    assert len({executor.submit(os.getpid).result() for _ in range(2)}) == 1


# ------------------------------------------------------------------------------------------------ what is not there

MOUNT = shutil.which("unshare")


def without(mounts: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program where the system's folders are not what they were; skip where that may not be."""
    if MOUNT is None or subprocess.run([MOUNT, "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs to mount")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [MOUNT, "-m", "sh", "-c", f'{mounts} && exec "$0" -c "$1"', sys.executable, code]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=50)


def test_no_proc() -> None:
    """Nothing is printed, by psutil neither; deaths, kills and everything else are as ever."""
    code = """
import os, time
import psutil
from ordered_executor import OrderedProcessPoolExecutor, TaskTimeoutError
with OrderedProcessPoolExecutor(2, reuse=False) as executor:
    assert executor.submit(os._exit, 3).exception() is not None
    assert isinstance(executor.options(timeout=0.1).submit(time.sleep, 60).exception(), TaskTimeoutError)
    assert len(executor.submit(bytes, 3_000_000).result()) == 3_000_000
executor = OrderedProcessPoolExecutor(2)
executor.submit(time.sleep, 60)
executor.shutdown(kill_workers=True)
"""
    ended = without("mount -t tmpfs none /proc", code)
    lines = [line for line in ended.stderr.splitlines() if "psutil" in line or "/proc" in line]
    assert (ended.returncode, ended.stdout, lines) == (0, "", [])
