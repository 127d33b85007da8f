"""A piece, and the board on which all pieces stand in the order of the input.

Invariants: a piece is finished, waits, or runs; no two have the same slot; laid behind each other, in the order of
their keys, they are the input from the first record on whose output is not written.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .notes import ROOM
from .slots import COMMIT, NOTES, PROGRAM, STATE, WAITING, WORKER, Slots, unpack_commit


@dataclass(eq=False)
class Piece:
    """A run of records in a slot.  `begin` and `end` are offsets in the slot's input."""

    key: tuple[int, int]  # which block of the input, and the first record in that
    slot: int
    name: str
    line: int
    number: int  # of the first record, from 1 on
    begin: int
    end: int
    records: int
    task: Any = None  # what runs it; None: it waits
    finished: bool = False
    full: bool = False  # it was given back because its slot is full: its output must be written first
    written: int = 0  # of its output
    noted: int = 0  # of its notes
    counted: int = 0  # of its records, as ended
    tries: int = 0  # of the record that it is at
    seen: tuple[int, float] = (-1, 0.0)  # at which record it is, and since when that is known: for the time limit
    late: int = -1  # the record that takes too long, and whose worker is being killed
    sent_done: int = 0  # records that had ended when it was sent
    sent_out: int = 0  # and their output

    def prepare(self, slots: Slots) -> None:
        """The words of a slot that is used anew."""
        for word in (COMMIT, NOTES, PROGRAM, WORKER):
            slots.set(self.slot, word, 0)
        slots.set(self.slot, STATE, WAITING)

    def progress(self, slots: Slots) -> tuple[int, int]:
        """Records that have ended, and the length of their output."""
        return unpack_commit(slots.get(self.slot, COMMIT))


class Board:
    """All pieces whose output is not written to its end."""

    def __init__(self, slots: int) -> None:
        self.order: list[Piece] = []
        self.free = list(range(slots - 1, -1, -1))  # the lowest are used first, and again
        self.waiting: list[Piece] = []
        self.running: dict[Any, Piece] = {}

    def __iter__(self) -> Iterator[Piece]:
        return iter(self.order)

    @property
    def head(self) -> Piece | None:
        return self.order[0] if self.order else None

    def take_slot(self) -> int:
        return self.free.pop()

    def give_slot(self, slot: int) -> None:
        insort(self.free, slot, key=lambda one: -one)

    def add(self, piece: Piece) -> None:
        """A piece that waits to be sent."""
        insort(self.order, piece, key=_key)
        self.wait(piece)

    def wait(self, piece: Piece) -> None:
        insort(self.waiting, piece, key=_key)

    def next_waiting(self) -> Piece | None:
        """The first that can be sent."""
        return next((piece for piece in self.waiting if not piece.full), None)

    def send(self, piece: Piece, task: Any, done: int, out: int) -> None:
        """A worker will have it, at that point."""
        self.waiting.remove(piece)
        piece.task, piece.seen, piece.late = task, (-1, 0.0), -1
        piece.sent_done, piece.sent_out = done, out
        self.running[task] = piece

    def sort(self) -> None:
        """Keys have changed."""
        self.order.sort(key=_key)
        self.waiting.sort(key=_key)

    def returned(self, piece: Piece, slots: Slots, finished: bool) -> None:
        """No worker has it any more: it is finished, or waits with its rest."""
        del self.running[piece.task]
        piece.task, piece.finished = None, finished
        if not finished:
            piece.full = piece.progress(slots)[1] >= slots.area or slots.get(piece.slot, NOTES) > ROOM
            self.wait(piece)

    def remove_head(self) -> Piece:
        """All of it is written."""
        piece = self.order.pop(0)
        assert piece.finished
        assert piece.task is None
        self.give_slot(piece.slot)
        return piece


def _key(piece: Piece) -> tuple[int, int]:
    return piece.key
