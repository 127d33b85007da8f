"""A real job from end to end: `python -m ordered_executor.demo [FOLDER]` indexes a folder of documents.

One task per file, a mark after each directory, and one reader that meets it all in the order of submission:

    main thread                        worker processes             reader thread
    -----------                        ----------------             -------------
    submit(read_document, a/x.txt) --> a/x.txt --.
    submit(read_document, a/y.txt) --> a/y.txt --+-- in order --->  merge the terms of a/x.txt
    mark(BatchDone(a, 2 files))    --------------+                  merge the terms of a/y.txt
    submit(read_document, b/z.txt) --> b/z.txt --'                  log "2 files in a" (b is at work already)
    ...                                                             merge the terms of b/z.txt ...

Why the order matters: a document gets its number when it is merged, so every list of postings is sorted
without a sort, and `BatchDone` means what it says: nothing of its directory is still on the way. A serial run
of the same functions must give the same index, number for number; the demo ends by checking that.

A file that cannot be read raises in its worker. The error arrives at the file's place, is reported, and the
stream goes on.
"""

import argparse
import errno
import os
import re
import sys
import sysconfig
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ordered_executor import OrderedProcessPoolExecutor, Statistics

TERM = re.compile(r"[^\W\d_]{3,}")
CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
NOT_DOCUMENTS = {"__pycache__", "dist-packages", "site-packages"}
REPORTED_PER_DIRECTORY = 3  # more than a few unreadable files in one directory say nothing new

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


@dataclass(frozen=True)
class Document:
    """What a task finds out about one file."""

    path: Path
    size: int
    terms: Counter[str]


@dataclass
class Index:
    """An inverted index: for each term the numbers of the documents that have it, in ascending order."""

    documents: list[Path] = field(default_factory=list)
    postings: dict[str, list[int]] = field(default_factory=dict)
    frequency: Counter[str] = field(default_factory=Counter)
    size: int = 0
    unreadable: list[str] = field(default_factory=list)

    def add(self, document: Document) -> None:
        """Give the document the next number and enter its terms."""
        number = len(self.documents)
        self.documents.append(document.path)
        self.size += document.size
        self.frequency.update(document.terms)
        for term in document.terms:
            self.postings.setdefault(term, []).append(number)


# --- the task: runs in a worker -------------------------------------------------------------------


def read_document(path: Path) -> Document:
    """Count the terms of a text file. Raises an OSError that names the file if it is not one."""
    if not path.is_file():  # a dangling link, or a pipe that would be waited for
        raise OSError(errno.ENOENT, "not a regular file", str(path))
    raw = path.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not UTF-8 text", str(path)) from None
    return Document(path, len(raw), Counter(terms_of(text)))


def terms_of(text: str) -> list[str]:
    """List the words of a text in one spelling; `readDocument` and `read_document` are two words each."""
    apart = CAMEL_CASE.sub(" ", unicodedata.normalize("NFKC", text))
    return TERM.findall(apart.casefold())


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
    batches: list[Batch], workers: int | None, window: int | None, log: Log
) -> tuple[Index, Statistics]:
    """Index with worker processes; a thread reads and merges while this one still submits."""
    with (
        ThreadPoolExecutor(1, "reader") as reader,
        OrderedProcessPoolExecutor(workers, window=window) as executor,
    ):
        arrivals = ((outcome.value, outcome.error) for outcome in executor.outcomes(follow=True))
        merging = reader.submit(merge, arrivals, BatchLog(executor, log))
        submit_batches(executor, batches)
    # Leaving `with` waits for the tasks first; then the stream ends, and with it the reader.
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


class BatchLog:
    """Writes a line for each finished directory, in order, and how much is submitted behind it by then."""

    def __init__(self, executor: OrderedProcessPoolExecutor, log: Log) -> None:
        self._executor = executor
        self._log = log
        self._reported = 0
        log("   files      terms  in flight  finished directory")

    def __call__(self, done: BatchDone, index: Index) -> None:
        """Write the line, and what was unreadable in the directory."""
        terms, in_flight = len(index.postings), self._executor.statistics().in_flight
        self._log(f"{done.files:8,} {terms:10,} {in_flight:10,}  {done.directory}")
        unreadable = index.unreadable[self._reported :]
        self._reported = len(index.unreadable)
        for reason in unreadable[:REPORTED_PER_DIRECTORY]:
            self._log(f"{'':30} skipped: {reason}")
        if (more := len(unreadable) - REPORTED_PER_DIRECTORY) > 0:
            self._log(f"{'':30} skipped: {more} more")


def summary(index: Index, statistics: Statistics, seconds: float, serial_seconds: float) -> str:
    """Say in a few lines what was done."""
    frequent = ", ".join(f"{term} {count:,}" for term, count in index.frequency.most_common(8))
    return "\n".join(
        [
            f"files     {len(index.documents):,} indexed, {len(index.unreadable):,} unreadable and skipped",
            f"terms     {len(index.postings):,} different, {index.frequency.total():,} in all",
            f"bytes     {index.size:,}",
            f"seconds   {seconds:.2f} in parallel, {serial_seconds:.2f} serially",
            f"early     at most {statistics.peak_early} outcomes waited in the parent for their turn",
            f"frequent  {frequent}",
        ]
    )


def printed(line: str) -> None:
    """Print a line, whatever is in the names of files."""
    print(line.encode(errors="backslashreplace").decode(), flush=True)


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
    parsed = parser.parse_args(arguments)
    if not parsed.folder.is_dir():
        parser.error(f"not a folder: {parsed.folder}")
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """Index a folder twice, compare, print; the exit status is 1 if the two indexes differ."""
    options = parse_arguments(arguments)
    batches = list(find_batches(options.folder))
    log: Log = (lambda _line: None) if options.quiet else printed

    started = time.perf_counter()
    index, statistics = index_in_parallel(batches, options.workers, options.window, log)
    serial_started = time.perf_counter()
    serial = index_serially(batches)
    seconds, serial_seconds = serial_started - started, time.perf_counter() - serial_started

    log("")
    printed(f"folder    {options.folder}")
    printed(summary(index, statistics, seconds, serial_seconds))
    same = index == serial
    printed(f"check     {'the same index as' if same else 'FAILED: not the index of'} the serial run")
    return 0 if same else 1


if __name__ == "__main__":
    # Go on in the importable copy of this module: there the workers find the task by its name.
    from ordered_executor.demo import main as main_by_name

    sys.exit(main_by_name())
