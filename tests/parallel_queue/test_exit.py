"""What becomes of a queue that nobody stopped when the interpreter exits; and the example, as a program."""

from __future__ import annotations

import os
import queue
import sys

import pytest

from ordered_executor.parallel_queue import ParallelQueue, ShutDown
from tests.helpers import PATIENCE, Journal, Valve, is_dead, stand, until

from .conftest import MakeQueue, MakeValve, Run


def test_forgotten_daemon_is_dropped(run: Run) -> None:
    """With `daemon=True` nothing keeps the interpreter from exiting, and nothing is printed.

    Whatever is still to be done; whoever waits, in threads that are daemons themselves; and also if nobody holds the
    queue any more.
    """
    out = run("""
        gate = Valve("valve")
        def forget():
            results = ParallelQueue(2, daemon=True)
            for _ in range(10):
                results.put(stand, gate)
            gate.reached()
        forget()
        busy = ParallelQueue(2, daemon=True, in_q_max=1, out_q_max=1, worker_q_max=1)
        def flood():
            while True:
                busy.put(same, 1)
        idle = ParallelQueue(2, daemon=True)
        failed = ParallelQueue(2, daemon=True)
        failed.put(fail, "not looked at"); failed.put(same, 1); failed.put(stand, gate)
        for call in (flood, idle.get, failed.get):
            threading.Thread(target=call, daemon=True).start()
        until(lambda: busy._room.parked and idle._executor._scheduler.inbox.stream._readers.parked)
        print("end")
    """)
    assert out == "end\n"


def test_forgotten_daemon_wakes_threads_that_would_wait_for_ever(run: Run) -> None:
    """A thread that is no daemon and waits in `get` or `put` is told that it is over; even if nothing was ever put."""
    out = run("""
        def told(call, *args):
            try:
                call(*args)
            except ShutDown as end:
                print(f"{end}\\n", end="")
        empty = ParallelQueue(2, daemon=True)
        full = ParallelQueue(2, daemon=True, in_q_max=1, out_q_max=1, worker_q_max=1)
        for number in range(3):
            full.put(number)
        threading.Thread(target=told, args=(empty.get,)).start()
        threading.Thread(target=told, args=(full.put, 3)).start()
        until(lambda: full._room.parked and empty._executor._scheduler.inbox.stream._readers.parked)
    """)
    lines = sorted(out.splitlines())
    assert [line.partition(":")[0] for line in lines] == ["nothing can be put any more", "there is nothing more to get"]
    assert all("the main thread has ended" in line for line in lines)


def test_forgotten_queue_finishes_what_was_put(run: Run, journal: Journal) -> None:
    """With `daemon=False` what was put is finished after the main thread has ended, and can be got by other threads."""
    out = run(f"""
        journal = Journal({journal.path!r})
        valves = [Valve(f"valve{{number}}") for number in range(2)]
        results = ParallelQueue(2)
        for valve in valves:
            results.put(stand, valve)
        for number in range(20):
            results.put(note, journal, number)
        for valve in valves:
            valve.reached()

        def let_go_when_main_has_ended():
            until(lambda: results._ended)
            for valve in valves:
                valve.open()

        def consume():
            print([results.get() for _ in range(22)])
            try:
                results.get()
            except ShutDown as end:
                print(end)

        for target in (let_go_when_main_has_ended, consume):
            threading.Thread(target=target).start()
        print("end", flush=True)
    """)
    assert sorted(map(int, journal.read_all())) == list(range(20))
    end, got, over = out.splitlines()
    assert (end, got) == ("end", str([None, None, *range(20)]))
    assert "the main thread has ended" in over


def test_forgotten_queue_prints_nothing(run: Run) -> None:
    """Neither when nothing was ever put, nor with marks only, nor when it was used and everything was got."""
    out = run("""
        ParallelQueue()
        marks = ParallelQueue(); marks.put(1)
        used = ParallelQueue(2); used.put(same, 1); used.get()
        one = ParallelSingleTaskQueue(same, 2); one.put(1); one.get()
        stopped = ParallelQueue(2); stopped.put(same, 1); stopped.get(); stopped.stop()
        daemon = ParallelQueue(2, daemon=True); daemon.put(same, 1); daemon.get(); daemon.stop()
    """)
    assert out == ""


def forget_a_daemon(valve: Valve) -> int:
    """A task that uses a queue of its own, and leaves it with something that never ends."""
    results = ParallelQueue(1, daemon=True)
    results.put(os.getpid)
    results.put(stand, valve)
    sys.forgotten = results  # type: ignore[attr-defined]
    pid: int = results.get()
    return pid


def test_daemon_forgotten_in_a_task_does_not_hold_its_worker(many: MakeQueue, valve: MakeValve) -> None:
    """The worker ends by itself, and the queue's workers with it."""
    results = many(1)
    results.put(forget_a_daemon, valve())
    pid = results.get(timeout=PATIENCE)
    results.stop()
    results.join(timeout=4)  # a worker that does not end by itself is killed after 5 seconds
    assert not results.is_alive()
    until(lambda: is_dead(pid))


def test_example_logs_each_batch_when_it_is_done(run: Run) -> None:
    """A producer, a consumer, and marks between the batches: a mark comes out when its whole batch has."""
    out = run("", "-m", "tests.examples.batch_done")
    assert out.splitlines() == [
        "2 documents done, 8 words known",
        "1 documents done, 12 words known",
        "0 documents done, 12 words known",
    ]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the standard library has no queue.ShutDown")
def test_end_is_that_of_the_standard_library() -> None:
    """Where the standard library has a word for the end of a queue, it is this one."""
    assert ShutDown is queue.ShutDown  # type: ignore[attr-defined,unused-ignore]
