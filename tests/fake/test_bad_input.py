"""Bad input: an error at the call, which names the argument; and the executor is as it was before."""

from __future__ import annotations

import math
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ordered_executor
from ordered_executor import OrderedProcessPoolExecutor
from ordered_executor._base.checks import MOST, check_count, check_optional_count, check_seconds
from tests.fake import HandExecutor, ThreadedExecutor
from tests.helpers import end_what_may_end

not_a_number = st.one_of(
    st.text(),
    st.binary(),
    st.booleans(),
    st.lists(st.integers()),
    st.just(object()),
    st.just(3j),
    st.just(len),
    st.dictionaries(st.integers(), st.integers()),
)
not_a_count = not_a_number | st.floats()
not_seconds = st.floats(max_value=-1e-9) | st.integers(max_value=-1) | st.just(math.nan) | not_a_number
not_positive_seconds = not_seconds | st.just(0) | st.just(0.0)
not_a_flag = st.integers(2) | st.none() | st.text() | st.just(1) | st.just(0) | st.just(1.0)


# The types are what is wrong here.
construct: Any = OrderedProcessPoolExecutor


def below(least: int) -> st.SearchStrategy[int]:
    """Whole numbers that are too small."""
    return st.integers(max_value=least - 1)


def refuses(name: str, call: Callable[[], Any]) -> None:
    """The call raises, and names the argument."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert type(caught.value) in (TypeError, ValueError)
    assert name in str(caught.value)


# ------------------------------------------------------------------------------------------------------ the constructor

COUNTS = {
    "max_workers": 1,
    "max_tasks_per_child": 1,
    "window": 1,
    "window_bytes": 1,
    "backlog": 1,
    "retries": 0,
}


@pytest.mark.parametrize("name", COUNTS)
@given(data=st.data())
def test_the_constructor_refuses_bad_counts(name: str, data: st.DataObject) -> None:
    """Counts are whole numbers from 1 on (`retries`: from 0 on); True is none; nothing is started for them."""
    bad = data.draw(not_a_count | below(COUNTS[name]))
    before = threading.active_count()
    refuses(name, lambda: construct(**{name: bad}))
    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["window_bytes", "retries"])
def test_some_counts_cannot_be_left_out(name: str) -> None:
    """Where None means nothing, it is refused."""
    refuses(name, lambda: construct(**{name: None}))


@pytest.mark.parametrize("name", ["task_timeout", "idle_timeout"])
@given(data=st.data())
def test_the_constructor_refuses_bad_times(name: str, data: st.DataObject) -> None:
    """Times are numbers of seconds, not below zero; a task has more than none."""
    bad = data.draw(not_positive_seconds if name == "task_timeout" else not_seconds)
    refuses(name, lambda: construct(**{name: bad}))


@pytest.mark.parametrize("name", ["keep_results", "reuse"])
@given(bad=not_a_flag)
def test_the_constructor_refuses_bad_flags(name: str, bad: Any) -> None:
    """Flags are True or False: what is meant for another place is noticed.  `keep_results` may be None."""
    if name != "keep_results" or bad is not None:
        refuses(name, lambda: construct(**{name: bad}))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("mp_context", "spawn"),
        ("mp_context", multiprocessing.get_context("fork")),
        ("mp_context", multiprocessing),
        ("initializer", "not callable"),
        ("initializer", 5),
        ("initargs", [1]),
        ("initargs", 5),
        ("initargs", None),
        ("unseen_errors", "shout"),
        ("unseen_errors", None),
        ("unseen_errors", ["log"]),
        ("env", ["A=b"]),
        ("env", {"A": 1}),
        ("env", {1: "A"}),
        ("env", {"A": "b\0c"}),
        ("env", {"A=b": "c"}),
        ("env", {"": "c"}),
        ("env", "A=b"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in each process
)
def test_the_constructor_refuses_what_else_is_wrong(name: str, bad: Any) -> None:
    """Each argument says what it takes; a fork context is refused with the reason."""
    refuses(name, lambda: construct(**{name: bad}))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "loky_init_main"])
def test_an_environment_that_would_be_ignored_is_refused(method: str) -> None:
    """Only loky's own context takes one."""
    refuses("env", lambda: construct(mp_context=multiprocessing.get_context(method), env={"A": "b"}))


