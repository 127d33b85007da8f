"""What an outcome says beside its ticket, value and error."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ordered_executor import OrderedProcessPoolExecutor, Outcome, TerminatedWorkerError, Waits
from tests.helpers import Journal, Valve, fail, getpid, note_and_die, same, settled, stand


def nap(seconds: float) -> float:
    """A task that takes so long."""
    threading.Event().wait(seconds)
    return seconds


def test_seconds_are_each_tasks_own_also_in_a_batch() -> None:
    """Short tasks travel together; the one that takes longer is the one that says so."""
    with OrderedProcessPoolExecutor(1) as executor:
        for _ in range(200):
            executor.submit(nap, 0)
        pid = executor.submit(getpid)
        for number in range(300):
            executor.submit(nap, 0.2 if number == 250 else 0.0)
        outcomes = list(executor.outcomes())
        assert [o.ticket for o in outcomes] == list(range(501))
        slow = outcomes[201 + 250]
        assert slow.seconds is not None
        assert 0.2 <= slow.seconds < 5.0
        others = [o.seconds for o in outcomes if o is not slow and o.seconds is not None]
        assert len(others) == 500
        assert sorted(others)[400] < 0.1
        assert all(seconds >= 0.0 for seconds in others)
        assert {o.worker for o in outcomes} == {0}
        assert {o.pid for o in outcomes} == {pid.result()}
        assert {o.attempts for o in outcomes} == {1}
        again = pickle.loads(pickle.dumps(slow))
        assert (again.seconds, again.waits) == (slow.seconds, slow.waits)


def test_large_results_have_times_too() -> None:
    """In lane memory or behind their frame."""
    with OrderedProcessPoolExecutor(1) as executor:
        for _ in range(20):
            executor.submit(np.zeros, 100_000)
        executor.submit(np.zeros, 40_000_000)  # more than there is room for
        outcomes = list(executor.outcomes())
        assert all(o.seconds is not None and 0.0 < o.seconds < 30.0 for o in outcomes)
        assert all(o.waits is not None and min(o.waits) >= 0.0 for o in outcomes)


def test_waits_say_what_was_waited_for(tmp_path: Path) -> None:
    """The head for its worker; those behind it for the head, or at the gate."""
    valve = Valve(tmp_path / "valve")
    with OrderedProcessPoolExecutor(2, window=2) as executor:
        try:
            executor.submit(stand, valve)
            valve.reached()
            executor.submit(same, 1)
            executor.submit(same, 2)
            settled(executor, early=1, gated=1)
            threading.Event().wait(0.2)
        finally:
            valve.open()
        head, early, gated = (o.waits for o in executor.outcomes())
        assert isinstance(head, Waits)
        assert early is not None
        assert gated is not None
        assert early.head >= 0.2 > early.gate
        assert gated.gate >= 0.2
        assert head.gate < 0.2
        assert head.head < 0.2


def test_a_failed_one_has_its_call() -> None:
    """The very objects that were submitted: a dead letter is one line, and doing it again is another."""
    argument = ["an object"]
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 1)
        executor.submit(fail, argument)
        executor.submit(fail, message="by name")
        executor.submit(fail, "lambda, which is not a plain argument", *[lambda: 0])
        good, *bad = executor.outcomes()
        assert (good.function, good.args, good.kwargs) == (None, (), {})
        assert [o.function for o in bad] == [fail] * 3
        assert bad[0].args[0] is argument
        assert (bad[1].args, bad[1].kwargs) == ((), {"message": "by name"})
        again = executor.submit(bad[1].function, *bad[1].args, **bad[1].kwargs)
        assert isinstance(again.exception(), ValueError)


def test_the_note_on_an_error_has_the_arguments() -> None:
    """Also in a map; also if the worker died."""
    with OrderedProcessPoolExecutor(1, unseen_errors="ignore") as executor:
        error = executor.submit(fail, message="boom").exception()
        assert error is not None
        assert error.__notes__[-1].startswith("ticket 0: tests.helpers.fail(message='boom'), worker pid ")
        mapped = executor.map(fail, ["first", "second"])
        for ticket, text in ((1, "first"), (2, "second")):
            with pytest.raises(ValueError, match=text) as caught:
                next(mapped)
            assert caught.value.__notes__[-1] == f"ticket {ticket}: tests.helpers.fail({text!r}), in a map"


def test_a_good_one_has_its_call_if_asked_for() -> None:
    """From then on."""
    with OrderedProcessPoolExecutor(1) as executor:
        outcomes = executor.outcomes(calls=True)
        argument = ["an object"]
        executor.submit(same, argument)
        assert next(outcomes).args[0] is argument
        with pytest.raises(TypeError, match="calls"):
            executor.outcomes(calls=1)  # type: ignore[arg-type]


def test_attempts_count_the_workers_that_died_of_it(tmp_path: Path) -> None:
    """And its call is known, though no worker has ever said what became of it."""
    journal = Journal(tmp_path / "journal")
    with OrderedProcessPoolExecutor(1, retries=2) as executor:
        executor.submit(note_and_die, journal, "x")
        (dead,) = executor.outcomes()
        assert isinstance(dead.error, TerminatedWorkerError)
        assert dead.attempts == 3
        assert dead.function is note_and_die
        assert dead.args[1] == "x"
        assert dead.seconds is None
    journal.close()


def test_what_a_dead_worker_had_finished_has_its_times(tmp_path: Path) -> None:
    """They lie beside the outcomes in its memory."""
    journal = Journal(tmp_path / "journal")
    with OrderedProcessPoolExecutor(1, unseen_errors="ignore") as executor:
        for _ in range(200):
            executor.submit(nap, 0)
        for number in range(40):
            executor.submit(note_and_die, journal, 1) if number == 30 else executor.submit(nap, 0)
        outcomes = list(executor.outcomes())
        dead = outcomes[230]
        assert isinstance(dead.error, TerminatedWorkerError)
        assert all(o.seconds is not None and o.seconds >= 0.0 for o in outcomes if o is not dead)
    journal.close()


def test_a_map_yields_outcomes() -> None:
    """Each call's, in order: with times, and with its arguments if it failed."""
    with OrderedProcessPoolExecutor(1) as executor:
        executor.submit(same, 0)
        mapped: Any = executor.map(_fail_at_three, range(5), ["a"] * 5, errors="outcome")
        assert len(mapped) == 5
        outcomes = list(mapped)
        assert [o.ticket for o in outcomes] == [1, 2, 3, 4, 5]
        assert [o.value for o in outcomes] == [0, 1, 2, None, 4]
        assert all(isinstance(o, Outcome) and o.seconds is not None and o.seconds >= 0.0 for o in outcomes)
        assert all(o.waits is not None and o.attempts == 1 and o.worker == 0 for o in outcomes)
        bad = outcomes[3]
        assert isinstance(bad.error, ValueError)
        assert bad.error.__notes__[-1] == f"ticket 4: {__name__}._fail_at_three(3, 'a'), in a map"
        assert (bad.function, bad.args, bad.kwargs) == (_fail_at_three, (3, "a"), {})
        assert outcomes[2].args == ()


