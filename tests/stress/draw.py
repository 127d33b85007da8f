"""Draws plans: all of a pipeline's chances are decided here, by its seed and number alone."""

from __future__ import annotations

from random import Random

from .cargo import KINDS, SMALL_KINDS
from .plan import (
    ARGUMENT_FAULTS,
    DEATHS,
    DIES_ONCE,
    ENDINGS,
    FATAL_INITIALIZERS,
    FOR_EVER,
    FUTURES,
    HARMLESS,
    INITIALIZERS,
    KILLERS,
    KILLS,
    OTHER_MISCHIEF,
    RAISES,
    RAISES_NOT_FOR_ASYNC,
    RESULT_FAULTS,
    SIGNALS,
    STREAMS,
    STUCK,
    Map,
    Mischief,
    Plan,
    Task,
)

# What a stuck task is given.  Tasks that are not stuck get much more, so that a slow machine is not taken for a fault.
STUCK_SECONDS = 0.25
ROOMY_SECONDS = 3.0
MOST_BYTES = 48 * 1024 * 1024  # payload of one pipeline


def draw(seed: int, number: int) -> Plan:
    """The plan with that number."""
    return _Draw(seed, number).plan()


class _Draw:
    def __init__(self, seed: int, number: int) -> None:
        self.seed, self.number = seed, number
        self.rng = rng = Random(f"{seed}/{number}")
        self.is_async = rng.random() < 0.25
        self.retries = rng.choice([0, 0, 0, 1, 2])
        self.timeout = ROOMY_SECONDS if rng.random() < 0.3 else None
        # habits
        self.pace = rng.choice([0.0, 0.0, 0.0003, 0.002, 0.01])
        self.slow = rng.choice([0.0, 0.0, 0.02])  # how often a task is much slower than the others
        self.large = rng.choice([0.0, 0.0, 0.0, 0.05, 0.5])  # how often a payload is large
        self.small = rng.choice([10, 100, 3000])
        self.kinds = rng.sample(SMALL_KINDS, rng.randint(1, 3))
        self.given = rng.choice([0.0, 0.0, 0.3])  # how often a task gets a payload
        self.calls = ["function"] if rng.random() < 0.6 else ["function", "closure", "partial", "method", "mark"]
        self.fault_rate = rng.choice([0.0, 0.0, 0.01, 0.05, 0.2])
        self.menu = self._menu()
        self.starts_left, self.stuck_left, self.bytes_left = 6, 2, MOST_BYTES  # of new processes, of timeouts
        self.uid = 0

    def _menu(self) -> list[str]:
        menu = [*RAISES, *HARMLESS, *ARGUMENT_FAULTS, *RESULT_FAULTS, *DEATHS, DIES_ONCE, *STUCK]
        if not self.is_async:
            menu += RAISES_NOT_FOR_ASYNC
        return self.rng.sample(menu, self.rng.choice([1, 3, 8]))

    # ---------------------------------------------------------------------------------------------------- the tasks

    def task(self, calls: list[str]) -> Task:
        rng = self.rng
        self.uid += 1
        fault = self._fault()
        timeout, retries = self.timeout, self.retries
        if rng.random() < 0.05:
            retries = rng.choice([0, 1, 3])
        if fault in STUCK:
            timeout = STUCK_SECONDS
        call = rng.choice(calls)
        if call == "mark" and fault:
            call = "function"
        kind, size = self._payload()
        argument, argument_size = self._payload() if rng.random() < self.given else ("", 0)
        seconds = self.pace * rng.choice([0, 0.5, 1, 1, 3])
        if rng.random() < self.slow:
            seconds += rng.uniform(0.02, 0.15)
        pause = rng.uniform(0, 0.01) if rng.random() < 0.01 else 0.0
        return Task(self.uid, seconds, kind, size, argument, argument_size, call, fault, retries, timeout, pause)

    def _fault(self) -> str:
        rng = self.rng
        if rng.random() >= self.fault_rate:
            return ""
        fault = rng.choice(self.menu)
        if fault in STUCK:
            self.stuck_left -= 1
            return fault if self.stuck_left >= 0 else ""
        if fault in KILLERS or fault in HARMLESS:
            self.starts_left -= 1
            return fault if self.starts_left >= 0 else ""
        return fault

    def _payload(self) -> tuple[str, int]:
        rng = self.rng
        if rng.random() >= self.large or self.bytes_left <= 0:
            return rng.choice(self.kinds), rng.randint(0, self.small)
        size = int(10 ** rng.uniform(4, 6.6))
        self.bytes_left -= size
        return rng.choice(KINDS[2:]), size

    def map(self) -> Map:
        rng = self.rng
        count = rng.choice([0, 1, 30, 200, 1000 if self.pace < 0.001 else 100])
        tasks = tuple(self.task(["function"]) for _ in range(count))
        # one setting for all of a map
        retries = self.retries if rng.random() < 0.7 else rng.choice([0, 1])
        # the others share it with the stuck ones, and may have to import what they need first, on a busy machine
        timeout = ROOMY_SECONDS if any(task.fault in STUCK for task in tasks) else self.timeout
        tasks = tuple(
            Task(t.uid, t.seconds, t.answer, t.size, t.argument, t.argument_size, "function", t.fault, retries, timeout)
            for t in tasks
        )
        buffersize = rng.choice([None, 1, 8, 100])
        return Map(
            tasks,
            chunksize=rng.choice([None, None, 1, 7, 50]),
            buffersize=buffersize,
            stop_after=rng.randint(0, count) if rng.random() < 0.2 else None,
            input_fails=tuple(sorted(rng.choices(range(count + 1), k=rng.choice([1, 3]))))
            if rng.random() < 0.3
            else (),
            errors=rng.choice(["raise", "yield"]),
            prefetch=buffersize is not None and rng.random() < 0.4,
        )

    # ------------------------------------------------------------------------------------------------- the pipeline

    def plan(self) -> Plan:
        rng = self.rng
        quick = self.pace < 0.001
        tasks = tuple(self.task(self.calls) for _ in range(rng.choice([5, 20, 60, 200, 1500 if quick else 200])))
        maps = tuple(self.map() for _ in range(rng.choice([0, 0, 0, 1, 2])))
        workers = rng.choice([1, 2, 2, 3, 3, 4])
        everything = [*tasks, *(task for one in maps for task in one.tasks)]
        length = 0.1 + min(3.0, sum(task.seconds for task in everything) / workers + len(everything) * 5e-5)
        ending = rng.choice(ENDINGS) if rng.random() < 0.5 else "with"
        stream, futures, hold, keep = self._reading(ending)
        backlog = rng.choice([1, 4, 50]) if rng.random() < 0.25 and (stream or futures == "result") else None
        signal = rng.choice(SIGNALS) if rng.random() < 0.08 else ""
        initializer = rng.choice(INITIALIZERS) if rng.random() < 0.08 else ""
        timeout = self.timeout
        if initializer == "hangs":
            timeout = 1.0
            tasks, maps = tuple(task for task in tasks if task.fault not in STUCK)[:20], ()
        return Plan(
            seed=self.seed,
            number=self.number,
            max_workers=workers,
            context=rng.choice(["spawn", "forkserver", "loky"]) if rng.random() < 0.08 else None,
            reuse=rng.random() < 0.6,
            idle_timeout=rng.choice([10.0, 10.0, 0.05]),
            max_tasks_per_child=self._quota(len(everything)),
            window=rng.choice([1, 2, 4, 30, 500]) if rng.random() < 0.5 else None,
            window_bytes=rng.choice([1, 100_000, 2_000_000]) if rng.random() < 0.2 else 64 * 1024 * 1024,
            backlog=backlog,
            retries=self.retries,
            task_timeout=timeout,
            keep_results=keep,
            unseen_errors=rng.choice(["log", "ignore", "raise"]),
            initializer=initializer,
            tasks=tasks,
            maps=maps,
            submitters=rng.choice([1, 1, 3]),
            stream=stream,
            readers=rng.choice([1, 1, 3]) if stream == "outcomes" else 1,
            follow=rng.random() < 0.7,
            futures=futures,
            callbacks=rng.random() < 0.7,
            hold=hold,
            mischief=self._mischief(length, initializer),
            ending=ending,
            ending_at=rng.uniform(0, length),
            signal=signal,
            signal_at=rng.uniform(0, length) + 0.3 * rng.random(),
            look_for_leaks=rng.random() < 0.2,
        )

    def _quota(self, tasks: int) -> int | None:
        """Tasks of one worker, mostly any number: a worker takes long to start, so not too many of them."""
        if self.rng.random() < 0.85 or tasks > 400:
            return None
        return self.rng.choice([quota for quota in (1, 3, 40) if tasks <= 25 * quota or quota == 40])

    def _reading(self, ending: str) -> tuple[str, str, bool, bool | None]:
        """Who reads the stream, who reads the futures, whether the futures are held, whether results are kept."""
        rng = self.rng
        streams = [s for s in STREAMS if s.startswith("async") == self.is_async or not s]
        stream = rng.choice(streams)
        futures = rng.choice([f for f in FUTURES if self.is_async or f != "wrap_future"])
        keep = rng.choice([None, None, True]) if stream else rng.choice([None, None, True, False, False])
        hold = not stream or bool(futures) or ending == "dropped" or rng.random() < 0.6
        if keep is False and futures == "":
            futures = "result"
        return stream, futures, hold, keep

    def _mischief(self, length: float, initializer: str) -> tuple[Mischief, ...]:
        rng = self.rng
        if initializer in FATAL_INITIALIZERS:
            return ()
        found: list[Mischief] = []
        kills = rng.choice([0, 0, 0, 1, 3, 8])
        found += [self._one(length, rng.choice(KILLS)) for _ in range(kills)]
        found += [self._one(length, rng.choice(OTHER_MISCHIEF)) for _ in range(rng.choice([0, 0, 2, 10]))]
        if self.timeout is not None and rng.random() < 0.3:
            found.append(self._one(length, FOR_EVER))
        return tuple(sorted(found, key=lambda mischief: mischief.at))

    def _one(self, length: float, what: str) -> Mischief:
        return Mischief(self.rng.uniform(0, length), what, self.rng.random())
