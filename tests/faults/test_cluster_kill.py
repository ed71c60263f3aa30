"""Nodes of a cluster and the main process killed (`tests.faults.cluster_kills` has the full table)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from munas.errors import JobsError
from munas.jobs import cluster as clusters
from munas.jobs.base import Job, Needs, Workers
from munas.jobs.cluster import RayBackend
from munas.jobs.place import Versions
from tests.faults.cluster_kills import kill_a_node, kill_the_driver
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
