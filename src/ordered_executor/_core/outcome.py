"""`Outcome`: what became of one ticket, and how."""

from __future__ import annotations

from typing import Any, NamedTuple

from ordered_executor._base.tasks import Run
from ordered_executor._pickling.texts import as_call


class Waits(NamedTuple):
    """Seconds that a ticket waited, in the order of its way.

    `worker`: from its submission until it began.  `gate`: its outcome, in the worker, until it was home: at the gate,
    or for others of its batch.  `head`: at home, until all before it were released.
    """

    worker: float
    gate: float
    head: float


class About(NamedTuple):
    """What is known of a ticket beside its outcome."""

    claimed_at: float
    run: Run | None
    attempts: int
    call: Any  # as a future keeps it


class Raw(NamedTuple):
    """What a map is handed for a ticket whose reader wants an outcome: as it came home, and what is known of it."""

    ticket: int
    came: Any
    claimed_at: float
    run: Run | None
    attempts: int

    def about(self, call: Any) -> About:
        """For the outcome; `call` as a future keeps it."""
        return About(self.claimed_at, self.run, self.attempts, call)


class _Triple(NamedTuple):
    ticket: int
    value: Any
    error: BaseException | None


class Outcome(_Triple):
    """What became of one ticket, as `outcomes()` yields it: a tuple of `ticket`, `value` and `error`.

    `error` is `None` if the task went well.  Beside the three: `seconds`, `waits`, `pid`, `worker`, `attempts`; and of
    one that failed `function`, `args` and `kwargs`, so that it can be written down or done again.  (Of one that went
    well too, if `outcomes(calls=True)` asked for them before it was finished.)  What is not known is `None`: where and
    when, for a mark, for what the parent made itself, and on a cluster.
    """

    _about: About | None = None

    @classmethod
    def make(cls, ticket: int, value: Any, error: BaseException | None, about: About) -> Outcome:
        """An outcome, and what is known beside it."""
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
        """How long the task ran, with the loading of its arguments and the packing of its result."""
        return None if self._span is None else self._span[1] - self._span[0]

    @property
    def waits(self) -> Waits | None:
        """What it waited for, and how long."""
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
        """How often it was begun, more than once if workers died of it."""
        return None if self._about is None else self._about.attempts

    @property
    def function(self) -> Any:
        """What was called."""
        return None if self._about is None else as_call(self._about.call)[0]

    @property
    def args(self) -> tuple[Any, ...]:
        """Its arguments by position, the objects that were submitted."""
        return () if self._about is None else tuple(as_call(self._about.call)[1])

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its arguments by name."""
        return {} if self._about is None else dict(as_call(self._about.call)[2])
