"""Builds small images around hand-written model.c files, with the runtime as it is shipped."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hil.boards.board import Board, Via
from hil.boards.core import load_core
from hil.boards.linked import link_of
from hil.boards.target import Target

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
GCC = "arm-none-eabi-gcc"
FLAGS = ("-std=c11", "-Os", "-g", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections")
MACHINES = {
    "cortex-m0": "microbit",
    "cortex-m3": "mps2-an385", "cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500", "cortex-m33": "mps2-an505",
    "cortex-m55": "mps3-an547",
}  # fmt: skip

HEADER = """
#include "hil_model.h"
int8_t hil_arena[{arena}] __attribute__((section(".arena"), aligned(16)));
const hil_model_t hil_model = {{
    .build_id = "0123456789abcdef0123456789abcdef", .profile = "{profile}", .layers = {layers},
    .arena_size = sizeof hil_arena, .input_offset = {input_offset}, .input_size = {input_size},
    .output_offset = {output_offset}, .output_size = {output_size},
    .input_zero_point = -3, .output_zero_point = 5, .output_scale = 0.5f, .input_scale = 0.25f }};
"""

# Adds the layer's number to each of the first bytes of the input, in three layers.
ADDER = """
int hil_model_infer(hil_mark_fn mark)
{
    for (uint32_t layer = 0; layer < hil_model.layers; layer++) {
        for (uint32_t i = 0; i < hil_model.output_size; i++) {
            const int8_t *from = hil_arena + (layer == 0 ? hil_model.input_offset : hil_model.output_offset);
            hil_arena[hil_model.output_offset + i] = (int8_t)(from[i] + (int)layer);
        }
        if (mark) mark(layer);
    }
    return 0;
}
"""


def header(**changes: object) -> str:
    """Model description: 100 bytes in at 1024, 10 bytes out at 0, in an arena of 4096, 3 layers."""
    values: dict[str, object] = {
        "arena": 4096, "profile": "munas", "layers": 3, "input_offset": 1024, "input_size": 100,
        "output_offset": 0, "output_size": 10,
    }  # fmt: skip
    return HEADER.format(**(values | changes))


def memory_x(flash: str = "64K", ram: str = "64K", stack: int = 2048, physical_end: int | None = 0x20400000) -> str:
    """The file that a project has beside link.ld."""
    lines = [
        f"MEMORY {{ FLASH (rx) : ORIGIN = 0, LENGTH = {flash}  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = {ram} }}",
        f"_stack_size = {stack};",
    ]
    if physical_end is not None:
        lines.append(f"_ram_physical_end = {physical_end};")
    return "\n".join(lines) + "\n"


def _memory_of(core: str) -> str:
    """64 KB each at the start of what the core's machine has, or all RAM where that is less."""
    machine = load_core(core).emulator
    text = memory_x(ram=f"{min(64, machine.sram.length >> 10)}K", physical_end=machine.sram.end)
    origins = f"ORIGIN = 0x{machine.flash.origin:x}", f"ORIGIN = 0x{machine.sram.origin:x}"
    return text.replace("ORIGIN = 0x20000000", origins[1]).replace("ORIGIN = 0,", f"{origins[0]},")


def need_toolchain() -> None:
    """Skip where there is no cross compiler."""
    if shutil.which(GCC) is None:
        pytest.skip(f"{GCC} is not installed")


