"""Locks that no interrupt can part from their block.

Each lock of ours is a `Lock`, and is held in one of these two forms only (tests/unit/test_architecture.py sees to it):

    +lock                          if lock @ AT_ONCE:  # else somebody else has it
    try:                               try:
        ...                                ...
    finally:                           finally:
        -lock                              -lock

Why not `with lock:`?  Ctrl-C raises in the main thread where the interpreter looks for signals: after a call, at a jump
back, where a function begins.  Up to Python 3.13, and in 3.15, it does not look between `__enter__` and the block.
Python 3.14 makes a call of `__enter__`, and looks after it: the lock is taken, the block was never entered, and whoever
takes the lock next stands still for ever.  Of 20,000 real interrupts of such a block on 3.14.10, 10,817 left the lock
taken; of the two forms above none did, on 3.11, 3.13, 3.14 and 3.15.  `lock.acquire()` is a call on all of them.

Why these?  To the interpreter an operator is no call: behind it, it does not look for signals.  Nor does it at the
beginning of `try`, which is no instruction, nor between the end of the block and the operator of its `finally`.  And
these operators are methods of the C lock, with no Python function in between, in which it would look.  An interrupt
while `+lock` waits is raised there, and the lock is not taken.  tests/processes/test_interrupts.py has real interrupts.

Where another thread may put a new lock into the place of this one meanwhile, or a forked child, take it into a local
variable first: what is let go must be what was taken.
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
