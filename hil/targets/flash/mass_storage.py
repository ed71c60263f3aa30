"""Flashing by a copy to the drive that ST-LINK and DAPLink probes show.

The drive takes the file, writes the flash, and comes back without the file; what went wrong is then in FAIL.TXT.
"""

from __future__ import annotations

import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hil.errors import FlashError
from hil.targets.detect import Connected
from hil.targets.flash.base import BREAK_S, FLASH_TIMEOUT_S, Breakable, flat_binary, write_to_drive

FILE_NAME = "munashil.bin"  # 8.3: the drive is FAT
FAIL_NAME = "FAIL.TXT"
_POLL_S = 0.05
_SETTLE_S = 0.3  # a drive that has just come back lists its files a moment later
_FAIL_BYTES = 400


@dataclass(frozen=True, slots=True)
class MassStorage:
    """Flasher through the drive mounted at `drive`; reset is a serial break, which both kinds of probe understand."""

    drive: Path
    timeout_s: float = FLASH_TIMEOUT_S
    settle_s: float = _SETTLE_S

    @classmethod
    def of(cls, device: Connected) -> MassStorage:
        """For `device`. Raises FlashError when none of its drives is mounted."""
        mounted = [drive for drive in device.drives if drive.is_dir()]
        if not mounted:
            raise FlashError(
                f"the drive of {device.serial_number} is not mounted, or not known to be its; mount it, name it in the "
                "bench file (drive), or choose flash = \"pyocd\" or \"openocd\" there"
            )  # fmt: skip
        return cls(mounted[0])

    def flash(self, image: Path) -> None:
        """See `Flasher.flash`."""
        _, content = flat_binary(image)
        if not self._is_mounted():
            raise FlashError(f"the drive {self.drive} is not mounted")
        target = self.drive / FILE_NAME
        deadline = time.monotonic() + self.timeout_s
        before = self._failure()
        error = write_to_drive(target, content)
        # The drive may vanish while the file is being closed; only what it says afterwards counts.
        if error is not None and self._is_mounted() and not self._failure():
            raise FlashError(f"cannot copy the image to {self.drive}: {error.strerror or error}") from error
        self._wait_for_remount(target, before, deadline)

    def _wait_for_remount(self, target: Path, before: str, deadline: float) -> None:
        """Until the drive is back without our file. A FAIL.TXT that was there `before` counts once it is back."""
        while not self._is_back(target):
            said = self._failure()
            if said and said != before:
                break
            if time.monotonic() > deadline:
                raise FlashError(
                    f"the drive {self.drive} took the image but did not come back within {self.timeout_s:g} s; is it "
                    "remounted automatically? pyocd and openocd (bench file) need no drive"
                )
            time.sleep(_POLL_S)  # nothing portable tells of a mount
        time.sleep(self.settle_s)  # a probe writes FAIL.TXT a moment after its drive is back, and tells nobody
        said = self._failure()
        if said:
            raise FlashError(f"the probe refused the image; its FAIL.TXT says: {said}")

    def _is_back(self, target: Path) -> bool:
        with suppress(OSError):  # a drive that goes or comes may answer anything
            return self.drive.is_dir() and not target.exists() and any(self.drive.iterdir())
        return False

    def _is_mounted(self) -> bool:
        with suppress(OSError):
            return self.drive.is_dir()
        return False

    def _failure(self) -> str:
        """Text of FAIL.TXT, empty without one."""
        try:
            text = (self.drive / FAIL_NAME).read_text(encoding="utf-8", errors="replace")[:_FAIL_BYTES]
        except OSError:
            return ""
        return " ".join(text.split()) or "(nothing)"

    def reset(self, port: Breakable) -> None:
        """See `Flasher.reset`."""
        try:
            port.send_break(BREAK_S)
        except (OSError, termios.error) as error:  # the latter is what pyserial lets through
            raise FlashError(f"the board cannot be reset by a serial break: {error}") from error
