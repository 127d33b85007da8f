"""Large buffers that many tasks of a cluster share: each lies there once.

If a buffer was seen before, byte for byte, it is put onto the cluster, and the calls that have it refer to it.  Buffers
are compared by a digest, because the object may have changed in between.  The first two times a buffer travels with its
task, as most buffers are not seen again.  A buffer on the cluster is kept as long as a parcel refers to it, and the
last few beyond that.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict, deque
from typing import Any

from ordered_executor._clusters.parts import SHARE_BYTES, Part
from ordered_executor._clusters.task import Carried

# How many that nothing refers to are kept, as the next task may.
KEPT = 4
# How many digests of buffers that were seen once are remembered.
SEEN = 256


class Common:
    """A buffer that is, or is to be, on the cluster.  Kept here too: the cluster may lose it."""

    def __init__(self, carried: Carried) -> None:
        self.carried = carried
        self.asked = False  # the cluster was asked to take it
        self.settled = False  # it has it, or could not
        self.ref: Any = None  # the cluster's name for it
        self.waiting: list[Part] = []  # to be sent when it lies there


class Store:
    """See the module."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._commons: weakref.WeakValueDictionary[bytes, Common] = weakref.WeakValueDictionary()
        self._last: deque[Common] = deque(maxlen=KEPT)

    def share(self, buffer: Any) -> Carried | Common:
        """What is packed for a buffer of a call."""
        view = memoryview(buffer)
        if view.nbytes < SHARE_BYTES:
            return Carried(bytearray(view))
        digest = hashlib.blake2b(view, digest_size=20).digest()
        common = self._commons.get(digest)
        if common is None:
            carried = Carried(bytearray(view))
            if digest not in self._seen:
                self._seen[digest] = None
                if len(self._seen) > SEEN:
                    self._seen.popitem(last=False)
                return carried
            common = self._commons[digest] = Common(carried)
        if common not in self._last:
            self._last.append(common)
        return common

    def forget_places(self) -> None:
        """The cluster has lost everything: what is needed is put there again."""
        for common in list(self._commons.values()):
            if common.settled:
                common.asked = common.settled = False
                common.ref = None
