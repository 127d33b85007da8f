"""A real job from end to end: `python -m ordered_executor.demo [FOLDER]` indexes a folder of documents.

One task per file, a mark after each directory, and one reader that meets it all in the order of submission:

    main thread                        worker processes             reader thread
    -----------                        ----------------             -------------
    submit(read_document, a/x.txt) --> a/x.txt --.
    submit(read_document, a/y.txt) --> a/y.txt --+-- in order --->  merge the terms of a/x.txt
    mark(BatchDone(a, 2 files))    --------------+                  merge the terms of a/y.txt
    submit(read_document, b/z.txt) --> b/z.txt --'                  log "2 files in a" (b is at work already)
    ...                                                             merge the terms of b/z.txt ...

The task is in `_documents`: a worker loads that module, and nothing of this one.

Why the order matters: a document gets its number when it is merged, so every list of postings is sorted
without a sort, and `BatchDone` means what it says: nothing of its directory is still on the way. A serial run
of the same functions must give the same index, number for number; the demo ends by checking that.

A file that cannot be read raises in its worker. The error arrives at the file's place, is counted, and the
stream goes on.
"""

import argparse
import heapq
import os
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ordered_executor import OrderedProcessPoolExecutor, Statistics, trace
from ordered_executor._documents import Document, read_document

STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
NOT_DOCUMENTS = {"__pycache__", "dist-packages", "site-packages"}

Log = Callable[[str], None]
Arrival = tuple[object, BaseException | None]  # a value or an error, in the order of submission


@dataclass(frozen=True)
class Batch:
    """A directory and the files right in it: work for one batch of tasks."""

    directory: Path
    files: tuple[Path, ...]


@dataclass(frozen=True)
class BatchDone:
    """Follows the tasks of a directory through the stream, as a mark."""

    directory: Path
    files: int


@dataclass
class Index:
    """An inverted index: for each term the numbers of the documents that have it, in ascending order."""

    documents: list[Path] = field(default_factory=list)
    postings: dict[str, list[int]] = field(default_factory=dict)
    copies: list[bytes] = field(default_factory=list)
    size: int = 0
    words: int = 0
    unreadable: list[str] = field(default_factory=list)

    def add(self, document: Document) -> None:
        """Give the document the next number and enter its terms."""
        number = len(self.documents)
        self.documents.append(document.path)
        self.copies.append(document.copy)
        self.size += document.size
        self.words += document.words
        for term in document.terms:
            self.postings.setdefault(term, []).append(number)

    def frequent(self, most: int) -> list[tuple[str, int]]:
        """The terms that most documents have, and how many those are."""
        counts = ((term, len(numbers)) for term, numbers in self.postings.items())
        return heapq.nlargest(most, counts, key=lambda pair: pair[1])


# --- the two ends of the stream -------------------------------------------------------------------


def find_batches(folder: Path) -> Iterator[Batch]:
    """Walk the folder, in an order that is the same each time."""
    for directory, subdirectories, files in os.walk(folder):
        subdirectories[:] = sorted(set(subdirectories) - NOT_DOCUMENTS)
        if files:
            yield Batch(Path(directory), tuple(Path(directory, name) for name in sorted(files)))


def submit_batches(executor: OrderedProcessPoolExecutor, batches: Iterable[Batch]) -> None:
    """Submit one task per file, and a mark after each directory."""
    for batch in batches:
        for path in batch.files:
            executor.submit(read_document, path)
        executor.mark(BatchDone(batch.directory, len(batch.files)))


def merge(arrivals: Iterable[Arrival], batch_done: Callable[[BatchDone, Index], None]) -> Index:
    """Build the index from documents, errors and marks as they arrive."""
    index = Index()
    for value, error in arrivals:
        match value:
            case Document():
                index.add(value)
            case BatchDone():
                batch_done(value, index)
            case _:
                index.unreadable.append(str(error))
    return index


# --- the same work twice --------------------------------------------------------------------------


def index_in_parallel(
    batches: list[Batch],
    workers: int | None,
    window: int | None,
    log: Log,
    look: Callable[[OrderedProcessPoolExecutor], AbstractContextManager[Any]] = nullcontext,
) -> tuple[Index, Statistics]:
    """Index with worker processes; a thread reads and merges while this one still submits.

    `look` is given the executor while it works: a bar, or a trace.
    """
    with (
        ThreadPoolExecutor(1, "reader") as reader,
        OrderedProcessPoolExecutor(workers, window=window) as executor,
        look(executor),
    ):
        arrivals = ((outcome.value, outcome.error) for outcome in executor.outcomes(follow=True))
        merging = reader.submit(merge, arrivals, FolderLog(batches, log))
        submit_batches(executor, batches)
        executor.shutdown()  # waits for the tasks; then the stream ends, and with it the reader
        return merging.result(), executor.statistics()


def index_serially(batches: list[Batch]) -> Index:
    """Index in this process, one file after the other."""

    def arrivals() -> Iterator[Arrival]:
        for batch in batches:
            for path in batch.files:
                try:
                    yield read_document(path), None
                except OSError as error:
                    yield None, error

    return merge(arrivals(), lambda _done, _index: None)


# --- what is shown --------------------------------------------------------------------------------


