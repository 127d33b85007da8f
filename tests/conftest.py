"""For all tests.  What only some need stands beside them."""

from __future__ import annotations

import signal

from hypothesis import settings

# Whoever is started in the background of a shell ignores Ctrl-C, and so would every program of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline for one example: the machine may be loaded.  No database: a run leaves nothing behind.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")
