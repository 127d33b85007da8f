"""Tools for exceptions that all parts of the library use: causes, notes, copies, exit codes."""

from __future__ import annotations

import contextlib
import copy
import signal

# The standard library's own class, although its name is private: tools that show remote tracebacks know it.
# tests/unit/test_private_names.py notices when it goes.
from concurrent.futures.process import _RemoteTraceback
from typing import Any


def remote_traceback(text: str) -> Exception:
    """What an error from a worker has as its `__cause__`: the interpreter prints the text."""
    make: Any = _RemoteTraceback
    return make(f'\n"""\n{text}"""')  # type: ignore[no-any-return]


def is_remote_traceback(cause: BaseException | None) -> bool:
    return type(cause) is _RemoteTraceback


def add_note(error: BaseException, note: str) -> None:
    """`error.add_note(note)`.  Never raises."""
    with contextlib.suppress(Exception):  # a hostile class goes without
        # past the class's own __setattr__, which may refuse
        vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), note]  # a new list: a copy may share the old one


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """`error.__cause__ = cause`, as `raise … from …` does it: past the class's own `__setattr__`, which may refuse."""
    BaseException.__cause__.__set__(error, cause)  # type: ignore[union-attr]  # a descriptor, whatever its type says


def copy_error(error: BaseException) -> BaseException:
    """Another object of the same error, or each who gets it would add to the same traceback."""
    try:
        again = copy.copy(error)
        again.__dict__ = dict(vars(again))  # tblib, which distributed installs, lets a copy share its original's
    except Exception:
        return error
    set_cause(again, error.__cause__)
    return again


def exit_text(exitcode: int | None) -> str:
    """Say in words how a process ended.

    >>> exit_text(-9), exit_text(3), exit_text(None)
    ('SIGKILL', 'exit code 3', 'unknown exit code')
    """
    if exitcode is None:
        return "unknown exit code"
    if exitcode < 0:
        try:
            return signal.Signals(-exitcode).name
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit code {exitcode}"
