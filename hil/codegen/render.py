"""What the projects of all runtimes have in common: templates, board.h, memory.x, our sources, the build's identity.

Rendering is deterministic. Logic is in Python, templates (firmware/templates) only loop and substitute.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from hil.boards.board import Board, Uart, Via
from hil.boards.linked import link_of
from hil.boards.placement import Weights
from hil.boards.target import Target
from hil.build.sources import Group, Library, Project
from hil.resources import firmware_dir

STACK_BYTES = 2048
"""Reserved for the stack in thread mode: runtime and kernels together, with room for other compilers."""

DEFAULT_PROFILE = "munas01"
_PROFILE = re.compile(r"[a-z0-9]{1,16}\Z")
_BUILD_ID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Options:
    """What shapes the generated code besides the network. `profile` is what the MLPerf command `profile%` answers;
    `weights` in RAM are initialised data, which start-up copies there."""

    standalone: bool = False
    profile: str = DEFAULT_PROFILE
    stack_bytes: int = STACK_BYTES
    compiler: str = ""
    weights: Weights = "flash"

    def __post_init__(self) -> None:
        if not _PROFILE.match(self.profile):
            raise ValueError(f"profile {self.profile!r} is not 1 to 16 lower case letters and digits")


DEFAULTS = Options()


def board_texts(board: Board, via: Via, options: Options, tflm_command: str = "") -> dict[str, str]:
    """board.h and memory.x, and for whoever builds alone a README.md, where TensorFlow Lite Micro is part of the build
    with the command that makes it. Raises BoardError without a target for `via`."""
    target = board.target(via)
    values = {
        "board": board.name,
        "via": via,
        "core": board.core,
        "clock_hz": board.clock_hz,
        "flash": target.flash,
        "sram": target.sram,
        "flash_bytes": board.budget.flash,
        "sram_bytes": board.budget.sram,
        "stack_bytes": options.stack_bytes,
        "profile": options.profile,
    }
    texts = {name: template(name).render(**values) for name in ("board.h", "memory.x")}
    if options.standalone:
        texts["README.md"] = _readme(board, target, {**values, "tflm_command": tflm_command})
    return texts


def _readme(board: Board, target: Target, values: Mapping[str, object]) -> str:
    """How to build, flash and talk to the project. ASCII, as all that is written."""
    uart = board.uart or Uart(name="")
    text = template("README.md").render(
        **values,
        port=target.port,
        machine=target.machine,
        probe=board.probe,
        baud=uart.baud,
        uart=uart.name,
    )
    return text.encode("ascii", "backslashreplace").decode()


def write_project(
    folder: Path, texts: Mapping[str, str], linked: Library, options: Options, parts: tuple[Group, ...] = ()
) -> Project:
    """Write `texts` by file name, and the build.h that names them all. Raises OSError."""
    build_id = build_id_of(texts, linked, options.compiler)
    files = {**texts, "build.h": template("build.h").render(build_id=build_id)}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")
    return Project(folder, tuple(folder / name for name in sorted(files)), build_id, linked, parts)


def build_id_of(texts: Mapping[str, str], linked: Library, compiler: str) -> str:
    """32 hex digits for everything that goes into a build: generated texts by file name, library, compiler."""
    state = hashlib.sha256()
    for part in (*(word for item in sorted(texts.items()) for word in item), linked.digest(), compiler):
        raw = part.encode()
        state.update(b"%d:" % len(raw) + raw)
    return state.hexdigest()[:_BUILD_ID_DIGITS]


def copy_firmware(folder: Path, target: Target, names: Iterable[str]) -> Path:
    """Put our firmware's folders `names`, the port of `target` and the linker script into `folder`; where they are."""
    copy, ports = folder / "firmware", {target.port, *(("rtt",) if link_of(target) == "rtt" else ())}
    for name in (*names, "port"):
        copied = copy / name
        copied.mkdir(parents=True, exist_ok=True)
        for path in sorted((firmware_dir() / name).iterdir()):
            wanted = path.suffix in (".c", ".h", ".cc")
            if wanted and (name != "port" or path.stem in ports or path.suffix == ".h"):
                shutil.copyfile(path, copied / path.name)
    shutil.copyfile(firmware_dir() / "link.ld", copy / "link.ld")
    return copy


def relative(folder: Path, paths: Iterable[Path]) -> list[str]:
    """`paths` as seen from `folder`, for a CMake project."""
    return [path.relative_to(folder).as_posix() for path in paths]


def float_literal(value: float) -> str:
    """A float32 as C: nine digits give it back exactly."""
    return f"{np.float32(value):.9e}f"


@functools.cache
def template(name: str) -> jinja2.Template:
    """The template firmware/templates/`name`.j2."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(firmware_dir() / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C, not HTML
    )
    return environment.get_template(f"{name}.j2")
