"""Notes: the facts about a record besides its output.

A record that went well has none, unless a job log asks for it.  Notes of a slot lie behind each other; one is complete
before the commit that counts its record.
"""

from __future__ import annotations

import marshal
from typing import NamedTuple

from .slots import NOTES, NOTES_BYTES, Slots

MOST_TEXT = 8 * 1024
NOTE_BYTES = 32 * 1024  # no note is longer: with less room than that, no record is begun
ROOM = NOTES_BYTES - NOTE_BYTES


class Note(NamedTuple):
    """A record's end.  Offsets are in the piece."""

    record: int  # its index in the piece
    begin: int  # of its bytes in the input
    size: int
    line: int  # lines before it
    out: int  # where its output ends, and what the program wrote to its error output begins
    err: int  # bytes of that
    error: str | None  # why it failed
    exit: int = 0
    signal: int = 0
    began: float = 0.0  # seconds of the epoch
    seconds: float = 0.0
    command: str = ""
    row: bool = False  # it belongs into the job log

    @property
    def failed(self) -> bool:
        return self.error is not None


def shorten(text: str) -> str:
    """So much of it that a note holds it."""
    return text if len(text) <= MOST_TEXT // 4 else text[: MOST_TEXT // 4 - 1] + "…"


def one_line(text: str) -> str:
    r"""Text with what would end its line written out.

    >>> one_line("two\nlines")
    'two\\nlines'
    """
    return (
        text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") if "\n" in text or "\r" in text else text
    )


def pack(note: Note) -> bytes:
    if len(note.command) > MOST_TEXT // 4 or (note.error is not None and len(note.error) > MOST_TEXT // 4):
        note = note._replace(error=note.error and shorten(note.error), command=shorten(note.command))
    packed = marshal.dumps(tuple(note))
    return len(packed).to_bytes(4, "little") + packed


def append(slots: Slots, slot: int, note: Note) -> None:
    """Put a note behind those that are there."""
    at, packed = slots.get(slot, NOTES), pack(note)
    slots.write_notes(slot, at, packed)
    slots.set(slot, NOTES, at + len(packed))


def read(slots: Slots, slot: int, begin: int, done: int) -> tuple[list[Note], int]:
    """The notes from there on that belong to records that have ended, and where they end."""
    end = slots.get(slot, NOTES)
    if end <= begin:
        return [], begin
    data, found, at = slots.read_notes(slot, begin, end), list[Note](), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        note = Note(*marshal.loads(data[at + 4 : at + 4 + size]))  # ours: the worker is a child of this process
        if note.record >= done:
            break
        found.append(note)
        at += 4 + size
    return found, begin + at