def test_unknown_arguments_are_refused() -> None:
    """A misspelt option is not ignored."""
    with pytest.raises(TypeError, match="windows"):
        OrderedProcessPoolExecutor(windows=5)  # type: ignore[call-arg]


def test_a_refused_constructor_leaves_nothing_open() -> None:
    """Also where the last argument is the bad one: no thread, no descriptor."""
    import os

    end_what_may_end()
    before = threading.active_count(), len(os.listdir("/dev/fd"))
    for _ in range(3):
        refuses("unseen_errors", lambda: OrderedProcessPoolExecutor(unseen_errors="shout"))
    assert (threading.active_count(), len(os.listdir("/dev/fd"))) == before


# ------------------------------------------------------------------------------------------------------------ the calls


def as_it_was(executor: HandExecutor) -> tuple[Any, ...]:
    """What a refused call must not change."""
    statistics = executor.statistics()
    return statistics, executor.backend.wanted, executor.scheduler.inbox.claims.closed, executor.quiet()


@pytest.fixture(scope="module")
def executor() -> Iterator[HandExecutor]:
    """One executor for all refused calls; at the end it still works."""
    made = HandExecutor(1, backlog=5)
    waiting = made.submit(abs, -5)
    made.step()
    before = as_it_was(made)
    yield made
    assert as_it_was(made) == before
    made.run_all()
    assert waiting.result(timeout=0) == 5
    made.end()


@given(bad=not_a_number.filter(lambda value: not callable(value)) | st.none() | st.integers())
def test_only_callables_are_submitted_and_mapped(executor: HandExecutor, bad: Any) -> None:
    """`submit` and `map` say at once that it cannot be called; a view does too."""
    before = as_it_was(executor)
    refuses("fn", lambda: executor.submit(bad))
    refuses("fn", lambda: executor.map(bad, [1]))
    refuses("fn", lambda: executor.options(retries=1).submit(bad))
    refuses("fn", lambda: executor.options(retries=1).map(bad, [1]))
    assert as_it_was(executor) == before


def test_submit_and_map_need_a_callable(executor: HandExecutor) -> None:
    """Without any argument they say which is missing."""
    for call in (executor.submit, executor.map):
        with pytest.raises(TypeError, match="fn"):
            call()  # type: ignore[call-arg,call-overload]


@given(data=st.data())
def test_bad_arguments_of_map(executor: HandExecutor, data: st.DataObject) -> None:
    """Bounds are whole numbers from 1 on, times not below zero."""
    before = as_it_was(executor)
    for name in ("chunksize", "buffersize"):
        bad = data.draw(not_a_count | below(1))
        refuses(name, lambda name=name, bad=bad: executor.map(abs, [1], **{name: bad}))  # type: ignore[misc]
    bad = data.draw(not_seconds)
    refuses("timeout", lambda: executor.map(abs, [1], timeout=bad))
    assert as_it_was(executor) == before


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("foo", TypeError, "buffersize must be an integer or None"),
        (2.0, TypeError, "buffersize must be an integer or None"),
        (0, ValueError, "buffersize must be None or > 0"),
        (-1, ValueError, "buffersize must be None or > 0"),
    ],
)
def test_messages_about_buffersize_are_those_of_the_standard_library(
    executor: HandExecutor, bad: Any, error: type[Exception], message: str
) -> None:
    """They begin as in Python 3.14, and go on with the value."""
    with pytest.raises(error, match=f"^{message}, not {bad!r}"):
        executor.map(abs, [1], buffersize=bad)


@given(bad=st.integers() | st.none() | st.floats() | st.just(len) | st.just(object()))
def test_only_iterables_are_mapped_over(executor: HandExecutor, bad: Any) -> None:
    """What cannot be iterated over is said at the call."""
    before = as_it_was(executor)
    refuses("iterable", lambda: executor.map(abs, bad))
    refuses("iterable", lambda: executor.map(pow, [1], bad))
    assert as_it_was(executor) == before


