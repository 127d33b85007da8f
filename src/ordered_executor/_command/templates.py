"""Replacement strings in a program's arguments, as GNU parallel has them.

    {} the record   {.} without its extension   {/} its file name   {//} its folder   {/.} file name without extension
    {#} the number of the record   {%} the number of the worker   {1} {2.} {3/} … the same for columns (--csv, --tsv)

All on bytes: a file name need not be text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

_MARK = re.compile(rb"\{(?:(\d+)?(\.|//|/\.|/)?|([#%]))\}")
_EXTENSION = re.compile(rb"\.[^/.]+\Z")


def without_extension(path: bytes) -> bytes:
    """The path up to the last dot of its last part.

    >>> without_extension(b"a.b/c.tar.gz"), without_extension(b"a.b/c")
    (b'a.b/c.tar', b'a.b/c')
    """
    return _EXTENSION.sub(b"", path)


def file_name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def folder(path: bytes) -> bytes:
    """The folder, in the manner of `dirname`.

    >>> folder(b"a/b/c"), folder(b"c"), folder(b"/c"), folder(b"a/b//")
    (b'a/b', b'.', b'/', b'a')
    """
    head, slash, _ = (path.rstrip(b"/") or path[:1]).rpartition(b"/")
    return head.rstrip(b"/") or (b"/" if slash else b".")


_EDITS: dict[bytes, Callable[[bytes], bytes]] = {
    b"": lambda path: path,
    b".": without_extension,
    b"/": file_name,
    b"//": folder,
    b"/.": lambda path: without_extension(file_name(path)),
}


def quote(word: bytes) -> bytes:
    """For a shell."""
    return shlex.quote(word.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


class Template:
    """A program's arguments, to be filled in."""

    def __init__(self, arguments: Sequence[bytes], *, append: bool, shell: bool) -> None:
        """`append`: without a mark, the record becomes the last argument.  `shell`: the arguments are a script."""
        words = list(arguments)
        if append and not any(_MARK.search(word) for word in words):
            words.append(b"{}")
        self._words = [b" ".join(words)] if shell else words
        self._shell = shell

    def fill(self, values: Sequence[bytes], number: int, worker: int, columns: bool = False) -> list[bytes]:
        """The arguments for a record of these values.

        Several values where there are no columns (--lines): an argument that is `{}` becomes one for each.
        """
        edit = quote if self._shell else _EDITS[b""]
        joined = [b" ".join(values) if not columns else b"\t".join(values)]

        def fill_mark(match: re.Match[bytes]) -> bytes:
            column, path, other = match.groups()
            if other:
                return b"%d" % (number if other == b"#" else worker)
            if column:
                if not 1 <= int(column) <= len(values):
                    return b"" if columns else match[0]
                chosen = [values[int(column) - 1]]
            else:
                chosen = list(values) if not columns else joined
            return b" ".join(edit(_EDITS[path or b""](value)) for value in chosen)

        filled = list[bytes]()
        for word in self._words:
            if word == b"{}" and len(values) > 1 and not columns and not self._shell:
                filled.extend(values)
            else:
                filled.append(_MARK.sub(fill_mark, word))
        return [b"/bin/sh", b"-c", *filled] if self._shell else filled
