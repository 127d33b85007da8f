"""Waiting for descriptors, and waking whoever waits: on both kinds of poller."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from ordered_executor._processes.poller import EpollPoller, Poller, SelectorPoller, make_poller

needs_epoll = pytest.mark.skipif(not hasattr(select, "epoll") or not hasattr(os, "eventfd"), reason="not on Linux")
KINDS = [pytest.param(EpollPoller, marks=needs_epoll), SelectorPoller]


@pytest.fixture(params=KINDS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    """One of each kind."""
    made: Poller = request.param()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe, `(read, write)`."""
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def never() -> None:
    """Fail if called."""
    raise AssertionError("called")


@needs_epoll
def test_linux_has_epoll() -> None:
    """Linux does without the slower kind."""
    poller = make_poller()
    assert type(poller) is EpollPoller
    poller.close()


def test_it_says_what_can_be_read_for_as_long_as_it_can(poller: Poller, pipe: tuple[int, int]) -> None:
    """Level-triggered: what is not read is said again."""
    heard: list[str] = []
    poller.watch(pipe[0], lambda: heard.append("read"))
    poller.wait(0)
    assert heard == []
    os.write(pipe[1], b"x")
    poller.wait(None)
    poller.wait(None)
    assert heard == ["read", "read"]
    os.read(pipe[0], 1)
    poller.wait(0)
    assert heard == ["read", "read"]


def test_it_says_what_can_be_written(poller: Poller, pipe: tuple[int, int]) -> None:
    """The same for writing."""
    heard: list[str] = []
    poller.watch(pipe[1], lambda: heard.append("write"), writing=True)
    poller.wait(None)
    assert heard == ["write"]


def test_what_is_unwatched_is_not_called_any_more(poller: Poller, pipe: tuple[int, int]) -> None:
    """Not even if it can be read already."""
    poller.watch(pipe[0], never)
    os.write(pipe[1], b"x")
    poller.unwatch(pipe[0])
    poller.unwatch(pipe[0])  # once more does no harm
    poller.wait(0)


def test_unwatched_by_a_call_of_the_same_turn(poller: Poller, pipe: tuple[int, int]) -> None:
    """A call may end what would come after it."""
    # 1. two descriptors can be read  2. the call of whichever comes first unwatches the other  3. that is not called
    read, write = os.pipe()
    heard: list[str] = []

    def hears(name: str, other: int) -> Callable[[], None]:
        def call() -> None:
            heard.append(name)
            poller.unwatch(other)

        return call

    poller.watch(pipe[0], hears("one", read))
    poller.watch(read, hears("two", pipe[0]))
    os.write(pipe[1], b"x")
    os.write(write, b"x")
    poller.wait(None)
    assert len(heard) == 1
    os.close(read)
    os.close(write)


def test_a_wake_up_before_the_wait_ends_it_and_only_once(poller: Poller) -> None:
    """Wake-ups are kept, and are not counted."""
    poller.wake()
    poller.wake()
    poller.wait(None)  # would never end by itself
    heard = threading.Event()

    def wait() -> None:
        poller.wait(None)
        heard.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not heard.wait(0.05)  # the wake-ups before it are used up
    poller.wake()
    waiter.join()


def test_no_wake_up_of_many_threads_is_lost(poller: Poller) -> None:
    """A lost one would let this test stand still."""
    # each thread wakes only when its last wake-up has been answered: a lost one would stand still
    rounds, threads = 500, 4
    answered = [threading.Semaphore(0) for _ in range(threads)]
    asked = [threading.Event() for _ in range(threads)]

    def ask(which: int) -> None:
        for _ in range(rounds):
            asked[which].set()
            poller.wake()
            answered[which].acquire()

    askers = [threading.Thread(target=ask, args=(which,)) for which in range(threads)]
    for asker in askers:
        asker.start()
    left = rounds * threads
    while left:
        if not any(event.is_set() for event in asked):
            poller.wait(None)
        for event, semaphore in zip(asked, answered, strict=True):
            if event.is_set():
                event.clear()
                semaphore.release()
                left -= 1
    for asker in askers:
        asker.join()


def test_wake_ups_that_nobody_hears_do_not_block(poller: Poller) -> None:
    """Whoever wakes never waits."""
    for _ in range(100_000):
        poller.wake()
    poller.wait(None)


def test_after_the_end_a_wake_up_does_nothing(poller: Poller) -> None:
    """Nor does closing twice."""
    poller.close()
    poller.wake()
    poller.close()


def test_it_may_be_closed_in_the_middle_of_a_wake_up(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. `wake` is about to write, and a signal handler stops it there; 2. the poller is closed; 3. it writes.

    Nobody waits for the other, and what it writes to is still its own.
    """
    written: list[int] = []
    write = poller._wake

    def close_and_write(waker: int) -> None:
        poller.close()
        os.fstat(waker)
        write(waker)
        written.append(waker)

    monkeypatch.setattr(poller, "_wake", close_and_write)
    poller.wake()
    assert len(written) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(written[0])
    poller.wake()
    assert len(written) == 1


def test_in_a_forked_child_the_parents_is_left_alone(poller: Poller, pipe: tuple[int, int]) -> None:
    """Whatever the child does, the parent goes on hearing."""
    # 1. fork  2. the child closes it  3. the parent still hears
    heard: list[str] = []
    poller.watch(pipe[0], lambda: heard.append("read"))
    child = os.fork()
    if child == 0:
        try:
            poller.close()
            poller.wake()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.write(pipe[1], b"x")
    poller.wait(None)
    assert heard == ["read"]


@needs_epoll
def test_ctrl_c_while_the_last_reference_goes() -> None:
    """Whoever wakes may be the last that holds the waker.  Ctrl-C there would be dropped, and the descriptor too."""
    poller = EpollPoller()
    waker: Any = poller._waker
    number = waker.fileno()
    poller.close()
    os.fstat(number)

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        del waker
    finally:
        sys.settrace(before)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
