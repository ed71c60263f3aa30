"""Measures networks under QEMU with the timing plugin, the firmware being what `measure` builds."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path

from hil.boards.board import Board, load_board
from hil.boards.timing import Timing
from hil.build.image import Image, build_library, compile_model, link
from hil.build.toolchain import find_toolchain
from hil.codegen.render import Options
from hil.cycle_model.record import InferenceRecord
from hil.link.device import Device
from hil.patterns import verification_patterns
from hil.runtimes.base import Deployment
from hil.runtimes.registry import RUNTIMES
from hil.targets.runners.qemu import QemuRunner


@dataclass(frozen=True, slots=True)
class Observed:
    """One timed inference: the device's own count, and the plugin's record."""

    device_instructions: int
    record: InferenceRecord


def roomy(name: str) -> Board:
    """The board with a budget that the MLPerf Tiny networks fit."""
    return load_board(name).with_budget(1024 * 1024, 320 * 1024)


def deploy(data: bytes, board: Board, folder: Path, weights_in_ram: bool = False) -> tuple[Deployment, Image]:
    """The firmware of a .tflite; with `weights_in_ram` the same objects are linked so that RAM holds the weights."""
    runtime = RUNTIMES["cmsis-nn"](board, "qemu")
    toolchain = find_toolchain()
    plan = runtime.deploy(data, "network")
    project = runtime.render(plan, folder, Options(compiler=toolchain.version))
    if weights_in_ram:
        library = dataclasses.replace(project.library, linker_script=_moved(project.library.linker_script, folder))
        project = dataclasses.replace(project, library=library)
    archive = build_library(runtime.library, toolchain)
    return plan, link(project, compile_model(project, toolchain), archive, toolchain)


def _moved(script: Path, folder: Path) -> Path:
    """A copy of the linker script that has the weights among the initialised data."""
    text = script.read_text(encoding="utf-8")
    weights, constants, data = "*(.rodata.hil_weights*)", "*(.rodata .rodata.*)", "*(.data .data.*)"
    assert [text.count(pattern) for pattern in (weights, constants, data)] == [1, 1, 1]
    text = text.replace(weights, "")
    text = text.replace(constants, "*(.rodata .rodata.[!h]* .rodata.h[!i]* .rodata.hil_[!w]*)")
    text = text.replace(data, f"{data} . = ALIGN(4); {weights}")
    target = folder / "weights-in-ram.ld"
    target.write_text(text, encoding="utf-8")
    return target


def infer(image: Image, board: Board, timing: Timing | None, inputs: int = 2) -> list[Observed]:
    """`inputs` timed inferences of the verification patterns, one after another."""
    observed = []
    with QemuRunner(modelled=True).open(image.elf, board.model_copy(update={"timing": timing})) as session:
        found = Device(session.port, session.timeouts)
        found.wait_ready()
        for pattern in itertools.islice(itertools.cycle(verification_patterns(8, 0)), inputs):
            found.fill(pattern)
            ticks = found.run().ticks
            (record,) = session.new_records()
            observed.append(Observed(session.ticks_to_units(ticks), record))
    return observed