def test_a_map_yields_outcomes_of_many_short_tasks_and_of_its_input() -> None:
    """Also where tasks are so short that maps do not record them; an error of the input has no ticket."""

    def inputs() -> Any:
        yield from range(3)
        raise OSError("the input")

    with OrderedProcessPoolExecutor(1) as executor:
        list(executor.map(same, range(20_000)))
        outcomes: Any = list(executor.map(same, range(2000), errors="outcome"))
        assert [o.value for o in outcomes] == list(range(2000))
        assert all(o.seconds is not None for o in outcomes)
        ended: Any = list(executor.map(same, inputs(), errors="outcome"))
        assert [o.value for o in ended] == [0, 1, 2, None]
        assert ended[-1].ticket == -1
        assert str(ended[-1].error) == "the input"


def test_outcomes_of_a_map_whose_worker_died(tmp_path: Path) -> None:
    """Its call is known."""
    journal = Journal(tmp_path / "journal")
    with OrderedProcessPoolExecutor(1, retries=1) as executor:
        (dead,) = (o for o in executor.map(note_and_die, [journal], [7], errors="outcome"))
        outcome: Any = dead
        assert isinstance(outcome.error, TerminatedWorkerError)
        assert outcome.attempts == 2
        assert outcome.args[1] == 7
    journal.close()


def _fail_at_three(number: int, _: str) -> int:
    if number == 3:
        fail("three")
    return number
