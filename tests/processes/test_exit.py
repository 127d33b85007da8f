"""The end of the program: by itself, by Ctrl-C, by SIGTERM, by SIGKILL.  Whatever happens, no worker stays."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests.helpers import Journal, Script, until

from .conftest import MakeValve, StartScript

# What all programs here begin with.
PREAMBLE = """
import faulthandler, os, signal, sys, threading, time
faulthandler.register(signal.SIGUSR1)
from pathlib import Path
from ordered_executor import OrderedProcessPoolExecutor
from tests.helpers import *

def say(*what):
    print(*what, flush=True)
"""


def program(code: str) -> str:
    """A whole program: what all begin with, and the code."""
    return PREAMBLE + dedent(code)


def finish(started: Script) -> str:
    """Wait for a program that must go well and leave nothing; return what it printed."""
    code, out, err = started.wait()
    assert (code, err) == (0, "")
    assert_gone(started)
    return out


def assert_gone(started: Script, patience: float = 2.0) -> None:
    """No process of the program lives any more, and no file of it is left."""
    until(lambda: not started.processes(), f"the end of {started.processes()}", patience)
    until(lambda: not started.names(), f"the end of {started.names()}")
    assert list(started.temporary.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- by itself


def test_program_that_does_not_shut_down(script: StartScript) -> None:
    """At the end of the program everything submitted is finished; nothing is printed that it did not print."""
    out = finish(
        script(
            "-c",
            program("""
            executor = OrderedProcessPoolExecutor(2)
            for number in range(10):
                executor.submit(take_a_while, number, 0.02).add_done_callback(lambda f: say(f.result()))
            say("end")
            """),
        )
    )
    assert out.split() == ["end", *map(str, range(10))]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_program_with_other_ways_to_start_workers(script: StartScript, tmp_path: Path, method: str) -> None:
    """The same where workers are started by spawn or by the fork server, from a file with a main guard."""
    (tmp_path / "main_program.py").write_text(
        program(f"""
        import multiprocessing
        if __name__ == "__main__":
            executor = OrderedProcessPoolExecutor(2, multiprocessing.get_context({method!r}))
            executor.submit(same, 1).add_done_callback(lambda f: say(f.result()))
            executor.submit(lambda: 2).add_done_callback(lambda f: say(f.result()))
        """)
    )
    assert finish(script("main_program.py")).split() == ["1", "2"]


@pytest.mark.parametrize("unseen_errors", ["log", "raise", "ignore"])
def test_failures_that_nobody_looked_at_are_logged_at_the_end(script: StartScript, unseen_errors: str) -> None:
    """As at shutdown; there is nobody any more to whom they could be raised."""
    code, out, err = script(
        "-c",
        program(f"""
        executor = OrderedProcessPoolExecutor(1, unseen_errors="{unseen_errors}")
        seen, unseen = executor.submit(fail, "seen"), executor.submit(fail, "unseen")
        seen.exception()
        executor.submit(same, 1)
        """),
    ).wait()
    assert (code, out) == (0, "")
    logged = [line for line in err.splitlines() if "nobody" in line]
    assert logged == ([] if unseen_errors == "ignore" else ["nobody looked at the failure of ticket 1"])
    assert ("ValueError: unseen" in err) == (unseen_errors != "ignore")
    assert "ValueError: seen" not in err


def test_worker_that_dies_at_the_end_is_replaced(script: StartScript) -> None:
    """A worker that dies at the end of the program is replaced; its failure is not lost in silence."""
    code, out, err = script(
        "-c",
        program("""
        executor = OrderedProcessPoolExecutor(1)
        executor.submit(lambda: (time.sleep(0.2), os._exit(3)))
        executor.submit(say, "ran")
        """),
    ).wait()
    assert code == 0
    assert "ticket 0" in err
    assert "ran" in out


def test_first_task_at_the_very_end(script: StartScript) -> None:
    """A task submitted as the last statement is finished."""
    out = finish(
        script(
            "-c",
            program("""
            executor = OrderedProcessPoolExecutor(1)
            executor.submit(take_a_while, "done", 0.1).add_done_callback(lambda f: say(f.result()))
            """),
        )
    )
    assert out.split() == ["done"]


def test_head_dies_at_the_end_and_all_others_are_gated(script: StartScript) -> None:
    """Another worker is started for it; the program ends."""
    out = finish(
        script(
            "-c",
            program("""
            executor = OrderedProcessPoolExecutor(2, window=1, retries=1)
            valve = Valve("valve")
            executor.submit(lambda: (valve.stand(), os._exit(3))).add_done_callback(lambda f: say(bool(f.exception())))
            for number in range(5):
                executor.submit(same, number).add_done_callback(lambda f: say(f.exception() is None))
            valve.reached()
            until(lambda: executor.statistics().gated == 1)
            threading._register_atexit(valve.open)  # runs before the executor's own
            """),
        )
    )
    assert out.split() == ["True"] * 6


def test_several_executors_at_the_end(script: StartScript) -> None:
    """Executors that run, wait warm, did nothing, were let go or shut down without waiting: all end."""
    out = finish(
        script(
            "-c",
            program("""
            idle, unused, left, gone, warm = (OrderedProcessPoolExecutor(2) for _ in range(5))
            idle.submit(same, 1).result()
            left.submit(take_a_while, "left", 0.2).add_done_callback(lambda f: say(f.result()))
            left.shutdown(wait=False)
            gone.submit(take_a_while, "gone", 0.2).add_done_callback(lambda f: say(f.result()))
            del gone
            with warm:
                list(warm.map(same, range(100)))
            """),
        )
    )
    assert sorted(out.split()) == ["gone", "left"]


def test_gated_workers_and_an_unread_map_at_the_end(script: StartScript) -> None:
    """Work that stands at the gate when the program ends is finished in order."""
    out = finish(
        script(
            "-c",
            program("""
            executor = OrderedProcessPoolExecutor(3, window=2)
            executor.submit(take_a_while, 0, 0.3).add_done_callback(lambda f: say(f.result()))
            for number in range(1, 10):
                executor.submit(same, number).add_done_callback(lambda f: say(f.result()))
            unread = executor.map(same, range(1000))
            """),
        )
    )
    assert out.split() == [str(number) for number in range(10)]


def test_submit_after_the_end_of_the_main_thread(script: StartScript) -> None:
    """In a function of atexit it is too late: submit raises the standard error."""
    started = script(
        "-c",
        program("""
        import atexit

        @atexit.register
        def too_late():
            try:
                executor.submit(same, 1)
            except RuntimeError as error:
                say(error)

        executor = OrderedProcessPoolExecutor(2)
        executor.submit(same, 1).result()
        """),
    )
    assert "cannot schedule new futures" in finish(started)


def test_callback_that_submits_at_the_end(script: StartScript) -> None:
    """A chain of callbacks that is cut off by the end of the program gets an error, not a hang."""
    code, out, _ = script(
        "-c",
        program("""
        executor = OrderedProcessPoolExecutor(1)
        def again(future):
            say(future.result())
            try:
                executor.submit(take_a_while, future.result() + 1, 0.05).add_done_callback(again)
            except RuntimeError:
                say("refused")
        executor.submit(same, 0).add_done_callback(again)
        """),
    ).wait()
    assert code == 0
    assert out.split()[-1] == "refused"


def test_sys_exit_with_tasks_pending(script: StartScript) -> None:
    """The exit code is the program's; pending work is finished first."""
    started = script(
        "-c",
        program("""
        executor = OrderedProcessPoolExecutor(1)
        executor.submit(take_a_while, "done", 0.1).add_done_callback(lambda f: say(f.result()))
        sys.exit(5)
        """),
    )
    code, out, err = started.wait()
    assert (code, out.split(), err) == (5, ["done"], "")
    assert_gone(started)