def _gcc(folder: Path, *arguments: str) -> str:
    run = subprocess.run([GCC, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if run.returncode != 0:
        raise AssertionError(run.stderr)
    return run.stderr


@cache
def runtime(core: str, folder: Path) -> tuple[Path, ...]:
    """Objects of runtime and port for `core`, compiled once into `folder`."""
    need_toolchain()
    folder.mkdir(parents=True, exist_ok=True)
    sources = [*sorted((FIRMWARE / "runtime").glob("*.c")), FIRMWARE / "port" / f"{load_core(core).emulator.port}.c"]
    chosen = load_core(core)
    defines = [f"-D{name}={value}" for name, value in chosen.emulator.defines.items()]
    _gcc(folder, *chosen.flags, *defines, *FLAGS, f"-I{FIRMWARE / 'runtime'}", "-c", *map(str, sources))
    return tuple(folder / f"{source.stem}.o" for source in sources)


def compiled_for(board: Board, via: Via, folder: Path) -> tuple[Path, ...]:
    """Objects of runtime and port as they are built for `board` via `via`, compiled into `folder`."""
    need_toolchain()
    folder.mkdir(parents=True, exist_ok=True)
    target = board.target(via)
    ports = [target.port, *(["rtt"] if link_of(target) == "rtt" else [])]
    sources = [*sorted((FIRMWARE / "runtime").glob("*.c")), *(FIRMWARE / "port" / f"{port}.c" for port in ports)]
    defines = [f"-D{name}={value}" for name, value in sorted(target.defines.items())]
    _gcc(folder, *board.core_flags, *FLAGS, *defines, f"-I{FIRMWARE / 'runtime'}", "-c", *map(str, sources))
    return tuple(folder / f"{source.stem}.o" for source in sources)


def memory_of(target: Target) -> str:
    """The memory.x of 64 KB each at the start of the target's flash and RAM."""
    return (
        f"MEMORY {{ FLASH (rx) : ORIGIN = {target.flash.origin}, LENGTH = 64K  "
        f"RAM (rwx) : ORIGIN = {target.sram.origin}, LENGTH = 64K }}\n"
        f"_stack_size = 2048;\n_ram_physical_end = {target.sram.end};\n"
    )


def link(
    model: str, objects: tuple[Path, ...], folder: Path, *, core: str = "cortex-m4", memory: str | None = None
) -> Path:
    """An ELF in `folder` of the C text `model` and the runtime's objects. AssertionError with gcc's text on failure."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.c").write_text(model)
    (folder / "memory.x").write_text(memory or _memory_of(core))
    image = folder / "image.elf"
    _gcc(
        folder, *load_core(core).flags, *FLAGS, f"-I{FIRMWARE / 'runtime'}", "model.c", *map(str, objects),
        f"-T{FIRMWARE / 'link.ld'}", "-L.", "-nostartfiles", "--specs=nosys.specs",
        "-Wl,--gc-sections", "-Wl,--fatal-warnings", "-o", str(image),
    )  # fmt: skip
    return image


def countdown(count: int) -> str:
    """A network in assembly that takes exactly ``2 * count + 2`` instructions, its return included."""
    return f"""
__attribute__((naked)) int hil_model_infer(hil_mark_fn mark)
{{
    (void)mark;
    __asm volatile("ldr r0, ={count}\\n 1: subs r0, r0, #1\\n bne 1b\\n bx lr\\n .ltorg");
}}
"""


def counted_layers(counts: list[int]) -> str:
    """Layers in assembly that take exactly these (odd) numbers of instructions each, besides the call of the mark.

    A layer is ``movw``, (count - 3) / 2 rounds of two, and a test for the mark: 1 + (count - 2) + 1.
    """
    layers = [
        f"movw r1, #{(count - 2) // 2}\\n 1: subs r1, r1, #1\\n bne 1b\\n cbz r4, 2f\\n movs r0, #{i}\\n blx r4\\n 2:"
        for i, count in enumerate(counts)
    ]
    body = "\n".join(f'        "{layer}\\n"' for layer in layers)
    return f"""
__attribute__((naked)) int hil_model_infer(hil_mark_fn mark)
{{
    (void)mark;
    __asm volatile(
        "push {{r4, lr}}\\n mov r4, r0\\n"
{body}
        "movs r0, #0\\n pop {{r4, pc}}");
}}
"""


FAULTS = {
    "nowhere": "int hil_model_infer(hil_mark_fn m) { (void)m; ((void (*)(void))0xE0000001)(); return 0; }",
    "bus": "int hil_model_infer(hil_mark_fn m) { (void)m; return *(volatile int *)0x50000000; }",
    "undefined": 'int hil_model_infer(hil_mark_fn m) { (void)m; __asm volatile("udf #1"); return 0; }',
    "recursion": """
__attribute__((noinline)) static int deep(volatile int *p, int n)
{
    volatile int here[16];
    here[0] = *p;
    return n == 0 ? *p : deep(here, n - 1) + here[0];
}
int hil_model_infer(hil_mark_fn m) { (void)m; volatile int x = 1; return deep(&x, 100000); }""",
    "frame": """
int hil_model_infer(hil_mark_fn m)
{
    volatile char big[8000];
    (void)m;
    big[0] = 1;
    return big[0];
}""",
    "lockup": """
int hil_model_infer(hil_mark_fn m)
{
    (void)m;
    __asm volatile("mov r0, #0x50000000\\n msr msp, r0\\n udf #1");
    return 0;
}""",
}
ENDLESS = "int hil_model_infer(hil_mark_fn m) { (void)m; for (;;) { } }"
REFUSING = "int hil_model_infer(hil_mark_fn m) { (void)m; return 3; }"


def symbol(image: Path, name: str) -> int:
    """Value of a symbol of the ELF."""
    with image.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        found = table.get_symbol_by_name(name)
        assert found, f"{image} has no symbol {name}"
        return int(found[0]["st_value"])
