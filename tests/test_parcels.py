"""Which arguments may share a pickle, and how what was fetched is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._parcels import Parcels, _cannot_change


@pytest.mark.parametrize("values", [[], [1, 2.0, True, None, "a", b"b"], [(1, "a"), ()], [1, (b"", None)]])
def test_what_nobody_can_change(values: list[Any]) -> None:
    """Numbers, strings, bytes, and tuples of these."""
    assert _cannot_change(values)


class Text(str):
    """A string with attributes, which can be changed."""

    __slots__ = ("attribute",)


@pytest.mark.parametrize("value", [[], {}, bytearray(), (1, []), ((1,),), Text(), object(), len])
def test_what_somebody_may_change(value: Any) -> None:
    """Everything else, also inside a tuple; tuples of tuples are not looked into."""
    assert not _cannot_change([1, value])
    assert not _cannot_change([value, (1,)])


class NoMemory:
    """Of a lane that is sent nothing."""


frames = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.booleans()), min_size=1, max_size=8)


@given(frames, st.data())
def test_every_byte_is_charged_once(frames: list[tuple[int, int, bool]], data: st.DataObject) -> None:
    """Outcomes are fetched before the frames come that bring them, of several frames too: in the end all is charged.

    Each frame: what a peek counts of it, what the frame counts besides, whether it is fetched before it comes.
    """
    parcels = Parcels(NoMemory())  # type: ignore[arg-type]
    parcels.owed = len(frames)
    charged, fetched = 0, 0
    for heard, (least, more, _) in enumerate(frames):
        fetched = max(fetched, heard)
        upto = data.draw(st.integers(fetched, len(frames)))
        for size, _, may in frames[fetched:upto]:
            if may:
                parcels.charged += size
                charged += size
        fetched = upto
        rest = parcels.told(1, least + more)
        assert rest >= 0
        charged += rest
    assert charged == sum(least + more for least, more, _ in frames)
    assert not parcels.busy
    assert not parcels.charged
