"""TFLM on the emulated device: its arena is what the model says to the byte, its log arrives, its errors are errors."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import hil.runtimes.tflm.network
from hil.boards.board import Board, load_board
from hil.build.image import build_library, compile_model, link
from hil.build.toolchain import find_toolchain
from hil.codegen.render import Options as Shape
from hil.errors import HilError, InfrastructureError, ProtocolError
from hil.link.device import Device
from hil.measure.harness import Harness, Options, generate_project, make_runtime
from hil.patterns import Pattern, PatternKind
from hil.runtimes.tflm.arena import Arena
from hil.targets.runners.qemu import QemuRunner
from tests.networks import small_network
from tests.tflm import every_operator, needs_tflm

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, needs_tflm]

_ARENA_SIZE_OFFSET = 12  # in hil_model_t: two pointers and a padded uint16 before it
NETWORKS = int(os.environ.get("TFLM_NETWORKS", "12"))


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("mps2-an386").with_budget(1024 * 1024, 1024 * 1024)


def build(board: Board, data: bytes, folder: Path) -> Path:
    runtime = make_runtime(board, Options(runtime="tflm"))
    project = runtime.render(runtime.deploy(data, "net"), folder, Shape())
    toolchain = find_toolchain()
    archive = build_library(runtime.library, toolchain)
    return link(project, compile_model(project, toolchain), archive, toolchain).elf


def with_arena_of(elf: Path, size_bytes: int) -> Path:
    """A copy of the image that gives TFLM an arena of `size_bytes`: the figure is data in flash."""
    data = bytearray(elf.read_bytes())
    with elf.open("rb") as file:
        image = ELFFile(file)
        symbol = image.get_section_by_name(".symtab").get_symbol_by_name("hil_model")[0]
        section = image.get_section(symbol["st_shndx"])
        position = section["sh_offset"] + symbol["st_value"] - section["sh_addr"] + _ARENA_SIZE_OFFSET
    struct.pack_into("<I", data, position, size_bytes)
    copy = elf.with_name(f"arena-{size_bytes}.elf")
    copy.write_bytes(data)
    return copy


def boot(board: Board, elf: Path) -> list[str]:
    """What the device says while it starts. A fault counts as something said."""
    try:
        with QemuRunner().open(elf, board) as session:
            return Device(session.port, session.timeouts).wait_ready()
    except HilError as error:
        return [f"e-[{error}]"]


def starts(board: Board, elf: Path, size_bytes: int) -> bool:
    return not any(line.startswith("e-[") for line in boot(board, with_arena_of(elf, size_bytes)))


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_the_arena_is_the_models_to_the_byte_and_outputs_are_equal(board: Board, seed: int) -> None:
    measured = Harness(board, Options(runtime="tflm")).measure(small_network(seed), "net")
    assert measured.measurement.memory.arena_used == measured.plan.lower_bound_bytes
    assert measured.measurement.outputs.mismatched == 0


def test_the_arena_of_every_operator_is_the_models(board: Board) -> None:
    measured = Harness(board, Options(runtime="tflm")).measure(every_operator(), "all")
    assert measured.measurement.memory.arena_used == measured.plan.lower_bound_bytes


@pytest.mark.parametrize("seed", range(3))
def test_the_arena_asked_for_is_the_smallest_that_starts(board: Board, tmp_path: Path, seed: int) -> None:
    data = small_network(seed)
    elf = build(board, data, tmp_path)
    required = make_runtime(board, Options(runtime="tflm")).deploy(data, "net").arena_bytes
    assert starts(board, elf, required)
    assert not starts(board, elf, required - 16)


def test_a_too_small_arena_is_said_in_tflms_words_and_nothing_runs(board: Board, tmp_path: Path) -> None:
    elf = with_arena_of(build(board, small_network(1), tmp_path), 1024)
    with QemuRunner().open(elf, board) as session:
        device = Device(session.port, session.timeouts)
        said = device.wait_ready()
        assert any(re.fullmatch(r"e-\[.*(Failed|Requested).*\d+.*\]", line) for line in said), said
        device.fill(Pattern(PatternKind.RANDOM, 1))
        with pytest.raises(ProtocolError, match="Kernel refused"):
            device.run()


def test_a_measurement_that_cannot_start_says_what_tflm_said(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hil.runtimes.tflm.network.measure_arena

    def too_small(*given: object) -> Arena:
        return replace(whole(*given), required_bytes=1024)  # type: ignore[arg-type]

    monkeypatch.setattr(hil.runtimes.tflm.network, "measure_arena", too_small)
    with pytest.raises(InfrastructureError, match=r"net on mps2-an386: the firmware cannot set it up: .*\d+"):
        Harness(board, Options(runtime="tflm")).measure(small_network(1), "net")


def test_a_network_that_lies_elsewhere_than_planned_is_not_measured(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hil.runtimes.tflm.network.measure_arena

    def elsewhere(*given: object) -> Arena:
        arena = whole(*given)  # type: ignore[arg-type]
        return replace(arena, input_offset=arena.input_offset + 16)

    monkeypatch.setattr(hil.runtimes.tflm.network, "measure_arena", elsewhere)
    with pytest.raises(InfrastructureError, match=r"The input lies at \d+ in the arena, planned was \d+"):
        Harness(board, Options(runtime="tflm")).measure(small_network(1), "net")


def test_a_standalone_project_builds_with_cmake(board: Board, tmp_path: Path) -> None:
    model = tmp_path / "net.tflite"
    model.write_bytes(small_network(1))
    folder = tmp_path / "project"
    generate_project(model, board, Options(runtime="tflm"), folder)
    library = make_runtime(board, Options(runtime="tflm")).library.archives[0]
    configure = ["cmake", "-S", folder, "-B", tmp_path / "build", f"-DTFLM_LIBRARY={library}"]
    for command in (configure, ["cmake", "--build", tmp_path / "build"]):
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    assert not any(line.startswith("e-[") for line in boot(board, tmp_path / "build" / "firmware.elf"))
