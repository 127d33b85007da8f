"""Warm buffers: copies that are the user's, in memory that is used again and never grows past what was in use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._pickling import buffer_pool
from ordered_executor._pickling.buffer_pool import LEAST_BYTES, BufferPool

SIZE = 2 * LEAST_BYTES


class Ledger:
    """In the place of `mmap`: counts what is mapped."""

    MAP_PRIVATE = MAP_ANONYMOUS = 0

    def __init__(self) -> None:
        self.made = 0
        self.mapped = 0

    def mmap(self, _: int, size: int, **__: object) -> Mapped:
        """Map so many bytes."""
        self.made += 1
        self.mapped += size
        return Mapped(size, self)


class Mapped(bytearray):
    """Memory that tells when it goes."""

    def __init__(self, size: int, ledger: Ledger) -> None:
        super().__init__(size)
        self.ledger = ledger

    def __del__(self) -> None:
        self.ledger.mapped -= len(self)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """What the buffers map."""
    made = Ledger()
    monkeypatch.setattr(buffer_pool, "mmap", made)
    yield made
    assert made.mapped == 0, "buffers outlive those who use them"


def source(size: int) -> memoryview:
    """Something to be copied."""
    return memoryview(bytes(range(256)) * (size // 256))


@pytest.mark.parametrize("size", [0, 256, LEAST_BYTES - 256, LEAST_BYTES, SIZE + 256])
def test_a_copy_is_writable_and_its_own(size: int) -> None:
    """Of any size: equal to its source, and nobody else sees what is written to it."""
    warm = BufferPool()
    warm.hold(warm)
    copies = [warm.copy(source(size)) for _ in range(3)]
    assert all(bytes(copy) == bytes(source(size)) for copy in copies)
    if size:
        copies[0][0] = 99
        assert copies[1][0] == 0


def test_what_was_let_go_is_used_again(ledger: Ledger) -> None:
    """One buffer does for any number of copies that follow each other; a view of a copy keeps it from that."""
    warm = BufferPool()
    warm.hold(warm)
    for _ in range(10):
        warm.copy(source(SIZE))
    assert ledger.made == 1
    view = memoryview(warm.copy(source(SIZE)))[5:7]
    warm.copy(source(SIZE))
    assert ledger.made == 2
    assert bytes(view) == b"\x05\x06"
    warm.let_go(warm)
    del view


def test_nothing_is_kept_when_nobody_uses_them(ledger: Ledger) -> None:
    """With the last user goes what is kept, and what ends later is not kept."""
    warm, first, second = BufferPool(), object(), object()
    warm.hold(first)
    warm.hold(second)
    late = warm.copy(source(SIZE))
    warm.copy(source(SIZE))
    warm.let_go(first)
    assert ledger.mapped == 2 * SIZE
    warm.let_go(second)
    assert ledger.mapped == SIZE
    del late
    assert ledger.mapped == 0


def test_no_more_is_kept_than_the_most(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are let go of at once."""
    monkeypatch.setattr(buffer_pool, "KEPT_BYTES", 3 * SIZE)
    warm = BufferPool()
    warm.hold(warm)
    many = [warm.copy(source(SIZE)) for _ in range(10)]
    del many
    assert ledger.mapped == 3 * SIZE
    warm.let_go(warm)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=40))
def test_no_more_is_mapped_than_was_in_use_at_once(steps: list[tuple[int, bool]]) -> None:
    """Copies of any sizes come and go: kept memory is never on top of the most that was in use."""
    with pytest.MonkeyPatch.context() as patch:
        ledger = Ledger()
        patch.setattr(buffer_pool, "mmap", ledger)
        warm = BufferPool()
        warm.hold(warm)
        alive: list[object] = []
        in_use: list[int] = []
        most = 0
        for steps_of_size, lets_go in steps:
            if lets_go and alive:
                del alive[-1], in_use[-1]
            else:
                size = LEAST_BYTES + steps_of_size * 64 * 1024
                alive.append(warm.copy(source(size)))
                in_use.append(size)
            most = max(most, sum(in_use))
            assert ledger.mapped <= most
        warm.let_go(warm)
