"""Which arguments may share a pickle."""

from __future__ import annotations

from typing import Any

import pytest

from ordered_executor._processes.sent_batches import _cannot_change


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
