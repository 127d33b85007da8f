"""Cells of a notebook, in a real kernel: defined again, interrupted, started anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="the kernel of a notebook is not installed")
pytest.importorskip("ipykernel", reason="the kernel of a notebook is not installed")

from nbformat.v4 import new_code_cell, new_notebook  # noqa: E402

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]  # the kernel's libraries warn


class Kernel:
    """Runs cells."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._count = 0

    def run(self, text: str) -> str:
        """What a cell prints; raises what it raises."""
        cell = new_code_cell(dedent(text))  # type: ignore[no-untyped-call]
        self._client.nb.cells.append(cell)
        self._client.execute_cell(cell, len(self._client.nb.cells) - 1)
        return "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")

    def outputs(self) -> list[Any]:
        """What the last cell shows."""
        return list(self._client.nb.cells[-1].outputs)

    def widgets(self) -> list[Any]:
        """The states of all widgets there are."""
        return list(self._client.widget_state.values())

    def restart(self) -> None:
        """As the button does."""
        self._client.km.restart_kernel()
        self._client.kc.wait_for_ready()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel, with an executor of one worker."""
    client = nbclient.NotebookClient(new_notebook(), timeout=60, kernel_name="python3")  # type: ignore[no-untyped-call]
    with contextlib.ExitStack() as stack:
        stack.enter_context(client.setup_kernel())
        one = Kernel(client)
        one.run(BEGIN)
        yield one


BEGIN = """
    from ordered_executor import OrderedProcessPoolExecutor
    executor = OrderedProcessPoolExecutor(1)
"""
CELL = """
    state = None

    class Point:
        x = {x}

    def begin():
        global state
        state = {x}

    def see():
        return state, type(Point()) is Point, Point.x

    def boom():
        raise ValueError("x")  # in cell {x}
"""


def test_cells_are_run_again(kernel: Kernel) -> None:
    """Functions, classes and globals of the newest cell are those that tasks have, and share."""
    for x in (1, 2):
        kernel.run(CELL.format(x=x))
        assert (
            kernel.run("executor.submit(begin).result()\nprint(executor.submit(see).result())") == f"({x}, True, {x})\n"
        )
        assert kernel.run("print(type(executor.submit(lambda: Point()).result()) is Point)") == "True\n"
        assert kernel.run("print(executor.submit(lambda: isinstance(Point(), Point)).result())") == "True\n"


def test_tracebacks_show_the_cell(kernel: Kernel) -> None:
    """A remote traceback has the line, and `inspect.getsource` finds the function."""
    kernel.run(CELL.format(x=1))
    assert "# in cell 1" in kernel.run("print(executor.submit(boom).exception().__cause__)")
    assert "# in cell 1" in kernel.run(
        "import inspect\nprint(executor.submit(lambda: inspect.getsource(boom)).result())"
    )


def test_what_cannot_be_pickled_is_named(kernel: Kernel) -> None:
    """A worker cannot run cells: the message says so, and an initializer helps."""
    kernel.run("import threading\nlock = threading.Lock()\ndef use():\n    with lock:\n        return 1")
    said = kernel.run("print(repr(executor.submit(use).exception()))")
    assert "lock" in said
    assert "initializer" in said
    kernel.run("def make():\n    global lock\n    lock = threading.Lock()")
    assert kernel.run("executor.submit(make).result()\nprint(executor.submit(use).result())") == "1\n"


def test_an_interrupt_leaves_the_executor_usable(kernel: Kernel) -> None:
    """The stop button is Ctrl-C: it ends the waiting cell, and nothing else."""
    kernel.run(CELL.format(x=1))
    said = kernel.run(
        """
        import _thread, threading
        event = threading.Timer(0.2, _thread.interrupt_main)
        event.start()
        try:
            executor.submit(lambda: __import__("time").sleep(1)).result()
        except KeyboardInterrupt:
            print("interrupted")
        event.join()
        """
    )
    assert said == "interrupted\n"
    assert kernel.run("print(executor.submit(see).result())") == "(None, True, 1)\n"


def test_a_kernel_is_started_anew(kernel: Kernel) -> None:
    """Nothing of the kernel before it is left, and the same cells run."""
    kernel.run(CELL.format(x=1))
    kernel.run("print(executor.submit(see).result())")
    kernel.restart()
    kernel.run(BEGIN)
    kernel.run(CELL.format(x=2))
    assert kernel.run("print(executor.submit(see).result())") == "(None, True, 2)\n"


BAR = """
    from ordered_executor.progress import process_map, progress
    print(process_map(lambda n: n * n, range(5), executor=executor, desc="squares"))
"""


def test_bar_of_a_notebook_is_drawn_by_its_widgets(kernel: Kernel) -> None:
    """The bar is tqdm's own for notebooks, nothing of it is printed, and its last state is the whole."""
    pytest.importorskip("ipywidgets", reason="tqdm draws in notebooks with them")
    pytest.importorskip("tqdm")
    assert kernel.run(BAR).endswith("[0, 1, 4, 9, 16]\n")
    widgets = [o for o in kernel.outputs() if "application/vnd.jupyter.widget-view+json" in o.get("data", {})]
    assert len(widgets) == 1
    states = kernel.widgets()
    assert any(state.get("max") == 5.0 and state.get("value") == 5.0 for state in states)
    assert any("squares" in str(state.get("value")) for state in states)


def test_executor_and_statistics_show_as_tables(kernel: Kernel) -> None:
    """As the last expression of a cell."""
    kernel.run("executor.submit(abs, 1).result()\nexecutor")
    (shown,) = (o for o in kernel.outputs() if o.output_type == "execute_result")
    assert "<table>" in shown["data"]["text/html"]
    kernel.run("executor.statistics()")
    (shown,) = (o for o in kernel.outputs() if o.output_type == "execute_result")
    assert "<td>head_seconds</td>" in shown["data"]["text/html"]
