"""The task of the demo: the terms of one file.  It runs in workers, which load this module and no more."""

import errno
import re
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path

TERM = re.compile(r"[^\W\d_]{3,}")
CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Document:
    """What a task finds out about one file."""

    path: Path
    size: int
    words: int
    terms: tuple[str, ...]  # each once
    copy: bytes  # the text, compressed: to show what was found without the file


def read_document(path: Path) -> Document:
    """Find the terms of a text file, and compress it. Raises an OSError that names the file if it is not one."""
    if not path.is_file():  # a dangling link, or a pipe that would be waited for
        raise OSError(errno.ENOENT, "not a regular file", str(path))
    raw = path.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not UTF-8 text", str(path)) from None
    words = terms_of(text)
    return Document(path, len(raw), len(words), tuple(dict.fromkeys(words)), zlib.compress(raw, 9))


def terms_of(text: str) -> list[str]:
    """List the words of a text in one spelling; `readDocument` and `read_document` are two words each."""
    apart = CAMEL_CASE.sub(" ", unicodedata.normalize("NFKC", text))
    return TERM.findall(apart.casefold())