def test_an_input_that_raises_at_once(executor: HandExecutor) -> None:
    """An iterable whose `__iter__` raises: its error, at the call; one whose first `__next__` raises: in the map."""

    class Bad:
        def __iter__(self) -> Iterator[int]:
            raise KeyError("on purpose")

    class Worse:
        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            raise KeyError("on purpose")

    before = as_it_was(executor)
    with pytest.raises(KeyError, match="on purpose"):
        executor.map(abs, Bad())
    with pytest.raises(KeyError, match="on purpose"):
        next(executor.map(abs, Worse()))
    assert as_it_was(executor) == before


@given(data=st.data())
def test_bad_options(executor: HandExecutor, data: st.DataObject) -> None:
    """A view is as strict as the constructor."""
    before = as_it_was(executor)
    retries: Any = data.draw(not_a_count | below(0))
    refuses("retries", lambda: executor.options(retries=retries))
    timeout = data.draw(not_positive_seconds)
    refuses("timeout", lambda: executor.options(timeout=timeout))
    with pytest.raises(TypeError):
        executor.options(5)  # type: ignore[call-arg]
    assert as_it_was(executor) == before


@given(data=st.data())
def test_bad_arguments_of_the_stream(executor: HandExecutor, data: st.DataObject) -> None:
    """`results()`, `outcomes()` and `next()` refuse bad times, flags and choices."""
    before = as_it_was(executor)
    seconds, flag = data.draw(not_seconds), data.draw(not_a_flag)
    for call in (executor.results, executor.outcomes):
        refuses("timeout", lambda call=call: call(timeout=seconds))  # type: ignore[misc]
        refuses("follow", lambda call=call: call(follow=flag))  # type: ignore[misc]
    refuses("timeout", lambda: executor.results().next(timeout=seconds))
    choice: Any = data.draw(st.text().filter(lambda text: text not in ("raise", "yield")) | st.none() | st.integers())
    refuses("errors", lambda: executor.results(errors=choice))
    assert as_it_was(executor) == before


@given(data=st.data())
def test_bad_arguments_of_shutdown(executor: HandExecutor, data: st.DataObject) -> None:
    """A refused shutdown has shut down nothing; a time where a flag is expected is noticed."""
    before = as_it_was(executor)
    shutdown: Any = executor.shutdown
    seconds, flag = data.draw(not_seconds), data.draw(not_a_flag)
    refuses("timeout", lambda: executor.shutdown(timeout=seconds))
    for name in ("wait", "cancel_futures", "kill_workers"):
        refuses(name, lambda name=name: shutdown(**{name: flag}))  # type: ignore[misc]
    assert as_it_was(executor) == before


@pytest.mark.parametrize("forever", [math.inf, 1e300, 10**400, None])
def test_waits_without_end(forever: Any) -> None:
    """Where a time is longer than any wait can be, it is no limit: nothing overflows on the way."""
    executor = ThreadedExecutor(1)
    executor.mark("a")
    assert executor.results().next(timeout=forever) == "a"
    executor.mark("b")
    assert next(executor.results(timeout=forever)) == "b"
    assert list(executor.map(abs, [], timeout=forever)) == []
    assert executor.options(timeout=forever)._options.timeout is None  # whatever the executor's own is
    executor.shutdown(timeout=forever)


# ----------------------------------------------------------------------------------------------------------- the checks


@given(st.integers(0, 2**70), st.sampled_from([0, 1]))
@settings(suppress_health_check=[HealthCheck.differing_executors])
def test_good_counts_become_plain_ints(value: int, least: int) -> None:
    """What is returned is an int, and no bound that would overflow a word."""
    if value < least:
        return
    assert check_count("n", value, least) == check_optional_count("n", value, least) == min(value, MOST)
    assert check_optional_count("n", None, least) is None
    if value < 2**63:
        plain = check_count("n", np.uint64(value), least)
        assert (plain, type(plain)) == (min(value, MOST), int)


@given(st.floats(min_value=0) | st.integers(0))
def test_good_times_become_plain_floats_or_no_limit(value: float) -> None:
    """What is returned can be waited for."""
    seconds = check_seconds("t", value, zero=True)
    assert seconds is None or (type(seconds) is float and 0 <= seconds <= threading.TIMEOUT_MAX)
    assert (seconds is None) == (value > threading.TIMEOUT_MAX)


def test_the_version_is_that_of_the_installed_package() -> None:
    """Also where nothing else has asked for it."""
    assert ordered_executor.__version__ == metadata.version("ordered-executor")
    assert "__version__" in dir(ordered_executor)
