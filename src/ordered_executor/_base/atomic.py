"""The operations that we take for atomic, with the interpreter lock or without it; and `snapshot`, for the others.

Threads share plain containers here, without a lock, because an interrupt could leave a lock taken (see
`_base.waiting`).  This works because each of these operations is one step to all other threads, on every build of
CPython from 3.11 on:

| operation | made atomic by |
| --- | --- |
| reading or binding an attribute or a global name | the interpreter lock; without it the object's lock |
| of a dict: `d[k]`, `d[k] = v`, `k in d`, `get`, `setdefault`, `pop`, `clear`, `copy`, `len`, truth | the same |
| of a set: `add`, `discard`, `copy`, `len`, truth | the same |
| of a deque: `append`, `popleft`, `d[0]`, `len`, truth | the same |
| of a list: `append`, `pop`, `len`, truth | the same |
| `del` of an attribute: one of two threads gets an AttributeError | the same |
| `list(…)` of a dict, of a set, of a dict's view | without the interpreter lock from 3.13 on: code for just this case |

A thread that stores something and then looks at something else must be seen by a thread that does the reverse
(`_core.inbox.Inbox.poke` and the like).  Each such pair has an operation of a container in between, and the lock of
that operation is a barrier.

These operations are not atomic, and two threads never do them without a lock: `x += 1`, iterating, `next()` of an
iterator, and, without the interpreter lock, `tuple(…)` and `sorted(…)` of anything but lists, and any copy of a deque.
They raise when another thread changes the container meanwhile.  `snapshot` is for these; tests/unit/test_atomic.py
holds the source to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def snapshot(several: Iterable[T]) -> list[T]:
    """What is in a container now, though other threads change it.

    Tried again when one did so in the middle: each time somebody else has got on.  Also for a WeakSet, whose iteration
    is Python, and so never atomic.
    """
    while True:
        with contextlib.suppress(RuntimeError):
            return list(several)
