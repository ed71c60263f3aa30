"""The loop on real images under QEMU: bit-exact, deterministic, the promised JSON, errors that say what happened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hil.measure.harness
from hil.boards.board import load_board
from hil.build.image import Image
from hil.errors import FlashError, HilError, ModelError, TargetFaultError, UsageError
from hil.link.device import Device
from hil.link.protocol import MemoryReport
from hil.measure.harness import Harness, Options
from hil.measure.many import measure_files
from hil.measure.measurement import measurement_from_json
from hil.measure.mlperf import Network as CoreNetwork
from hil.measure.mlperf import Windows, measure_model, require_exact
from hil.model.reference import Reference
from munas.tflite.file import Fused
from munas.tflite.flatbuffer import write_tflite
from tests.firmware.operators import Network
from tests.networks import every_operator, small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]

DESIGN_KEYS = {
    "model", "sha256", "board", "runtime", "via", "simulated", "timer", "clock_hz", "latency", "layers", "memory",
    "outputs", "build",
}  # fmt: skip
MEMORY_KEYS = {
    "arena_planned", "arena_used", "stack_used", "static_ram", "ram_total", "flash_weights", "flash_code",
    "flash_total",
}  # fmt: skip


@pytest.fixture(scope="module", params=["mps2-an386", "mps2-an500", "nucleo-f746zg"])
def harness(request: pytest.FixtureRequest) -> Harness:
    return Harness(load_board(request.param))


def test_every_operator_bit_for_bit(harness: Harness) -> None:
    measured = harness.measure(write_tflite(every_operator(), 3), "every-operator")
    found = measured.measurement
    assert (found.outputs.checked, found.outputs.mismatched) == (8, 0)
    assert found.memory.arena_planned == measured.plan.arena_bytes
    assert 0 <= found.memory.arena_planned - found.memory.arena_used < 4  # the last tensor's alignment
    assert 0 < found.memory.stack_used < found.memory.stack_reserved
    assert len(found.layers) == len(measured.plan.steps)
    # A profile runs other inputs than the samples do: max pools and clamps differ by a little, nothing else does.
    assert sum(layer.median for layer in found.layers) == pytest.approx(found.latency.median, rel=0.02)


def test_two_measurements_are_the_same_to_the_instruction() -> None:
    harness = Harness(load_board("mps2-an386"))
    first, second = (harness.measure(small_network(4), "twice").measurement for _ in range(2))
    assert first.latency == second.latency
    assert first.layers == second.layers
    assert first.memory == second.memory
    assert first.build == second.build


def test_constant_channels_are_left_out_unless_they_are_kept() -> None:
    """Kept, the network is as large as its architecture says; the measurement tells the two apart."""
    network = Network(3, (5, 5, 3))
    network.dead = True
    dead = network.conv(network.input, 12, (3, 3), same=True, fused=Fused.RELU)
    network.dead = False
    data, board = network.finish(network.conv(dead, 4, (1, 1))), load_board("mps2-an386")
    options = [Options(), Options(keep_constant_channels=True)]
    without, kept = (Harness(board, option).measure(data, "dead").measurement for option in options)
    assert without.build.constant_channels > 0 == kept.build.constant_channels
    assert without.outputs.mismatched == kept.outputs.mismatched == 0
    assert without.memory.flash_weights < kept.memory.flash_weights
    assert without.memory.arena_planned < kept.memory.arena_planned
    assert without.identity == kept.identity  # kernels, and what they cost, are the same


def test_the_json_is_that_of_the_design(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(small_network(5, dense_per_channel=False))
    (measured,) = measure_files([path], load_board("mps2-an386"), Options(), pytest.fail)
    document = json.loads(json.dumps(measured.measurement.to_json()))
    assert set(document) >= DESIGN_KEYS
    assert set(document["memory"]) >= MEMORY_KEYS
    assert set(document["latency"]) >= {"unit", "samples", "min", "median", "max"}
    assert set(document["layers"][0]) == {"index", "op", "name", "median"}
    assert set(document["build"]) >= {"id", "compiler", "flags", "kernels"}
    assert (document["latency"]["unit"], document["timer"]) == ("instructions", "icount-instructions")
    assert document["simulated"] is True
    assert measurement_from_json(document) == measured.measurement


def test_a_wrong_output_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Reference.run

    def off_by_one(self: Reference, inputs: list[np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
        return [np.bitwise_xor(output, np.int8(1)) for output in real(self, inputs)]

    monkeypatch.setattr(Reference, "run", off_by_one)
    outputs = Harness(load_board("mps2-an386")).measure(small_network(6), "wrong").measurement.outputs
    assert (outputs.checked, outputs.mismatched) == (8, 8)


def test_a_stale_image_is_never_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first network's image is kept and booted for the second one as well, as a failed flash would do."""
    real, stale = hil.measure.harness.link, tmp_path / "stale.elf"

    def linked(*arguments: Any) -> Image:
        image = real(*arguments)
        if not stale.exists():
            stale.write_bytes(image.elf.read_bytes())
        return dataclasses.replace(image, elf=stale)

    monkeypatch.setattr(hil.measure.harness, "link", linked)
    harness = Harness(load_board("mps2-an386"))
    harness.measure(small_network(1), "first")
    with pytest.raises(FlashError, match="the device runs build"):
        harness.measure(small_network(2), "second")


