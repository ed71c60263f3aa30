"""Finds out whether a QEMU takes the timing plugin, and makes its command line."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hil.cycle_model.native import build_plugin
from hil.cycle_model.options import EngineOptions
from hil.errors import InfrastructureError, RunnerError

_TIMEOUT_S = 30.0
_VERSION = re.compile(r"version (\d+)\.(\d+)")
_OTHER_API = re.compile(r"supports only (?:up to version|a minimum version of) (\d+)")
# Interface version by QEMU release, newest first. QEMU says which one it wants when a guess is wrong.
_APIS = (((10, 1), 5), ((9, 2), 4), ((9, 1), 3), ((9, 0), 2), ((6, 0), 1))


@dataclass(frozen=True, slots=True)
class Plugin:
    """A compiled plugin that a QEMU has loaded in a trial."""

    path: Path
    api: int

    def arguments(self, options: EngineOptions, records: Path) -> list[str]:
        """What QEMU's command line needs; the plugin appends its records to the file `records`."""
        words = [f"{name}={value}" for name, value in _numbers(options)]
        words += [f"layer={address}" for address in options.layers]
        text = ",".join([_escaped(str(self.path)), *words, f"out={_escaped(str(records))}"])
        return ["-plugin", text]


def _escaped(path: str) -> str:
    return path.replace(",", ",,")


def _numbers(options: EngineOptions) -> list[tuple[str, int]]:
    return [
        ("core", options.core),
        ("inference", options.inference),
        ("flash", options.flash[0]), ("flash_bytes", options.flash[1]),
        ("ram", options.ram[0]), ("ram_bytes", options.ram[1]),
        ("refill", options.refill), ("refill_split", options.refill_split),
        ("divide", options.divide), ("accumulate", options.accumulate),
        ("long_multiply", options.long_multiply), ("address_stall", options.address_stall),
        ("mispredict", options.mispredict), ("unaligned", options.unaligned),
        *((f"{kind}_{name}", getattr(getattr(options, kind), name))
          for kind in ("code", "data") for name in ("line_bytes", "lines", "ways")),
        ("data_covers_ram", int(options.data_covers_ram)),
        ("data_random", int(options.data_random)),
    ]  # fmt: skip


@functools.lru_cache(maxsize=4)
def find_plugin(program: str) -> Plugin:
    """The plugin for the QEMU `program` (a path, or a name on the PATH).

    Raises ToolMissing without a C compiler, BuildError when it fails, RunnerError when this QEMU takes no plugin of any
    interface that we can speak. Each message says what to do; the caller may go on with instruction counts.
    """
    api = _guess_api(program)
    for _ in range(2):
        path = build_plugin(api)
        said = _run([program, "-M", "none", "-display", "none", "-plugin", f"{_escaped(str(path))},probe=1"])
        if "timing plugin: loads" in said:
            return Plugin(path, api)
        other = _OTHER_API.search(said)
        if other is None:
            break
        api = int(other[1])
    reason = (said.strip().splitlines() or ["it said nothing"])[-1]
    raise RunnerError(f"{program} does not load the timing plugin: {reason}; install QEMU 7.2 with plugins enabled")


def unavailable_reason(program: str) -> str | None:
    """Why there are no modelled cycles with this QEMU, None when there are."""
    try:
        find_plugin(program)
    except InfrastructureError as error:
        return str(error)
    return None


def _guess_api(program: str) -> int:
    match = _VERSION.search(_run([program, "--version"]))
    if match is None:
        raise RunnerError(f"{program} --version does not name a version; is it qemu-system-arm?")
    version = (int(match[1]), int(match[2]))
    api = next((api for since, api in _APIS if version >= since), None)
    if api is None:
        raise RunnerError(f"QEMU {match[1]}.{match[2]} is too old for the timing plugin; install 7.2 or later")
    return api


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunnerError(f"{command[0]} cannot be run: {error}") from error
    return done.stdout + done.stderr
