"""The parts: imports point one way, the core knows no process, and each file says what it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ordered_executor
from ordered_executor import _public
from tests.test_locks import held

SOURCE = Path(ordered_executor.__file__).parent
MODULES = sorted(path.stem for path in SOURCE.glob("*.py"))
MOST_LINES = 560  # where a file grows towards it, it holds a second concept

# From the bottom up.  A module imports from rows above its own only, also inside functions.
LAYERS = [
    # values, errors, checks of arguments, what the system gives; none knows another part of ours
    "_atomic _times",
    "_ticket _demand _errors _check _locks _parking _wire _poller _warm _sketch _current _documents",
    "_keys _rebuild _slow",
    "_os_descriptors _os_tree _os_barrier",
    "_os_process _os_lifeline _os_memory",
    "_os",
    "_exit _loky _audience _faithful _by_value _counts",
    "_shorten _reducers",
    "_outcome _logs",
    # pure parts, one concept each
    "_sequencer _backend _backlog _claims _payload _lane_memory _future _retention",
    "_gate _functions _refusals _map _results _queue_worker _digest _roster _reach _alarms",
    "_dispatcher _intake",
    "_losses _running _observers",
    "_front",
    # the core: everything in order, on whatever backend
    "_releaser",
    "_statistics",
    "_executor",
    "_trace",
    # lanes: one backend
    "_toplevel _home _loading _recall _outbox",
    "_script",
    "_witness",
    "_plan _worker _start _carried",
    "_packing",
    "_definitions",
    "_parcels",
    "_lane",
    "_postmortem _depot _stopping _starter",
    "_clock",
    "_lanes",
    # what users see
    "process_pool",
    "_cluster_task",
    "_cluster_parts",
    "_cluster_store",
    "_cluster",
    "parallel_queue dask ray",
    "progress",
    "_public",
    "__init__",
    "timeline demo cli",
    "__main__",
]
ROW = {module: row for row, modules in enumerate(LAYERS) for module in modules.split()}

CORE = [module for row in LAYERS[: ROW["_trace"] + 1] for module in row.split()]
LANES = {module for row in LAYERS[ROW["_toplevel"] : ROW["_lanes"] + 1] for module in row.split()}
PURE = ["_ticket", "_sequencer", "_roster", "_reach", "_alarms", "_dispatcher", "_losses", "_backend"]


def tree(module: str) -> ast.Module:
    """A module of ours, parsed."""
    return ast.parse((SOURCE / f"{module}.py").read_text())


def for_types_only(module: ast.Module) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    found: set[ast.AST] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            found.update(ast.walk(node))
    return found


def imports(module: str) -> tuple[set[str], set[str]]:
    """The modules of ours that it imports, and the others."""
    ours: set[str] = set()
    others: set[str] = set()
    parsed = tree(module)
    skipped = for_types_only(parsed)
    for node in ast.walk(parsed):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            ours |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            others.add(str(node.module).split(".", maxsplit=1)[0])
        elif isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
    if "ordered_executor" in others:
        others.discard("ordered_executor")
        ours.add("__init__")
    return ours, others


def test_every_module_has_its_place() -> None:
    """A new module is put into the drawing of the layers."""
    assert sorted(ROW) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """A module imports from the layers under it only."""
    ours, _ = imports(module)
    wrong = {other for other in ours if other in ROW and ROW[other] >= ROW[module]}
    assert not wrong, f"{module} must not import {wrong}"


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_no_lane(module: str) -> None:
    """Whatever runs the batches, the core does not import it, nor anything that does."""
    known, new = set[str](), {module}
    while new:
        known |= new
        new = {other for one in new for other in imports(one)[0]} - known
    assert not known & LANES


@pytest.mark.parametrize("module", PURE)
def test_pure_parts_know_no_clock_and_no_thread(module: str) -> None:
    """The ordering needs neither threads, locks, time nor processes."""
    _, others = imports(module)
    assert not others & {"threading", "time", "os", "multiprocessing", "loky", "selectors", "signal", "asyncio"}


@pytest.mark.parametrize("module", ["_claims", "_future", "_recall"])
def test_nothing_is_called_under_a_lock_that_the_releaser_needs(module: str) -> None:
    """Nor is there a branch: a signal handler would come in there, and wait for the releaser (see `_claims`)."""
    blocks = [
        block for block in held(tree(module)) if "nothing" not in ast.unparse(block)
    ]  # `take` is the releaser's own
    assert len(blocks) >= 2
    assignments = (ast.Assign, ast.AugAssign)
    harmless = (ast.Name, ast.Attribute, ast.Constant, ast.BoolOp, ast.BinOp, ast.Subscript, ast.Compare, ast.Is)
    for block in blocks:
        for statement in block.body:
            for node in ast.walk(statement):
                assert isinstance(node, (*assignments, *harmless, ast.expr_context, ast.operator, ast.boolop)), (
                    ast.unparse(block)
                )


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    """Each begins with a docstring, whose first line ends."""
    text = ast.get_docstring(tree(module))
    assert text
    assert text.split("\n\n")[0].rstrip().endswith((".", ":"))


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_too_long(module: str) -> None:
    """One concept per file."""
    assert len((SOURCE / f"{module}.py").read_text().splitlines()) <= MOST_LINES


def test_everything_public_is_listed_and_documented() -> None:
    """`__all__` is sorted, complete, and all of it has a docstring."""
    names = ordered_executor.__all__
    assert names == sorted(names) == _public.__all__
    public = {name for name, value in vars(_public).items() if not name.startswith("_") and callable(value)}
    assert public == set(names)
    assert all(getattr(ordered_executor, name) is getattr(_public, name) for name in names)
    assert all(getattr(_public, name).__doc__ for name in names)
