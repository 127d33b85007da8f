"""For all tests.  What only some need stands beside them."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

from hypothesis import settings

LACKING = Path(__file__).parent / "lacking"

if "LACKING" in os.environ and str(LACKING) not in sys.path:
    # All processes that tests start take away what is lacking when they begin; this one does so now, before it loads
    # anything of ours.
    sys.path.insert(0, str(LACKING))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(LACKING), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.modules.pop("sitecustomize", None)
    importlib.import_module("sitecustomize")

# Whoever is started in the background of a shell ignores Ctrl-C, and so would every program of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline for one example: the machine may be loaded.  No database: a run leaves nothing behind.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")
