"""What board files cannot choose: the emulated machines that our ports know, and the cores that ports are written for.

The memory of a machine is what QEMU 7.2 shows for it (`info mtree -f`); its tick is that of the timer which its port
reads (firmware/port/). A figure would carry a wrong unit if a board file could say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hil.boards.target import Target

MIB = 1 << 20

# Cores (as the compiler's -mcpu names them) that each file in firmware/port/ is written for.
PORT_CORES: Mapping[str, tuple[str, ...]] = {
    "mps2": ("cortex-m4", "cortex-m7"),
    "stm32f4": ("cortex-m4",),
    "stm32f7": ("cortex-m7",),
    "stm32h7": ("cortex-m7",),
    "stm32l4": ("cortex-m4",),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """One QEMU machine: `core` as -mcpu names it; `flash` is where it fetches its vectors. Regions: (origin, bytes)."""

    core: str
    port: str
    flash: tuple[int, int]
    sram: tuple[tuple[int, int], ...]
    tick_ns: int
    defines: Mapping[str, int] = field(default_factory=dict)


MACHINES: Mapping[str, Machine] = {
    # The counter of the FPGA I/O block, 25 MHz.
    "mps2-an386": Machine(
        "cortex-m4", "mps2", (0, 4 * MIB), ((0x2000_0000, 4 * MIB), (0x2100_0000, 16 * MIB)), tick_ns=40
    ),
    "mps2-an500": Machine(
        "cortex-m7", "mps2", (0, 4 * MIB), ((0x2000_0000, 4 * MIB), (0x6000_0000, 16 * MIB)), tick_ns=40
    ),
    # TIM2 divided by 1024; QEMU feeds it with 1 GHz.
    "netduinoplus2": Machine(
        "cortex-m4", "stm32f4", (0x0800_0000, MIB), ((0x2000_0000, 192 << 10),), tick_ns=1024, defines={"HIL_QEMU": 1}
    ),
}


def own_tick_ns(machine: object) -> int:
    """The tick of the timer that our port reads on `machine`, 0 where that is none of the table's."""
    found = MACHINES.get(machine) if isinstance(machine, str) else None
    return 0 if found is None else found.tick_ns


def check_hardware(cpu: str, target: Target) -> None:
    """That `target` is what a real board with the core `cpu` (as -mcpu names it) can be. Raises ValueError."""
    if target.timer != "dwt-cycles":
        raise ValueError(f"hardware.timer is {target.timer!r}; a board has 'dwt-cycles'")
    for key, unset in (("machine", None), ("tick_ns", 0), ("defines", {})):
        if getattr(target, key) != unset:
            raise ValueError(f"hardware.{key}: only [qemu] has it")
    cores = PORT_CORES.get(target.port)
    if cores is None:
        raise ValueError(f"hardware.port {target.port!r} does not exist (known: {', '.join(PORT_CORES)})")
    if cpu not in cores:
        raise ValueError(f"hardware.port {target.port!r} is for {' and '.join(cores)}, not for {cpu}")


def check_qemu(cpu: str, target: Target) -> None:
    """That `target` is what its QEMU machine is. Raises ValueError."""
    name = str(target.machine)
    machine = MACHINES.get(name)
    if machine is None:
        raise ValueError(f"qemu.machine {name!r} has no port of ours (known: {', '.join(MACHINES)})")
    if machine.core != cpu:
        raise ValueError(f"qemu.machine {name!r} has a {machine.core}, the board a {cpu}")
    if target.timer != "icount-instructions":
        raise ValueError(f"qemu.timer is {target.timer!r}; QEMU counts 'icount-instructions'")
    expected = {"port": machine.port, "tick_ns": machine.tick_ns, "defines": dict(machine.defines)}
    for key, value in expected.items():
        if getattr(target, key) != value:
            raise ValueError(f"qemu.{key} is {getattr(target, key)!r}; machine {name} has {value!r}")
    flash, sram = ((item.origin, item.length) for item in (target.flash, target.sram))
    if flash[0] != machine.flash[0] or not _is_inside(flash, machine.flash):
        raise ValueError(f"qemu.flash is not the memory that {name} boots from: {_span(*machine.flash)}")
    if not any(_is_inside(sram, memory) for memory in machine.sram):
        where = " or ".join(_span(*memory) for memory in machine.sram)
        raise ValueError(f"qemu.sram is not in the RAM of {name}: {where}")


def _is_inside(region: tuple[int, int], memory: tuple[int, int]) -> bool:
    return memory[0] <= region[0] and sum(region) <= sum(memory)


def _span(origin: int, length: int) -> str:
    return f"0x{origin:08x}-0x{origin + length:08x}"
