"""Flashing by a copy to the drive that a UF2 bootloader shows: RP2040 and RP2350 boards, nRF52840 boards.

The format and the family ids are Microsoft's (github.com/microsoft/uf2): blocks of 512 bytes, each of which says where
its 256 bytes belong, so that the drive can take them in any order. The drive is known by its INFO_UF2.TXT. With the
last block the board starts the image, and the drive goes.
"""

from __future__ import annotations

import errno
import re
import struct
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hil.boards.board import Uf2Family
from hil.errors import FlashError
from hil.targets.flash.base import FLASH_TIMEOUT_S, Breakable, segments_of, write_to_drive

FILE_NAME = "munashil.uf2"
INFO_NAME = "INFO_UF2.TXT"
MAGIC_START, MAGIC_SECOND, MAGIC_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
HAS_FAMILY = 0x2000
PAGE_BYTES = 256
_BLOCK = struct.Struct("<8I476sI")
_ERASED = b"\xff"
_INFO_BYTES = 2000
_POLL_S = 0.05
_MOUNTS = Path("/proc/self/mounts")
_ESCAPE = re.compile(r"\\([0-7]{3})")  # a space in a mount point is \040


@dataclass(frozen=True, slots=True)
class Bootloader:
    """A kind of chip: the id that its blocks carry, what its INFO_UF2.TXT says, how its bootloader is started."""

    family: int
    says: re.Pattern[str]
    start: str


FAMILIES: Mapping[Uf2Family, Bootloader] = {
    "rp2040": Bootloader(0xE48BFF56, re.compile(r"^Board-ID: *RPI-RP2\s*$", re.M), "hold BOOTSEL while it gets power"),
    "rp2350": Bootloader(0xE48BFF59, re.compile(r"^Board-ID: *RP2350\s*$", re.M), "hold BOOTSEL while it gets power"),
    "nrf52840": Bootloader(0xADA52840, re.compile(r"nRF52840", re.IGNORECASE), "press its reset button twice"),
}
"""Family ids are of microsoft/uf2, utils/uf2families.json (90e9741f); the RP2350's is that of Secure Arm images. The
words of INFO_UF2.TXT: raspberrypi/pico-bootrom-rp2040, bootrom/info_uf2.txt (ef22cd8e); what RP2350 boards were seen
to show; and adafruit/Adafruit_nRF52_Bootloader, src/usb/uf2/ghostfat.c (48a149ff), three of whose boards do not name
their chip (M60, OHS2020, Pitaya Go). Tested with a folder in a drive's place."""


def encode(segments: Iterable[tuple[int, bytes]], family: int) -> bytes:
    """UF2 of (address, content) pairs: whole pages, in the order of their addresses; gaps in a page are erased flash.

    Raises FlashError for nothing at all, and for segments that overlap.
    """
    pages: dict[int, bytearray] = {}
    behind = 0
    for address, content in sorted(segments):
        if content and address < behind:
            raise FlashError(f"two segments of the image share address 0x{address:08x}")
        behind = max(behind, address + len(content))
        at = address
        while at < address + len(content):
            page, place = divmod(at, PAGE_BYTES)
            part = content[at - address : at - address + PAGE_BYTES - place]
            pages.setdefault(page, bytearray(_ERASED * PAGE_BYTES))[place : place + len(part)] = part
            at += len(part)
    if not pages:
        raise FlashError("there is nothing to flash")
    count = len(pages)
    return b"".join(
        _BLOCK.pack(
            MAGIC_START, MAGIC_SECOND, HAS_FAMILY, page * PAGE_BYTES, PAGE_BYTES, number, count, family,
            bytes(pages[page]), MAGIC_END,
        )
        for number, page in enumerate(sorted(pages))
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Uf2Drive:
    """Flasher for a board of `family`. `drive` is where its bootloader's drive is mounted; None: any that is its kind.

    It starts the image by itself, and nothing here can do so again: `reset` leaves it running.
    """

    family: Uf2Family
    drive: Path | None = None
    timeout_s: float = FLASH_TIMEOUT_S
    mounts: Path = _MOUNTS

    def flash(self, image: Path) -> None:
        """See `Flasher.flash`. Waits for the drive: most boards show it only when somebody has pressed a button."""
        content = encode(segments_of(image), FAMILIES[self.family].family)
        deadline = time.monotonic() + self.timeout_s
        drive = self._wait_for_drive(deadline)
        error = write_to_drive(drive / FILE_NAME, content)
        # With the last block the board is gone, often before the file is closed; a full or read-only drive stays.
        if error is not None and (self._is_its_kind(drive) or error.errno in (errno.ENOSPC, errno.EROFS)):
            raise FlashError(f"cannot copy the image to {drive}: {error.strerror or error}") from error
        while self._is_its_kind(drive):
            if time.monotonic() > deadline:
                raise FlashError(
                    f"the drive {drive} took the image but did not start it within {self.timeout_s:g} s: is it for "
                    f"{self.family}?"
                )
            time.sleep(_POLL_S)  # nothing portable tells of a drive that goes, or comes

    def reset(self, port: Breakable) -> None:
        """See `Flasher.reset`."""

    def _wait_for_drive(self, deadline: float) -> Path:
        while True:
            found = [path for path in self._candidates() if self._is_its_kind(path)]
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                named = ", ".join(map(str, found))
                raise FlashError(f"several drives are of a {self.family}: {named}; name one in the bench file")
            if time.monotonic() > deadline:
                where = "is mounted" if self.drive is None else f"is mounted at {self.drive}"
                raise FlashError(
                    f"no drive of a {self.family}'s bootloader {where}: {FAMILIES[self.family].start}, and see that "
                    "your system mounts it"
                )
            time.sleep(_POLL_S)  # as above

    def _candidates(self) -> list[Path]:
        if self.drive is not None:
            return [self.drive]
        try:
            lines = self.mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            return []
        fields = [line.split() for line in lines]
        return [
            Path(_ESCAPE.sub(_unescaped, item[1])) for item in fields if len(item) > 2 and item[2] in ("vfat", "msdos")
        ]

    def _is_its_kind(self, drive: Path) -> bool:
        """Whether the bootloader of such a chip shows `drive` now."""
        with suppress(OSError), (drive / INFO_NAME).open(encoding="utf-8", errors="replace") as file:
            return FAMILIES[self.family].says.search(file.read(_INFO_BYTES)) is not None
        return False


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))
