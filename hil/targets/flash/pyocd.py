"""Flashing with pyOCD's command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hil.targets.flash.base import FLASH_TIMEOUT_S, Breakable, run_probe


@dataclass(frozen=True, slots=True)
class PyOcd:
    """Flasher for the probe `serial_number` with a chip that pyOCD calls `target`."""

    serial_number: str
    target: str
    timeout_s: float = FLASH_TIMEOUT_S

    def flash(self, image: Path) -> None:
        """See `Flasher.flash`."""
        self._run("flash", "--format", "elf", str(image))

    def reset(self, port: Breakable) -> None:
        """See `Flasher.reset`."""
        self._run("reset")

    def _run(self, command: str, *arguments: str) -> None:
        # --no-wait: a probe that is gone is told at once
        words = ["pyocd", command, "--no-wait", "--uid", self.serial_number, "--target", self.target, *arguments]
        # Most chips are not built into pyOCD.
        install = f"pip install pyocd && pyocd pack install {self.target}"
        run_probe(words, f"pyocd {command} of {self.serial_number}", install, self.timeout_s)
