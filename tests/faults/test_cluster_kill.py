"""Nodes of a cluster and the main process killed (`tests.faults.cluster_kills` has the full table)."""

from __future__ import annotations

import os
import platform
import random
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from munas.errors import JobsError, PlaceUnfit
from munas.jobs import cluster as clusters
from munas.jobs.base import Job, Needs, Workers
from munas.jobs.cluster import RayBackend
from munas.jobs.place import Versions
from munas.search.training_jobs import training_needs
from tests.faults.cluster_kills import (
    DEADLINE_S,
    ROOT,
    Sleeping,
    kill_a_node,
    kill_the_driver,
    kill_the_drivers_node,
    wait_for,
)
from tests.job_kinds import Play
from tests.ray_cluster import node_options, three_nodes

pytestmark = pytest.mark.slow


class VersionInfo(NamedTuple):
    """Like `sys.version_info`."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: int


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, Any]]:
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.lock)")
    with three_nodes() as found:
        yield found


def test_no_cluster_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before one is started here."""
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.lock)")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(JobsError, match=r"cannot use the cluster auto: .*ray start --head"):
        RayBackend("auto").open(Workers(1))


def test_a_node_that_is_killed_costs_no_sample(nodes: tuple[str, Any], tmp_path: Path) -> None:
    address, cluster = nodes
    kill_a_node(Sleeping(tmp_path, address), cluster, random.Random(1))


def test_a_driver_that_is_killed_goes_on(nodes: tuple[str, Any], tmp_path: Path) -> None:
    assert kill_the_driver(Sleeping(tmp_path, nodes[0]), random.Random(2)).stored < 60


def test_a_command_whose_node_is_killed_goes_on_through_another(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.lock)")
    with three_nodes() as (address, cluster):
        killed = kill_the_drivers_node(Sleeping(tmp_path, address), cluster, random.Random(3))
    lost = "the cluster failed: the node that this command is connected through is lost; run the same command again"
    assert killed.said in (f"status 3: {lost}", "status 0: nothing")  # or it was over before it looked


def test_what_no_node_has_is_said(nodes: tuple[str, Any]) -> None:
    needs = Needs(board="nucleo-f746zg")
    assert RayBackend(nodes[0]).capacity(needs) == 0
    assert RayBackend(nodes[0]).capacity(Needs()) == 3
    with pytest.raises(JobsError, match=r"no node .* board:nucleo-f746zg; .*: munas-hil worker --board nucleo-f746zg"):
        RayBackend(nodes[0]).open(Workers(1, needs=needs))


def test_what_only_all_nodes_together_have_is_said(nodes: tuple[str, Any]) -> None:
    """Each has 8 GiB: a job that wants 10 would wait for ever."""
    needs = Needs(memory_bytes=10 << 30)
    assert RayBackend(nodes[0]).capacity(needs) == 0
    assert RayBackend(nodes[0]).capacity(Needs(memory_bytes=4 << 30)) == 3
    with pytest.raises(JobsError, match=r"no node of the cluster has 1 CPU, 10240 MiB of memory$"):
        RayBackend(nodes[0]).open(Workers(1, needs=needs))


def test_a_training_that_wants_a_gpu_has_one_to_itself(nodes: tuple[str, Any]) -> None:
    """Of a node that says that it has two, and three processors."""
    address, cluster = nodes
    needs = training_needs(1 << 30, gpu=True)
    with pytest.raises(JobsError, match=r"no node of the cluster has 1 CPU, 1 GPU, 1024 MiB of memory$"):
        RayBackend(address).open(Workers(1, needs=needs))
    node = cluster.add_node(**{**node_options(3), "num_gpus": 2})
    try:
        assert RayBackend(address).capacity(needs) == 2
        with RayBackend(address).open(Workers(1, needs=needs)) as jobs:
            jobs.submit(Job("job", Play(), ("gpu", 0)))
            (finished,) = jobs.wait(DEADLINE_S)
    finally:
        cluster.remove_node(node)
    assert finished.value in ("0", "1")


