"""A bench of 200 boards on 20 hosts, simulated: how busy does the placement of jobs keep them?

``python -m tests.estimates.many_boards``. The code that hands jobs out is the real one (`hil.jobs.supervise`); who
runs them is a stand-in with a clock of its own. Each network is one whose latency was published, and is run as
`calibrate` runs it. Boards break now and then, and are dropped. What the stand-in assumes stands in `Costs`.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hil.cycle_model.validate import load_published, published_file
from hil.errors import DeviceLost
from hil.jobs.supervise import Execution, supervised
from munas.closing import Closing
from munas.jobs.base import Finished, Job, Jobs, Limits, Workers


@dataclass(frozen=True)
class Costs:
    """Seconds. `driver` was measured (10,000 short jobs on a cluster of three nodes, on two busy cores: 2.6 ms a job);
    `build` is what a network takes on an idle core; `flash` is 64 KB through an ST-LINK that writes 67 KB a second
    (a megabyte in 15 s); `inferences` are 8 verified and 8 timed ones; `link` is what the line takes for them."""

    driver: float = 0.0026
    build: float = 0.18
    flash: float = 1.0
    inferences: int = 16
    link: float = 1.2


@dataclass
class Bench:
    """Boards and hosts. `free_at` has, for each host, when each of its cores is free; a board's lock likewise."""

    hosts: int
    boards: int
    cores: int
    cores_free: list[list[float]] = field(default_factory=list)
    boards_free: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    broken_at: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cores_free = [[0.0] * self.cores for _ in range(self.hosts)]
        self.boards_free = [0.0] * self.boards
        self.used = [0.0] * self.boards


@dataclass(frozen=True)
class Simulated:
    """A place for jobs; see `munas.jobs.base.JobBackend`."""

    bench: Bench
    costs: Costs
    latencies: tuple[float, ...]

    def open(self, workers: Workers) -> Jobs:
        """Places are spread over the hosts, as Ray spreads actors that need a board."""
        return SimulatedJobs(self, workers.count)


class SimulatedJobs(Closing):
    """Jobs under way at `now`, a time of its own."""

    def __init__(self, place: Simulated, count: int) -> None:
        self.place, self.count, self.now, self.number = place, count, 0.0, 0
        self.under_way: list[tuple[float, int, int, Finished]] = []
        self.free = list(range(count))

    @property
    def busy(self) -> int:
        """Jobs under way."""
        return len(self.under_way)

    @property
    def idle(self) -> int:
        """Jobs that can be begun now."""
        return self.count - self.busy

    def submit(self, job: Job) -> None:
        """Build on the host's first free core; then the host's first free board."""
        bench, costs = self.place.bench, self.place.costs
        self.now += costs.driver
        slot = self.free.pop()
        host = slot % bench.hosts
        cores = bench.cores_free[host]
        built = max(self.now, cores[0]) + costs.build
        heapq.heapreplace(cores, built)
        lost = job.work.factory.lost  # type: ignore[attr-defined]
        mine = [board for board in range(host, bench.boards, bench.hosts) if board not in lost]
        board = min(mine, key=lambda item: bench.boards_free[item])
        begun = max(built, bench.boards_free[board])
        latency = self.place.latencies[job.argument % len(self.place.latencies)]
        seconds = costs.flash + costs.link + costs.inferences * latency
        over = begun + seconds
        bench.boards_free[board] = over
        if begun <= bench.broken_at.get(board, math.inf) < over:
            error = DeviceLost(str(board), f"board {board} does not work")
            finished = Finished(job, None, "raised", str(error), error, seconds)
        else:
            bench.used[board] += seconds
            finished = Finished(job, job.argument, seconds=seconds)
        self.number += 1
        heapq.heappush(self.under_way, (over, self.number, slot, finished))

    def wait(self, timeout_s: float = math.inf) -> list[Finished]:
        """The next job that ends."""
        over, _, slot, finished = heapq.heappop(self.under_way)
        self.now = max(self.now, over) + self.place.costs.driver
        self.free.append(slot)
        return [finished]

    def close(self) -> None:
        """Nothing is left."""


@dataclass(frozen=True)
class OnBoards:
    """The factory of the jobs: it only remembers which boards are lost."""

    lost: frozenset[int] = frozenset()

    def __call__(self) -> Callable[[int], Any]:
        raise AssertionError("the stand-in does no jobs")

    def without(self, device: str) -> OnBoards:
        """See `hil.jobs.supervise.UsesDevices`."""
        return replace(self, lost=self.lost | {int(device)})


def simulate(
    networks: int, per_board: int, *, boards: int = 200, hosts: int = 20, cores: int = 8, broken: int = 4, seed: int = 0
) -> tuple[float, float]:
    """Share of the time in which a board is in use, mean over boards and until the first place runs dry; hours."""
    rng = random.Random(seed)
    latencies = tuple(item.milliseconds / 1000 for item in load_published(published_file()))
    order = tuple(rng.choice(latencies) for _ in range(networks))
    bench = Bench(hosts, boards, cores)
    costs = Costs()
    mean = costs.flash + costs.link + costs.inferences * sum(order) / len(order)
    expected = networks * mean / boards
    bench.broken_at = {board: rng.uniform(0, expected) for board in rng.sample(range(boards), broken)}
    execution = Execution(boards * per_board, Simulated(bench, costs, order), limits=Limits())
    done = [outcome.job for outcome in supervised(range(networks), OnBoards(), execution, lambda message: None)]
    assert sorted(done) == list(range(networks)), "a network was lost or done twice"
    whole = [board for board in range(boards) if board not in bench.broken_at]
    end = min(bench.boards_free[board] for board in whole)  # until then there was work for everybody
    tail = {board: max(0.0, bench.boards_free[board] - end) for board in whole}
    return sum(bench.used[board] - tail[board] for board in whole) / (end * len(whole)), end / 3600


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=20_000)
    options = parser.parse_args()
    print("| jobs at a time for each board | boards in use | hours |\n|---|---|---|")
    for per_board in (1, 2, 3):
        share, hours = simulate(options.networks, per_board)
        print(f"| {per_board} | {share:.1%} | {hours:.2f} |")


if __name__ == "__main__":
    main()
