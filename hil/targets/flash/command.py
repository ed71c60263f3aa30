"""Flashing by a command of the bench file: for boards of other hosts, and probes that nothing here knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hil.targets.flash.base import Breakable, run_probe

COMMAND_TIMEOUT_S = 180.0  # the image may have to go to another host
_INSTALL = "what the bench file names, or a full path there"


@dataclass(frozen=True, slots=True)
class CommandFlasher:
    """Flasher for the device `serial_number`. Words may hold ``{serial}`` and ``{image}``, the path of the ELF.

    Without `reset_words` a serial break resets: a probe's port takes it as that, and ``rfc2217://`` hands it on.
    """

    serial_number: str
    flash_words: tuple[str, ...]
    reset_words: tuple[str, ...] = ()

    def flash(self, image: Path) -> None:
        """See `Flasher`. Runs the command."""
        run_words(self.flash_words, self.serial_number, f"flashing {self.serial_number}", image)

    def reset(self, port: Breakable) -> None:
        """See `Flasher`."""
        if self.reset_words:
            run_words(self.reset_words, self.serial_number, f"resetting {self.serial_number}")
        else:
            port.send_break()


def run_words(words: Sequence[str], serial_number: str, what: str, image: Path | None = None) -> None:
    """Run a command of the bench file to its end. Raises FlashError, and ToolMissing when there is no such program."""
    # Not str.format: a path may hold braces.
    values = {"{serial}": serial_number, "{image}": "" if image is None else str(image.resolve())}
    filled = list(words)
    for name, value in values.items():
        filled = [word.replace(name, value) for word in filled]
    run_probe(filled, what, _INSTALL, COMMAND_TIMEOUT_S)
