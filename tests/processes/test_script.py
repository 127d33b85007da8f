"""A script's own functions are at home in the workers: every row of `rows_of_a_script`, in every kind of `__main__`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

ROWS_FILE = Path(__file__).with_name("rows_of_a_script.py")
PROGRAM = ROWS_FILE.read_text()
ROWS = re.findall(r"^def (row_\w+)", PROGRAM, re.MULTILINE)
Kind = Callable[[Path], tuple[list[str], str]]  # in a folder: what is to be run, and its standard input


def unguarded(source: bool) -> str:
    """The program without a guard: workers cannot run its top level."""
    text = PROGRAM.replace("GUARDED = True", "GUARDED = False").replace("HAS_SOURCE = True", f"HAS_SOURCE = {source}")
    return text.replace('if __name__ == "__main__":', "if True:")


def file_with_guard(folder: Path) -> tuple[list[str], str]:
    """`python program.py`, as programs for `spawn` are written."""
    (folder / "program.py").write_text(PROGRAM)
    return ["program.py"], ""


def file_without_guard(folder: Path) -> tuple[list[str], str]:
    """`python program.py`, which would start processes for ever if it were imported."""
    (folder / "program.py").write_text(unguarded(source=True))
    return ["program.py"], ""


def module(folder: Path) -> tuple[list[str], str]:
    """`python -m package.program`."""
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "program.py").write_text(PROGRAM)
    return ["-m", "package.program"], ""


def package(folder: Path) -> tuple[list[str], str]:
    """`python -m package`: its `__main__.py`, which `spawn` does not run again, and we may."""
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "__main__.py").write_text(PROGRAM)
    return ["-m", "package"], ""


def archive(folder: Path) -> tuple[list[str], str]:
    """`python program.pyz`: no file of this name can be read by anybody else."""
    (folder / "content").mkdir()
    (folder / "content" / "__main__.py").write_text(PROGRAM)
    zipapp.create_archive(folder / "content", folder / "program.pyz")
    return ["program.pyz"], ""


def command_line(_: Path) -> tuple[list[str], str]:
    """`python -c`."""
    return ["-c", unguarded(source=False)], ""


def standard_input(_: Path) -> tuple[list[str], str]:
    """`python -`."""
    return ["-"], unguarded(source=False)


def interactive(folder: Path) -> tuple[list[str], str]:
    """`python -i`: lines come one after the other."""
    (folder / "program.py").write_text(unguarded(source=False).replace("if True:\n    play()", ""))
    return ["-i", "-q"], "exec(compile(open('program.py').read(), '<typed>', 'exec'))\nplay()\n"


KINDS: list[Kind] = [
    file_with_guard,
    file_without_guard,
    module,
    package,
    archive,
    command_line,
    standard_input,
    interactive,
]


def play(command: list[str], folder: Path, text: str = "") -> str:
    """What a program prints, which ends well."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, input=text, capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(170)  # all rows, each with workers of its own
@pytest.mark.parametrize("kind", KINDS)
def test_all_rows(kind: Kind, tmp_path: Path) -> None:
    """What must hold in a script holds in a program of this kind."""
    command, text = kind(tmp_path)
    found: dict[str, str] = json.loads(play(command, tmp_path, text))
    assert list(found) == ROWS
    assert "".join(f"{row}: {said}" for row, said in found.items() if said != "ok") == ""


@pytest.mark.timeout(170)
@pytest.mark.parametrize("guarded", [True, False])
def test_whatever_a_script_may_define(tmp_path: Path, guarded: bool) -> None:
    """It works in a worker, is the same on both sides, and sees what the parent changes."""
    text = ROWS_FILE.with_name("kinds_of_a_script.py").read_text()
    if not guarded:
        text = text.replace("GUARDED = True", "GUARDED = False").replace('if __name__ == "__main__":', "if True:")
    (tmp_path / "program.py").write_text(text)
    assert play(["program.py"], tmp_path) == "ok\n"


