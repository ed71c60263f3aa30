"""TFLM on the emulated device: it says how large its arena is, its log arrives, its errors are errors."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import hil.runtimes.tflm.network
from hil.boards.board import Board, load_board
from hil.build.image import build_library, link_objects
from hil.build.prelinked import insert
from hil.build.toolchain import find_toolchain
from hil.codegen.render import Options as Shape
from hil.codegen.render import template
from hil.errors import BudgetError, HilError, ModelError
from hil.link.device import Device
from hil.measure.harness import Harness, Options, generate_project, make_runtime
from hil.measure.rounding import RULE, TOLERANCE
from hil.runtimes.base import OperatorSet
from hil.runtimes.tflm.arena import WRITTEN_FOR, Arena
from hil.runtimes.tflm.detect import ROOT_VARIABLE, find_tflm
from hil.runtimes.tflm.network import Network
from hil.runtimes.tflm.project import texts
from hil.runtimes.tflm.runtime import Tflm
from hil.targets.runners.qemu import QemuRunner
from munas.cost.calibration import Linked
from munas.tflite.file import Code, concat_options
from tests.firmware.operators import Network as Random
from tests.firmware.random_plain import resize_bilinear
from tests.firmware.random_wide import as_plain
from tests.networks import small_network
from tests.tflite_samples import Chain
from tests.tflm import every_operator, float_network, needs_tflm
from tests.unit.test_recurrent import lstm_network, svdf_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, needs_tflm]

NETWORKS = int(os.environ.get("TFLM_NETWORKS", "6"))
FLASH = 1024 * 1024


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("mps2-an386").with_budget(FLASH, 1024 * 1024)


@pytest.fixture(scope="module")
def harness(board: Board) -> Harness:
    return Harness(board, Options(runtime="tflm"))


def lookup_network() -> bytes:
    """A network with an operator whose arena no forecast knows, and that TFLM computes as LiteRT does."""
    chain = Chain()
    entry = chain.tensor((1, 6, 5, 3))
    doubled = chain.same_scale(Code.LOGISTIC, [entry], (1, 6, 5, 3), None, 1 / 256, -128)
    return chain.file.finish([entry], [doubled])


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_the_arena_is_what_was_forecast_and_outputs_are_equal(harness: Harness, seed: int) -> None:
    measured = harness.measure(small_network(seed), "net")
    memory = measured.measurement.memory
    if _is_the_version_of_the_forecast():
        assert memory.arena_used == measured.plan.lower_bound_bytes
        assert memory.arena_planned == measured.plan.arena_bytes
    assert memory.arena_used <= memory.arena_planned
    assert measured.measurement.outputs.mismatched == 0


def _is_the_version_of_the_forecast() -> bool:
    """Whether the installed TFLM is as the replay was written for: it registers what came in 2025."""
    assert "2026" in WRITTEN_FOR
    return "DYNAMIC_UPDATE_SLICE" in find_tflm("cortex-m4").registry.adders


def test_the_arena_of_every_operator_is_what_was_forecast(harness: Harness) -> None:
    measured = harness.measure(every_operator(), "all")
    if _is_the_version_of_the_forecast():
        assert measured.measurement.memory.arena_planned == measured.plan.arena_bytes
    assert measured.measurement.outputs.mismatched == 0


def test_an_operator_that_no_forecast_knows_runs(harness: Harness) -> None:
    measured = harness.measure(lookup_network(), "lookup")
    plan, memory = measured.plan, measured.measurement.memory
    assert isinstance(plan, Network)
    assert not plan.is_arena_known
    assert memory.arena_planned >= memory.arena_used > plan.lower_bound_bytes
    assert [layer.op for layer in measured.measurement.layers] == ["LOGISTIC"]
    assert measured.measurement.outputs.mismatched == 0


def several_ports() -> bytes:
    """Two inputs, the first of which goes two ways, and three outputs."""
    chain = Chain()
    image, extra = chain.tensor((1, 6, 5, 3)), chain.tensor((1, 7))
    conv = chain.convolution(image, 4, 3)
    rectified = chain.same_scale(Code.RELU, [image], (1, 6, 5, 3), None, 0.05, -128)
    return chain.file.finish([image, extra], [conv, rectified, chain.dense(extra, 5)])


@pytest.mark.parametrize("seed", range(2))
def test_a_float_network_answers_within_the_rounding_that_is_stated(harness: Harness, seed: int) -> None:
    measured = harness.measure(float_network(seed), "float")
    outputs, memory = measured.measurement.outputs, measured.measurement.memory
    assert (outputs.checked, outputs.mismatched, outputs.rule) == (8, 0, RULE)
    assert outputs.largest_error < TOLERANCE
    assert memory.arena_used >= measured.plan.lower_bound_bytes
    assert len(set(measured.answers)) == 8
    linked = harness.linked_for(measured.plan)
    assert linked is not None
    assert linked.code == memory.flash_code
    with (
        pytest.raises(ModelError, match="float: it is float32, which only measure --protocol hil takes"),
        harness.running(float_network(seed), "float"),
    ):
        pass


@pytest.mark.parametrize("data", [several_ports(), lstm_network(), svdf_network()], ids=["ports", "lstm", "svdf"])
def test_several_ports_and_states(harness: Harness, data: bytes) -> None:
    """Every input is answered as if it were the first one."""
    assert harness.measure(data, "net").measurement.outputs.mismatched == 0


def test_code_and_ram_of_operators_are_known_before_anything_is_measured(board: Board, harness: Harness) -> None:
    measured = harness.measure(several_ports(), "net")
    kinds = frozenset(step.kind for step in measured.plan.steps)
    memory = measured.measurement.memory
    known = Linked(memory.flash_code, memory.ram_total - memory.arena_planned)
    assert Harness(board, Options(runtime="tflm")).linked(OperatorSet(kinds)) == known
    assert harness.linked_for(measured.plan) == known
    fewer = harness.linked(OperatorSet(kinds - {"RELU"}))
    assert fewer is not None
    assert fewer.code < known.code


@pytest.mark.parametrize("seed", range(2))
def test_the_ram_that_is_stated_is_the_least_that_starts(board: Board, harness: Harness, seed: int) -> None:
    data = small_network(seed)
    total = harness.measure(data, "net").measurement.memory.ram_total
    exact = Harness(board.with_budget(FLASH, total), Options(runtime="tflm")).measure(data, "net")
    assert exact.measurement.memory.ram_total == total
    with pytest.raises(BudgetError, match="overflows RAM by 16 bytes or more") as caught:
        Harness(board.with_budget(FLASH, total - 16), Options(runtime="tflm")).measure(data, "net")
    assert caught.value.shortfall_bytes == {"RAM": 16}


def test_flash_that_is_too_small_is_said_with_the_interpreters_share(board: Board, harness: Harness) -> None:
    memory = harness.measure(small_network(1), "net").measurement.memory
    small = Harness(board.with_budget(memory.flash_total - 7, 1024 * 1024), Options(runtime="tflm"))
    with pytest.raises(
        BudgetError, match=rf"FLASH by 7 bytes \(the interpreter and its kernels take {memory.flash_code},"
    ):
        small.measure(small_network(1), "net")


def test_a_forecast_that_is_wrong_is_only_a_forecast(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hil.runtimes.tflm.network.measure_arena

    def elsewhere(*given: object) -> Arena:
        arena = whole(*given)  # type: ignore[arg-type]
        return replace(arena, input_offset=arena.input_offset + 16, required_bytes=1024)

    right = harness.measure(small_network(1), "net").measurement
    monkeypatch.setattr(hil.runtimes.tflm.network, "measure_arena", elsewhere)
    found = harness.measure(small_network(1), "net")
    assert found.plan.arena_bytes == 1024
    assert found.measurement.memory == right.memory
    assert found.measurement.outputs.mismatched == 0


def test_what_tflm_does_not_run_is_the_networks_fault_and_in_tflms_words(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hil.runtimes.tflm.network, "MAX_CONCATENATED", 100)
    chain = Chain()
    entry = chain.tensor((1, 4, 4, 2))
    joined = chain.same_scale(Code.CONCATENATION, [entry] * 11, (1, 4, 4, 22), concat_options(-1), 1 / 64, 3)
    with pytest.raises(
        ModelError, match=r"net: layer 0 \(CONCATENATION of int8\) is refused by its kernel on mps2-an386: .*ation\.cc"
    ):
        harness.measure(chain.file.finish([entry], [joined]), "net")


def test_what_a_kernel_refuses_at_an_inference_is_the_networks_fault(harness: Harness) -> None:
    """TFLM registers RESIZE_BILINEAR, and finds only at an inference that it does not have it for 16 bits."""
    n = Random(3, (5, 4, 2))
    data = n.finish(as_plain(n, (resize_bilinear,)))
    with pytest.raises(
        ModelError, match=r"net: layer \d \(RESIZE_BILINEAR of int16\) is refused by its kernel on"
    ) as no:
        harness.measure(data, "net")
    assert no.value.exit_status == 2
    with harness.running(small_network(1), "net") as running:  # the others go on
        assert running.device.name() == "munas-hil"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_an_image_with_a_network_put_into_it_is_what_the_linker_makes(board: Board, tmp_path: Path, seed: int) -> None:
    runtime = make_runtime(board, Options(runtime="tflm"))
    assert isinstance(runtime, Tflm)
    network, toolchain = runtime.deploy(small_network(seed), "net"), find_toolchain()
    archive = build_library(runtime.library, toolchain)
    project = runtime.render(network, tmp_path / "put", Shape())
    found = insert(project, archive, toolchain, FLASH)
    whole = tmp_path / "linked"
    shutil.copytree(project.folder, whole, ignore=shutil.ignore_patterns("*.elf"))
    generated = dict(texts(network, runtime.installation.registry))
    for name in ("model.c", "model.cc", "plan.h"):
        (whole / name).write_text(generated[name])
    (whole / "build.h").write_text(template("build.h").render(build_id=project.build_id))
    parts = tuple(replace(group, files=tuple(whole / file.name for file in group.files)) for group in project.parts)
    linked = replace(project, folder=whole, parts=parts, insertion=None)
    (whole / "memory.x").write_text((whole / "memory.x").read_text().replace(f"LENGTH = {FLASH}", "LENGTH = 64M", 1))
    link_objects(linked, [], whole, archive, toolchain, whole / "firmware.elf")
    assert (whole / "firmware.elf").read_bytes() == found.elf.read_bytes()


def boot(board: Board, elf: Path) -> list[str]:
    """What the device says while it starts. A fault counts as something said."""
    try:
        with QemuRunner().open(elf, board) as session:
            return Device(session.port, session.timeouts).wait_ready()
    except HilError as error:
        return [f"e-[{error}]"]


def configured(folder: Path, build: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """CMake's configuration of the project in `folder`, with these variables in its environment."""
    return subprocess.run(
        ["cmake", "-S", folder, "-B", build], capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A standalone project."""
    folder = tmp_path_factory.mktemp("project")
    model = folder / "net.tflite"
    model.write_bytes(small_network(1))
    generate_project(model, board, Options(runtime="tflm"), folder / "project")
    return folder / "project"


@pytest.mark.slow
def test_a_standalone_project_builds_with_cmake_and_its_network_alone_too(
    board: Board, project: Path, tmp_path: Path
) -> None:
    build = tmp_path / "build"
    done = configured(project, build)
    assert done.returncode == 0, done.stderr
    assert "libtensorflow-microlite.a" in done.stdout
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True, text=True, timeout=400)
    assert not any(line.startswith("e-[") for line in boot(board, build / "firmware.elf"))
    listed = subprocess.run(
        ["arm-none-eabi-nm", "-C", build / "libnetwork.a"], check=True, capture_output=True, text=True
    ).stdout
    for name in ("SetUpNetwork()", "RegisterOps(", "g_model", "tensor_arena"):
        assert name in listed


def test_cmake_asks_for_tflm_at_every_configure(project: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    missing = configured(project, build, TFLM_ROOT="")
    assert missing.returncode != 0
    assert "TFLM_ROOT is not set. Build TensorFlow Lite Micro in the folder" in " ".join(missing.stderr.split())
    elsewhere = configured(project, build, TFLM_ROOT=str(tmp_path))
    assert "has no libtensorflow-microlite.a for cortex-m4" in " ".join(elsewhere.stderr.split())
    whole = find_tflm("cortex-m4").library.read_bytes()
    (tmp_path / "libtensorflow-microlite.a").write_bytes(whole[: len(whole) // 2 + 1])
    truncated = configured(project, build, TFLM_ROOT=str(tmp_path))
    assert "libtensorflow-microlite.a cannot be read: it is truncated, or no library" in truncated.stderr
    assert configured(project, build, TFLM_ROOT=os.environ[ROOT_VARIABLE]).returncode == 0
