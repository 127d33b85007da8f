"""What must be true of a record.  Pure: no process, no clock.

Each check is a function from a record to complaints; `check` runs all.  What a task may end with follows from its own
fault, and from what was done to the pipeline from outside; what cannot be traced to a cause is a complaint.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from .outcomes import Court, expected, tasks_of
from .plan import KILLERS, Task
from .record import Record


def check(record: Record) -> list[str]:
    """All that is wrong with a record."""
    court = Court(record)
    found = list(record.complaints)
    found += _tickets(record)
    found += _callbacks(record, court)
    found += _finals(record, court)
    found += _streams(record, court)
    found += _maps(record, court)
    found += _executions(record, court)
    found += court.unexplained_deaths()
    found += _statistics(record, court)
    return found


def _tickets(record: Record) -> Iterator[str]:
    """Tickets are given once, and stay."""
    for ticket, count in Counter(record.tickets.values()).items():
        if count > 1:
            yield f"ticket {ticket} was given to {count} tasks"
    for uid, ticket in record.later_tickets.items():
        if record.tickets[uid] != ticket:
            yield f"task {uid} had ticket {record.tickets[uid]} first and {ticket} later"
    if not record.plan.maps and sorted(record.tickets.values()) != list(range(len(record.tickets))):
        yield f"tickets are not dense: {sorted(record.tickets.values())}"


def _callbacks(record: Record, court: Court) -> Iterator[str]:
    """One callback for each future; those on the scheduler in the order of tickets."""
    for one, other in itertools.pairwise(record.released):
        if one >= other:
            yield f"the callback of ticket {one} ran before that of {other}"
    if record.plan.callbacks:
        called = Counter(record.called_back)
        for uid in record.tickets:
            if called[uid] != 1:
                yield f"the callback of task {uid} ran {called[uid]} times"


def _finals(record: Record, court: Court) -> Iterator[str]:
    """Every future ended, with what its task may end with; whoever read it was given the same."""
    for uid in record.unfinished:
        yield f"task {uid} (ticket {record.tickets[uid]}) never ended"
    for uid, final in record.finals.items():
        yield from court.judge(uid, final)
    for uid, read in record.reads.items():
        final = record.finals.get(uid, read)
        if read.value is not final.value or read.error is not final.error or read.cancelled != final.cancelled:
            yield f"task {uid} ended as {final} and was read as {read}"


def _streams(record: Record, court: Court) -> Iterator[str]:
    """Each outcome once, in order; nothing but what was submitted; if nobody took any away, all of it."""
    uids = {ticket: uid for uid, ticket in record.tickets.items()}
    tellable = [[d for d in stream if d.ticket is not None] for stream in record.streams]
    for stream in tellable:
        tickets = [d.ticket for d in stream if d.ticket is not None]
        yield from (f"the stream gave {a} before {b}" for a, b in itertools.pairwise(tickets) if a >= b)
    for ticket, count in Counter(d.ticket for stream in tellable for d in stream).items():
        if count > 1:
            yield f"the stream gave ticket {ticket} {count} times"
        if ticket not in uids:
            yield f"the stream gave ticket {ticket}, which nobody submitted"
    if not record.plan.stream:
        return
    wanted = [uid for _, uid in sorted(uids.items()) if uid not in court.skipped]
    for stream in tellable:
        for ticket, value, error in stream:
            final = record.finals.get(uids.get(ticket or 0, -1))
            if final is not None and (final.value is not value or final.error is not error):
                yield f"ticket {ticket} ended as {final} and the stream gave {value!r}, {error!r}"
            if final is None and ticket in uids:
                yield from court.judge_delivery(uids[ticket], value, error)
    if any(d.ticket is None for stream in record.streams for d in stream):
        yield from _untold(record, court, wanted)
    elif not court.given_away:
        given = {uids.get(d.ticket or 0, -1) for stream in tellable for d in stream}
        yield from (f"the stream never gave task {uid}" for uid in wanted if uid not in given)


def _untold(record: Record, court: Court, wanted: list[int]) -> Iterator[str]:
    """`results()` does not say which ticket it gives: the n-th must be the n-th task that was not cancelled."""
    given = record.streams[0]
    if court.given_away:
        return
    if len(given) != len(wanted):
        yield f"the stream gave {len(given)} outcomes of {len(wanted)}"
    for uid, (_, value, error) in zip(wanted, given):  # noqa: B905
        final = record.finals.get(uid)
        if final is None:
            yield from court.judge_delivery(uid, value, error)
        elif final.value is not value or final.error is not error:
            yield f"task {uid} ended as {final}, and at its place the stream gave {value!r}, {error!r}"


def _maps(record: Record, court: Court) -> Iterator[str]:
    """Each map gave the outcomes of its tasks in the order of its input, and ended when it should."""
    for plan, seen in zip(record.plan.maps, record.maps):  # noqa: B905
        for task, final in zip(plan.tasks, seen.finals):  # noqa: B905
            yield from court.judge(task.uid, final)
        if court.may_break:
            continue  # it may also have ended with the news that the executor broke
        if len(seen.finals) > len(plan.tasks):
            yield f"a map of {len(plan.tasks)} gave {len(seen.finals)} outcomes"
        if seen.cut_short is not None:
            if not record.cut and not record.cancelled_all:
                yield f"a map was cut short by {seen.cut_short!r}"
        elif seen.ended and plan.stop_after is None:
            if len(seen.finals) != len(plan.tasks):
                yield f"a map of {len(plan.tasks)} ended after {len(seen.finals)}"
            if list(plan.input_fails) != seen.input_errors:
                yield f"a map's input failed before {plan.input_fails}, and that came before {seen.input_errors}"
        elif seen.started and plan.stop_after is None:
            yield "a map did not end"


def _executions(record: Record, court: Court) -> Iterator[str]:
    """Nothing ran more often than it may; nothing that was cancelled ran; what has a value ran."""
    runs = Counter(line.uid for line in record.lines if line.what == "run")
    tasks = {task.uid: task for task in tasks_of(record.plan)}
    for uid, count in runs.items():
        if count > 1 + tasks[uid].retries:
            yield f"task {uid} ran {count} times; it may be retried {tasks[uid].retries} times"
    for uid, final in court.finals.items():
        task = tasks[uid]
        if final.cancelled and runs[uid]:
            yield f"task {uid} was cancelled, and ran"
        if court.sort(task, final) == "value" and task.call != "mark" and not runs[uid]:
            yield f"task {uid} has a value, and never ran"
        all_its_own = not record.shots and court.sort(task, final) == "died" and _dies_each_time(task)
        if all_its_own and runs[uid] != 1 + task.retries:
            yield f"task {uid} killed its worker and ran {runs[uid]} times instead of {1 + task.retries}"


def _dies_each_time(task: Task) -> bool:
    return task.fault in KILLERS and expected(task) == "died" and not task.fault.startswith("argument")


def _statistics(record: Record, court: Court) -> Iterator[str]:
    """All is released; never was more early than the window lets."""
    seen = record.statistics
    if seen is None:
        return
    if seen.head != seen.tail or seen.in_flight or seen.early or seen.early_bytes or seen.waiting or seen.workers:
        yield f"not all is over: {seen}"
    # What is read from the memory of a dead worker is not early: it did not pass the gate.
    if seen.peak_early >= seen.window:
        yield f"{seen.peak_early} outcomes were early, with a window of {seen.window}"
    if seen.peak_early_bytes > seen.window_bytes:
        yield f"{seen.peak_early_bytes} bytes were early, of at most {seen.window_bytes}"
