"""Locks that no interrupt can part from their block.

Each lock of ours is a `Lock`, and is held in one of these two forms only (tests/unit/test_architecture.py sees to it):

    +lock                          if lock @ AT_ONCE:  # else another thread has it
    try:                               try:
        ...                                ...
    finally:                           finally:
        -lock                              -lock

Why not `with lock:`?  Ctrl-C raises in the main thread where the interpreter looks for signals: after a call, at a jump
back, where a function begins.  Up to Python 3.13, and in 3.15, it does not look between `__enter__` and the block.
Python 3.14 makes a call of `__enter__`, and looks after it.  Then the lock is taken, the block was never entered, and
the next thread that takes the lock stands still for ever.  Of 20,000 real interrupts of such a block on 3.14.10, 10,817
left the lock taken.  Of the two forms above none did, on 3.11, 3.13, 3.14 and 3.15.  `lock.acquire()` is a call on all
of them.

Why these forms?  To the interpreter an operator is no call: it does not look for signals after it.  Nor does it look at
the beginning of `try`, which is no instruction, nor between the end of the block and the operator of its `finally`.
These operators are methods of the C lock, with no Python function in between in which the interpreter would look.  An
interrupt while `+lock` waits is raised there, and the lock is not taken.  tests/processes/test_interrupts.py sends real
interrupts.

If another thread, or a forked child, may replace this lock by a new one meanwhile, take it into a local variable first:
the lock that is released must be the one that was taken.
"""

from __future__ import annotations

from _thread import RLock

# As in `lock @ AT_ONCE`.
AT_ONCE = False


class Lock(RLock):  # type: ignore[misc]  # for a type checker it is final; the interpreter lets it be extended
    """A reentrant lock.  `+lock` takes it, `-lock` lets it go, `lock @ AT_ONCE` takes it if nobody has it.

    Reentrant, because a signal handler or a finalizer may come back in the same thread.
    """

    __slots__ = ()

    __pos__ = RLock.acquire
    __neg__ = RLock.release
    __matmul__ = RLock.acquire  # acquire(blocking=False)
