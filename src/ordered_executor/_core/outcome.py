"""`Outcome`: how one ticket ended, and what is known about its run."""

from __future__ import annotations

from typing import Any, NamedTuple

from ordered_executor._base.tasks import Run
from ordered_executor._pickling.texts import as_call


class Waits(NamedTuple):
    """The seconds that a ticket waited at each place on its way.

    `worker`: from submission until a worker began it.  `gate`: its outcome was in the worker and waited at the gate, or
    for other tasks of its batch.  `head`: its outcome was home and waited until all tickets before it were released.
    """

    worker: float
    gate: float
    head: float


class About(NamedTuple):
    """The facts about a ticket beside its outcome."""

    claimed_at: float
    run: Run | None
    attempts: int
    call: Any  # as a future keeps it


class Raw(NamedTuple):
    """An outcome of a map as it came home, with the facts about it, for a reader that wants an `Outcome`."""

    ticket: int
    came: Any
    claimed_at: float
    run: Run | None
    attempts: int

    def about(self, call: Any) -> About:
        """Return the facts for the outcome.  `call` is in the form in which a future keeps it."""
        return About(self.claimed_at, self.run, self.attempts, call)


class _Triple(NamedTuple):
    ticket: int
    value: Any
    error: BaseException | None


class Outcome(_Triple):
    """The end of one ticket, as `outcomes()` yields it: a tuple of `ticket`, `value` and `error`.

    `error` is `None` if the task went well.  The attributes `seconds`, `waits`, `pid`, `worker` and `attempts` say how
    it ran.  If it failed, `function`, `args` and `kwargs` are the call, so that you can write it down or repeat it.
    They are there for a task that went well, too, if you called `outcomes(calls=True)` before it was finished.

    An attribute that is not known is `None`.  Nothing is known about the run of a mark, of an error that the parent
    made, and of a task on a cluster.
    """

    _about: About | None = None

    @classmethod
    def make(cls, ticket: int, value: Any, error: BaseException | None, about: About) -> Outcome:
        """Make an outcome with the facts about it."""
        outcome = cls(ticket, value, error)
        outcome._about = about
        return outcome

    @property
    def _run(self) -> Run | None:
        return None if self._about is None else self._about.run

    @property
    def _span(self) -> tuple[float, float] | None:
        run = self._run
        return None if run is None or run.times is None else run.times.at(self.ticket - run.first)

    @property
    def seconds(self) -> float | None:
        """How long the task ran, including the loading of its arguments and the packing of its result."""
        return None if self._span is None else self._span[1] - self._span[0]

    @property
    def waits(self) -> Waits | None:
        """How long it waited at each place."""
        about, run, span = self._about, self._run, self._span
        if about is None or run is None or span is None:
            return None
        start, end = span
        return Waits(start - about.claimed_at, max(0.0, run.home_at - end), run.released_at - run.home_at)

    @property
    def pid(self) -> int | None:
        """The process it ran in."""
        return None if self._run is None else self._run.pid

    @property
    def worker(self) -> int | None:
        """The number of the worker it ran in, from 0 to `max_workers - 1`."""
        return None if self._run is None else self._run.number

    @property
    def attempts(self) -> int | None:
        """How many times it was begun.  It is more than once if workers died while they ran it."""
        return None if self._about is None else self._about.attempts

    @property
    def function(self) -> Any:
        """The function that was called."""
        return None if self._about is None else as_call(self._about.call)[0]

    @property
    def args(self) -> tuple[Any, ...]:
        """Its positional arguments, the very objects that were submitted."""
        return () if self._about is None else tuple(as_call(self._about.call)[1])

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its keyword arguments, the very objects that were submitted."""
        return {} if self._about is None else dict(as_call(self._about.call)[2])
