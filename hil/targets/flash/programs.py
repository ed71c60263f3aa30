"""Flashing programs as data: what they are called with, and what their own words for failure mean.

pyOCD and OpenOCD have modules of their own, because a test drives the real ones. Those here are written after their
manuals and were never run; a stand-in tells what they are called with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hil.errors import FlashError
from hil.targets.flash.base import FLASH_TIMEOUT_S, Breakable, run_probe
from munas.scratch import scratch_folder

ProgramName = Literal["probe-rs", "cubeprogrammer", "j-link"]
_SERIAL_NUMBER = re.compile(r"[\w.:-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Program:
    """A flashing program. Words may hold ``{serial}``, ``{chip}``, ``{image}`` and ``{script}``.

    `script_flash` and `script_reset` are lines of the command file ``{script}``, of programs that take one. `source`
    is the manual that all of it is from.
    """

    program: str
    flash: tuple[str, ...]
    reset: tuple[str, ...]
    install: str
    source: str
    script_flash: tuple[str, ...] = ()
    script_reset: tuple[str, ...] = ()


_J_LINK = (
    "-NoGui", "1", "-ExitOnError", "1", "-Device", "{chip}", "-If", "SWD", "-Speed", "4000", "-AutoConnect", "1",
    "-SelectEmuBySN", "{serial}", "-CommandFile", "{script}",
)  # fmt: skip
_CUBE = ("-c", "port=SWD", "sn={serial}")
PROGRAMS: Mapping[ProgramName, Program] = {
    "probe-rs": Program(
        "probe-rs",
        ("download", "--non-interactive", "--chip", "{chip}", "--probe", "{serial}", "--verify", "{image}"),
        ("reset", "--non-interactive", "--chip", "{chip}", "--probe", "{serial}"),
        "cargo install probe-rs-tools --locked",
        "probe-rs documentation, download and reset; never run",
    ),
    "cubeprogrammer": Program(
        "STM32_Programmer_CLI", (*_CUBE, "-w", "{image}", "-v"), (*_CUBE, "-rst"),
        "STM32CubeProgrammer from ST's site; its folder has to be in PATH", "ST UM2237, 3.2; never run",
    ),
    "j-link": Program(
        "JLinkExe", _J_LINK, _J_LINK, "the J-Link software pack from SEGGER's site", "SEGGER UM08001, 3.2; never run",
        ("r", "loadfile {image}", "exit"), ("r", "g", "exit"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProgramFlasher:
    """Flasher for the probe `serial_number` with the program `name`, which calls the chip `chip`."""

    name: ProgramName
    serial_number: str
    chip: str
    timeout_s: float = FLASH_TIMEOUT_S

    def flash(self, image: Path) -> None:
        """See `Flasher.flash`."""
        program = PROGRAMS[self.name]
        path = str(image.resolve())
        if program.script_flash and any(character.isspace() or character == '"' for character in path):
            raise FlashError(f"{program.program} cannot take an image from {path}: its command files know no quotes")
        self._run("flash", program.flash, program.script_flash, path)

    def reset(self, port: Breakable) -> None:
        """See `Flasher.reset`."""
        program = PROGRAMS[self.name]
        self._run("reset", program.reset, program.script_reset, "")

    def _run(self, what: str, words: tuple[str, ...], script: tuple[str, ...], image: str) -> None:
        if not _SERIAL_NUMBER.fullmatch(self.serial_number):  # it comes from the device
            raise FlashError(f"{self.name} cannot take the serial number {self.serial_number!r}")
        program = PROGRAMS[self.name]
        with scratch_folder("flash") as folder:
            file = folder / "commands"
            filled = {"serial": self.serial_number, "chip": self.chip, "image": image, "script": str(file)}
            file.write_text("".join(f"{line.format(**filled)}\n" for line in script), encoding="utf-8")
            command = [program.program, *(word.format(**filled) for word in words)]
            run_probe(command, f"{self.name} {what} of {self.serial_number}", program.install, self.timeout_s)
