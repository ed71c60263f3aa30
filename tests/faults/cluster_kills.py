"""A campaign on a cluster of three nodes, whose nodes and whose main process are killed: a table of how it went.

``python -m tests.faults.cluster_kills --times 10``; the program that is killed is this file with other arguments.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.jobs.campaign import Execution, run_campaign
from hil.jobs.store import Run, Store
from munas.jobs.base import Needs
from munas.jobs.cluster import RayBackend
from tests.faults.test_campaign_kill import Slow, alive
from tests.ray_cluster import node_options, three_nodes
from tests.signals import INTERRUPTIBLE

ROOT = Path(__file__).resolve().parents[2]
RUN = Run("cluster-kill-test", {}, 0, {})
SAMPLES = 60
DEADLINE_S = 180.0
PRELOAD = ("tests.faults.test_campaign_kill",)


@dataclass(frozen=True)
class Killed:
    """How one kill went: `stored` samples were there right before, `attempts` were made in all, in `seconds`."""

    what: str
    stored: int
    attempts: int
    seconds: float


def start(folder: Path, address: str) -> subprocess.Popen[bytes]:
    """The campaign as a process of its own."""
    command = [
        *INTERRUPTIBLE,
        sys.executable,
        "-m",
        "tests.faults.cluster_kills",
        "--campaign",
        str(folder),
        "--address",
        address,
    ]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def stored(folder: Path) -> dict[int, Any]:
    """Samples that are stored."""
    if not (folder / "s.sqlite").exists():
        return {}
    with Store(folder / "s.sqlite") as store:
        return dict(store.samples(store.run_id(RUN)))


def attempts(folder: Path) -> int:
    """Starts of samples, repeated ones included."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob("attempts-*"))


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def kill_a_node(folder: Path, address: str, cluster: Any, rng: random.Random) -> Killed:
    """kill -9 of all processes of a node while samples are done there; it comes back later."""
    started = time.monotonic()
    main = start(folder, address)
    wait_for(lambda: attempts(folder) > rng.randrange(SAMPLES // 2) or main.poll() is not None)
    node = rng.choice(sorted(cluster.worker_nodes, key=lambda item: item.unique_id))
    before = len(stored(folder))
    cluster.remove_node(node, allow_graceful=False)
    assert main.wait(DEADLINE_S) == 0
    cluster.add_node(**node_options(1))
    return _checked("node", folder, before, started)


def kill_the_driver(folder: Path, address: str, rng: random.Random) -> Killed:
    """kill -9 of the main process; the same command goes on."""
    started = time.monotonic()
    main = start(folder, address)
    wait_for(lambda: attempts(folder) > rng.randrange(SAMPLES // 2))
    main.kill()
    assert main.wait() == -signal.SIGKILL
    wait_for(lambda: not alive(folder))
    before = {sample: _starts(folder, sample) for sample in stored(folder)}
    assert start(folder, address).wait(DEADLINE_S) == 0
    assert all(_starts(folder, sample) == count for sample, count in before.items()), "a stored sample was done again"
    return _checked("driver", folder, len(before), started)


def _starts(folder: Path, sample: int) -> int:
    return len((folder / f"attempts-{sample}").read_text().splitlines())


def _checked(what: str, folder: Path, before: int, started: float) -> Killed:
    assert sorted(stored(folder)) == list(range(SAMPLES)), "a sample is missing"
    wait_for(lambda: not alive(folder))
    made = attempts(folder)
    assert made <= SAMPLES + 2 * 3, "more was done again than what was under way"
    return Killed(what, before, made, time.monotonic() - started)


def campaign(folder: Path, address: str) -> None:
    """The program that is killed."""
    execution = Execution(3, RayBackend(address), PRELOAD, needs=Needs())
    with Store(folder / "s.sqlite") as store:
        run_campaign(store, store.run_id(RUN), range(SAMPLES), Slow(folder), execution=execution)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--campaign", type=Path)
    parser.add_argument("--address", default="auto")
    options = parser.parse_args()
    if options.campaign is not None:
        campaign(options.campaign, options.address)
        return
    rng = random.Random(options.seed)
    print("| killed | stored before | starts in all | seconds |\n|---|---|---|---|")
    with three_nodes() as (address, cluster):
        for number in range(2 * options.times):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                if number % 2:
                    row = kill_the_driver(folder, address, rng)
                else:
                    row = kill_a_node(folder, address, cluster, rng)
                print(f"| {row.what} | {row.stored} | {row.attempts} of {SAMPLES} | {row.seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
