"""The last resort: after a defect of ours everything pending fails, so that nobody waits for ever.

After a defect, the records of who waits for a ticket cannot be trusted.  So all objects there are are searched for
futures and maps that somebody may wait for.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ordered_executor._base.atomic import snapshot
from ordered_executor._base.error_tools import copy_error
from ordered_executor._base.tasks import Options
from ordered_executor._core.future import Future
from ordered_executor._core.lost_tasks import failures
from ordered_executor._core.map import Delivery, MapResults, Span

if TYPE_CHECKING:
    from ordered_executor._core.scheduler import Scheduler

logger = logging.getLogger("ordered_executor")

# The owner of a ticket that nobody asks for any more.
NOBODY = Span(Delivery(), print, [None], True, Options(), None)


def take_down(scheduler: Scheduler, reason: BaseException) -> None:
    """Fail all that is pending, in order, and kill the workers.  On the scheduler's thread, which ends then."""
    steps: list[Callable[[], object]] = [
        lambda: scheduler._break(reason),
        lambda: _release_whatever(scheduler, reason),
        lambda: _kill_backend(scheduler),
    ]
    for step in steps:
        try:
            step()
        except BaseException:
            logger.critical("the executor could not be taken down", exc_info=True)


def _release_whatever(scheduler: Scheduler, reason: BaseException) -> None:
    owners = find_owners(scheduler)
    buffer = scheduler.sequencer
    while (head := buffer.head) < buffer.tail:
        try:
            scheduler._release()
        except BaseException:
            logger.critical("ticket %d could not be released", head, exc_info=True)
        if buffer.head == head:
            # The defect has left it nowhere, neither with a lane nor at home.
            scheduler._put(head, 1, [owners.get(head, NOBODY)], failures(reason, head, 1))
    for future in owners.values():
        if type(future) is Future and not future.done():
            future.finish(None, copy_error(reason))


def _kill_backend(scheduler: Scheduler) -> None:
    backend = scheduler.backend
    backend.close(kill=True)
    while not backend.closed:
        backend.wait(0.1)


def find_owners(scheduler: Any) -> dict[int, Any]:
    """By ticket, whoever may wait for one of this scheduler: looked for among all objects there are.

    After a defect, when what should know it cannot be trusted.
    """
    owners: dict[int, Any] = {}
    for thing in gc.get_objects():
        if type(thing) is Future and thing._owner is scheduler.inbox:
            owners[thing.first] = thing
        elif type(thing) is MapResults and thing._claimer is scheduler.inbox:
            for span in snapshot(thing._intake.spans):
                owners.update(dict.fromkeys(range(span.first, span.first + span.count), span))
    return owners
