"""An outcome as the tuple that it is."""

from __future__ import annotations

import pickle

from ordered_executor import Outcome


def test_an_outcome_is_a_tuple_of_three() -> None:
    """As it always was: to take apart, to compare, to pickle."""
    outcome = Outcome(3, "value", None)
    ticket, value, error = outcome
    assert (ticket, value, error) == tuple(outcome) == (3, "value", None)
    as_tuple: object = (3, "value", None)
    assert outcome == as_tuple
    assert repr(outcome) == "Outcome(ticket=3, value='value', error=None)"
    assert outcome._replace(value=4).value == 4
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert (outcome.seconds, outcome.waits, outcome.pid, outcome.worker, outcome.attempts) == (None,) * 5
    assert (outcome.function, outcome.args, outcome.kwargs) == (None, (), {})
