"""Flashing with OpenOCD, from 0.12 on (older ones spell `adapter serial` otherwise)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hil.errors import FlashError
from hil.targets.flash.base import FLASH_TIMEOUT_S, Breakable, run_probe

_SERIAL_NUMBER = re.compile(r"[\w.:-]+", re.ASCII)
INSTALL = "apt-get install openocd"


@dataclass(frozen=True, slots=True)
class OpenOcd:
    """Flasher for the adapter `serial_number` with OpenOCD's configuration file `configuration`."""

    serial_number: str
    configuration: str
    timeout_s: float = FLASH_TIMEOUT_S

    def flash(self, image: Path) -> None:
        """See `Flasher.flash`."""
        path = str(image.resolve())
        if any(character in path for character in "{}\\"):
            raise FlashError(f"openocd cannot take an image from {path}: braces and backslashes are Tcl's")
        self._run("flash", f"program {{{path}}} verify", "shutdown")

    def reset(self, port: Breakable) -> None:
        """See `Flasher.reset`."""
        self._run("reset", "init", "reset run", "shutdown")

    def _run(self, what: str, *commands: str) -> None:
        if not _SERIAL_NUMBER.fullmatch(self.serial_number):  # it comes from the device, and Tcl would run it
            raise FlashError(f"openocd cannot take the serial number {self.serial_number!r}; use another flash method")
        words = ["openocd", "-f", self.configuration]
        for command in (f"adapter serial {self.serial_number}", *commands):
            words += ["-c", command]
        run_probe(words, f"openocd {what} of {self.serial_number}", INSTALL, self.timeout_s)
