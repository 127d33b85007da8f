"""The backend of worker processes: each lane is a process that loky's means start, with pipes and memory of its own.

Lanes share nothing: a crash, a kill and a timeout cost one lane, and the blame is exact.

    STARTING --READY--> SERVING --retire, close--> ENDING --process gone--> (off the list)
        |                  |                          |
        +------------------+----- process gone -------+---> Lost, or nothing if nothing was lost

All of it runs on the scheduler, except `wake`.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from ordered_executor._base.tasks import Batch
from ordered_executor._channel import frames
from ordered_executor._channel.gate import Seat
from ordered_executor._core.backend import Arrived, Backend, Broken, Ended, Event, Ready, Returned, Row, Slow, Snapshot
from ordered_executor._core.window import Window
from ordered_executor._pickling.buffer_pool import buffer_pool
from ordered_executor._pickling.logs import hand_on, levels_here
from ordered_executor._pickling.outcomes import unpack
from ordered_executor._processes import idle_workers
from ordered_executor._processes.alarms import NEVER, Alarms
from ordered_executor._processes.arrivals import join_last_two, read_done, read_large
from ordered_executor._processes.crash_report import describe_loss, examine
from ordered_executor._processes.poller import make_poller
from ordered_executor._processes.reach import Gated, Reach
from ordered_executor._processes.start import Starter
from ordered_executor._processes.task_stop import look_at_running
from ordered_executor._processes.timers import (
    END_SECONDS,
    look_at_end,
    look_at_start,
    look_for_idleness,
    look_for_outcomes,
)
from ordered_executor._processes.worker_handle import ENDING, PEEK_SECONDS, SERVING, Lane, LaneKind, kill

# How long a worker that was told to end may still take when all are to be killed.
LEAVE_SECONDS = 1.0
# How long a worker may take to follow SIGTERM.
TERMINATE_SECONDS = 5.0
# How often to look for the end of a process where nothing tells of it; and soon after its pipe has ended.
LOOK_SECONDS, SOON_SECONDS = 0.1, 0.005
# How long a fork server may take to say how a process ended.
REAP_SECONDS = 0.3
# epoll takes no more than 24 days; whoever sleeps so long may look at the clock once an hour.
LONGEST_SLEEP = 3600.0


class LokyBackend(Backend):
    """Lanes of loky workers.  See `_core.backend.Backend`."""

    def __init__(
        self,
        kind: LaneKind,
        window: Window,
        max_lanes: int,
        quota: int | None = None,
        timeout: float | None = None,
        reuse: bool = True,
        idle_timeout: float | None = 10.0,
        forward_logs: bool = False,
    ) -> None:
        self._forward_logs = forward_logs
        self._kind, self._starter = kind, Starter(kind)
        self._window = window
        self._max_lanes = max_lanes
        self._quota = quota
        self._timeout = timeout
        self._reuse = reuse and quota is None
        self._idle_timeout = idle_timeout
        self._lanes: set[Lane] = set()
        self._free_seats = [Seat(number) for number in reversed(range(max_lanes))]  # the last is taken first
        self._seated: dict[Seat, Lane] = {}
        self._leaving = 0  # of the lanes: those that have been told to end, or are being killed
        self._gated = Gated()
        self._reach = Reach()
        self._alarms = Alarms()
        self._events: list[Event] = []
        self._head = self._limit = 0
        self._closing = self._hurried = False
        self._wanted = 0
        self._lost = 0  # lanes
        self._on_frame: dict[int, Callable[[Lane, memoryview], None]] = {
            frames.READY: self._on_ready,
            frames.INIT_FAILED: self._on_init_failed,
            frames.DONE: self._on_done,
            frames.LARGE: self._on_large,
            frames.ASK: self._on_ask,
            frames.RETURNED: self._on_returned,
            frames.LOG: self._on_log,
        }
        self._poller = make_poller()
        buffer_pool.hold(self)

    # --------------------------------------------------------------------------------------------------- any thread

    def wake(self) -> None:
        self._poller.wake()

    # --------------------------------------------------------------------------------------------------- lanes begin

    def want(self, lanes: int) -> None:
        self._wanted = lanes
        if self._starter.again_at is not None:
            return  # it failed a moment ago
        missing = min(lanes, self._max_lanes) - (len(self._lanes) - self._leaving)
        for _ in range(missing):
            if not self._open_lane():
                break

    def _stuck(self) -> bool:
        return len(self._gated) == len(self._lanes)

    def _open_lane(self) -> bool:
        lane = idle_workers.take(self._kind) if self._reuse else None
        if lane is None:
            if self._starter.holds_back(serving=bool(self._seated)):
                return False
            try:
                lane = self._starter.start(len(self._lanes))
            except Exception as error:
                self._cannot_start(error)
                return False
        lane.after = self._lost
        self._lanes.add(lane)
        self._alarms.add(lane)
        self._poller.watch(lane.reader_fd, partial(self._on_frames, lane))
        if lane.opening:
            opening, lane.opening = lane.opening, []
            self._put(lane, *opening)
        self._watch_process(lane)
        if lane.state == SERVING:
            self._lend(lane)
        elif self._timeout is not None:
            lane.start_deadline = time.monotonic() + self._timeout
        return True

    def _cannot_start(self, error: Exception) -> None:
        reason = self._starter.failed(error, len(self._lanes), stuck=self._stuck())
        if reason is not None:
            self._events.append(Broken(reason))

    def _lend(self, lane: Lane) -> None:
        seat = self._free_seats.pop()
        lane.begin_lease(seat, self._head, self._limit)
        lane.hurried = self._hurried
        self._put(lane, lane.lease_frame(self._window.credit, levels_here() if self._forward_logs else None))
        self._seated[seat] = lane
        self._events.append(Ready(lane, self._quota))

    def _watch_process(self, lane: Lane) -> None:
        """Hear of its end: by its handle, or else by the end of its pipe and by the clock."""
        if lane.process.fd is not None:
            self._poller.watch(lane.process.fd, partial(self._on_death, lane))
        else:
            lane.end_at = time.monotonic() + LOOK_SECONDS

    # ----------------------------------------------------------------------------------------------------- to a lane

    def send(self, lane: Any, batch: Batch) -> None:
        lane.open(self._head, self._limit)
        self._put(lane, *lane.batch_frame(batch))
        self._reach.sent(lane, batch.first, batch.count, self._head, self._limit)
        self._alarms.touch(lane)

    def done(self, lane: Any, batch: Batch) -> None:
        lane.batch_done(batch.number)
        self._alarms.touch(lane)

    def give_back(self, lane: Any, size: int) -> None:
        lane.seat.unreleased -= size
        sitter = self._seated.get(lane.seat)  # the lane itself, or the one that came after it
        if sitter is not None:
            sitter.give_back(size)
            if sitter in self._gated:
                self._judge(sitter)

    def open(self, head: int, limit: int) -> None:
        self._head, self._limit = head, limit
        for lane in self._reach.moved(head, limit):
            if lane.state == SERVING and lane in self._lanes:
                lane.open(head, limit)
                self._alarms.touch(lane)
        for lane in self._gated.moved(head, limit):
            self._judge(lane)

    def _judge(self, lane: Lane) -> None:
        """Let a gated lane pass, if it may.  By the newest words, which are in its memory already."""
        ticket, size = lane.asks
        if self._window.passes(self._head, ticket, size, lane.seat.unreleased):
            self._gated.discard(lane)
            lane.passed()
            self._put(lane, lane.frame(frames.OPEN))
        elif lane not in self._gated:
            self._gated.add(lane, ticket)
            lane.gated_at = time.monotonic()

    def _put(self, lane: Lane, *parts: bytes) -> None:
        lane.writer.put(*parts)
        self._watch_writing(lane)

    def _watch_writing(self, lane: Lane) -> None:
        """Have the poller say when the pipe takes more, as long as something is left."""
        pending = lane.writer.pending
        if pending and not lane.writing:
            self._poller.watch(lane.writer_fd, partial(self._on_writable, lane), writing=True)
        elif lane.writing and not pending:
            self._poller.unwatch(lane.writer_fd)
        lane.writing = pending

    def _on_writable(self, lane: Lane) -> None:
        lane.writer.flush()
        self._watch_writing(lane)

    # --------------------------------------------------------------------------------------------------- from a lane

    def wait(self, timeout: float | None) -> list[Event]:
        if self._events:
            timeout = 0
        look = self._next_look()
        if look < NEVER:
            left = min(max(0.0, look - time.monotonic()), LONGEST_SLEEP)
            timeout = left if timeout is None else min(timeout, left)
        self._poller.wait(timeout)
        if look < NEVER and (now := time.monotonic()) >= look:
            self._look_at_clock(now)
        events, self._events = self._events, []
        return events

    def _on_frames(self, lane: Lane) -> None:
        if lane not in self._lanes:
            return
        for kind, lease, body in lane.reader.frames():
            if lease == lane.lease or kind in (frames.READY, frames.INIT_FAILED):  # else: of an earlier lease
                self._on_frame[kind](lane, body)
        lane.heard = time.monotonic()
        lane.peek_after = PEEK_SECONDS
        self._alarms.touch(lane)
        if lane.reader.ended:
            self._unregister(lane.reader_fd)
            if lane.process.fd is None:
                lane.end_at = time.monotonic() + SOON_SECONDS

    def _on_ask(self, lane: Lane, body: memoryview) -> None:
        ticket, size = frames.unpack(body)
        lane.asks = (ticket, size)
        self._judge(lane)

    def _on_log(self, lane: Lane, body: memoryview) -> None:
        (ticket, attempt, worker), record = frames.split(body)
        hand_on(record, ticket, attempt, worker)

    def _on_returned(self, lane: Lane, body: memoryview) -> None:
        number, start, apart, recalled = frames.unpack(body)
        lane.handed_back(number, start)
        self._events.append(Returned(lane, number, start, apart, recalled))

    def _on_ready(self, lane: Lane, body: memoryview) -> None:
        lane.ready(*frames.unpack(body))
        if not self._closing:
            self._lend(lane)
        elif not (self._reuse and self._keep_warm(lane)):
            self._end(lane)

    def _on_init_failed(self, lane: Lane, body: memoryview) -> None:
        (packed,) = frames.unpack(body)
        lane.ready()
        _, error = unpack(packed, lambda: "raised by the initializer")
        reason = BrokenProcessPool(f"the initializer failed in a worker: {type(error).__name__}: {error}")
        reason.__cause__ = error
        self._leave(lane)  # by itself: what it has logged is to come out
        self._events.append(Broken(reason))

    def _on_done(self, lane: Lane, body: memoryview) -> None:
        self._arrive(lane, read_done(lane, body))

    def _on_large(self, lane: Lane, body: memoryview) -> None:
        self._arrive(lane, read_large(lane, body))
        join_last_two(self._events)

    def _arrive(self, lane: Lane, event: Arrived) -> None:
        if lane.state == ENDING:
            event.size = 0  # known already; it would be counted for who has the seat now
        lane.seat.unreleased += event.size
        lane.sent_batches.arrived(event.number, event.start + len(event.outcomes))
        self._events.append(event)

    # ------------------------------------------------------------------------------------------------------ the clock

    def _next_look(self) -> float:
        """When somebody must be looked at, at the earliest."""
        return min(self._alarms.next(), self._starter.due())

    def _look_at_clock(self, now: float) -> None:
        if self._starter.look(now):
            self.want(self._wanted)
        for lane in self._alarms.take(now):
            if lane in self._lanes:
                self._look_at(lane, now)

    def _look_at(self, lane: Any, now: float) -> None:
        look_at_end(lane, now)
        if lane.end_at is not None and now >= lane.end_at:
            lane.end_at = now + (SOON_SECONDS if lane.reader.ended else LOOK_SECONDS)
            self._on_death(lane)
            if lane not in self._lanes:
                return
        if look_for_idleness(lane, now):
            self._put(lane, lane.frame(frames.TRIM))
            lane.sent_batches.give_back()
            if not any(other.sent_batches.busy for other in self._lanes):
                buffer_pool.trim()
        if look_at_start(lane, now, self._timeout):
            text = f"the initializer took longer than task_timeout={self._timeout} s"
            self._events.append(Broken(BrokenProcessPool(text)))
        gated = lane in self._gated
        if peeked := look_for_outcomes(lane, now, gated=gated):
            self._arrive(lane, Arrived(lane, *peeked[:3], 0, 0.0, False, peeked.times))
        if lane.slow and lane.hurried:
            self._events.append(Slow(lane))
        if now >= lane.timeout_at():
            look_at_running(lane, now, gated=gated)

    # ------------------------------------------------------------------------- taking back; the first three, any thread

    def recall(self, lane: Any) -> None:
        lane.recall()

    def begun(self, lane: Any, number: int) -> int:
        return int(lane.begun(number))

    def settled(self, lane: Any, number: int, *, may_stop: bool = False) -> int:
        return int(lane.settled(number, may_stop=may_stop))

    def hurry(self, on: bool) -> None:
        self._hurried = on
        for lane in self._lanes:  # when nothing waits any more, so not in each turn
            lane.hurried = on
            self._alarms.touch(lane)

    # ----------------------------------------------------------------------------------------------- kill, and death

    def kill(self, lane: Any, number: int, index: int, reason: BaseException) -> None:
        for sent in lane.sent_batches.sent:
            if sent.number == number:
                sent.kills[index] = reason
                sent.look_at = 0.0  # now, or as soon as it is this batch's turn
                self._alarms.touch(lane)

    def _on_death(self, lane: Lane) -> None:
        """The process is gone, if it is."""
        if lane not in self._lanes or not lane.process.gone():
            return
        self._alarms.touch(lane)
        if lane.process.exitcode is None and self._may_still_be_told(lane):
            return
        self._on_frames(lane)  # what it sent before is not lost
        self._forget(lane)
        if lane.state == ENDING:
            self._events.append(Ended(lane))
        else:
            self._report(lane)
        lane.close()

    def _may_still_be_told(self, lane: Lane) -> bool:
        """Its fork server says how it ended a little later than its handle says that it did."""
        now = time.monotonic()
        if lane.gone_since is None:
            lane.gone_since = now
            self._unregister(lane.process.fd)
        lane.end_at = now + SOON_SECONDS
        return now < lane.gone_since + REAP_SECONDS

    def _unregister(self, *fds: int | None) -> None:
        for fd in fds:
            if fd is not None:
                self._poller.unwatch(fd)

    def _forget(self, lane: Lane) -> None:
        """Off the list, and not watched any more."""
        self._unseat(lane)
        self._lanes.discard(lane)
        self._leaving -= lane.state == ENDING
        self._gated.discard(lane)
        self._alarms.forget(lane)
        self._unregister(lane.reader_fd, lane.writer_fd, lane.process.fd)
        lane.writing = False

    def _report(self, lane: Lane) -> None:
        """Rescue what a dead lane has finished; say whom it died of."""
        rescued, blame, suspect, error = examine(lane)
        if rescued is not None:
            # The gate did not see all of it: one batch a dead worker, at most.
            self._arrive(lane, Arrived(lane, *rescued[:4], 0.0, True, rescued.times))
        self._lost += 1
        self._events.append(describe_loss(lane, blame, suspect, error))

    # ------------------------------------------------------------------------------------------------------- lanes end

    def retire(self, lane: Any) -> None:
        if lane.state == SERVING:
            self._end(lane)

    def _end(self, lane: Lane) -> None:
        """Tell an idle lane to end."""
        self._put(lane, lane.frame(frames.END))
        self._leave(lane)

    def _leave(self, lane: Lane) -> None:
        """The worker is about to end."""
        self._unseat(lane)
        self._begin_end(lane, time.monotonic() + END_SECONDS)

    def _begin_end(self, lane: Lane, kill_at: float) -> None:
        """It is on its way out; killed if it is not gone by then."""
        self._leaving += lane.state != ENDING
        lane.state = ENDING
        lane.kill_at = kill_at
        self._alarms.touch(lane)

    def _unseat(self, lane: Lane) -> None:
        """It sends nothing more: its seat is free, with what it has sent charged to it."""
        if self._seated.get(lane.seat) is lane:
            del self._seated[lane.seat]
            self._free_seats.append(lane.seat)

    def close(self, kill: bool) -> None:
        self._closing = True
        now = time.monotonic()
        if kill:
            self._kill_all(now)
            return
        for lane in tuple(self._lanes):
            self._alarms.touch(lane)
            if lane.state == ENDING or (self._reuse and self._keep_warm(lane)):
                pass
            elif lane.state == SERVING:
                self._end(lane)
            elif self._kind.initializer is not None:
                lane.kill_at = now + END_SECONDS  # the user's code is not cut short, if it is ready soon
            else:
                self._kill(now, lane)  # it has done nothing, and may find its program gone

    def _kill_all(self, now: float) -> None:
        for lane in self._lanes:
            self._alarms.touch(lane)
            if lane.state == ENDING:
                lane.kill_at = min(lane.kill_at or 0.0, now + LEAVE_SECONDS)
        self._kill(now, *[lane for lane in self._lanes if lane.state < ENDING])

    def _kill(self, now: float, *killed: Lane) -> None:
        kill(killed)
        for lane in killed:
            self._begin_end(lane, now + END_SECONDS)  # once more

    def terminate(self) -> None:
        """As `close(kill=True)`, but SIGTERM comes first, and each worker has some seconds to follow it."""
        self._closing = True
        now = time.monotonic()
        for lane in tuple(self._lanes):
            if lane.state == SERVING:
                self._end(lane)
            lane.process.signal(signal.SIGTERM)
            lane.kill_at = now + TERMINATE_SECONDS
            self._alarms.touch(lane)

    def _keep_warm(self, lane: Lane) -> bool:
        """Leave an idle lane to the next executor; False if it is not fit, or this is the end of the program."""
        if (
            lane.state != SERVING
            or lane.writing
            or lane.sent_batches.busy
            or lane.pending_kill is not None
            or not lane.lives()
        ):
            return False
        if not threading.main_thread().is_alive():
            return False
        self._forget(lane)
        idle_workers.give(lane, self._idle_timeout)
        return True

    @property
    def closed(self) -> bool:
        return self._closing and not self._lanes

    def release(self) -> None:
        """After `closed`: the last things."""
        self._reach, self._alarms, self._gated = Reach(), Alarms(), Gated()  # they may keep some that are gone
        buffer_pool.let_go(self)
        multiprocessing.active_children()  # joins what has ended, which lets go of what multiprocessing keeps for it
        self._poller.close()

    def abandon(self) -> None:
        self._poller.close()  # the lanes close their own (see _lane)

    def rows(self) -> list[Row]:
        now = time.monotonic()
        return [row for lane in list(self._lanes) if (row := lane.row(now, gated=lane in self._gated)) is not None]

    def snapshot(self) -> Snapshot:
        lanes = list(self._lanes)
        return Snapshot(
            sum(lane.state <= SERVING for lane in lanes),
            len(self._gated),
            tuple(sorted(lane.pid for lane in lanes if lane.state == SERVING)),
        )
