"""The task of the demo: the terms of one file.  It runs in workers, which load this module and no more."""

import errno
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TERM = re.compile(r"[^\W\d_]{3,}")
CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Document:
    """What a task finds out about one file."""

    path: Path
    size: int
    terms: dict[str, int]  # and how often each is there


def read_document(path: Path) -> Document:
    """Count the terms of a text file. Raises an OSError that names the file if it is not one."""
    if not path.is_file():  # a dangling link, or a pipe that would be waited for
        raise OSError(errno.ENOENT, "not a regular file", str(path))
    raw = path.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not UTF-8 text", str(path)) from None
    return Document(path, len(raw), dict(Counter(terms_of(text))))


def terms_of(text: str) -> list[str]:
    """List the words of a text in one spelling; `readDocument` and `read_document` are two words each."""
    apart = CAMEL_CASE.sub(" ", unicodedata.normalize("NFKC", text))
    return TERM.findall(apart.casefold())
