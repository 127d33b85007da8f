"""Waiting for descriptors: the waiting thread is told what can be read or written, and any thread may wake it.

On Linux it uses epoll and an edge-triggered eventfd, so that a wake-up need not be read away.  That would be one more
system call, and at each one Python lets another thread run, just when a task is to be sent.  On other systems it uses
`selectors` and a pipe.

One thread waits, watches, unwatches and closes.  Any thread may call `wake`, also in a signal handler or a finalizer.
`wake` takes no lock: if a handler waited in the middle of it for that one thread, the thread could not close.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
from collections.abc import Callable
from typing import Protocol

Call = Callable[[], object]


class Waker(Protocol):
    """What `wake` writes to.  It is closed with the last reference to it, so nobody writes to what is another's."""

    def fileno(self) -> int: ...


class Descriptor:
    """A waker of its own."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self._number)


class Poller:
    """What both kinds have in common: waking, and the end."""

    def __init__(self, waker: Waker) -> None:
        self._waker: Waker | None = waker

    def watch(self, fd: int, call: Call, *, writing: bool = False) -> None:
        """Call `call` in every `wait` in which the descriptor can be read (or written)."""
        raise NotImplementedError

    def unwatch(self, fd: int) -> None:
        """No more; nothing happens if it is not watched, or closed."""
        raise NotImplementedError

    def wait(self, timeout: float | None) -> None:
        """Wait for something, at most so many seconds; call what is to be called.  Returns when woken, too."""
        raise NotImplementedError

    def wake(self) -> None:
        """Let `wait` return, the one that runs or the next.  Never blocks; after `close` it does nothing."""
        waker = self._waker
        if waker is not None:
            self._wake(waker.fileno())

    def close(self) -> None:
        if self._waker is not None:
            self._waker = None
            self._close()

    @staticmethod
    def _wake(waker: int) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


class EpollPoller(Poller):
    """On Linux."""

    def __init__(self) -> None:
        waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Not for polling: an object that closes its descriptor with its last reference, and runs no Python for that,
        # where Ctrl-C could come in.
        super().__init__(select.epoll.fromfd(waker))
        self._calls: dict[int, Call] = {}
        self._epoll = select.epoll()
        self._epoll.register(waker, select.EPOLLIN | select.EPOLLET)  # each write is an edge, read or not

    def watch(self, fd: int, call: Call, *, writing: bool = False) -> None:
        self._epoll.register(fd, select.EPOLLOUT if writing else select.EPOLLIN)
        self._calls[fd] = call

    def unwatch(self, fd: int) -> None:
        if self._calls.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def wait(self, timeout: float | None) -> None:
        for fd, _ in self._epoll.poll(timeout):
            call = self._calls.get(fd)  # the waker has none; and a call before this one may have unwatched it
            if call is not None:
                call()

    @staticmethod
    def _wake(waker: int) -> None:
        os.eventfd_write(waker, 1)

    def _close(self) -> None:
        self._epoll.close()


class SelectorPoller(Poller):
    """Where there is no epoll or no eventfd."""

    def __init__(self) -> None:
        self._read, waker = os.pipe()
        super().__init__(Descriptor(waker))
        self._selector = selectors.DefaultSelector()
        os.set_blocking(self._read, False)
        os.set_blocking(waker, False)
        self._selector.register(self._read, selectors.EVENT_READ, self._drain)

    def watch(self, fd: int, call: Call, *, writing: bool = False) -> None:
        self._selector.register(fd, selectors.EVENT_WRITE if writing else selectors.EVENT_READ, call)

    def unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if self._selector.get_map().get(key.fd) is key:  # else a call before this one has unwatched it
                key.data()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    @staticmethod
    def _wake(waker: int) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full: it is awake already; broken: it is closed
            os.write(waker, b"!")

    def _close(self) -> None:
        self._selector.close()
        os.close(self._read)


def make_poller() -> Poller:
    return EpollPoller() if hasattr(select, "epoll") and hasattr(os, "eventfd") else SelectorPoller()