def test_an_overrun_arena_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "memory", lambda self: MemoryReport(1 << 20, 100, 100))
    with pytest.raises(TargetFaultError, match="behind its arena"):
        Harness(load_board("mps2-an386")).measure(small_network(1), "overrun")


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_model_costs_the_others_nothing(tmp_path: Path, workers: int) -> None:
    (tmp_path / "a.tflite").write_bytes(small_network(1))
    (tmp_path / "text.tflite").write_text("this is no model, but it is long enough to look like one" * 4)
    (tmp_path / "z.tflite").write_bytes(small_network(2))
    refused: list[HilError] = []
    paths = sorted(tmp_path.glob("*.tflite"))
    results = measure_files(paths, load_board("mps2-an386"), Options(), refused.append, workers=workers)
    assert [item.measurement.model for item in results] == ["a", "z"]
    assert [item.measurement.outputs.checked for item in results] == [8, 8]
    assert [(type(error), str(error)[:4]) for error in refused] == [(ModelError, "text")]


def test_models_that_cannot_be(tmp_path: Path) -> None:
    board = load_board("mps2-an386")
    with pytest.raises(ModelError, match="cannot be read"):
        measure_files([tmp_path / "missing.tflite"], board, Options(), pytest.fail)
    with pytest.raises(UsageError, match="at least 8 inputs"):
        Harness(board, Options(inputs=7))


@pytest.mark.slow
def test_the_real_models(shared: Path) -> None:
    """All of them, with a budget that holds the larger ones."""
    board = load_board("mps2-an386").with_budget(1 << 20, 1 << 20)
    models = sorted((shared / "models").glob("*.tflite"))
    results = measure_files(models, board, Options(), pytest.fail)
    assert [item.measurement.model for item in results] == [model.stem for model in models]
    assert {item.measurement.outputs.mismatched for item in results} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500"])
def test_random_networks_bit_for_bit(board: str) -> None:
    harness = Harness(load_board(board))
    for seed in range(10, 30):
        found = harness.measure(small_network(seed, dense_per_channel=bool(seed % 2)), f"net{seed}").measurement
        assert found.outputs.mismatched == 0
        assert 0 <= found.memory.arena_planned - found.memory.arena_used < 4  # the last tensor's alignment


@pytest.mark.parametrize("profile", ["kws01", "ad01", "ic01"])
def test_the_profile_decides_the_form_of_mlperf_s_input(profile: str) -> None:
    """int8, float32 and uint8: the firmware takes the same form that the host sends for that model id."""
    data = small_network(3)
    with Harness(load_board("mps2-an386"), Options(profile=profile)).running(data, "net") as running:
        network = CoreNetwork("net", running.plan.input, running.plan.output, running.litert)
        found = measure_model(running.device, network, 1, Windows(3, 0.05))
    require_exact(found, network)
    assert (found.profile, found.read_back) == (profile, True)


def test_a_profile_that_mlperf_could_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="--profile: profile 'KWS 01' is not 1 to 16 lower case letters"):
        Harness(load_board("mps2-an386"), Options(profile="KWS 01"))
