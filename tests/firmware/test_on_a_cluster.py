"""Commands on a Ray cluster of this machine give what they give without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.targets.runners.qemu import QEMU
from tests.firmware import images
from tests.firmware.test_hardware_measure import network, run
from tests.ray_cluster import three_nodes

pytestmark = [
    pytest.mark.firmware,
    pytest.mark.qemu,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("ray", reason="Ray is not installed: make install-ray")
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    with three_nodes() as (found, _):
        yield found


def documents(*arguments: str) -> list[dict[str, Any]]:
    """What a command prints, without what differs from run to run."""
    status, said, complained = run(*arguments, "--json")
    assert status == 0, complained
    found = json.loads(said)
    for item in found:
        item.pop("seconds")
    return list(found)


def test_networks_are_measured_as_without_it(address: str, tmp_path: Path) -> None:
    paths = []
    for seed in range(4):
        paths.append(tmp_path / f"net{seed}.tflite")
        paths[-1].write_bytes(network(seed))
    arguments = ["measure", *map(str, paths), "--board", "mps2-an386", "--via", "qemu"]
    assert documents(*arguments, "--cluster", address) == documents(*arguments)


def test_inputs_are_verified_as_without_it(address: str, tmp_path: Path) -> None:
    model, data = tmp_path / "net.tflite", tmp_path / "data.npz"
    model.write_bytes(network(1))
    x = np.random.default_rng(1).integers(-128, 128, (9, 16), np.int8)
    np.savez(data, x=x, y=np.arange(9) % 4)
    found = []
    for more in (["--cluster", address], ["--workers", "1"]):
        status, said, complained = run(
            "verify", str(model), "--data", str(data), "--board", "mps2-an386", "--via", "qemu",
            "--output", str(tmp_path / f"{len(found)}.sqlite"), "--json", *more
        )  # fmt: skip
        assert status == 0, complained
        found.append(json.loads(said))
    assert found[0] == found[1]
    assert found[0]["outputs"]["checked"] == 9


def test_a_board_that_no_node_has(address: str, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(network(1))
    status, _, said = run("measure", str(path), "--board", "nucleo-f746zg", "--via", "hardware", "--cluster", address)
    assert (status, "no node of the cluster has 1 CPU, 1 board:nucleo-f746zg" in said) == (3, True), said