def test_the_top_level_runs_once_and_only_if_it_must(tmp_path: Path) -> None:
    """In a worker that has something already, too; nothing that it has is made a second time."""
    (tmp_path / "program.py").write_text(
        dedent("""
            import os, threading
            from pathlib import Path
            from ordered_executor import OrderedProcessPoolExecutor

            runs = Path("runs")
            with runs.open("a") as file:
                print(os.getpid(), file=file)
            lock = threading.Lock()
            made = []

            class Meta(type):
                def __init__(cls, *args):
                    super().__init__(*args)
                    made.append(cls)

            class One(metaclass=Meta): pass
            class Other(One): pass

            class Store:
                def __init__(self):
                    self.lock, self.things = threading.Lock(), []

                def add(self, thing):
                    with self.lock:
                        self.things.append(thing)
                        return len(self.things)

            store = Store()

            def plain(thing):
                global kept
                kept = thing
                return isinstance(thing, One)

            def locked(thing):
                with lock:
                    return isinstance(thing, One), isinstance(kept, One), type(kept) in made, len(made)

            def add(thing):
                return store.add(thing), type(store) is Store

            if __name__ == "__main__":
                with OrderedProcessPoolExecutor(1) as executor:
                    assert executor.submit(plain, Other()).result()
                    assert len(runs.read_text().split()) == 1
                    assert executor.submit(locked, One()).result() == (True, True, True, 2)
                    assert [executor.submit(add, One()).result() for _ in "ab"] == [(1, True), (2, True)]
                    assert len(runs.read_text().split()) == 2
                print("ok")
        """)
    )
    assert play(["program.py"], tmp_path) == "ok\n"


def test_a_top_level_that_stops_says_where_and_what_it_did_not_make(tmp_path: Path) -> None:
    """The error of the task names the statement; what was made before it, and what comes from the parent, is there."""
    (tmp_path / "program.py").write_text(
        dedent("""
            import sys, threading
            from ordered_executor import OrderedProcessPoolExecutor

            before = threading.Lock()
            number = 5
            file = open(
                sys.argv[1],
            )
            after, other = threading.Lock(), [threading.Lock()]
            class Late:
                lock = threading.Lock()
                def use(self): return self.lock

            def use_before():
                with before: return number
            def use_after():
                with after: return number
            def use_under(): return under

            if __name__ == "__main__":
                import os
                os.unlink(sys.argv[1])
                under = threading.Lock()
                with OrderedProcessPoolExecutor(1) as executor:
                    assert executor.submit(use_before).result() == 5
                    error = executor.submit(use_after).exception()
                    assert type(error) is NameError and "'after'" in str(error), error
                    assert f"{__file__}:7, `file = open(`, with FileNotFoundError" in str(error), error
                    assert "did not make file, after, other, Late;" in str(error), error
                    error = executor.submit(Late().use).exception()
                    assert ":7, `file = open(`, with FileNotFoundError" in str(error), error
                    error = executor.submit(use_under).exception()
                    assert "'under'" in str(error) and "stopped" not in str(error), error
                print("ok")
        """)
    )
    (tmp_path / "input").touch()
    assert play(["program.py", "input"], tmp_path) == "ok\n"


@pytest.mark.parametrize(
    "guard",
    [
        'if "__main__" == __name__: main()',
        'if __name__ == "__main__" and len(sys.argv) == 1: main()',
        'if not __name__ == "__main__": spare = 1\nelse: main()',
        'if __name__ != "__main__": spare = 1\nelse: main()',
        '__name__ == "__main__" and main()',
        'main() if __name__ == "__main__" else None',
        'try:\n    if __name__ == "__main__": main()\nfinally: spare = 1',
    ],
)
def test_any_guard_lets_workers_run_the_top_level(tmp_path: Path, guard: str) -> None:
    """People write it in many ways; nothing under it runs in a worker."""
    (tmp_path / "program.py").write_text(
        dedent("""
            import sys, threading
            from ordered_executor import OrderedProcessPoolExecutor
            lock = threading.Lock()
            def locked():
                with lock: return __name__
            def main():
                print("begun")
                with OrderedProcessPoolExecutor(1) as executor:
                    print(executor.submit(locked).result())
        """)
        + guard
    )
    assert play(["program.py"], tmp_path) == "begun\n__main__\n"


