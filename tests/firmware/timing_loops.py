"""Runs a few lines of hand-written assembly under QEMU with the timing plugin."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

from hil.boards.core import load_core
from hil.boards.timing import Timing
from hil.cycle_model.options import engine_options
from hil.cycle_model.plugin import find_plugin
from hil.cycle_model.record import InferenceRecord, RecordReader
from hil.cycle_model.regions import Regions

QEMU = "qemu-system-arm"
MACHINES = {
    3: ("cortex-m3", "mps2-an385"),
    4: ("cortex-m4", "mps2-an386"),
    7: ("cortex-m7", "mps2-an500"),
    33: ("cortex-m33", "mps2-an505"),
}
# Where each machine has its vectors and its RAM (the Cortex-M33 starts in secure state).
FLASH, RAM = (0x0, 0x400000), (0x20000000, 0x400000)
SECURE_FLASH, SECURE_RAM = (0x10000000, 0x400000), (0x38000000, 0x400000)

# The loop is called twice, so that the second record shows that nothing is left over from the first. Semihosting's
# exit ends QEMU.
_FRAME = """
    .syntax unified
    .cpu {cpu}
    .fpu fpv4-sp-d16
    .thumb
    .section .vectors, "a"
    .word {ram:#x} + 0x1000, reset + 1, fault + 1, fault + 1
    .text
    .align 2
    .global reset
    .thumb_func
reset:
    ldr r0, =0xe000ed88
    ldr r1, =0x00f00000
    str r1, [r0]
    dsb
    isb
    bl inference
    bl inference
    movs r0, #0x18
    ldr r1, =0x20026
    bkpt 0xab
fault:
    b fault
    .align 4
    .global inference
    .thumb_func
inference:
{body}
    .align 4
    .pool
    .align 5
table: .fill 256, 4, 0x01020304
    .bss
    .align 5
buffer: .space 1024
"""


def _memory(core: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (SECURE_FLASH, SECURE_RAM) if core == 33 else (FLASH, RAM)


def build(body: str, core: int, folder: Path) -> tuple[Path, dict[str, int]]:
    """An image whose `inference` is `body`, and its symbols (Thumb bits cleared)."""
    cpu = MACHINES[core][0]
    source, elf = folder / "loop.s", folder / "loop.elf"
    (flash, _), (ram, _) = _memory(core)
    source.write_text(_FRAME.format(cpu=cpu, body=body, ram=ram), encoding="ascii")
    subprocess.run(
        ["arm-none-eabi-gcc", *load_core(cpu).flags, "-nostdlib", f"-Wl,-Ttext={flash + 0x100:#x}",
         f"-Wl,--section-start=.vectors={flash:#x}", f"-Wl,-Tbss={ram:#x}",
         "-Wl,-e,reset", "-Wl,--build-id=none", str(source), "-o", str(elf)],
        check=True,
    )  # fmt: skip
    listed = subprocess.run(["arm-none-eabi-nm", str(elf)], capture_output=True, text=True, check=True).stdout
    rows = [row.split() for row in listed.splitlines() if len(row.split()) == 3]
    return elf, {name: int(value, 16) & ~1 for value, _, name in rows}


def run(body: str, folder: Path, core: int = 4, layers: tuple[str, ...] = (), **options: object) -> InferenceRecord:
    """The record of `body` with the constants of the core's file, `options` in the place of some of them.

    Both calls have to give the same record. `layers` are labels in `body`.
    """
    elf, symbols = build(body, core, folder)
    flash, ram = _memory(core)
    found = load_core(MACHINES[core][0])
    regions = Regions(symbols["inference"], {symbols[name]: name for name in layers})
    constants = engine_options(Timing(), found, found.emulator, regions)
    engine = dataclasses.replace(constants, flash=flash, ram=ram, **options)  # type: ignore[arg-type]
    records = folder / "records"
    records.unlink(missing_ok=True)
    observed = find_plugin(QEMU).arguments(engine, records)
    subprocess.run(
        [QEMU, "-M", MACHINES[core][1], "-kernel", str(elf), "-icount", "shift=10", "-nodefaults", "-display", "none",
         "-nic", "none", "-semihosting-config", "enable=on,target=native", *observed],
        check=True, timeout=60, stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    first, second = RecordReader(records).read_new()
    assert first.total == second.total
    assert [layer.counters for layer in first.layers] == [layer.counters for layer in second.layers]
    assert first.total.unknown == 0
    return first
