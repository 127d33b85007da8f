"""The packages: imports point one way, the core knows no process, and each file says what it is."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import ordered_executor
from ordered_executor import _public
from tests.unit.test_locks import held

SOURCE = Path(ordered_executor.__file__).parent
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
MODULES = sorted(FILES)
MOST_LINES = 520  # where a file grows towards it, it holds a second concept

# From the bottom up: each package, and those that it may import from, besides itself.
MAY_IMPORT = {
    "_base.system": {"_base"},
    "_base": {"_base.system"},
    "_channel": {"_base", "_base.system"},
    "_pickling": {"_base", "_base.system"},
    "_script": {"_base", "_base.system", "_channel", "_pickling"},
    "_core": {"_base", "_base.system", "_pickling"},
    "_processes.worker": {"_base", "_base.system", "_channel", "_pickling", "_script"},
    "_processes": {"_base", "_base.system", "_channel", "_pickling", "_script", "_core", "_processes.worker"},
    "_clusters": {"_base", "_base.system", "_pickling", "_core"},
    "_command": {"", "_base", "_base.system"},  # it uses what users use
}
FACES = ""  # the modules that users import, and what stands beside them
MAY_IMPORT[FACES] = {*MAY_IMPORT, "_command"}
PURE = [
    "_base.tasks",
    "_core.reorder_buffer",
    "_core.dispatcher",
    "_core.batch_sizing",
    "_core.batches",
    "_core.lost_tasks",
    "_core.backend",
]
# The one home of loky's private names; the others use public ones.
LOKY = {"_base.loky_private", "_base.errors", "_base.system", "_base.system.lifeline", "_processes.worker_handle"}


def package_of(module: str) -> str:
    """The package that a module belongs to: the longest of those there are."""
    return max((one for one in MAY_IMPORT if one and f"{module}.".startswith(f"{one}.")), key=len, default=FACES)


@cache
def tree(module: str) -> ast.Module:
    """A module of ours, parsed."""
    return ast.parse(FILES[module].read_text())


def for_types_only(module: ast.Module) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    found: set[ast.AST] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            found.update(ast.walk(node))
    return found


def absolute(module: str, node: ast.ImportFrom) -> str:
    """The full name of what is imported from."""
    if not node.level:
        return str(node.module)
    package = module.split(".") if FILES[module].stem == "__init__" else module.split(".")[:-1]
    above = package[: len(package) - node.level + 1]
    return ".".join(["ordered_executor", *above, *([node.module] if node.module else [])])


@cache
def imports(module: str) -> tuple[set[str], set[str]]:
    """The modules of ours that it imports, and the others."""
    names: set[str] = set()
    parsed = tree(module)
    skipped = for_types_only(parsed)
    for node in ast.walk(parsed):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = {name.removeprefix("ordered_executor.") for name in names if name.startswith("ordered_executor.")} & set(
        FILES
    )
    others = {name.split(".", maxsplit=1)[0] for name in names if not name.startswith("ordered_executor")}
    return ours - {module}, others


@cache
def below(module: str) -> set[str]:
    """The module, and all that it imports, however far away."""
    known, new = set[str](), {module}
    while new:
        known |= new
        new = {other for one in new for other in imports(one)[0]} - known
    return known


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """A package imports from those under it only."""
    package = package_of(module)
    wrong = {other for other in imports(module)[0] if package_of(other) not in {package, *MAY_IMPORT[package]}}
    assert not wrong, f"{module} must not import {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_no_modules_import_each_other(module: str) -> None:
    """However far the way round is."""
    assert not {other for other in imports(module)[0] if module in below(other)}


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("_core.")])
def test_the_core_knows_no_process(module: str) -> None:
    """Whatever runs the batches, the core does not import it, nor anything that does."""
    assert not {other for other in below(module) if package_of(other).startswith(("_processes", "_channel", "_script"))}


TESTS = Path(__file__).parents[1]
BACKENDS = [
    *(FILES[module] for module in MODULES if package_of(module) in {"_processes", "_processes.worker", "_clusters"}),
    *(FILES[module] for module in ("dask", "ray")),
    TESTS / "fake" / "backend.py",
    TESTS / "examples" / "thread_backend.py",
    *sorted((TESTS / "backends").glob("*.py")),
]


@pytest.mark.parametrize("path", BACKENDS, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_backend_asks_the_batch(path: Path) -> None:
    """Never who waits for its outcomes: whether it is of futures or of a map."""
    from_core = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ordered_executor._core")
        for alias in node.names
    }
    assert not from_core & {
        "Slice",
        "Span",
        "Future",
        "CoreBatch",
        "FutureBatch",
        "MapBatch",
        "batches",
        "future",
        "map",
    }
    assert "owners" not in {
        node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    }


def test_a_worker_loads_its_half_only() -> None:
    """Most of its start is the loading of modules."""
    assert not {
        other for other in below("_processes.worker.main") if package_of(other) in {"_core", "_processes", FACES}
    }


def test_loky_is_imported_in_few_places() -> None:
    """Its private names in one of them: tests/unit/test_private_names.py notices when one goes."""
    assert {module for module in MODULES if "loky" in imports(module)[1]} <= LOKY


@pytest.mark.parametrize("module", PURE)
def test_pure_parts_know_no_clock_and_no_thread(module: str) -> None:
    """The ordering needs neither threads, locks, time nor processes."""
    _, others = imports(module)
    assert not others & {"threading", "time", "os", "multiprocessing", "loky", "selectors", "signal", "asyncio"}


@pytest.mark.parametrize("module", ["_core.claims", "_core.future", "_processes.recall"])
def test_nothing_is_called_under_a_lock_that_the_scheduler_needs(module: str) -> None:
    """Nor is there a branch: a signal handler would come in there, and wait for the scheduler (see `_claims`)."""
    blocks = [
        block for block in held(tree(module)) if "nothing" not in ast.unparse(block)
    ]  # `take` is the scheduler's own
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
    assert len(FILES[module].read_text().splitlines()) <= MOST_LINES


def test_everything_public_is_listed_and_documented() -> None:
    """`__all__` is sorted, complete, and all of it has a docstring."""
    names = ordered_executor.__all__
    assert names == sorted(names) == _public.__all__
    public = {name for name, value in vars(_public).items() if not name.startswith("_") and callable(value)}
    assert public == set(names)
    assert all(getattr(ordered_executor, name) is getattr(_public, name) for name in names)
    assert all(getattr(_public, name).__doc__ for name in names)
