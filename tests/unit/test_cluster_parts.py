"""What Dask and Ray have in common, without either: parts, shared buffers, and what runs on a worker."""

from __future__ import annotations

import pickle
import threading
from typing import Any
from unittest import mock

import pytest

from ordered_executor import Future
from ordered_executor._base.tasks import Batch, Options
from ordered_executor._clusters.parts import SHARE_BYTES, Parcel, Part, Slot, send_references
from ordered_executor._clusters.store import Common, Store
from ordered_executor._clusters.task import Carried, Packed, come_home, run_and_tell, run_part
from ordered_executor._core.batches import FutureBatch
from ordered_executor._pickling.outcomes import unpack
from ordered_executor._pickling.picklers import Large


class Reference:
    """Names something on a cluster."""

    def __init__(self, name: str) -> None:
        self.name = name


send_references(Reference)


def batch(*calls: tuple[Any, ...], extras: dict[int, Any] | None = None) -> Batch:
    """A batch of futures with these calls."""
    futures = []
    for index, (fn, *args) in enumerate(calls):
        options = Options(extra=(extras or {}).get(index))
        future: Future[Any] = Future(mock.Mock(), (fn, tuple(args), {}), options)
        future.first = index
        futures.append(future)
    return FutureBatch(0, 0, len(futures), futures=futures)


def values(part: Part, *of_references: Any) -> list[Any]:
    """What its tasks return, there and back."""
    cargo = pickle.loads(pickle.dumps(part.cargo(), 5))
    home = pickle.loads(pickle.dumps(run_part(cargo, 0, *of_references), 5))
    return [unpack(come_home(outcome), lambda: "")[0] for outcome in home.outcomes]


def test_references_are_replaced_wherever_they_are() -> None:
    """And a ticket that has some is a part of its own, as it waits for them."""
    two = Reference("two")
    parcel = Parcel(batch((abs, -1), (abs, -2), (sum, [two, 3]), (abs, -4), (max, {two: 1}, {"key": two})), mock.Mock())
    assert list(parcel.runs()) == [(0, 2), (2, 1), (3, 1), (4, 1)]
    parts = [Part(parcel, Slot(0), *run) for run in parcel.runs()]
    assert [reference.name for reference in parts[1].needs] == ["two"]
    assert values(parts[0]) == [1, 2]
    assert values(parts[1], 2) == [5]
    assert pickle.loads(pickle.dumps(two)).name == "two", "elsewhere it is pickled as ever"


def test_what_is_to_be_treated_differently_is_a_part_of_its_own() -> None:
    """Consecutive tickets with the same options travel together."""
    parcel = Parcel(batch(*[(abs, -n) for n in range(5)], extras={1: {"a": 1}, 2: {"a": 1}, 4: {"b": 1}}), mock.Mock())
    assert list(parcel.runs()) == [(0, 1), (1, 2), (3, 1), (4, 1)]


def test_a_large_buffer_is_shared_from_the_second_time_on() -> None:
    """If it is the same byte for byte; what is smaller is not looked at."""
    store, one = Store(), bytearray(SHARE_BYTES)
    assert type(store.share(one)) is Carried
    common = store.share(one)
    assert type(common) is Common
    assert store.share(bytes(one)) is common
    one[5] = 1
    assert type(store.share(one)) is Carried
    assert type(store.share(bytes(10))) is type(store.share(bytes(10))) is Carried
    assert common.carried.buffer == bytes(SHARE_BYTES), "a copy: the user's may change"


def test_shared_buffers_are_found_where_they_lie() -> None:
    """A call refers to them by their place; what does not lie there is sent along; each task has a copy."""
    np = pytest.importorskip("numpy")
    store, array = Store(), np.zeros(SHARE_BYTES // 8)
    store.share(array.data)
    parcel = Parcel(batch((len, array), (np.sum, array)), store.share)
    part = Part(parcel, Slot(0), 0, 2)
    (common,) = part.shared()
    assert values(part) == [len(array), 0.0]
    size, home = run_and_tell(part.cargo(None, [common]), 1, common.carried)
    assert size == home.size > 0
    assert [unpack(come_home(outcome), lambda: "")[0] for outcome in home.outcomes] == [len(array), 0.0]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_buffers_survive_every_protocol(protocol: int) -> None:
    """Beside the pickle where it can be (5), inside where not."""
    beside: list[Any] = []
    packed = pickle.dumps(
        Carried(bytearray(b"x" * 100)), protocol, buffer_callback=beside.append if protocol == 5 else None
    )
    assert bytes(pickle.loads(packed, buffers=beside).buffer) == b"x" * 100
    assert len(beside) == (protocol == 5)


def test_what_comes_home_can_be_written_to() -> None:
    """And does not keep the memory of what came with it."""
    whole = memoryview(bytearray(1000))
    alone, part, fixed = Carried(whole), Carried(whole[:10]), Carried(bytes(10))
    found = come_home(Packed(b"v", [alone, part, fixed]))
    assert type(found) is Large
    assert all(not memoryview(buffer).readonly for buffer in found.buffers)
    assert type(found.buffers[0]) is memoryview
    assert type(found.buffers[1]) is type(found.buffers[2]) is bytearray


def test_a_bad_call_costs_itself() -> None:
    """What cannot be packed keeps its place; what cannot be loaded or raises, too."""
    made = batch((abs, -1), (id, threading.Lock()), (abs, "x"))
    part = Part(Parcel(made, mock.Mock()), Slot(0), 0, 3)
    assert list(made.failed) == [1]
    home = run_part(part.cargo())
    assert home.outcomes[:2] == [1, None]
    assert isinstance(unpack(home.outcomes[2], lambda: "")[1], TypeError)
