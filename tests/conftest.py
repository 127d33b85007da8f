"""For all tests.  What only some need stands beside them."""

from __future__ import annotations

from hypothesis import settings

# No deadline for one example: the machine may be loaded.  No database: a run leaves nothing behind.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")
