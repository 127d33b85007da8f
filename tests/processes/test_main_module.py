"""Programs of all shapes: what is defined in `__main__` travels, however the program was started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from .conftest import StartScript

# Defines everything in __main__, without a main guard, and prints one line that ends with "ok".
PROGRAM = dedent("""
    from dataclasses import dataclass
    from enum import Enum
    from functools import cache, cached_property, lru_cache, partial
    from typing import Callable as Function, NamedTuple, NewType, ParamSpec, TypeVar
    from ordered_executor import OrderedProcessPoolExecutor

    FACTOR = 3

    class Colour(Enum):
        RED = 1

    @dataclass
    class Point:
        x: int
        y: int = 2

        def moved(self, by):
            return Point(self.x + by, self.y)

    class OwnError(Exception):
        def __init__(self, code, text):
            super().__init__(text)
            self.code = code

    def times(x):
        return x * FACTOR

    def raise_own(code):
        raise OwnError(code, "own text")

    def adder(n):
        return lambda x: x + n

    def generate(n):
        yield from range(n)

    class Callable:
        def __call__(self, x):
            return times(x)

    class Pair(NamedTuple):
        one: int
        other: int

    Number = NewType("Number", int)
    T = TypeVar("T", int, str)
    P = ParamSpec("P")

    def annotated(fn: Function[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return Number(fn(*args, **kwargs))

    @cache
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    def sixtieth():
        return fibonacci(60)

    class Caching:
        @lru_cache(maxsize=3)
        def method(self, x):
            return x + self.one

        @cached_property
        def one(self):
            return 1

    with OrderedProcessPoolExecutor(2) as executor:
        assert executor.submit(times, 2).result() == 6
        assert executor.submit(lambda: FACTOR).result() == 3
        assert executor.submit(adder(5), 1).result() == 6
        assert executor.submit(adder, 5).result()(1) == 6
        assert executor.submit(partial(times, 4)).result() == 12
        assert executor.submit(Callable(), 5).result() == 15
        assert list(executor.map(times, range(50))) == [times(n) for n in range(50)]
        assert list(executor.map(lambda a, b: a + b, [1, 2], [3, 4])) == [4, 6]
        point = executor.submit(Point, 1).result()
        assert point == Point(1, 2) and type(point) is Point
        assert executor.submit(point.moved, 4).result() == Point(5, 2)
        assert list(executor.map(Point.moved, [point] * 3, range(3)))[2] == Point(3, 2)
        assert executor.submit(lambda c: c, Colour.RED).result() is Colour.RED
        assert executor.submit(lambda: list(generate(3))).result() == [0, 1, 2]
        assert executor.submit(fibonacci, 60).result() == executor.submit(sixtieth).result() == fibonacci(60)
        assert list(executor.map(fibonacci, range(9))) == [0, 1, 1, 2, 3, 5, 8, 13, 21]
        assert executor.submit(lambda fn: fn, fibonacci).result()(9) == 34
        assert executor.submit(Caching().method, 1).result() == 2
        assert executor.submit(Caching.method, Caching(), 1).result() == 2
        assert executor.submit(lambda pair: pair, Pair(1, 2)).result() == Pair(1, 2)
        assert executor.submit(annotated, times, 4).result() == 12
        for each in Number, T, P:
            assert executor.submit(lambda each: each, each).result().__name__ == each.__name__
        assert executor.submit(repr, Number).result() == "__main__.Number"
        error = executor.submit(raise_own, 7).exception()
        assert type(error) is OwnError and error.code == 7 and "own text" in str(error), repr(error)
        assert "raise_own" in str(error.__cause__)
        FACTOR = 4
        assert executor.submit(times, 2).result() == 8
    print("ok")
""")


def assert_ok(out: tuple[int, str, str]) -> None:
    """The program went through and printed nothing else."""
    assert out == (0, "ok\n", "")


def test_command_line(script: StartScript) -> None:
    """`python -c`: there is no file that workers could import."""
    assert_ok(script("-c", PROGRAM).wait())


def test_standard_input(script: StartScript) -> None:
    """`python -`: the program comes through the standard input."""
    assert_ok(script("-", stdin=PROGRAM).wait())


def test_file_without_a_main_guard(script: StartScript, tmp_path: Path) -> None:
    """A script may create executors at its top level: workers do not run it."""
    (tmp_path / "my_script.py").write_text(PROGRAM)
    assert_ok(script("my_script.py").wait())


def test_module(script: StartScript, tmp_path: Path) -> None:
    """`python -m package.module`, with relative imports."""
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("def double(x):\n    return 2 * x\n")
    (package / "__main__.py").write_text(
        PROGRAM.replace(
            "    FACTOR = 4\n",
            "    from .part import double\n    assert executor.submit(double, 4).result() == 8\n    FACTOR = 4\n",
        )
    )
    assert_ok(script("-m", "my_package").wait())


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_file_with_a_main_guard(script: StartScript, tmp_path: Path, method: str) -> None:
    """With the standard contexts workers import the file: with a guard, everything travels there, too."""
    definitions, body = PROGRAM.split("with OrderedProcessPoolExecutor(2) as executor:\n")
    body = body.replace("    FACTOR = 4\n    assert executor.submit(times, 2).result() == 8\n", "")
    body = body.replace('print("ok")', '    print("ok")')
    (tmp_path / "guarded.py").write_text(
        definitions
        + "if __name__ == '__main__':\n"
        + "    import multiprocessing\n"
        + f"    context = multiprocessing.get_context({method!r})\n"
        + "    with OrderedProcessPoolExecutor(2, context) as executor:\n"
        + "\n".join("    " + line if line.startswith("    ") else line for line in body.splitlines())
    )
    code, out, err = script("guarded.py").wait()
    assert (code, out, err) == (0, "ok\n", "")


def test_what_workers_have_of_the_script_comes_home_as_ours(script: StartScript, tmp_path: Path) -> None:
    """Workers of a `spawn` context have the script themselves; what they make of it is of our classes at home."""
    (tmp_path / "part.py").write_text(
        dedent("""
            def make(x):
                import __main__
                return __main__.Point(x)

            def fail(x):
                import __main__
                raise __main__.OwnError(x)
        """)
    )
    (tmp_path / "own.py").write_text(
        dedent("""
            import multiprocessing, part
            from ordered_executor import OrderedProcessPoolExecutor

            class Point:
                def __init__(self, x): self.x = x

            class OwnError(Exception): pass

            if __name__ == "__main__":
                with OrderedProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
                    assert type(executor.submit(part.make, 1).result()) is Point
                    assert type(executor.submit(part.fail, 1).exception()) is OwnError
                print("ok")
        """)
    )
    assert_ok(script("own.py").wait())


def test_interactive(script: StartScript) -> None:
    """Typed line by line: functions defined at the prompt travel, and leaving the prompt ends the workers."""
    lines = dedent("""
        from ordered_executor import OrderedProcessPoolExecutor
        executor = OrderedProcessPoolExecutor(2)
        def square(x):
            return x * x

        list(executor.map(square, range(4)))
        def square(x):
            return x * x * x

        executor.submit(square, 3).result()
        executor.submit(lambda: undefined_name).result()
        [f.result() for f in [executor.submit(square, n) for n in range(3)]]
    """)
    code, out, err = script("-i", "-q", stdin=lines).wait()
    assert code == 0
    assert out.split("\n") == ["[0, 1, 4, 9]", "27", "[0, 1, 8]", ""]
    assert "NameError: name 'undefined_name' is not defined" in err


def test_programs_output_is_not_held_back(script: StartScript) -> None:
    """What tasks print comes out, in their order of printing, before the program ends."""
    out = script(
        "-c",
        dedent("""
        from ordered_executor import OrderedProcessPoolExecutor
        with OrderedProcessPoolExecutor(1) as executor:
            for n in range(3):
                executor.submit(print, "task", n)
        """),
    ).wait()
    assert out == (0, "task 0\ntask 1\ntask 2\n", "")


def test_optimised_python() -> None:
    """With `-OO` assertions and docstrings are gone: the package does not rely on them."""
    code = "from ordered_executor import *\nprint(list(OrderedProcessPoolExecutor(1).map(abs, [-1, -2])))"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False, timeout=50)
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")
