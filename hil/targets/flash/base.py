"""What a flasher is, and how flashing programs are run."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from hil.boards.target import Region
from hil.errors import FlashError, ToolMissing
from hil.logs import command_line
from hil.targets.process import GUARD

_log = logging.getLogger("hil.targets")

MOST_BYTES = 1 << 26
BLOCK_BYTES = 512  # a drive's sector
FLASH_TIMEOUT_S = 60.0  # a megabyte takes 15 s through an ST-LINK
BREAK_S = 0.25
_DETAIL_LINES = 3
_NO_PROBE = "no such probe is connected, or you may not open it: check the cable, and the udev rules of your system"
# What programs say, and what it means for a user. The first two were seen from OpenOCD 0.12 and pyOCD 0.46 without a
# probe; the others are from the programs' sources and manuals.
MEANINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(words), meaning)
    for words, meaning in (
        (r"Error: open failed|unable to find a matching CMSIS-DAP device", _NO_PROBE),
        (r"No available debug probes|No connected debug probe|no probe.*found|unable to find.*probe", _NO_PROBE),
        (r"No connected probes were found|No probe was found|Probe not found", _NO_PROBE),
        (r"No debug probe detected|No ST-?L(?:ink|INK) detected|ST-LINK error \(DEV_NOT_FOUND", _NO_PROBE),
        (r"Connecting to J-Link.*FAILED|No emulators? (?:found|connected)|No J-Link device found", _NO_PROBE),
        (r"Target type .* not recognized", "pyOCD does not know the chip; install its pack: pyocd pack install CHIP"),
        (
            r"Can't find \S+\.cfg",
            "this OpenOCD does not have the board's configuration file: it is of a newer one, or misspelt",
        ),
        (
            r"init mode failed|unable to connect to the target|Cannot connect to target|No STM32 target found",
            "the probe is there, the chip does not answer: is the board powered, and its reset free?",
        ),
    )
)


class Breakable(Protocol):
    """The part of pyserial's `Serial` that a reset by serial break needs."""

    def send_break(self, duration: float = BREAK_S) -> None:
        """Hold the line low for `duration` seconds."""
        ...


class Flasher(Protocol):
    """Puts an image onto one device."""

    def flash(self, image: Path) -> None:
        """Write `image` (ELF). Returns when it is on the board. Raises FlashError, ToolMissing."""
        ...

    def reset(self, port: Breakable) -> None:
        """Start the image from reset; `port` is the device's open serial port. Raises FlashError, ToolMissing."""
        ...


def run_probe(command: Sequence[str], what: str, install: str, timeout_s: float) -> None:
    """Run a flashing program to its end.

    Raises ToolMissing, or FlashError with the program's own last words. Its children do not outlive the time-out.
    """
    program = shutil.which(command[0])
    if program is None:
        raise ToolMissing(command[0], install)
    _log.info("%s", command_line(command))
    # Where it can be had: a program whose owner was killed would go on flashing a board that is no longer locked.
    guard = [*GUARD, str(os.getpid())] if shutil.which(GUARD[0]) else []
    try:
        process = subprocess.Popen(
            [*guard, program, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise FlashError(f"{what}: {command[0]} cannot be started: {error}") from error
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise FlashError(f"{what}: {command[0]} did not finish within {timeout_s:g} s") from error
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode != 0:
        meaning = _meaning(said)
        raise FlashError(
            f"{what}: {command[0]} failed with status {process.returncode}: {_last_words(said)}"
            f"{f' ({meaning})' if meaning else ''}"
        )


def _meaning(said: str) -> str | None:
    return next((meaning for words, meaning in MEANINGS if words.search(said)), None)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return "; ".join((errors or lines)[-_DETAIL_LINES:]) or "it said nothing"


def segments_of(image: Path) -> list[tuple[int, bytes]]:
    """Load address and content of an ELF's loadable segments, by address. Raises FlashError for what is no whole image
    for Arm, and for segments that overlap."""
    try:
        with image.open("rb") as file:
            elf = ELFFile(file)
            machine = str(elf["e_machine"])
            parts = [
                (int(segment["p_paddr"]), int(segment["p_filesz"]), bytes(segment.data()))
                for segment in elf.iter_segments("PT_LOAD")
                if segment["p_filesz"] > 0
            ]
    except (OSError, ELFError) as error:
        raise FlashError(f"the image {image.name} cannot be read: {error}") from error
    if machine != "EM_ARM":
        raise FlashError(f"the image {image.name} is not for Arm: its ELF header says {machine}")
    if not parts:
        raise FlashError(f"the image {image.name} holds nothing to flash")
    parts.sort()
    behind = 0
    for address, size, content in parts:
        if len(content) < size:
            raise FlashError(f"the image {image.name} is cut off: {len(content)} of {size} bytes at 0x{address:08x}")
        if address < behind:
            raise FlashError(f"two segments of the image {image.name} share address 0x{address:08x}")
        behind = address + size
    return [(address, content) for address, _, content in parts]


def require_in_flash(image: Path, flash: Region) -> None:
    """Raises FlashError unless `image` (ELF) begins where `flash` does, and ends in it: what is for another chip would
    be written to wherever that is, or, by drives that take no addresses, to where it does not belong."""
    parts = segments_of(image)
    start, end = parts[0][0], parts[-1][0] + len(parts[-1][1])
    if start != flash.origin or end > flash.end:
        raise FlashError(
            f"the image {image.name} is for 0x{start:08x} to 0x{end:08x}, and the flash is at 0x{flash.origin:08x} to "
            f"0x{flash.end:08x}: it was built for another board"
        )


def flat_binary(image: Path) -> tuple[int, bytes]:
    """Address and content of an ELF's segments as one, gaps filled as erased flash (0xff). Raises FlashError."""
    parts = segments_of(image)
    start, end = parts[0][0], parts[-1][0] + len(parts[-1][1])
    if end - start > MOST_BYTES:
        raise FlashError(f"the image {image.name} reaches from 0x{start:08x} to 0x{end:08x}: no flash is that long")
    content = bytearray()
    for address, data in parts:
        content += b"\xff" * (address - start - len(content))
        content += data
    return start, bytes(content)


def write_to_drive(file: Path, content: bytes) -> OSError | None:
    """Write `content` to `file` on a probe's or a bootloader's drive: None, or the error with which the drive went
    when it had all of it, as it may. Raises FlashError for a drive that went before."""
    handed_over = 0
    try:
        with file.open("wb", buffering=0) as opened:
            while handed_over < len(content):
                handed_over += opened.write(content[handed_over : handed_over + BLOCK_BYTES])
            os.fsync(opened.fileno())
    except OSError as error:
        if len(content) - handed_over > BLOCK_BYTES:  # a drive without a cache goes at the last one
            text = f"it took {handed_over} of {len(content)} bytes: {error.strerror or error}"
            raise FlashError(f"cannot copy the image to {file.parent}: {text}") from error
        return error
    return None