def test_modules_that_are_registered_for_pickling_by_value(tmp_path: Path) -> None:
    """They are at home as the script is: one copy, and changes arrive."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "part.py").write_text("NUMBER = 1\ndef number():\n    return NUMBER\n")
    (tmp_path / "own.py").write_text(
        dedent("""
            state, factor = None, 2
            class Thing: size = 1
            def begin(value):
                global state
                state = value
            def see(): return state, factor, Thing.size
            def boom(): raise ValueError  # in own
        """)
    )
    (tmp_path / "program.py").write_text(
        dedent("""
            import cloudpickle, own, package.part
            from ordered_executor import OrderedProcessPoolExecutor
            cloudpickle.register_pickle_by_value(own)
            cloudpickle.register_pickle_by_value(package)
            def through(): return own.see(), own.factor

            with OrderedProcessPoolExecutor(1, initializer=own.begin, initargs=("ready",)) as executor:
                assert executor.submit(own.see).result() == ("ready", 2, 1)
                own.factor, own.Thing.size, package.part.NUMBER = 3, 5, 7
                assert executor.submit(through).result() == (("ready", 3, 5), 3)
                assert executor.submit(package.part.number).result() == 7
                assert type(executor.submit(own.Thing).result()) is own.Thing
                assert "# in own" in str(executor.submit(own.boom).exception().__cause__)
                own.factor = 4
                assert executor.submit(through).result() == (("ready", 4, 5), 4)
            print("ok")
        """)
    )
    assert play(["program.py"], tmp_path) == "ok\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_has_executors(tmp_path: Path, method: str) -> None:
    """Where the script goes by the name `__mp_main__`, too; and a task has executors and pools of its own."""
    (tmp_path / "program.py").write_text(
        dedent(f"""
            import multiprocessing
            from ordered_executor import OrderedProcessPoolExecutor
            factor = 2

            class Point: pass

            def times(number): return number * factor

            def nested(number):
                with OrderedProcessPoolExecutor(1) as executor:
                    assert type(executor.submit(Point).result()) is Point
                    return list(executor.map(times, range(number)))

            def child():
                global factor
                factor = 3
                assert nested(3) == [0, 3, 6]

            def pool(number):
                with multiprocessing.get_context({method!r}).Pool(1) as pool:
                    return pool.map(times, range(number))

            if __name__ == "__main__":
                process = multiprocessing.get_context({method!r}).Process(target=child)
                process.start()
                process.join()
                assert process.exitcode == 0
                with OrderedProcessPoolExecutor(1) as executor:
                    assert executor.submit(nested, 3).result() == [0, 2, 4]
                    assert executor.submit(pool, 3).result() == [0, 2, 4]
                print("ok")
        """)
    )
    assert play(["program.py"], tmp_path) == "ok\n"


def test_what_a_worker_needs_may_take_longer_than_a_task(tmp_path: Path) -> None:
    """A time limit is for tasks: a large global takes a worker as long as it takes."""
    (tmp_path / "program.py").write_text(
        dedent("""
            import time
            from ordered_executor import OrderedProcessPoolExecutor

            class Slow:
                number = 1
                def __getstate__(self): return 1
                def __setstate__(self, state): time.sleep(3)

            slow = Slow()
            def add(number): return slow.number + number

            with OrderedProcessPoolExecutor(1, task_timeout=0.5) as executor:
                assert executor.submit(add, 1).result() == 2
            print("ok")
        """)
    )
    assert play(["program.py"], tmp_path) == "ok\n"
