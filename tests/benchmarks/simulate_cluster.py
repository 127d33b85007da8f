"""How many batches must wait on a cluster, so that no worker does?  A simulation without processes.

The model: `workers` run batches, each of so many seconds (drawn from an exponential distribution round that: the worst
that is common).  A free worker takes the next that waits on the cluster, at once.  That a batch has ended the parent
hears half a round trip later; when as many as `_clusters.backend` says have gone it sends as many as are missing,
which are there half a round trip later, and cost the scheduler's one thread some time each.  Workers wait where
nothing waits.

`python -m tests.benchmarks.simulate_cluster` prints, for workers, round trip and length of a batch, the share of the
time in which workers are busy: with no batch waiting on the cluster, and by how many for each worker.  And the window,
in tickets for each worker, that the batches on the cluster need, if a batch has so many tasks.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

from ordered_executor._clusters.backend import AHEAD_LEAST, AHEAD_PER_WORKER

WORKERS = (64, 512, 4096)
ROUND_TRIPS = (0.0002, 0.002, 0.020)
BATCHES = (0.05, 0.5)
AHEAD = (0.0, 0.25, 1.0, AHEAD_PER_WORKER)
# What the scheduler needs for a task that came with many others (the row `load` of the benchmarks).
SCHEDULER_SECONDS = 0.0006
BATCHES_A_WORKER = 30


@dataclass(frozen=True)
class Cluster:
    """What is simulated."""

    workers: int
    round_trip: float
    batch: float
    ahead: float  # batches that wait, for each worker
    scheduler: float = SCHEDULER_SECONDS

    @property
    def lanes(self) -> int:
        """Batches on the cluster at most."""
        return self.workers + round(self.ahead * self.workers) + (AHEAD_LEAST if self.ahead else 0)

    @property
    def refill(self) -> int:
        """With so many left, more are sent."""
        return self.workers + (self.lanes - self.workers) // 2 if self.ahead else self.workers - 1


def busy_share(cluster: Cluster, seed: int = 0) -> float:
    """The share of the workers' time that goes into batches, the begin and the end left out."""
    rng = random.Random(seed)
    total = cluster.workers * BATCHES_A_WORKER
    lag, numbers = cluster.round_trip / 2, itertools.count()
    events: list[tuple[float, int, str, int]] = [(0.0, next(numbers), "heard", 0)]
    idle, waiting, known, sent, scheduler_free = cluster.workers, 0, 0, 0, 0.0
    ended, worked, half, last = 0, 0.0, 0.0, 0.0
    while ended < total:
        now, _, what, count = heapq.heappop(events)
        if what == "heard":
            known -= count
            if known <= cluster.refill and sent < total:
                more = min(cluster.lanes - known, total - sent)
                known, sent = known + more, sent + more
                for _ in range(more):
                    scheduler_free = max(scheduler_free, now + lag) + cluster.scheduler
                    heapq.heappush(events, (scheduler_free, next(numbers), "there", 1))
        else:
            if what == "ended":
                ended += 1
                idle += 1
                heapq.heappush(events, (now + lag, next(numbers), "heard", 1))
                if ended == total // 5:
                    half, worked = now, 0.0
                last = now if ended <= total * 4 // 5 else last
            else:
                waiting += 1
            while idle and waiting:
                idle, waiting = idle - 1, waiting - 1
                seconds = rng.expovariate(1 / cluster.batch)
                worked += seconds if ended <= total * 4 // 5 else 0.0
                heapq.heappush(events, (now + seconds, next(numbers), "ended", 1))
    return min(1.0, worked / ((last - half) * cluster.workers))


def main() -> None:
    """Print the table."""
    print("Percent of the workers' time in batches, by the batches that wait on the cluster for each worker")
    print(f"{'workers':>8}{'trip ms':>9}{'batch ms':>10} |" + "".join(f"{ahead:>7g}" for ahead in AHEAD) + " | at most")
    for workers, trip, batch in itertools.product(WORKERS, ROUND_TRIPS, BATCHES):
        shares = [busy_share(Cluster(workers, trip, batch, ahead)) for ahead in AHEAD]
        most = min(1.0, batch / SCHEDULER_SECONDS / workers)  # what the scheduler lets through
        cells = "".join(f"{share * 100:>7.0f}" for share in shares)
        print(f"{workers:>8,}{trip * 1e3:>9g}{batch * 1e3:>10g} |{cells} |{most * 100:>8.0f}", flush=True)
    lanes = Cluster(1024, 0.002, 0.05, AHEAD_PER_WORKER).lanes / 1024
    print(f"\nWindow for each worker: at least {lanes:.1f} times the tasks of a batch.")


if __name__ == "__main__":
    main()
