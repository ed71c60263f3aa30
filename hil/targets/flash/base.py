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

from hil.errors import FlashError, ToolMissing
from hil.logs import command_line
from hil.targets.process import GUARD

_log = logging.getLogger("hil.targets")

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

    def send_break(self, duration: float = BREAK_S) -> None: ...


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


def flat_binary(image: Path) -> tuple[int, bytes]:
    """Load address and content of an ELF's loadable segments, gaps filled as erased flash (0xff). Raises FlashError."""
    try:
        with image.open("rb") as file:
            elf = ELFFile(file)
            machine = str(elf["e_machine"])
            parts = [
                (int(segment["p_paddr"]), bytes(segment.data()))
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
    start = parts[0][0]
    content = bytearray()
    for address, data in parts:
        content += b"\xff" * (address - start - len(content))
        content += data
    return start, bytes(content)
