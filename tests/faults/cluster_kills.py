"""A campaign on a cluster of three nodes, whose nodes and whose main process are killed: a table of how it went.

``python -m tests.faults.cluster_kills --times 10``: samples that only take a moment, in a child each, and write down
each start. With ``--calibrate``: `munas-hil calibrate`, whose networks run in emulators, and have the figures that
they have without a cluster. The program that is killed is this file with other arguments, or munas-hil.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.errors import HilError
from hil.jobs.campaign import Execution, run_campaign
from hil.jobs.store import Run, Store
from munas.jobs.base import Needs
from munas.jobs.cluster import RayBackend
from munas.jobs.connection import connected
from tests.faults.test_campaign_kill import Slow, alive
from tests.ray_cluster import node_options, three_nodes
from tests.signals import INTERRUPTIBLE

ROOT = Path(__file__).resolve().parents[2]
RUN = Run("cluster-kill-test", {}, 0, {})
SAMPLES = 60
SECONDS = 0.3  # a sample
DEADLINE_S = 1800.0
PRELOAD = ("tests.faults.test_campaign_kill",)
MARK = "MUNAS_HIL_KILLS"  # in the environment of a cluster, and so of all that its nodes start
OURS = ("qemu-system-arm", "munas.jobs.fork_server", "hil.model.litert")


@dataclass(frozen=True)
class Killed:
    """How one kill went: `stored` samples were there right before, `starts` were made in all, in `seconds`. `said` is
    the end of the main process, where it was not told to go on."""

    stored: int
    starts: str
    seconds: float
    said: str = ""


@dataclass(frozen=True)
class Sleeping:
    """Samples that sleep; see `Slow`."""

    folder: Path
    address: str
    total: int = SAMPLES

    @property
    def command(self) -> tuple[str, ...]:
        """The campaign as a process of its own."""
        return (
            sys.executable, "-m", "tests.faults.cluster_kills", "--campaign", str(self.folder), "--address",
            self.address,
        )  # fmt: skip

    def stored(self) -> dict[int, Any]:
        """Samples that are stored."""
        if not (self.folder / "s.sqlite").exists():
            return {}
        with Store(self.folder / "s.sqlite") as store:
            return dict(store.samples(store.run_id(RUN)))

    def begun(self) -> int:
        """Starts of samples, repeated ones included."""
        return sum(self._starts().values())

    def left(self) -> list[int]:
        """Processes that are still there."""
        return alive(self.folder)

    def check(self, before: Mapping[int, Any], kept: Mapping[int, int]) -> str:
        """What was stored `before` was not begun again; `kept` are the starts at that time. The starts in all."""
        starts = self._starts()
        assert all(starts[sample] == kept[sample] for sample in before), "a stored sample was done again"
        made = sum(starts.values())
        assert made <= self.total + 2 * 3, "more was done again than what was under way"
        return f"{made} of {self.total}"

    def kept(self) -> dict[int, int]:
        """Starts by sample."""
        return self._starts()

    def _starts(self) -> dict[int, int]:
        files = self.folder.glob("attempts-*")
        return {int(file.name.partition("-")[2]): len(file.read_text().splitlines()) for file in files}


@dataclass(frozen=True)
class Calibration:
    """A calibration. `undisturbed` are its figures without a cluster and without kills."""

    folder: Path
    address: str
    samples: int
    undisturbed: dict[int, Any] = field(default_factory=dict)

    @property
    def command(self) -> tuple[str, ...]:
        """munas-hil; without an address, on this machine."""
        return (
            sys.executable, "-m", "hil", "calibrate", "--samples", str(self.samples), "--workers", "3", "-o",
            str(self.folder / "run"), *(("--cluster", self.address) if self.address else ()),
        )  # fmt: skip

    @property
    def total(self) -> int:
        """Samples and probes."""
        return len(self.undisturbed)

    def stored(self) -> dict[int, Any]:
        """Figures of the networks that are stored; times of the host are none."""
        path, found = self.folder / "run" / "store.sqlite", {}
        if not path.exists():
            return {}
        with Store(path) as store:
            for number in store.runs():
                for result in store.results(number):
                    record = json.loads(json.dumps(result.record))
                    record.get("measurement", {}).pop("seconds", None)
                    found[result.sample] = result.status, result.sha256, record
        return found

    def begun(self) -> int:
        """What is stored: more is not known."""
        return len(self.stored())

    def left(self) -> list[int]:
        """Emulators, and who had started them."""
        found, mark = [], f"{MARK}={os.environ[MARK]}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
                if any(name in words for name in OURS) and mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def kept(self) -> dict[int, int]:
        """Nothing is known of starts."""
        return {}

    def check(self, before: Mapping[int, Any], kept: Mapping[int, int]) -> str:
        """All figures are those of the calibration that nobody disturbed."""
        now = self.stored()
        assert all(now[sample] == figures for sample, figures in before.items()), "a stored sample was done again"
        assert now == self.undisturbed, "figures differ"
        return "not counted"


Campaign = Sleeping | Calibration


def start(campaign: Campaign) -> subprocess.Popen[bytes]:
    """The campaign as a process of its own. What it says goes into files of its folder."""
    with (campaign.folder / "said").open("ab") as said, (campaign.folder / "errors").open("wb") as errors:
        return subprocess.Popen(
            [*INTERRUPTIBLE, *campaign.command], cwd=ROOT, start_new_session=True, stdout=said, stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _begin(campaign: Campaign, rng: random.Random) -> subprocess.Popen[bytes]:
    """The campaign, at a random moment."""
    main, moment = start(campaign), rng.randrange(campaign.total * 4 // 5)
    wait_for(lambda: campaign.begun() > moment or main.poll() is not None)
    assert main.poll() is None, f"it ended by itself: {_errors(campaign)}"
    return main


def _errors(campaign: Campaign) -> str:
    return (campaign.folder / "errors").read_text(errors="replace")


def kill_a_node(campaign: Campaign, cluster: Any, rng: random.Random) -> Killed:
    """kill -9 of all processes of a node while samples are done there; it comes back later."""
    began = time.monotonic()
    main = _begin(campaign, rng)
    node = rng.choice(sorted(cluster.worker_nodes, key=lambda item: item.unique_id))
    before, kept = campaign.stored(), campaign.kept()
    cluster.remove_node(node, allow_graceful=False)
    assert main.wait(DEADLINE_S) == 0, _errors(campaign)
    cluster.add_node(**node_options(1))
    return _checked(campaign, before, kept, began)


def kill_the_driver(campaign: Campaign, rng: random.Random) -> Killed:
    """kill -9 of the main process; the same command goes on."""
    began = time.monotonic()
    main = _begin(campaign, rng)
    main.kill()
    assert main.wait() == -signal.SIGKILL
    return _gone_on(campaign, began)


def kill_the_drivers_node(campaign: Sleeping, cluster: Any, rng: random.Random) -> Killed:
    """kill -9 of the node that the main process is connected through, while the cluster lives; the same command goes
    on through another node."""
    began = time.monotonic()
    main = _begin(campaign, rng)
    through = _node_of(campaign, cluster)
    if through is cluster.head_node:
        through.kill_raylet(check_alive=False)  # its other processes are the cluster's own
    else:
        cluster.remove_node(through, allow_graceful=False)
    status = main.wait(DEADLINE_S)
    lines = _errors(campaign).strip().splitlines()
    found = _gone_on(campaign, began, f"status {status}: {lines[-1] if lines else 'nothing'}")
    if through is not cluster.head_node:
        cluster.add_node(**node_options(1))
    return found


def _node_of(campaign: Sleeping, cluster: Any) -> Any:
    """The node that its main process is connected through."""
    identity = (campaign.folder / "node").read_text()
    return next(node for node in cluster.list_all_nodes() if node.node_id == identity)


def _gone_on(campaign: Campaign, began: float, said: str = "") -> Killed:
    """The same command goes on where nothing of it is left."""
    wait_for(lambda: not campaign.left())
    before, kept = campaign.stored(), campaign.kept()
    assert start(campaign).wait(DEADLINE_S) == 0, _errors(campaign)
    return _checked(campaign, before, kept, began, said)


def _checked(
    campaign: Campaign, before: Mapping[int, Any], kept: Mapping[int, int], began: float, said: str = ""
) -> Killed:
    starts = campaign.check(before, kept)
    assert len(campaign.stored()) == campaign.total, "a sample is missing"
    wait_for(lambda: not campaign.left())
    if isinstance(campaign, Sleeping):
        said_by_ray = (campaign.folder / "said").read_text()
        assert said_by_ray == "", f"on the standard output, which is for results: {said_by_ray}"
    return Killed(len(before), starts, time.monotonic() - began, said)


def campaign(folder: Path, address: str) -> None:
    """The program that is killed."""
    execution = Execution(3, RayBackend(address), PRELOAD, needs=Needs())
    with connected(address) as ray, Store(folder / "s.sqlite") as store:
        (folder / "node").write_text(ray.get_runtime_context().get_node_id())
        run_campaign(store, store.run_id(RUN), range(SAMPLES), Slow(folder, SECONDS), execution=execution)


def undisturbed(folder: Path, samples: int) -> dict[int, Any]:
    """Figures of a calibration on this machine."""
    alone = Calibration(folder, "", samples)
    subprocess.run(alone.command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return alone.stored()


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibrate", type=int, metavar="SAMPLES")
    parser.add_argument("--campaign", type=Path)
    parser.add_argument("--address", default="auto")
    options = parser.parse_args()
    if options.campaign is not None:
        try:
            campaign(options.campaign, options.address)
        except HilError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_status)
        return
    os.environ[MARK] = str(os.getpid())
    rng = random.Random(options.seed)
    print("| kill -9 of | stored before | starts in all | seconds |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as base, three_nodes() as (address, cluster):
        figures = undisturbed(Path(base), options.calibrate) if options.calibrate else {}
        whats = ["a node", "the command", *(() if options.calibrate else ("the command's node",))]
        for what in (*whats[:2] * options.times, *whats[2:] * options.times):
            with tempfile.TemporaryDirectory() as name:
                row = _row(what, _campaign(Path(name), address, options.calibrate, figures), cluster, rng)
            print(f"| {what} | {row.stored} | {row.starts} | {row.seconds:.1f} | {row.said}", flush=True)


def _campaign(folder: Path, address: str, samples: int | None, figures: dict[int, Any]) -> Campaign:
    return Calibration(folder, address, samples, figures) if samples else Sleeping(folder, address)


def _row(what: str, campaign: Campaign, cluster: Any, rng: random.Random) -> Killed:
    if what == "a node":
        return kill_a_node(campaign, cluster, rng)
    if what == "the command":
        return kill_the_driver(campaign, rng)
    assert isinstance(campaign, Sleeping), "only this one says through which node it is connected"
    return kill_the_drivers_node(campaign, cluster, rng)


if __name__ == "__main__":
    main()
