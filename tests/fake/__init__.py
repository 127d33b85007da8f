"""Tests of the core, driven by hand: no process, no thread but those a test starts.  The backend is in `backend`."""

from .backend import FakeBackend, FakeLane, HandExecutor, ThreadedExecutor, WorkerDied

__all__ = ["FakeBackend", "FakeLane", "HandExecutor", "ThreadedExecutor", "WorkerDied"]
