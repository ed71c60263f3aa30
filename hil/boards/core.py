"""Cores as data, one TOML file a core in ``boards/cores/``: what compiler, firmware and emulator ask of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hil.boards.files import load_named, names_in
from hil.boards.target import Strict, Target
from hil.boards.timing import Pipeline
from hil.resources import boards_dir

CoreName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Core(Strict):
    """One core.

    `flags` are the compiler's; the float ABI is part of the identity: two ABIs are two builds. `architecture` and
    `float_unit` are what objects made for it say in their build attributes. `mpu` is the memory protection
    architecture. `cycle_model` names what costs its instructions, absent where there is none: instruction counts only;
    `pipeline` are the constants of that model.
    `emulator` is the machine that stands in for boards with this core.
    """

    name: CoreName
    description: str
    source: str
    flags: Annotated[tuple[str, ...], Field(min_length=1)]
    architecture: str
    float_unit: str
    dsp: bool = False
    fpu: bool = True
    caches: bool = False
    mpu: Literal["none", "v7", "v8"] = "none"
    cycle_model: CoreName | None = None
    pipeline: Pipeline = Pipeline()
    emulator: Target

    @property
    def cpu(self) -> str:
        """What the compiler is told that the core is; the core's name where it is told nothing."""
        named = [flag.removeprefix("-mcpu=") for flag in self.flags if flag.startswith("-mcpu=")]
        return named[-1].split("+")[0] if named else self.name


def cores_dir() -> Path:
    """Folder of the shipped core files."""
    return boards_dir() / "cores"


def core_names() -> tuple[str, ...]:
    """Names of all shipped cores, sorted."""
    return names_in(cores_dir())


def load_core(name: str, beside: Path | None = None) -> Core:
    """The core called `name`: of the folder ``cores`` in `beside`, or shipped.

    Raises BoardError for an unknown one, with those that are known, and for a file that does not validate.
    """
    own = () if beside is None else (beside / "cores",)
    return load_named("core", name, (*own, cores_dir()), Core)
