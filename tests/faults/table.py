"""`make faults`: faults in the serial line, as a table. Exit status 1 when a wrong figure got through, or a leak.

Nearly all of the time goes into waiting for what does not come, so the rows run beside each other; `--rows` takes some
of them, and with the same seed each is the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.contract.processes import children
from tests.faults.faulty import FAULTS
from tests.faults.host_device import HostDevice, open_descriptors, program
from tests.faults.injection import Hosted, Outcome, exchanges, measurements
from tests.faults.rtt_device import RttDevice, image

HEAD = ("fault (1 % each)", "exchanges", "faults", "tried", "right", "wrong", "failed", "sent again", "slowest", "time")
ALL, WHOLE = "all", "measurements"
BATCH = 50  # measurements a task
DEVICES: Mapping[str, tuple[Callable[[], Path], Callable[[], Hosted], str]] = {
    "uart": (program, HostDevice, "device"),
    "rtt": (image, RttDevice, "qemu-system-arm"),
}
"""Link: what builds the device, what makes one, what its process is called."""


@dataclass(frozen=True)
class Task:
    """Part of a row; `count` exchanges, or measurements when `whole`."""

    faults: Sequence[str]
    count: int
    seed: int
    whole: bool = False
    link: str = "uart"


@dataclass(frozen=True)
class Done:
    """What a task found, in how long, and what it left behind."""

    outcome: Outcome
    seconds: float
    descriptors: int
    processes: int


def work(task: Task) -> Done:
    """Do a task, in a process of its own."""
    built, make, process = DEVICES[task.link]
    built()
    before, started = open_descriptors(), time.monotonic()
    outcome = (measurements if task.whole else exchanges)(task.faults, task.count, task.seed, make=make)
    left = len(children(os.getpid(), process))
    return Done(outcome, time.monotonic() - started, open_descriptors() - before, left)


def row(parts: Sequence[Done]) -> str:
    """One line of the table from all of its tasks."""
    outcome = parts[0].outcome
    for part in parts[1:]:
        outcome = outcome.merged(part.outcome)
    share = f"{100 * outcome.succeeded / outcome.tried:.2f} %"
    failed = ", ".join(f"{count} {name}" for name, count in outcome.kinds.items()) or "0"
    cells = (
        outcome.name, outcome.exchanges, outcome.struck.total(), outcome.tried, share, outcome.wrong, failed,
        outcome.retries, f"{outcome.slowest_s:.2f} s", f"{sum(part.seconds for part in parts):.0f} s",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    """Run all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=10_000)
    parser.add_argument("--measurements", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--link", choices=list(DEVICES), default="uart")
    parser.add_argument("--rows", nargs="+", choices=[*FAULTS, ALL, WHOLE], default=[*FAULTS, ALL, WHOLE])
    options = parser.parse_args()
    alone = [name for name in FAULTS if name in options.rows]
    rows = [[Task([name], options.exchanges, options.seed, link=options.link)] for name in alone]
    if ALL in options.rows:
        rows.append([Task(FAULTS, options.exchanges, options.seed, link=options.link)])
    counts = [min(BATCH, options.measurements - start) for start in range(0, options.measurements, BATCH)]
    if WHOLE in options.rows:
        rows.append(
            [Task(FAULTS, count, options.seed + index, True, options.link) for index, count in enumerate(counts)]
        )
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True)
    done: list[Done] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for futures in [[pool.submit(work, task) for task in tasks] for tasks in rows]:
            parts = [future.result() for future in futures]
            print(row(parts), flush=True)
            done += parts
    wrong, descriptors, processes = (
        sum(part.outcome.wrong for part in done), sum(part.descriptors for part in done),
        sum(part.processes for part in done),
    )  # fmt: skip
    print(f"\nwrong figures: {wrong}; file descriptors leaked: {descriptors}; processes left: {processes}")
    return int(any((wrong, descriptors, processes)))


if __name__ == "__main__":
    sys.exit(main())
