"""The intake of a map: it draws inputs, claims tickets for them, and keeps errors in their places among them.

Each input, and each error of the input, has a place: its number in the order of drawing.  An error of the input ends
nothing; only `StopIteration` does.  If an input is an error of an earlier stage (`Passed`), it is not given to the
function, and keeps its place as an error of the input does.

How far it draws ahead: Without `buffersize` it draws to the end, or until two errors come in a row, and goes on when
the reader has got there.  With it, it draws no more than that many places ahead of the reader.  Then it also takes care
that a slow input holds back nothing: inputs are claimed one by one until the input was fast many times, and the reader
decides when to draw (see `MapResults`), unless a thread draws (`prefetch`).

Invariants: `taken <= drawn`.  An error stands at a place in `[taken, drawn)`, and a new span begins behind each error,
so that no segment of outcomes reaches over one.  The side that draws writes `drawn` and `ended`: the reader under its
lock, or the thread.  The reader writes `taken` and `hand`.

Why a generator draws: The traceback of an error has the frame that caught it, which leads to its callers, and so to the
map that keeps the error.  A generator that stands still has no caller, so an error leads to the input alone, and a map
that nobody holds goes at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

from ordered_executor._base.atomic import snapshot
from ordered_executor._base.checks import iterate
from ordered_executor._base.tasks import Options
from ordered_executor._base.waiting import ParkingLot
from ordered_executor._core.map import Claimer, Delivery, MapResults, Passed, Refused, Span, length_of

# How long one pull may draw before what was drawn is claimed.
PULL_SECONDS = 0.001
# How long the call of a bounded map may draw; and from when on an input is slow: what is there is handed out first.
SLOW_SECONDS = 0.02
# After an input was fast twice so many times, two are drawn before they are claimed, and so on.  More: small spans,
# small batches.  Less: of a burst of inputs more stands still until the next input comes.
CAUTION = 16


class _Order(NamedTuple):
    """Draw so many (None: all), not past this time; add the inputs here, and an error or the end there."""

    most: int | None
    until: float
    inputs: list[Any]
    found: list[Passed | None]
    catches: type[BaseException]  # what else is an error of the input's, and no interrupt of ours


def _draw(source: Iterator[Any] | None) -> Generator[None, _Order | None, None]:
    """Does what it is told, and never ends by itself.  Told `None`, it lets go of the input.

    An input is never in the hands of Python code, where Ctrl-C could part it from us.  When it stands still, nothing
    but the input is in its variables: errors lead to them.
    """
    order = yield
    while True:
        try:
            if order is None or source is None:
                source = None
            elif order.most is None:
                order.inputs.extend(source)
                order.found.append(None)
            else:
                for count in range(len(order.inputs), len(order.inputs) + order.most):
                    order.inputs.extend(islice(source, 1))
                    if len(order.inputs) == count:
                        order.found.append(None)
                    if order.found or monotonic() > order.until:
                        break
        except BaseException as error:
            if order is None or not isinstance(error, order.catches):
                raise
            order.found.append(Passed(error))
        order = None
        order = yield


def mark_errors(inputs: Iterator[Any]) -> Iterator[Any]:
    """The same inputs; those that are exceptions as `Passed`: errors of an earlier stage."""
    return map(_mark, inputs)


def _mark(value: Any) -> Any:
    return Passed(value) if isinstance(value, BaseException) else value


class Intake:
    """See the module."""

    def __init__(
        self,
        claimer: Claimer,
        make_span: Callable[[list[Any]], Span],
        source: Iterator[Any],
        buffersize: int | None,
        passes: bool,
    ) -> None:
        self._claimer = claimer
        self._make_span = make_span
        self._source: Iterator[Any] | None = source
        self._most = buffersize
        self._passes = passes  # whether a `Passed` may be among the inputs
        self._step = 1 if buffersize is None else max(1, buffersize // 8)
        self._drawer = _draw(source)
        next(self._drawer)
        self._unclaimed: list[Any] = []
        self._found: list[Passed | None] = []  # one at most: the error or the end (None) behind what is unclaimed
        self._fast = 0  # how many inputs in a row were
        self._begun = False  # the call of map() is over: errors of claiming have their place, too
        self.slow = False  # the last pull took long
        self.patience = 0.0  # see `MapResults._draw_or_wait`
        self.drawn = 0
        self.taken = 0
        self.hand: list[Any] = []  # outcomes that were taken and not handed out
        self.errors: deque[tuple[int, Passed]] = deque()
        self.spans: deque[Span] = deque()
        self.ended = False
        self.space = ParkingLot()  # where a thread that draws waits for room
        self.in_thread = False
        self._catches: type[BaseException] = Exception
        self._dropped = False

    # --------------------------------------------------------------------------------------------------- the reader

    @property
    def room(self) -> int:
        """How many may be drawn now."""
        ahead = self.drawn - self.taken + len(self.hand)
        if self._most is None:
            return 0 if ahead else 1
        return self._most - ahead

    @property
    def error_is_next(self) -> bool:
        """Whether the next place is an error's."""
        return bool(self.errors) and self.errors[0][0] == self.taken

    def begin(self) -> None:
        """In the call of `map`: draw what comes at once."""
        until = monotonic() + SLOW_SECONDS
        try:
            while not self.ended and (room := self.room) > 0 and (self._most is None or monotonic() < until):
                self.pull(room)
        except BaseException:
            self.drop()  # nobody gets the map
            raise
        self._begun = True

    def refill(self) -> None:
        """Just before one outcome is handed out: draw if it pays, and does not take long."""
        if not self.slow and not self.ended and self.room + 1 >= self._step:
            self.pull(self.room + 1)

    def pull(self, room: int) -> None:
        """Draw, if the map is bounded so many at most and for a moment, and claim it."""
        if self._most is None:
            self._pull_all()
            return
        began = monotonic()
        most = max(1, min(room, self._step, self._fast // CAUTION))
        self._pull(most, began + PULL_SECONDS)
        took = monotonic() - began
        self._fast = self._fast + most if took < PULL_SECONDS else 0
        self.slow = took > SLOW_SECONDS
        self.patience = min(took, self.patience + took / 4) if self._begun else took

    def _pull_all(self) -> None:
        failed = False
        while not self.ended:
            before = self.drawn
            self._pull(None, 0.0)
            again = failed and self.drawn == before + 1
            failed = bool(self.errors) and self.errors[-1][0] == self.drawn - 1
            if failed and again:
                break  # two in a row: an input that fails for ever does not go on for ever

    def _pull(self, most: int | None, until: float) -> None:
        if not self._found:  # else this was interrupted
            try:
                self._drawer.send(_Order(most, until, self._unclaimed, self._found, self._catches))
            except BaseException:  # Ctrl-C, and the generator with it
                self._drawer = _draw(self._source)
                next(self._drawer)
                raise
        self._claim_all()
        if self._found:
            # Nothing is called from here to the last step: an interrupt finds the error placed, or not at all.
            (error,) = self._found
            self._found = []
            if error is None:
                self.ended = True
                self._let_go_of_source()
            else:
                self.drawn += 1
                self.errors.append((self.drawn - 1, error))

    def _let_go_of_source(self) -> None:
        self._source = None
        # It is drawing: in another thread, or the input itself closed the map.  Or the collector was here first.
        with contextlib.suppress(ValueError, StopIteration):
            self._drawer.send(None)

    # --------------------------------------------------------------------------------------------------------- places

    def place(self, error: BaseException, kind: type[Passed] = Passed) -> None:
        """Put an error behind what was drawn."""
        self.drawn += 1
        self.errors.append((self.drawn - 1, kind(error)))

    def _claim_all(self) -> None:
        """Claim tickets for what was drawn; put errors of earlier stages into their places."""
        if self._passes and any(map(_error_in, self._unclaimed)):
            drawn, self._unclaimed = self._unclaimed, []
            for one in drawn:
                error = _error_in(one)
                if error is None:
                    self._unclaimed.append(one)
                else:
                    self._claim()
                    self.place(error.error)
        self._claim()

    def _claim(self) -> None:
        args = self._unclaimed
        if not args:
            return
        span = self._make_span(args)
        # Before it is claimed: its outcomes may be taken at once.
        self.drawn += span.count
        try:
            self._claimer.claim_span(span)
        except BaseException as error:
            if span.first >= 0:  # Ctrl-C after it was claimed
                self._unclaimed = []
                self.spans.append(span)
                raise
            self.drawn -= span.count
            if not self._begun or not isinstance(error, Exception):
                raise
            # The executor was shut down or broke: that has its place behind what was claimed, as an error of the input.
            self._unclaimed = []
            self._found = []
            self.place(error.with_traceback(None), Refused)
            self.ended = True
            self._let_go_of_source()
            return
        self._unclaimed = []
        self.spans.append(span)

    # ------------------------------------------------------------------------------------------------------- a thread

    def begin_in_thread(self, told: Callable[[], object]) -> None:
        """Have a thread draw.  It calls `told` when it has drawn something.

        It ends with the input, or when the map is dropped (but not before the input has given what is awaited).
        """
        self._begun = self.in_thread = True
        self._catches = BaseException
        threading.Thread(target=self._run, args=(told,), name="ordered-executor-map-input", daemon=True).start()

    def _run(self, told: Callable[[], object]) -> None:
        while not self.ended:
            self.space.park(lambda: self.ended or self.room > 0)
            if (room := self.room) > 0 and not self.ended:
                self.pull(room)
                told()
        if self._dropped:
            self.drop()  # what was drawn meanwhile

    # -------------------------------------------------------------------------------------------------------- its end

    def stop(self) -> None:
        """Draw no more."""
        self.ended = True
        self.space.unpark_all()

    def drop(self) -> None:
        """Draw no more; cancel what no worker has."""
        self._dropped = self.ended = True
        self.errors.clear()  # their tracebacks lead to the input
        self._unclaimed = []
        self._found = []
        self._let_go_of_source()
        self.space.unpark_all()
        for span in snapshot(self.spans):
            self._claimer.cancel_span(span)


def _error_in(value: Any) -> Passed | None:
    """The error of an earlier stage that an input is, or that is among the arguments of a call."""
    if type(value) is Passed:
        return value
    if type(value) is tuple:
        return next((part for part in value if type(part) is Passed), None)
    return None


def start_map(
    claimer: Claimer,
    fn: Callable[..., Any],
    iterables: Sequence[Any],
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    errors: str,
    prefetch: bool,
    options: Options,
) -> MapResults:
    """Make the parts of a map, and let it begin."""
    delivery = Delivery()
    length = length_of(iterables)
    marked = [errors == "pass" or (type(one) is MapResults and one.yields_errors) for one in iterables]
    sources = [mark_errors(iterate(one)) if mark else iterate(one) for one, mark in zip(iterables, marked, strict=True)]
    single = len(sources) == 1
    source = sources[0] if single else zip(*sources)  # noqa: B905 (to the shortest, as map does)
    intake = Intake(
        claimer,
        lambda args: Span(delivery, fn, args, single, options, chunksize, errors == "outcome"),
        source,
        buffersize,
        any(marked),
    )
    bounded, yields, outcomes = buffersize is not None, errors != "raise", errors == "outcome"
    results = MapResults(claimer, intake, delivery, fn, timeout, bounded, yields, length, outcomes)
    if prefetch:
        intake.begin_in_thread(delivery.reader.unpark_all)
    else:
        intake.begin()
    return results
