"""Alarms: whoever is due is found, in time, without a walk over all."""

from __future__ import annotations

import weakref

from hypothesis import given
from hypothesis import strategies as st

from ordered_executor._processes.alarms import NEVER, Alarms


class Sleeper:
    """Something that is due some time."""

    def __init__(self, at: float = NEVER) -> None:
        self.at = at
        self.alarm = NEVER
        self.asked = 0

    def due(self) -> float:
        """When."""
        self.asked += 1
        return self.at


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9) | st.just(NEVER), st.booleans()), max_size=60))
def test_the_next_is_the_earliest(steps: list[tuple[int, float, bool]]) -> None:
    """Whatever was touched, put off or brought forward: the next look is that of whoever is due first."""
    alarms, sleepers = Alarms(), [Sleeper() for _ in range(5)]
    for which, at, later_untold in steps:
        sleeper = sleepers[which]
        if later_untold:
            sleeper.at = max(sleeper.at, at)  # nobody need be told
        else:
            sleeper.at = at
            alarms.touch(sleeper)
        assert alarms.next() == min(each.at for each in sleepers)


def test_those_who_are_due_are_asked_again() -> None:
    """Who was looked at says anew when it is due; the others are left alone."""
    alarms, soon, late = Alarms(), Sleeper(1.0), Sleeper(5.0)
    alarms.touch(soon)
    alarms.touch(late)
    assert alarms.take(0.5) == []
    assert alarms.take(1.0) == [soon]
    assert alarms.next() == 1.0, "it has not said otherwise"
    soon.at = 9.0
    assert alarms.next() == 5.0
    assert sorted(each.at for each in alarms.take(9.0) if isinstance(each, Sleeper)) == [5.0, 9.0]


def test_who_is_gone_is_not_waited_for() -> None:
    """One that is forgotten is never due, whoever still touches it; it may come again, here or elsewhere."""
    alarms, sleeper = Alarms(), Sleeper(1.0)
    alarms.touch(sleeper)
    assert alarms.next() == 1.0
    alarms.forget(sleeper)
    assert alarms.next() == NEVER
    alarms.touch(sleeper)
    alarms.forget(sleeper)
    assert alarms.next() == NEVER
    alarms.touch(sleeper)
    assert alarms.next() == NEVER
    alarms.add(sleeper)
    assert alarms.next() == 1.0


def test_who_is_gone_is_let_go() -> None:
    """One that is forgotten is not kept until it would have been due, behind others or in front."""
    for at in (1.0, 1e9):
        alarms, other, sleeper = Alarms(), Sleeper(100.0), Sleeper(at)
        for each in (other, sleeper):
            alarms.touch(each)
        alarms.next()
        gone = weakref.ref(sleeper)
        alarms.forget(sleeper)
        alarms.touch(sleeper)
        del sleeper, each
        assert gone() is None
        assert alarms.next() == 100.0


def test_the_silent_are_not_asked() -> None:
    """A thousand who are due later cost nothing while one is touched again and again."""
    alarms, crowd, busy = Alarms(), [Sleeper(100.0 + n) for n in range(1000)], Sleeper(1.0)
    for each in crowd:
        alarms.touch(each)
    alarms.next()
    before = sum(each.asked for each in crowd)
    for turn in range(50):
        busy.at = 1.0 + turn
        alarms.touch(busy)
        assert alarms.next() == busy.at
    assert sum(each.asked for each in crowd) <= before + 50
