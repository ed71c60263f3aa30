"""Compiles `engine/` with the host's C compiler, on demand, into the user's cache."""

from __future__ import annotations

import functools
import logging
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from hil.cache import cached_folder, digest
from hil.compilers import compiler_environment
from hil.cycle_model.description import load_description
from hil.cycle_model.tables import render_tables
from hil.errors import BuildError, ToolMissing
from hil.logs import command_line

_log = logging.getLogger("hil.cycle_model")

INSTALL_CC = "apt-get install gcc libc6-dev"

_COMMON = ("decode.c", "code.c", "m4.c", "m7.c", "m33.c", "lines.c", "paths.c", "engine.c")
_FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden")
_TIMEOUT_S = 120.0


def engine_dir() -> Path:
    """Folder of the plugin's sources and description files."""
    return Path(__file__).resolve().parent / "engine"


def build_plugin(api: int) -> Path:
    """The plugin for QEMU's plugin interface version `api`. Raises ToolMissing without a compiler, or BuildError."""
    return _build("plugin.so", "plugin.c", (f"-DQEMU_PLUGIN_API={api}",))


def build_library() -> Path:
    """Decoder, models and caches as a library for ctypes. Raises ToolMissing without a compiler, or BuildError."""
    return _build("timing.so", "library.c", ())


def _build(name: str, entry: str, defines: tuple[str, ...]) -> Path:
    compiler = _find_compiler()
    folder = engine_dir()
    tables = render_tables(load_description(folder))
    sources = [path.read_bytes() for path in sorted(folder.glob("*.[ch]"))]
    key = digest([name, compiler[0], compiler[1], *_FLAGS, *defines, tables, *sources])

    def fill(target: Path) -> None:
        (target / "thumb2_tables.h").write_text(tables, encoding="ascii")
        # One translation unit: the callbacks are inlined, without asking for link-time optimisation.
        whole = target / "whole.c"
        whole.write_text("".join(f'#include "{file}"\n' for file in (*_COMMON, entry)), encoding="ascii")
        includes = [f"-I{target}", f"-I{folder}"]
        _run([*shlex.split(compiler[0]), *_FLAGS, *defines, *includes, str(whole), "-o", str(target / name)])

    return cached_folder("timing", key, fill) / name


def _find_compiler() -> tuple[str, str]:
    """Command and version of the host's compiler: ``$CC`` or ``cc``."""
    return _probe_compiler(os.environ.get("CC", "cc"), os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=4)
def _probe_compiler(command: str, path: str) -> tuple[str, str]:
    words = shlex.split(command) or ["cc"]
    if shutil.which(words[0], path=path) is None:
        raise ToolMissing(f"{words[0]} (a C compiler for this computer)", INSTALL_CC)
    return command, _run([*words, "--version"]).partition("\n")[0]


def _run(command: list[str]) -> str:
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
        raise BuildError(f"{command[0]} failed on the timing plugin: {lines[0]}")
    return done.stdout