class FolderLog:
    """Writes a line for each finished folder at the top, in order."""

    def __init__(self, batches: list[Batch], log: Log) -> None:
        self._top = os.path.commonpath([batch.directory for batch in batches]) if batches else ""
        self._left = Counter(self._folder(batch.directory) for batch in batches)
        self._log = log
        self._files = 0
        self._skipped = 0  # up to the line before
        if batches:
            log("   files  skipped      terms  finished folder")

    def __call__(self, done: BatchDone, index: Index) -> None:
        """Write the line, if this was the last directory of its folder."""
        folder = self._folder(done.directory)
        self._left[folder] -= 1
        self._files += done.files
        if self._left[folder]:
            return
        skipped = len(index.unreadable)
        self._log(f"{self._files:8,} {skipped - self._skipped:8,} {len(index.postings):10,}  {folder}")
        self._files, self._skipped = 0, skipped

    def _folder(self, directory: Path) -> str:
        return next(iter(directory.relative_to(self._top).parts), ".")


class Looker:
    """What is beside the work while it runs: a bar on the terminal, if tqdm is there, and a trace."""

    def __init__(self, total: int, trace_file: Path | None, bar: bool) -> None:
        self._total = total
        self._trace_file = trace_file
        self._wants_bar = bar
        self._bar: Any = None

    @contextmanager
    def __call__(self, executor: OrderedProcessPoolExecutor) -> Iterator[None]:
        """As long as the block runs."""
        with ExitStack() as stack:
            if self._trace_file is not None:
                stack.enter_context(trace(executor, self._trace_file))
            if self._wants_bar and (progress := find_progress()) is not None:
                self._bar = stack.enter_context(progress(executor, self._total, disable=None, unit="file", leave=False))
            yield
        self._bar = None

    def log(self, line: str) -> None:
        """Print a line; the bar goes on below it."""
        bar = self._bar
        if bar is None or bar.disable:
            printed(line)
        else:
            bar.write(printable(line), file=sys.stdout)


def find_progress() -> Any:
    """The bar, if the extra `[progress]` is installed."""
    try:
        from ordered_executor.progress import progress  # noqa: PLC0415 (an extra)
    except ImportError:
        return None
    return progress


def summary(index: Index, statistics: Statistics, seconds: float, serial_seconds: float) -> str:
    """Say in a few lines what was done."""
    faster = serial_seconds / seconds
    frequent = ", ".join(f"{term} {count:,}" for term, count in index.frequent(8))
    return "\n".join(
        [
            f"files     {len(index.documents):,} indexed, {len(index.unreadable):,} unreadable and skipped",
            f"terms     {len(index.postings):,} different, {index.words:,} in all",
            f"bytes     {index.size:,}, {sum(map(len, index.copies)):,} compressed",
            f"seconds   {seconds:.2f} in parallel, {serial_seconds:.2f} serially: {faster:.1f} times as fast",
            f"early     at most {statistics.peak_early} outcomes waited in the parent for their turn",
            f"frequent  {frequent} documents",
        ]
    )


def printable(line: str) -> str:
    """A line that can be printed, whatever is in the names of files."""
    return line.encode(errors="backslashreplace").decode()


def printed(line: str) -> None:
    """Print a line."""
    print(printable(line), flush=True)


def at_least_one(text: str) -> int:
    """Read a number of workers or tickets."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more: {number}")
    return number


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m ordered_executor.demo", description="Index a folder.")
    add = parser.add_argument
    add("folder", nargs="?", type=Path, default=STANDARD_LIBRARY, help="default: Python's standard library")
    add("--workers", type=at_least_one, help="how many processes (default: one per processor)")
    add("--window", type=at_least_one, help="how far ahead of its turn an outcome may come home")
    add("--quiet", action="store_true", help="print the summary only")
    add("--skipped", action="store_true", help="list the files that were skipped, with the reasons")
    add("--trace", type=Path, metavar="FILE", help="write what ran where and when; Perfetto opens it")
    parsed = parser.parse_args(arguments)
    if not parsed.folder.is_dir():
        parser.error(f"not a folder: {parsed.folder}")
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """Index a folder twice, compare, print; the exit status is 1 if the two indexes differ."""
    options = parse_arguments(arguments)
    batches = list(find_batches(options.folder))
    tickets = sum(len(batch.files) + 1 for batch in batches)
    looker = Looker(tickets, options.trace, bar=not options.quiet)
    log: Log = (lambda _line: None) if options.quiet else looker.log

    started = time.perf_counter()
    try:
        index, statistics = index_in_parallel(batches, options.workers, options.window, log, looker)
    except OSError as error:
        printed(f"the trace cannot be written: {error}")
        return 2
    serial_started = time.perf_counter()
    serial = index_serially(batches)
    seconds, serial_seconds = serial_started - started, time.perf_counter() - serial_started

    log("")
    for reason in index.unreadable if options.skipped else ():
        printed(f"skipped   {reason}")
    printed(f"folder    {options.folder}")
    printed(summary(index, statistics, seconds, serial_seconds))
    same = index == serial
    printed(f"check     {'the same index as' if same else 'FAILED: not the index of'} the serial run")
    return 0 if same else 1


if __name__ == "__main__":
    # Go on in the importable copy of this module: there the workers find the task by its name.
    from ordered_executor.demo import main as main_by_name

    sys.exit(main_by_name())
