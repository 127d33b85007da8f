"""Which operations we take for atomic, with the interpreter lock and without it; and the snapshot, which is not.

Threads share plain containers here, without a lock where one could be left taken or stood at (see
`_base.waiting`).  That holds because each of these is one step to all other threads, on every build of CPython from
3.11 on:

| what | by which build |
| --- | --- |
| to read or rebind an attribute or a global name | with the interpreter lock: by that; without: by the object's lock |
| of a dict: `d[k]`, `d[k] = v`, `k in d`, `get`, `setdefault`, `pop`, `clear`, `copy`, `len`, truth | the same |
| of a set: `add`, `discard`, `copy`, `len`, truth | the same |
| of a deque: `append`, `popleft`, `d[0]`, `len`, truth | the same |
| of a list: `append`, `pop`, `len`, truth | the same |
| `del` of an attribute: of two threads one gets an AttributeError | the same |
| `list(…)` of a dict, of a set, of a dict's view | without the interpreter lock from 3.13 on: by a case of their own |

Whoever stores something and then looks at something else sees what was stored before by whoever looks at the first
(`_core.inbox.Inbox.poke` and the like): each such pair has an operation of a container in between, and its lock is a
barrier.

Not atomic, and never done by two threads without a lock: `x += 1`, iterating, `next()` of an iterator, and, without the
interpreter lock, `tuple(…)` and `sorted(…)` of all but lists, and any copy of a deque: they raise when another thread
changes the container meanwhile.  `snapshot` is for these; tests/unit/test_atomic.py holds the source to it.
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
