"""What board files cannot choose: the emulated machines that our ports know, and the cores that ports are written for.

The memory of a machine is what QEMU 7.2 shows for it (`info mtree -f`); its tick is that of the timer which its port
reads (firmware/port/). A figure would carry a wrong unit if a board file could say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1 << 20

# Cores (as the compiler's -mcpu names them) that each file in firmware/port/ is written for.
PORT_CORES: Mapping[str, tuple[str, ...]] = {
    "mps2": ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"),
    "nrf51": ("cortex-m0",),
    "stm32f4": ("cortex-m4",),
    "stm32f7": ("cortex-m7",),
    "stm32h7": ("cortex-m7",),
    "stm32l4": ("cortex-m4",),
}


USUAL_BAUD = 115_200
# What every port but those of PORTS_OF_ONE_BAUD divides its clock to (tests/firmware/test_stm32.py): from what the
# low-power UART's divisor holds of its slower clock to the highest of bring-up's rates.
LOWEST_BAUD, HIGHEST_BAUD = 4_800, 921_600
PORTS_OF_ONE_BAUD = ("nrf51",)


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
    "mps2-an385": Machine(
        "cortex-m3", "mps2", (0, 4 * MIB), ((0x2000_0000, 4 * MIB), (0x2100_0000, 16 * MIB)), tick_ns=40
    ),
    "mps2-an386": Machine(
        "cortex-m4", "mps2", (0, 4 * MIB), ((0x2000_0000, 4 * MIB), (0x2100_0000, 16 * MIB)), tick_ns=40
    ),
    "mps2-an500": Machine(
        "cortex-m7", "mps2", (0, 4 * MIB), ((0x2000_0000, 4 * MIB), (0x6000_0000, 16 * MIB)), tick_ns=40
    ),
    # Secure state, and so the secure aliases. The counter: 20 MHz on both; the clock of the AN547 itself is 32 MHz.
    "mps2-an505": Machine(
        "cortex-m33",
        "mps2",
        (0x1000_0000, 4 * MIB),
        ((0x3800_0000, 4 * MIB),),
        tick_ns=50,
        defines={"HIL_MPS_IMAGE": 505},
    ),
    "mps3-an547": Machine(
        "cortex-m55",
        "mps2",
        (0x1000_0000, 512 << 10),
        ((0x3000_0000, 512 << 10), (0x3100_0000, 4 * MIB)),
        tick_ns=50,
        defines={"HIL_MPS_IMAGE": 547},
    ),
    # TIMER0 divided by 2.
    "microbit": Machine("cortex-m0", "nrf51", (0, 256 << 10), ((0x2000_0000, 16 << 10),), tick_ns=125),
    # TIM2 divided by 1024; QEMU feeds it with 1 GHz.
    "netduinoplus2": Machine(
        "cortex-m4", "stm32f4", (0x0800_0000, MIB), ((0x2000_0000, 192 << 10),), tick_ns=1024, defines={"HIL_QEMU": 1}
    ),
}


def check_baud(port: str, baud: int) -> None:
    """That the serial line of a board with the port `port` can run at `baud`. Raises ValueError."""
    if baud != USUAL_BAUD and port in PORTS_OF_ONE_BAUD:
        raise ValueError(f"the serial port of firmware/port/{port}.c runs at {USUAL_BAUD} baud only, not at {baud}")


def own_tick_ns(machine: object) -> int:
    """The tick of the timer that our port reads on `machine`, 0 where that is none of the table's."""
    found = MACHINES.get(machine) if isinstance(machine, str) else None
    return 0 if found is None else found.tick_ns
