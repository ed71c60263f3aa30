"""Many small networks in one image, run under QEMU and compared with LiteRT's reference kernels."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.boards.board import load_board
from hil.build.sources import find_cmsis, library
from hil.codegen.plan import Plan, make_plan
from hil.codegen.project import render
from hil.model.load import parse_model
from hil.model.network import Model
from hil.model.reference import Reference
from hil.runtimes.base import as_one_buffer

HERE = Path(__file__).resolve().parent
BOARDS = {"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500", "cortex-m55": "mps3-an547"}
GCC = "arm-none-eabi-gcc"


@dataclass(frozen=True, slots=True)
class Case:
    """A network with the inputs that it is run on: (count, bytes) int8."""

    label: str
    data: bytes
    model: Model
    plan: Plan
    inputs: NDArray[np.int8]

    def expected(self) -> NDArray[np.int8]:
        """(count, bytes) int8 of the reference."""
        reference = as_one_buffer(Reference(self.data, self.model), self.plan)
        return np.stack([reference.run([row])[0].reshape(-1).view(np.int8) for row in self.inputs])


def case(label: str, data: bytes, seed: int = 0, random_inputs: int = 3) -> Case:
    """A case with random and extreme inputs."""
    model = parse_model(data, "case")
    plan = make_plan(model)
    rng = np.random.default_rng(seed)
    size = plan.input.size
    rows = [rng.integers(-128, 128, size) for _ in range(random_inputs)]
    rows += [np.full(size, -128), np.full(size, 127), np.full(size, plan.input.zero_point)]
    return Case(label, data, model, plan, np.stack(rows).astype(np.int8))


class Bench:
    """Compiles kernels once for a core, and runs lists of cases."""

    def __init__(self, folder: Path, core: str) -> None:
        self.folder, self.board = folder, load_board(BOARDS[core])
        self.target = self.board.target("qemu")
        self.cmsis = find_cmsis()
        self.library = library(self.board, self.target, self.cmsis)
        self.objects = self._compile_kernels()

    def run(self, cases: Sequence[Case], *, resets: bool = True) -> list[NDArray[np.int8]]:
        """Outputs of the device for each case: (count, bytes). States are put back before each input, if `resets`.

        Raises AssertionError when a kernel refuses.
        """
        image = self._link(cases, resets)
        output = self.folder / "output.bin"
        output.unlink(missing_ok=True)
        quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
        semihosting = ["-semihosting-config", "enable=on,target=native"]
        command = ["qemu-system-arm", "-M", str(self.target.machine), *quiet, *semihosting, "-kernel", str(image)]
        done = subprocess.run(command, cwd=self.folder, timeout=120, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"QEMU: status {done.returncode}: {done.stderr}"
        return self._split(np.frombuffer(output.read_bytes(), np.int8), cases)

    def mismatches(self, cases: Sequence[Case]) -> list[str]:
        """A line for each case whose outputs are not those of the reference."""
        found = []
        for item, device in zip(cases, self.run(cases), strict=True):
            expected = item.expected()
            if not np.array_equal(device, expected):
                wrong = int((device != expected).sum())
                most = int(np.abs(device.astype(int) - expected).max())
                found.append(f"{item.label}: {wrong} of {expected.size} differ, by up to {most}")
        return found

    @staticmethod
    def _split(stream: NDArray[np.int8], cases: Sequence[Case]) -> list[NDArray[np.int8]]:
        results, position = [], 0
        for item in cases:
            count, size = len(item.inputs), item.plan.output.size + 1
            rows = stream[position : position + count * size].reshape(count, size)
            assert not rows[:, 0].any(), f"{item.label}: layer {rows[:, 0].max() - 1} refused"
            results.append(rows[:, 1:])
            position += count * size
        assert position == len(stream)
        return results

    def _compile_kernels(self) -> list[Path]:
        objects = []
        for group in self.library.groups:
            if group.name in ("kernels", "cmsis-nn"):
                for path in group.files:
                    if path.stem != "infer":  # bench.c runs the tables of many networks
                        objects.append(self._compile(path, self.library.compile_flags(group), path.stem))
        return objects

    def _compile(self, source: Path, flags: Sequence[str], name: str) -> Path:
        result = self.folder / f"{name}.o"
        subprocess.run([GCC, *flags, "-c", str(source), "-o", str(result)], check=True, cwd=self.folder)
        return result

    def compile_model(self, plan: Plan, index: int) -> Path:
        """The object file of a plan's model.c, its symbols numbered so that several can be linked."""
        project = render(plan, self.board, "qemu", self.cmsis, self.folder / f"case{index}")
        numbered = [f"-D{name}={name}_{index}" for name in ("hil_model", "hil_steps", "hil_arena", "hil_model_reset")]
        flags = [*project.library.model_flags(project.folder), *numbered]
        return self._compile(project.folder / "model.c", flags, f"model{index}")

    def _link(self, cases: Sequence[Case], resets: bool) -> Path:
        flags = self.library.compile_flags(self.library.groups[0])
        objects = [self.compile_model(item.plan, index) for index, item in enumerate(cases)]
        objects.append(self._compile(self._write_cases(cases, resets), flags, "bench_cases"))
        objects.append(self._compile(HERE / "bench.c", flags, "bench"))
        self.folder.joinpath("inputs.bin").write_bytes(b"".join(item.inputs.tobytes() for item in cases))
        assembly = self.folder / "bench_inputs.S"
        assembly.write_text('.section .rodata\n.global bench_inputs\nbench_inputs:\n.incbin "inputs.bin"\n')
        objects.append(self._compile(assembly, self.board.core_flags, "bench_inputs"))
        image = self.folder / "bench.elf"
        regions = (("FLASH (rx)", self.target.flash), ("RAM (rwx)", self.target.sram))
        lines = [f"{name} : ORIGIN = {region.origin}, LENGTH = {region.length}" for name, region in regions]
        self.folder.joinpath("memory.x").write_text(f"MEMORY {{ {' '.join(lines)} }}\n")
        link = ["-nostartfiles", "-Wl,--gc-sections", f"-L{self.folder}", f"-T{HERE / 'bench.ld'}"]
        command = [GCC, *self.board.core_flags, *link, *objects, *self.objects, "-o", image]
        subprocess.run([str(word) for word in command], check=True)
        return image

    def _write_cases(self, cases: Sequence[Case], resets: bool) -> Path:
        count, each = len(cases), len(cases[0].inputs)
        assert all(len(item.inputs) == each for item in cases)
        fields = "const hil_model_t *model; const hil_step_t *steps; int8_t *arena; void (*reset)(void);"
        lines = ['#include "hil_kernels.h"', '#include "hil_model.h"', f"typedef struct {{ {fields} }} bench_case_t;"]
        for index in range(count):
            lines.append(f"extern const hil_model_t hil_model_{index};")
            lines.append(f"extern const hil_step_t hil_steps_{index}[];")
            lines.append(f"extern int8_t hil_arena_{index}[];")
            lines.append(f"extern void hil_model_reset_{index}(void) __attribute__((weak));")
        reset = "hil_model_reset_{}" if resets else "0"
        rows = [
            f"{{&hil_model_{index}, hil_steps_{index}, hil_arena_{index}, {reset.format(index)}}},"
            for index in range(count)
        ]
        lines += ["extern const bench_case_t bench_cases[];", "const bench_case_t bench_cases[] = {", *rows, "};"]
        lines += [f"extern const uint32_t bench_count; const uint32_t bench_count = {count};"]
        lines += [f"extern const uint32_t bench_inputs_each; const uint32_t bench_inputs_each = {each};"]
        lines += ['extern const char bench_output_path[]; const char bench_output_path[] = "output.bin";']
        source = self.folder / "bench_cases.c"
        source.write_text("\n".join(lines) + "\n")
        return source