def test_os_exit_leaves_no_worker(script: StartScript) -> None:
    """`os._exit` of the parent is a death: workers go with it."""
    started = script(
        "-c",
        program("""
        executor = OrderedProcessPoolExecutor(2)
        for _ in range(2):
            executor.submit(time.sleep, 60)
        executor.submit(same, 1)
        until(lambda: len(executor.statistics().pids) == 2)
        os._exit(3)
        """),
    )
    started.process.wait(30)
    until(lambda: not started.processes(), patience=2.0)


# ----------------------------------------------------------------------------------------------------------- by Ctrl-C

WAITS = {
    "in result": "executor.submit(stand, valve).result()",
    "in results": "executor.submit(stand, valve); list(executor.results())",
    "in a map": "list(executor.map(stand, [valve] * 5))",
    "in shutdown": "executor.submit(stand, valve); executor.shutdown()",
    "in a with block": "with executor: executor.submit(stand, valve); executor.submit(same, 1).result()",
    "in wait": "import concurrent.futures as cf; cf.wait([executor.submit(stand, valve)])",
    "in a sleep": "executor.submit(stand, valve); time.sleep(600)",
    "at its end": "executor.__enter__(); executor.submit(stand, valve); executor.__exit__(None, None, None)",
    "in submit, waiting for room": "full = OrderedProcessPoolExecutor(1, backlog=1);"
    "full.submit(stand, valve); full.submit(same, 1)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_the_program(script: StartScript, valve: MakeValve, wait: str) -> None:
    """One press, wherever the main thread waits: a KeyboardInterrupt, and the program with its workers is gone.

    Tasks are stuck, nobody shuts the executor down, and a terminal sends SIGINT to the whole group, workers included.
    """
    blocked = valve()
    started = script(
        "-c",
        program(f"""
        valve = Valve({blocked.path!r})
        executor = OrderedProcessPoolExecutor(2)
        {WAITS[wait]}
        """),
    )
    blocked.reached()
    begun = time.monotonic()
    os.killpg(started.process.pid, signal.SIGINT)
    code, _, err = started.wait()
    assert time.monotonic() - begun < 10
    assert code == -signal.SIGINT
    assert err.count("Traceback") == 1  # that of the main thread; none from a worker
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    assert_gone(started)


def test_ctrl_c_at_the_end_of_a_with_block(script: StartScript, valve: MakeValve) -> None:
    """It ends the block, as one inside it does: what runs is killed, what waits is cancelled, and it can be caught."""
    blocked = valve()
    started = script(
        "-c",
        program(f"""
        try:
            with OrderedProcessPoolExecutor(1, task_timeout=600) as executor:
                futures = [executor.submit(stand, Valve({blocked.path!r})) for _ in range(3)]
        except KeyboardInterrupt:
            say(type(futures[0].exception()).__name__, futures[1].cancelled(), futures[2].cancelled())
        """),
    )
    blocked.reached()
    started.process.send_signal(signal.SIGINT)
    assert finish(started) == "TaskKilledError True True\n"


def test_ctrl_c_while_workers_start(script: StartScript) -> None:
    """Pressed at any moment of the start, it ends the program without a spray from half-started workers."""
    for delay in (0.0, 0.02, 0.05, 0.1):
        started = script(
            "-c",
            program("""
            from concurrent.futures import TimeoutError
            with OrderedProcessPoolExecutor(2, reuse=False) as executor:
                futures = [executor.submit(time.sleep, 60) for _ in range(2)]
                say("submitted")
                while True:  # not one long wait: CPython may miss a signal that comes just before it
                    try:
                        futures[0].result(timeout=0.05)
                    except TimeoutError:
                        pass
            """),
        )
        assert started.process.stdout is not None
        assert started.process.stdout.readline() == "submitted\n"
        time.sleep(delay)  # any moment will do
        os.killpg(started.process.pid, signal.SIGINT)
        code, _, err = started.wait()
        assert code == -signal.SIGINT
        assert err.count("Traceback") == 1, err
        assert_gone(started)


def test_ctrl_c_leaves_no_hole_in_the_order(script: StartScript) -> None:
    """However often it hits a thread that submits, every ticket that was given out ends."""
    out = finish(
        script(
            "-c",
            program("""
            hits, inside = 0, False

            def interrupt(*_):
                global hits, inside
                if inside:
                    hits, inside = hits + 1, False
                    raise KeyboardInterrupt

            def press():
                while hits <= 10:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.001)

            signal.signal(signal.SIGINT, interrupt)
            executor = OrderedProcessPoolExecutor(1, keep_results=True)
            def submit():
                global inside
                inside = True
                while hits <= 10:  # not is_alive(): interrupted, CPython 3.11 takes the thread for ended
                    executor.submit(same, 1)
                inside = False

            presser = threading.Thread(target=press)
            presser.start()
            while hits <= 10:
                try:
                    submit()
                except KeyboardInterrupt:
                    pass
            presser.join()
            last = executor.submit(same, 2)
            assert last.result() == 2
            seen = executor.statistics()
            assert (seen.head, seen.in_flight) == (seen.tail, 0), seen
            tickets = [outcome.ticket for outcome in executor.outcomes()]
            assert tickets == sorted(set(tickets)) and tickets[-1] == last.ticket
            say(hits)
            """),
        )
    )
    assert int(out) > 10


# ------------------------------------------------------------------------------------------------- by SIGTERM, SIGKILL


def test_sigterm_leaves_no_worker(script: StartScript, valve: MakeValve) -> None:
    """SIGTERM has its usual effect on the program, and takes the workers along."""
    blocked = valve()
    started = standing(script, blocked.path)
    blocked.reached()
    started.process.terminate()
    assert started.process.wait(10) == -signal.SIGTERM
    assert_gone(started)


def standing(script: StartScript, path: str) -> Script:
    """A program with workers in every state: at the gate, warm, starting, and one that stands at the valve."""
    return script(
        "-c",
        program(f"""
        valve = Valve({path!r})
        warm = OrderedProcessPoolExecutor(1, idle_timeout=600)
        warm.submit(same, 1).result()
        warm.shutdown()
        idle = OrderedProcessPoolExecutor(1, reuse=False)
        idle.submit(same, 1).result()
        executor = OrderedProcessPoolExecutor(2, window=2, reuse=False)
        head = executor.submit(time.sleep, 600)
        for _ in range(10):
            executor.submit(same, 1)
        until(lambda: executor.statistics().gated == 1)
        starting = OrderedProcessPoolExecutor(1, initializer=valve.stand)
        starting.submit(same, 1).result()
        """),
    )


def test_killed_parent_takes_all_workers_along(script: StartScript, valve: MakeValve) -> None:
    """When the parent is killed, workers that run, gate, idle, wait warm or start are gone within two seconds."""
    blocked = valve()
    started = standing(script, blocked.path)
    blocked.reached()
    assert len(started.processes()) >= 6
    started.process.kill()
    started.process.wait()
    assert_gone(started)


def test_parent_killed_while_workers_start(script: StartScript) -> None:
    """At any moment of their start, workers whose parent is gone go, too."""
    for delay in (0.0, 0.03, 0.06, 0.1):
        started = script(
            "-c",
            program("""
            executor = OrderedProcessPoolExecutor(2)
            for _ in range(2):
                executor.submit(time.sleep, 60)
            say("submitted")
            time.sleep(60)
            """),
        )
        assert started.process.stdout is not None
        assert started.process.stdout.readline() == "submitted\n"
        time.sleep(delay)  # any moment will do
        started.process.kill()
        started.process.wait()
        assert_gone(started, patience=10.0)  # Python starts before anything of ours does


def test_killed_parent_takes_stopped_and_stuck_workers_along(script: StartScript, journal: Journal) -> None:
    """Also a worker that is stopped, and one that holds the interpreter lock in C code."""
    started = script(
        "-c",
        program(f"""
        journal = Journal({journal.path!r})
        executor = OrderedProcessPoolExecutor(2, reuse=False)
        executor.submit(hold_the_gil, journal)
        executor.submit(note_and_die, journal, "stopped", signal.SIGSTOP)
        executor.shutdown()
        """),
    )
    lines = {journal.read(), journal.read()}
    assert "stopped" in lines
    until(lambda: any(_status(process) == psutil.STATUS_STOPPED for process in started.processes()))
    started.process.kill()
    started.process.wait()
    assert_gone(started)


def _status(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error):
        return str(process.status())
    return None


def test_killed_process_group_leaves_nothing(script: StartScript, valve: MakeValve) -> None:
    """The whole group killed at once, resource trackers included: no process of ours, no file in /tmp."""
    blocked = valve()
    started = standing(script, blocked.path)
    blocked.reached()
    os.killpg(started.process.pid, signal.SIGKILL)
    started.process.wait()
    until(lambda: not started.processes(), patience=2.0)
    assert list(started.temporary.iterdir()) == []
    assert not started.names()


def test_the_resource_tracker_can_be_stopped(script: StartScript) -> None:
    """As CPython's own tests do it: that waits for all who could write to the tracker, and so for the warm workers.

    They leave by themselves, and nobody has told the tracker anything.
    """
    code, out, err = script(
        "-c",
        program("""
        import multiprocessing
        from multiprocessing.resource_tracker import _resource_tracker
        for context in ("spawn", "forkserver", None):
            method = context and multiprocessing.get_context(context)
            for kind in range(2):
                with OrderedProcessPoolExecutor(2, method, int, (kind,), idle_timeout=2) as executor:
                    list(executor.map(same, range(100), chunksize=1))
        _resource_tracker._stop()
        say("over")
        """),
    ).wait()
    assert (code, out, err) == (0, "over\n", "")
