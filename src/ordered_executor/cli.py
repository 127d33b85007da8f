"""A function over lines, in parallel: `python -m ordered_executor MODULE:FUNCTION [FILE ...]`.

An example:

    $ cat access.log | python -m ordered_executor mylogs:parse > parsed.log

Calls the function with each line, without its newline, and prints what it returns, in the order of the lines; None
prints nothing.  The function is imported, so it lives in a module, for instance in a file of the current folder.

A line that fails is reported with its number on the error output, the others go on, and the exit status is 1.  Input of
any length runs in bounded memory, and results come out as soon as it is their turn.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from threading import Thread
from typing import Any

from ordered_executor import OrderedProcessPoolExecutor

BACKLOG = 10_000  # lines read and not yet printed


def find_function(name: str) -> Callable[[str], Any]:
    """Import what `module:function` names; the function may be part of something (`module:Class.method`)."""
    module, _, path = name.partition(":")
    if not module or not path:
        raise ValueError(f"{name!r} is not of the form MODULE:FUNCTION")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} cannot be called, it is of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def read_lines(files: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the files, one after the other, without their newlines; `-` is the standard input."""
    for name in files:
        # whatever bytes are in it, they come out again as they were
        with open(0 if name == "-" else name, errors="surrogateescape", newline="\n", closefd=name != "-") as file:
            for line in file:
                yield line.removesuffix("\n")


class InputError(Exception):
    """The input could not be read to its end."""


def submit_all(executor: OrderedProcessPoolExecutor, function: Callable[[str], Any], lines: Iterator[str]) -> None:
    """Submit a task for each line, as fast as they are read; then nothing more will come."""
    try:
        for line in lines:
            executor.submit(function, line)
    except RuntimeError:
        pass  # nobody reads any more, or no worker can be had, which shows in the results
    except OSError as error:
        executor.mark(InputError(error))  # it has its place, too: behind the lines before it
    finally:
        executor.shutdown(wait=False)


def print_all(executor: OrderedProcessPoolExecutor, *, stop: bool) -> bool:
    """Print the results in order and report failures; whether there were none."""
    good = True
    for ticket, value, error in executor.outcomes(follow=True):
        if isinstance(value, InputError):
            report(f"the input could not be read to its end: {value}")
        elif error is not None:
            report(f"line {ticket + 1}: {type(error).__name__}: {error}")
        else:
            if value is not None:
                print(value)
            continue
        good = False
        if stop:
            break
    return good


def report(problem: str) -> None:
    """Say what went wrong."""
    print(f"ordered_executor: {problem}", file=sys.stderr)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m ordered_executor",
        description=f"{summary.partition(':')[0]}.",
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("function", metavar="MODULE:FUNCTION", help="what is called with each line")
    add("files", metavar="FILE", nargs="*", default=["-"], help="default, and -: the standard input")
    add("--workers", type=int, metavar="N", help="how many processes (default: one per processor)")
    add("--timeout", type=float, metavar="SECONDS", help="a line that takes longer is stopped, and fails")
    add("--retries", type=int, default=0, metavar="N", help="how often a line is run again whose worker died")
    add("--stop", action="store_true", help="stop at the first line that fails")
    parsed = parser.parse_args(arguments)
    sys.path.insert(0, os.getcwd())  # as `python -m` does, and a script that pip has installed does not
    try:
        parsed.function = find_function(parsed.function)
        parsed.executor = OrderedProcessPoolExecutor(
            parsed.workers, backlog=BACKLOG, task_timeout=parsed.timeout, retries=parsed.retries
        )
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        parser.error(str(error))
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 1 if a line failed or nobody takes the output, 2 for a wrong call."""
    options = parse_arguments(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # what is read is printed (see read_lines), and printed as soon as it is there
        sys.stdout.reconfigure(errors="surrogateescape", line_buffering=True)
    with options.executor as executor:
        # It may wait for input that never comes: whoever is done earlier does not wait for it.
        Thread(target=submit_all, args=(executor, options.function, read_lines(options.files)), daemon=True).start()
        try:
            good = print_all(executor, stop=options.stop)
        except BrokenPipeError:  # as with `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter fails at its own flush
            good = False
        if not good:
            executor.shutdown(wait=False, cancel_futures=True)
    return 0 if good else 1
