"""A record with every feature that may be asked for: retries, notes for the job log, tags, results in files, programs.

This is the slow way; a plain function over lines does not come here (see `worker`).
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from .functions import Call
from .kept import keep
from .options import Work
from .programs import Ran, run_program, spool
from .records import Span, split_lines, to_bytes
from .templates import Template, quote


@dataclass
class Job:
    """A record that is run, and what came of it."""

    number: int
    value: Any
    raw: bytes
    span: Span
    began: float = 0.0
    seconds: float = 0.0
    command: str = ""
    ran: Ran = field(default_factory=Ran)


Runner = Callable[[Job], None]


def describe(error: BaseException) -> str:
    """An exception in a line: its type, and its message."""
    try:
        text = str(error)
    except Exception:
        text = "<no text: its __str__ raised>"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def function_runner(work: Work, call: Call, take_printed: Callable[[], bytes]) -> Runner:
    """Runs the function."""

    def run(job: Job) -> None:
        job.command = str(work.function)
        try:
            if isinstance(job.value, Exception):
                raise job.value
            out = call(job.value)
        except BaseException as error:
            out = b""
            job.ran.exit, job.ran.error = 1, describe(error)
        job.ran.out.write(take_printed() + out)

    return run


def program_runner(work: Work, worker: int, note: Callable[[int], object]) -> Runner:
    """Runs the program."""
    template = Template(work.program, append=not work.pipe, shell=work.shell)
    columns = work.form in {"csv", "tsv"}

    def run(job: Job) -> None:
        arguments = template.fill(_words(work, job), job.number, worker, columns)
        job.command = b" ".join(map(quote, arguments)).decode("utf-8", "surrogateescape")
        if work.dry_run:
            shown = arguments[2] if work.shell else to_bytes(job.command)
            job.ran.out.write(shown + b"\n")
            return
        if any(b"\0" in word for word in arguments):
            job.ran.exit, job.ran.error = (
                1,
                "ValueError: no argument of a program can hold a NUL byte; take --pipe, or -0",
            )
            return
        job.ran = run_program(arguments, job.raw if work.pipe else None, work.timeout, note)

    return run


def _words(work: Work, job: Job) -> list[bytes]:
    """What the replacement strings stand for."""
    if work.pipe:
        return []
    if work.form in {"csv", "tsv"} and not isinstance(job.value, Exception):
        return [to_bytes(column) for column in job.value]
    if work.lines is not None and work.lines > 1:
        return split_lines(job.raw, work.separator)
    return [job.raw.removesuffix(work.separator)]


def dry_runner(work: Work) -> Runner:
    """Says how the function would be called."""

    def run(job: Job) -> None:
        values = job.value if work.form in {"csv", "tsv"} and isinstance(job.value, list) else [job.value]
        job.ran.out.write(to_bytes(f"{work.function}({', '.join(map(repr, values))})\n"))

    return run


def finish(work: Work, job: Job, run: Runner) -> None:
    """Run it until it goes well, as often as it may; then tag its output and keep a copy."""
    for _ in range(work.retries + 1):
        job.began, start = time.time(), time.perf_counter()
        job.ran = Ran()
        run(job)
        job.seconds = time.perf_counter() - start
        if job.ran.error is None:
            break
    if work.tag:
        label = job.raw.removesuffix(work.separator) if work.block is None and not work.pipe else b"%d" % job.number
        job.ran.out, job.ran.err = _tagged(job.ran.out, label), _tagged(job.ran.err, label)
    if work.results is not None and not work.dry_run:
        keep(work.results, job.number, job.raw, job.ran.out, job.ran.err)


def _tagged(file: IO[bytes], label: bytes) -> IO[bytes]:
    """Each line with the record in front."""
    tagged = spool()
    file.seek(0)
    tagged.writelines(b"%b\t%b" % (label, line) for line in file)
    return tagged


class Printed(io.StringIO):
    """Stands for `sys.stdout` while a function runs: what it prints is its output, too."""

    def take(self) -> bytes:
        if not self.tell():
            return b""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return to_bytes(text)


def size_of(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)
