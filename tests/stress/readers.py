"""Readers of all kinds: each takes what a pipeline gives, and writes down what it got."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from ordered_executor import Outcome, Results, ResultsTimeoutError

from .record import Delivery, Final, MapRecord

if TYPE_CHECKING:
    from .play import Play

# Short, so that timeouts happen often: they must lose nothing.
IMPATIENCE = 0.005


def read_future(future: Any, timeout: float | None = None) -> Final:
    """A future's end, as `result()` gives it."""
    try:
        return Final(value=future.result(timeout))
    except CancelledError:
        return Final(cancelled=True)
    except BaseException as error:
        if error is not future.exception(0):
            raise  # a timeout of this call
        return Final(error=error)


# ------------------------------------------------------------------------------------------------- the stream


def read_log(play: Play, results: Results[Any], deliveries: list[Delivery]) -> None:
    """Read a stream to its end; without `follow`, ask again until all was submitted."""
    while True:
        last = play.submitted.is_set()
        for delivery in _deliveries(results, play.plan.stream):
            deliveries.append(delivery)
            play.watch.beat()
        if play.plan.follow or last:
            return
        play.submitted.wait(0.002)


def _deliveries(results: Results[Any], kind: str) -> Iterator[Delivery]:
    while True:
        try:
            got = next(results)
        except StopIteration:
            return
        except ResultsTimeoutError:
            continue
        except BaseException as error:
            yield Delivery(None, None, _unwrapped(error))
            continue
        yield _delivery(got, kind)


def _delivery(got: Any, kind: str) -> Delivery:
    if isinstance(got, Outcome):
        return Delivery(*got)
    if kind == "results, errors yielded" and isinstance(got, BaseException):
        return Delivery(None, None, got)
    return Delivery(None, got, None)


def _unwrapped(error: BaseException) -> BaseException:
    # a task's StopIteration is not raised as itself: that would end the loop
    return error.__cause__ if type(error) is RuntimeError and isinstance(error.__cause__, StopIteration) else error


def read_stream_async(play: Play, results: Results[Any], deliveries: list[Delivery]) -> None:
    """The same with asyncio; impatient: every wait is cancelled after a moment, and tried again."""
    asyncio.run(_read_stream_async(play, results, deliveries))


async def _read_stream_async(play: Play, results: Results[Any], deliveries: list[Delivery]) -> None:
    impatient = play.plan.stream == "async, impatient"
    while True:
        last = play.submitted.is_set()
        while True:
            try:
                # wait_for's own timeout, or the stream's, which was set to None for that
                got = await (asyncio.wait_for(anext(results), IMPATIENCE) if impatient else anext(results))
            except StopAsyncIteration:
                break
            except (TimeoutError, ResultsTimeoutError) as error:
                if getattr(error, "ticket", None) is None:
                    continue
                deliveries.append(Delivery(None, None, error))  # a TaskTimeoutError
            except BaseException as error:
                deliveries.append(Delivery(None, None, error))
            else:
                deliveries.append(_delivery(got, play.plan.stream))
            play.watch.beat()
        if play.plan.follow or last:
            return
        await asyncio.sleep(0.002)


# ------------------------------------------------------------------------------------------------- the futures


def read_results(play: Play) -> None:
    """One future after the other, as they are submitted, with impatient waits."""
    while (found := play.submissions.get()) is not None:
        uid, future = found
        while True:
            try:
                play.record.reads[uid] = read_future(future, 1.0)
                break
            except TimeoutError:
                continue
        del future, found
        play.watch.beat()


def read_as_completed(play: Play) -> None:
    """All futures by `as_completed`."""
    uids = _all_submitted(play)
    for future in concurrent.futures.as_completed(uids):
        play.record.reads[uids[future]] = read_future(future, 0)
        play.watch.beat()


def read_by_wait(play: Play) -> None:
    """All futures by `wait`, until the first is done, again and again."""
    uids = _all_submitted(play)
    left = set(uids)
    while left:
        done, left = concurrent.futures.wait(left, timeout=30, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            play.record.reads[uids[future]] = read_future(future, 0)
            play.watch.beat()


def read_by_wrapping(play: Play) -> None:
    """All futures awaited in asyncio."""
    asyncio.run(_read_by_wrapping(play))


async def _read_by_wrapping(play: Play) -> None:
    uids = _all_submitted(play)
    wrapped = [asyncio.wrap_future(future) for future in uids]
    ends = await asyncio.gather(*wrapped, return_exceptions=True)
    for uid, end in zip(uids.values(), ends):  # noqa: B905
        if isinstance(end, (CancelledError, asyncio.CancelledError)):
            play.record.reads[uid] = Final(cancelled=True)
        elif isinstance(end, BaseException):
            play.record.reads[uid] = Final(error=end)
        else:
            play.record.reads[uid] = Final(value=end)
        play.watch.beat()


def _all_submitted(play: Play) -> dict[Any, int]:
    uids = {}
    while (found := play.submissions.get()) is not None:
        uids[found[1]] = found[0]
    return uids


FUTURE_READERS = {
    "result": read_results,
    "as_completed": read_as_completed,
    "wait": read_by_wait,
    "wrap_future": read_by_wrapping,
}


# --------------------------------------------------------------------------------------------------------- maps


def read_map(play: Play, number: int, seen: MapRecord) -> None:
    """Start a map, and read it as its plan says."""
    plan = play.plan.maps[number]
    try:
        results = play.start_map(plan)
    except RuntimeError as error:  # shut down, or broken
        seen.cut_short = error
        return
    except InputError:
        play.record.complain("map() itself raised the error of its input")
        return
    seen.started = True
    with contextlib.closing(results):
        while plan.stop_after is None or len(seen.finals) < plan.stop_after:
            try:
                got = next(results)
                yielded = plan.errors == "yield" and isinstance(got, BaseException)
                if isinstance(got, InputError):
                    raise got
                final = Final(error=got) if yielded else Final(value=got)
            except StopIteration:
                seen.ended = True
                return
            except InputError:
                seen.input_errors.append(len(seen.finals))
                continue
            except CancelledError as error:
                seen.cut_short = error
                return
            except RuntimeError as error:
                if "cannot schedule" in str(error):
                    seen.cut_short = error
                    return
                final = Final(error=_unwrapped(error))
            except BaseException as error:
                final = Final(error=error)
            seen.finals.append(final)
            play.watch.beat()


class InputError(Exception):
    """What the input of a map raises."""