def test_another_version_on_a_node_is_refused(nodes: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "versions", lambda: Versions("3.11.0", "0.1"))
    with RayBackend(nodes[0]).open(Workers(1)) as jobs:
        jobs.submit(Job("job", Play(), ("", 1)))
        with pytest.raises(JobsError, match=r"has Python .* and not 3\.11\.0, munas-hil .* and not 0\.1; install the"):
            jobs.wait(DEADLINE_S)


@pytest.mark.parametrize(
    ("where", "name", "other"),
    [("ray", "__version__", "1.0.0"), ("sys", "version_info", VersionInfo(*sys.version_info[:2], 99, "final", 0))],
    ids=["ray", "python"],
)
def test_another_ray_or_python_here_is_refused(
    nodes: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, where: str, name: str, other: object
) -> None:
    """Ray sees it before any job; with the right versions the cluster is used as ever."""
    with RayBackend(nodes[0]).open(Workers(1)), monkeypatch.context() as patch:
        sys.modules["ray"].shutdown()
        patch.setattr(sys.modules[where], name, other)
        with pytest.raises(JobsError, match=r"ersion mismatch: .*; install the same versions of Ray and Py") as said:
            RayBackend(nodes[0]).open(Workers(1))
    assert "\n" not in str(said.value)
    assert RayBackend(nodes[0]).capacity(Needs()) > 0


class Unmade:
    """In place of `munas.jobs.place.Place`: cannot be made on a node, say because its disk is full."""

    def __init__(self, workers: Workers) -> None:
        raise OSError(28, "No space left on device")

    def about(self) -> None:
        """Nobody gets here."""


def lost_module(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of a module that no node has."""
    module = types.ModuleType("nowhere_but_here")
    found = type("Place", (Unmade,), {"__module__": module.__name__})
    module.Place = found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        ("disk", "OSError: [Errno 28] No space left on device"),
        ("module", "ModuleNotFoundError: No module named 'nowhere_but_here'; install munas-hil, and the same version"),
    ],
)
def test_a_place_that_cannot_be_made_is_an_error(
    nodes: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, trouble: str, text: str
) -> None:
    monkeypatch.setattr(clusters, "Place", Unmade if trouble == "disk" else lost_module(monkeypatch))
    with RayBackend(nodes[0]).open(Workers(1)) as jobs:
        jobs.submit(Job("job", Play(), ("", 1)))
        with pytest.raises(JobsError) as said:
            jobs.wait(DEADLINE_S)
    assert str(said.value).startswith(f"a node of the cluster cannot do jobs: {text}")


def test_a_place_without_its_board_is_given_up_and_the_job_goes_elsewhere(
    nodes: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One of two places says that it cannot do jobs; alone, it would have the last word."""
    with RayBackend(nodes[0]).open(Workers(2)) as jobs:
        jobs.submit(Job("job", Play(trouble="unfit"), ("", 1)))
        (finished,) = jobs.wait(DEADLINE_S)
    assert isinstance(finished.error, PlaceUnfit)
    assert jobs.idle == 1
    (said,) = caplog.messages
    assert said == f"munas-hil: going on without a place at node {platform.node()}: no board is connected here any more"


def test_a_host_joins_with_its_boards(tmp_path: Path) -> None:
    """`munas-hil worker`: a job for a board goes to the host that has it, and to no other."""
    bench, needs = tmp_path / "bench.toml", Needs(board="nucleo-f746zg")
    bench.write_text('[[device]]\nboard = "nucleo-f746zg"\nserial_number = "A1"\nport = "/dev/null"\n')
    pytest.importorskip("ray", reason="Ray is not installed (requirements-ray.lock)")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
    with three_nodes(host="127.0.0.2") as (address, _):
        backend = RayBackend(address)
        command = [sys.executable, "-m", "hil", "worker", "--cluster", address, "--listen", "127.0.0.2"]
        worker = subprocess.Popen(command, cwd=ROOT, env={**environment, "MUNAS_HIL_BENCH": str(bench)})
        try:
            wait_for(lambda: backend.capacity(needs) == 1)
            with backend.open(Workers(1, needs=needs)) as jobs:
                jobs.submit(Job("job", Play(), ("", 42)))
                (finished,) = jobs.wait(DEADLINE_S)
            assert finished.value == 42
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
        wait_for(lambda: backend.capacity(needs) == 0)
