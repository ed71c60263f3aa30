"""Nodes of a cluster and the main process killed (`tests.faults.cluster_kills` has the full table)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from munas.errors import JobsError, PlaceUnfit
from munas.jobs import cluster as clusters
from munas.jobs.base import Job, Needs, Workers
from munas.jobs.cluster import RayBackend
from munas.jobs.place import Versions
from tests.faults.cluster_kills import ROOT, kill_a_node, kill_the_driver, wait_for
from tests.job_kinds import Play
from tests.ray_cluster import three_nodes

pytestmark = pytest.mark.slow


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
    killed = kill_a_node(tmp_path, *nodes, random.Random(1))
    assert killed.attempts >= 60


def test_a_driver_that_is_killed_goes_on(nodes: tuple[str, Any], tmp_path: Path) -> None:
    assert kill_the_driver(tmp_path, nodes[0], random.Random(2)).stored < 60


def test_what_no_node_has_is_said(nodes: tuple[str, Any]) -> None:
    needs = Needs(board="nucleo-f746zg")
    assert RayBackend(nodes[0]).capacity(needs) == 0
    assert RayBackend(nodes[0]).capacity(Needs()) == 3
    with pytest.raises(JobsError, match=r"no node .* board:nucleo-f746zg; .*: munas-hil worker --board nucleo-f746zg"):
        RayBackend(nodes[0]).open(Workers(1, needs=needs))


def test_another_version_on_a_node_is_refused(nodes: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "versions", lambda: Versions("3.11.0", "0.1"))
    with RayBackend(nodes[0]).open(Workers(1)) as jobs:
        jobs.submit(Job("job", Play(), ("", 1)))
        with pytest.raises(JobsError, match=r"has Python .* and not 3\.11\.0, munas-hil .* and not 0\.1; install the"):
            jobs.wait(60.0)


def test_a_place_without_its_board_is_given_up_and_the_job_goes_elsewhere(nodes: tuple[str, Any]) -> None:
    """One of two places says that it cannot do jobs; alone, it would have the last word."""
    with RayBackend(nodes[0]).open(Workers(2)) as jobs:
        jobs.submit(Job("job", Play(trouble="unfit"), ("", 1)))
        (finished,) = jobs.wait(60.0)
    assert isinstance(finished.error, PlaceUnfit)
    assert jobs.idle == 1


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
                (finished,) = jobs.wait(60.0)
            assert finished.value == 42
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
        wait_for(lambda: backend.capacity(needs) == 0)
