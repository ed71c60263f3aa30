"""This computer's own C compiler: which one it is, and what it makes."""

from __future__ import annotations

import functools
import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hil.compilers import compiler_environment
from hil.errors import BuildError, ToolMissing
from hil.logs import command_line

_log = logging.getLogger("hil.build")

INSTALL_CC = "apt-get install gcc libc6-dev"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
_TIMEOUT_S = 120.0


def host_compiler() -> tuple[tuple[str, ...], str]:
    """Words that start it, ``$CC`` or ``cc``, and its version. Raises ToolMissing, BuildError."""
    return _probe(os.environ.get("CC", "cc"), os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=4)
def _probe(command: str, path: str) -> tuple[tuple[str, ...], str]:
    try:
        words = tuple(shlex.split(command)) or ("cc",)
    except ValueError as error:
        raise BuildError(f"CC={command} is no command: {error}") from error
    if shutil.which(words[0], path=path) is None:
        raise ToolMissing(f"{words[0]} (a C compiler for this computer)", INSTALL_CC)
    return words, _run([*words, "--version"], "when it was asked for its version").partition("\n")[0]


def compile_for_host(arguments: Sequence[str | Path], what: str) -> None:
    """Run it. Raises ToolMissing, and BuildError, which says of `what` it failed on."""
    words, _ = host_compiler()
    _run([*words, *map(str, arguments)], f"on {what}")


def _run(command: list[str], when: str) -> str:
    _log.info("%s", command_line(command))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL,
            env=compiler_environment(), check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise BuildError(f"{command[0]} failed {when}: {lines[0]}")
    return done.stdout
