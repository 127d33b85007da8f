"""Each lock of ours is held in a form that no interrupt can part from its block: see `ordered_executor._base.locks`.

The interrupts themselves are in processes/test_interrupts.py.
"""

from __future__ import annotations

import ast
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ordered_executor
from ordered_executor._base.locks import AT_ONCE, Lock

SOURCE = Path(ordered_executor.__file__).parent
MODULES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if path.stem != "locks")

# What `threading`, `queue` and `multiprocessing` have that is, or holds, a lock of another kind.
OTHERS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "Queue", "SimpleQueue"}
# Who has some all the same, with its argument there.
MAY_USE = {
    "_base/waiting.py": {"Lock", "acquire"},  # of one sleeper, who alone waits there
    "_core/waiters.py": {"acquire"},  # of the condition shim for a condition, which is none
    "_processes/worker_handle.py": {"RLock", "acquire"},  # its waits end by the clock
    "_clusters/backend.py": {"SimpleQueue"},  # in C, and made for signal handlers and finalizers
    "parallel_queue.py": {"Event"},  # where a thread is to stay for ever
}


def statements(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Each list of statements there is."""
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield value


def operand(statement: ast.stmt, operator: type[ast.unaryop]) -> str | None:
    """`lock`, if the statement is the operator on it."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.UnaryOp):
        return ast.unparse(statement.value.operand) if isinstance(statement.value.op, operator) else None
    return None


def tried(statement: ast.stmt) -> str | None:
    """`lock`, if the statement is `if lock @ AT_ONCE:`, or `if … and lock @ AT_ONCE:`."""
    test = statement.test if isinstance(statement, ast.If) else None
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        test = test.values[-1]
    if isinstance(test, ast.BinOp) and isinstance(test.op, ast.MatMult) and ast.unparse(test.right) == "AT_ONCE":
        return ast.unparse(test.left)
    return None


def held(tree: ast.AST) -> list[ast.Try]:
    """The blocks that hold a lock, in one of the two forms."""
    blocks: list[ast.Try] = []
    for body in statements(tree):
        for place, statement in enumerate(body):
            lock = operand(statement, ast.UAdd)
            follows: ast.stmt | None = body[place + 1] if lock is not None else None
            if lock is None and (lock := tried(statement)) is not None:
                assert isinstance(statement, ast.If)
                follows = statement.body[0]
            if lock is None:
                continue
            assert isinstance(follows, ast.Try), f"{ast.unparse(statement)}: no `try` follows"
            assert operand(follows.finalbody[0], ast.USub) == lock, f"{ast.unparse(follows)}: does not let go first"
            blocks.append(follows)
    return blocks


@pytest.mark.parametrize("module", MODULES)
def test_locks_are_held_in_a_form_that_no_interrupt_parts(module: str) -> None:
    """By the operators of `_base.locks`, not in a `with` block, nor by a call of `acquire`; and each block lets go."""
    tree = ast.parse((SOURCE / module).read_text())
    taking = letting_go = 0
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            taking += operand(node, ast.UAdd) is not None
            letting_go += operand(node, ast.USub) is not None
        taking += isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and ast.unparse(called.value) != "asyncio":  # those are for one thread
            named.add(called.attr)
    assert len(held(tree)) == taking == letting_go
    assert named & (OTHERS | {"acquire"}) <= MAY_USE.get(module, set())


@pytest.mark.parametrize(
    "wrong",
    [
        "+lock\nwork()\n-lock",
        "+lock\nwork()\ntry:\n    work()\nfinally:\n    -lock",
        "+lock\ntry:\n    work()\nfinally:\n    work()\n    -lock",
        "+lock\ntry:\n    work()\nfinally:\n    -other",
        "if lock @ AT_ONCE:\n    work()\n    try:\n        work()\n    finally:\n        -lock",
    ],
)
def test_the_test_sees_another_form(wrong: str) -> None:
    """A call before the `try`, or before the lock is let go, would be where an interrupt parts them."""
    with pytest.raises(AssertionError):
        held(ast.parse(wrong))


def test_the_operators() -> None:
    """`+` takes, as often as one likes; `@ AT_ONCE` takes it if no other thread has it; `-` lets go."""
    lock, seen = Lock(), []

    def another_thread() -> None:
        thread = threading.Thread(target=lambda: seen.append(lock @ AT_ONCE and (-lock) is None))
        thread.start()
        thread.join()

    another_thread()
    +lock
    assert lock @ AT_ONCE
    another_thread()
    -lock
    another_thread()
    -lock
    another_thread()
    assert seen == [True, False, False, True]
    with pytest.raises(RuntimeError):
        -lock


# Far more than an alarm takes to come.  Not for ever: what a finalizer raises is swallowed, and one may run just then.
TURNS = 100_000


def plus(lock: Lock) -> None:
    """The first form."""
    for _ in range(TURNS):
        +lock
        try:
            pass
        finally:
            -lock


def at_once(lock: Lock) -> None:
    """The second form."""
    for _ in range(TURNS):
        if lock @ AT_ONCE:
            try:
                pass
            finally:
                -lock


def with_block(lock: Lock) -> None:
    """The usual form."""
    for _ in range(TURNS):
        with lock:
            pass


def interrupts_that_leave_it_taken(form: Callable[[Lock], None], count: int) -> int:
    """Run it, again and again, until a signal comes and its handler raises."""
    lock, left = Lock(), 0

    def ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ctrl_c)
    try:
        for number in range(count):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 20e-6 + 1e-6 * (number % 97))
                form(lock)
            if lock._is_owned():  # type: ignore[attr-defined]
                left, lock = left + 1, Lock()
    finally:
        signal.signal(signal.SIGALRM, before)
    return left


@pytest.mark.parametrize("form", [plus, at_once])
def test_real_interrupts_leave_no_lock_taken(form: Callable[[Lock], None]) -> None:
    """Some thousand of them, each at some instant of the form."""
    assert interrupts_that_leave_it_taken(form, 3000) == 0


@pytest.mark.skipif(sys.version_info[:2] != (3, 14), reason="only Python 3.14 looks for signals there")
def test_why_it_is_no_with_block() -> None:
    """When this fails, CPython has mended it."""
    assert interrupts_that_leave_it_taken(with_block, 300) > 0
