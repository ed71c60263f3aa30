"""A board's places to run, held against what no board file can choose."""

from __future__ import annotations

from hil.boards.machines import MACHINES, PORT_CORES, check_baud
from hil.boards.target import Target
from hil.timers import own_timer


def check_hardware(cpu: str, target: Target, baud: int) -> None:
    """That `target` is what a real board with the core `cpu` (as -mcpu names it) can be, and its serial line can run at
    `baud`. Raises ValueError."""
    if target.timer != (own := own_timer("hardware").kind):
        raise ValueError(f"hardware.timer is {target.timer!r}; a board has {own!r}")
    for key, unset in (("machine", None), ("tick_ns", 0), ("defines", {})):
        if getattr(target, key) != unset:
            raise ValueError(f"hardware.{key}: only [qemu] has it")
    cores = PORT_CORES.get(target.port)
    if cores is None:
        raise ValueError(f"hardware.port {target.port!r} does not exist (known: {', '.join(PORT_CORES)})")
    if cpu not in cores:
        raise ValueError(f"hardware.port {target.port!r} is for {' and '.join(cores)}, not for {cpu}")
    check_baud(target.port, baud)


def check_qemu(cpu: str, target: Target) -> None:
    """That `target` is what its QEMU machine is. Raises ValueError."""
    name = str(target.machine)
    machine = MACHINES.get(name)
    if machine is None:
        raise ValueError(f"qemu.machine {name!r} has no port of ours (known: {', '.join(MACHINES)})")
    if machine.core != cpu:
        raise ValueError(f"qemu.machine {name!r} has a {machine.core}, the board a {cpu}")
    if target.timer != (own := own_timer("qemu").kind):
        raise ValueError(f"qemu.timer is {target.timer!r}; QEMU counts {own!r}")
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
