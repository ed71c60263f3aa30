"""The cross compiler: found, asked for its version, and run with its failures mapped to our errors."""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hil.compilers import compiler_environment
from hil.errors import BudgetError, BuildError, InfrastructureError, ToolMissing
from hil.logs import command_line

_log = logging.getLogger("hil.build")

INSTALL_GCC = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
_TIMEOUT_S = 300.0
_OVERFLOW = re.compile(r"region [`'](\w+)' overflowed by (\d+) bytes?")  # "1 byte"
# ld: .../libtensorflow-microlite.a(add.o): in function `f': add.cc:(.text.f+0x4): undefined reference to `abort'
_UNDEFINED = re.compile(r"([^\s:/()]+):[^:\n]*: undefined reference to [`']([^'\n]+)'")
_MOST_LINES = 10


@dataclass(frozen=True, slots=True)
class Toolchain:
    """GCC for Arm. `version` is the first line of ``--version``."""

    gcc: Path
    ar: Path
    version: str


def find_toolchain() -> Toolchain:
    """The cross compiler on the PATH (or ``$MUNAS_HIL_GCC``). Raises ToolMissing or BuildError."""
    named, path = os.environ.get("MUNAS_HIL_GCC"), os.environ.get("PATH", "")
    if not named:
        return _probe("arm-none-eabi-gcc", path)
    try:
        return _probe(named, path)
    except InfrastructureError as error:
        raise BuildError(f"MUNAS_HIL_GCC={named} is no Arm compiler: {error}; correct or unset it") from error


@functools.lru_cache(maxsize=8)
def _probe(name: str, path: str) -> Toolchain:
    gcc = shutil.which(name, path=path)
    if not gcc:
        raise ToolMissing(name, INSTALL_GCC)
    archiver = gcc.removesuffix("gcc") + "gcc-ar"
    ar = shutil.which(archiver, path=path)
    if not ar:
        raise ToolMissing(archiver, INSTALL_GCC)
    first_line = run_tool([gcc, "--version"]).splitlines()
    if not first_line:
        raise BuildError(f"{gcc} --version printed nothing; reinstall it with: {INSTALL_GCC}")
    machine = run_tool([gcc, "-dumpmachine"]).strip()
    if not machine.startswith("arm-"):
        raise BuildError(f"{gcc} compiles for {machine or 'an unknown machine'}")
    probe = run_tool(
        [gcc, "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-print-file-name=libc.a"]
    )
    if not Path(probe.strip()).is_absolute():
        raise ToolMissing("newlib for arm-none-eabi", INSTALL_GCC)
    return Toolchain(Path(gcc), Path(ar), first_line[0].strip())


def run_tool(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Run a tool of the toolchain; its standard output.

    Raises ToolMissing when it is not there, BudgetError when the linker says that a region overflowed, BuildError
    otherwise, with the first error line of the tool.
    """
    words = [str(word) for word in command]
    _log.info("%s", command_line(words))
    try:
        done = subprocess.run(
            words, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL, env=_environment(words), check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ToolMissing(words[0], INSTALL_GCC) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{words[0]} did not run: {error}") from error
    if done.returncode != 0:
        raise _failure(words[0], done.returncode, done.stderr)
    return done.stdout


def _failure(tool: str, status: int, stderr: str) -> BudgetError | BuildError:
    shortfall = {region: int(number) for region, number in _OVERFLOW.findall(stderr)}
    if shortfall:
        missing = ", ".join(f"{region} by {_bytes(number)}" for region, number in sorted(shortfall.items()))
        return BudgetError(
            f"the network does not fit the budget: it overflows {missing}; use a smaller network or a larger "
            "--flash/--sram",
            shortfall,
        )
    return BuildError(f"{Path(tool).name} failed with status {status}: {_detail(stderr)}")


def _detail(stderr: str) -> str:
    """The first error line; of a linker that misses symbols, each of them once and who wants it, ten at most."""
    wanted: dict[str, str] = {}
    for where, symbol in _UNDEFINED.findall(stderr):
        wanted.setdefault(symbol, where)
    if wanted:
        shown = [f"undefined reference to {symbol} (in {where})" for symbol, where in wanted.items()]
        more = [f"and {len(shown) - _MOST_LINES + 1} more"] if len(shown) > _MOST_LINES else []
        return "\n  ".join([*(shown[: _MOST_LINES - 1] if more else shown), *more])
    # collect2 only says that the linker failed; what failed is on another line, with or without the word error.
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("collect2:")]
    errors = [line for line in lines if "error" in line.lower() or "ERROR" in line or "BUG" in line]
    return (errors or lines or ["no message"])[0].strip()


def _bytes(number: int) -> str:
    return "1 byte" if number == 1 else f"{number} bytes"


def _environment(words: Sequence[str]) -> dict[str, str]:
    """Messages in English. Temporary files beside the output: a killed compiler cannot delete them, its caller does."""
    environment = compiler_environment()
    if "-o" in words[:-1]:
        environment["TMPDIR"] = os.path.dirname(os.path.abspath(words[words.index("-o") + 1]))
    return environment
