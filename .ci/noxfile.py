"""The commands of the project: `nox -f .ci/noxfile.py -s NAME`, from the top of a checkout.

Each session installs what it needs into an environment of its own, which is used again the next time.  With
`--no-venv` it runs in the environment that you are in, and installs nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parents[1]

nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "unit", "processes", "docs", "doctest"]

WITHOUT_PROCESSES = ["tests/unit", "tests/fake"]
TAKES_LONG = ["tests/clients"]  # libraries of others: they run when they are named
PYTEST = ["python", "-m", "pytest", "-q", "-n", "auto"]


def install(session: nox.Session, extras: str) -> None:
    """Install the checkout with some extras, unless the session runs in an environment that is there already.

    And go to the top of the checkout: nox runs each session in the folder of this file.
    """
    session.chdir(ROOT)
    if session.virtualenv.is_sandboxed:
        session.install("-q", "-e", f".[{extras}]")


@nox.session
def unit(session: nox.Session) -> None:
    """Tests without worker processes, but those that are marked slow."""
    install(session, "test")
    session.run(*PYTEST, "-m", "not slow", *WITHOUT_PROCESSES, *session.posargs)


@nox.session
def processes(session: nox.Session) -> None:
    """All other tests: those with worker processes, and the slow ones."""
    install(session, "test")
    ignored = [f"--ignore={folder}" for folder in (*WITHOUT_PROCESSES, *TAKES_LONG)]
    session.run(*PYTEST, *ignored, *session.posargs)
    session.run(*PYTEST, "-m", "slow", *WITHOUT_PROCESSES, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, likely bugs, spelling; and the workflows."""
    install(session, "lint")
    workflows = [str(path) for path in Path(".github/workflows").glob("*.yml")]
    session.run("check-jsonschema", "-q", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "-q", "--offline", *workflows)
    session.run("python", "-m", "ruff", "check")
    session.run("python", "-m", "ruff", "format", "--check")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Types: two checkers, and whether all that is public has a complete type."""
    install(session, "lint,test")
    session.run("python", "-m", "mypy")
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    # pyright looks at the interpreter that comes first there, and --verifytypes at nothing else.
    path = os.pathsep.join([str(Path(str(python).strip()).parent), os.environ["PATH"]])
    session.run("python", "-m", "pyright", env={"PATH": path})
    session.run("python", "-m", "pyright", "--verifytypes", "ordered_executor", "--ignoreexternal", env={"PATH": path})


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; warnings are errors."""
    install(session, "docs")
    session.run("python", "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html")


@nox.session
def doctest(session: nox.Session) -> None:
    """The examples in README, docstrings and docs."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-q", "tests/examples/test_examples.py", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage, worker processes included; `-- FOLDER …` chooses tests.

    Tests may fail here, which the other sessions would tell: with a tracer all is slower, and takes more memory.
    """
    install(session, "test")
    tests = session.posargs or [f"--ignore={folder}" for folder in TAKES_LONG]
    session.run("python", "-m", "coverage", "erase")
    session.run("python", "-m", "coverage", "run", "-m", "pytest", "-q", "-n", "auto", *tests, success_codes=[0, 1])
    session.run("python", "-m", "coverage", "combine", "-q")
    session.run("python", "-m", "coverage", "report", "--skip-covered")


@nox.session
def hunt(session: nox.Session) -> None:
    """Random pipelines and random faults."""
    install(session, "test")
    session.run("python", "-m", "tests.stress", *(session.posargs or ["--seconds", "60", "--seed", "1"]))


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmark, beside other executors in one run."""
    install(session, "bench")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """A dry run of a release: build, check, install what was built into an empty environment, use it."""
    session.chdir(ROOT)
    session.install("-q", "build", "twine")
    out = session.create_tmp()
    session.run("python", "-m", "build", "-q", "--outdir", out)
    built = sorted(str(path) for path in Path(out).glob("ordered_executor-*"))
    session.run("python", "-m", "twine", "check", "--strict", *built)
    for file in built:
        empty = str(Path(out) / ("from-wheel" if file.endswith(".whl") else "from-sdist"))
        session.run("python", "-m", "venv", "--clear", empty)
        session.run(f"{empty}/bin/python", "-m", "pip", "install", "-q", file, external=True)
        session.run(f"{empty}/bin/python", "-I", "-c", USE, external=True)


USE = """
import ordered_executor

with ordered_executor.OrderedProcessPoolExecutor(2) as executor:
    assert list(executor.map(pow, range(9), range(9))) == [n ** n for n in range(9)]
print(ordered_executor.__version__, "works")
"""
