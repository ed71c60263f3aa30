"""Compiles `engine/` with the host's C compiler, on demand, into the user's cache."""

from __future__ import annotations

from pathlib import Path

from hil.cache import cached_folder, digest
from hil.cycle_model.description import load_description
from hil.cycle_model.tables import render_tables
from hil.host_compiler import WARNINGS, compile_for_host, host_compiler

_COMMON = ("decode.c", "code.c", "m4.c", "m7.c", "m33.c", "lines.c", "paths.c", "engine.c")
_FLAGS = ("-std=c11", "-O3", *WARNINGS, "-fPIC", "-shared", "-fvisibility=hidden")


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
    words, version = host_compiler()
    folder = engine_dir()
    tables = render_tables(load_description(folder))
    sources = [path.read_bytes() for path in sorted(folder.glob("*.[ch]"))]
    key = digest([name, *words, version, *_FLAGS, *defines, tables, *sources])

    def fill(target: Path) -> None:
        (target / "thumb2_tables.h").write_text(tables, encoding="ascii")
        # One translation unit: the callbacks are inlined, without asking for link-time optimisation.
        whole = target / "whole.c"
        whole.write_text("".join(f'#include "{file}"\n' for file in (*_COMMON, entry)), encoding="ascii")
        includes = [f"-I{target}", f"-I{folder}"]
        compile_for_host([*_FLAGS, *defines, *includes, whole, "-o", target / name], "the timing plugin")

    return cached_folder("timing", key, fill) / name
