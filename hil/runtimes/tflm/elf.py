"""What the objects in a static library were compiled for, read from their build attributes (ABI for the Arm, ELF)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection

from hil.boards.core import Core, core_names, load_core
from hil.runtimes.tflm.archive import NotALibrary, members

# Values of Tag_CPU_arch and Tag_FP_arch. An object does not state its core, but these two tell M4 from M7.
_ARCHITECTURES = {
    10: "Armv7-M",
    11: "Armv6-M",
    12: "Armv6S-M",
    13: "Armv7E-M",
    16: "Armv8-M",
    17: "Armv8-M",
    21: "Armv8.1-M",
}
_FLOAT_UNITS = {0: "no FPU", 5: "VFPv4", 6: "VFPv4", 7: "FPv5", 8: "FPv5"}
# The same as ``readelf -A`` calls them, as regular expressions of CMake.
_READELF = {
    "Armv6S-M": "v6S-M",
    "Armv7-M": "v7",
    "Armv7E-M": "v7E-M",
    "Armv8-M": "v8-M.mainline",
    "Armv8.1-M": "v8.1-M.mainline",
}
_READELF_FPU = {"no FPU": "", "VFPv4": "VFPv4", "FPv5": "FPv5"}


def readelf_names(core: Core) -> tuple[str, str]:
    """Architecture and FPU of objects for `core` as ``readelf -A`` shows them; the FPU's is empty without one."""
    return _READELF[core.architecture], _READELF_FPU[core.float_unit]


@dataclass(frozen=True, slots=True)
class Target:
    """Architecture and FPU by name; `hard_float`: float arguments in FPU registers; `double_precision`: may use double
    precision instructions; `short_enums`: enumerations are as short as they can be."""

    architecture: str
    float_unit: str
    hard_float: bool
    double_precision: bool
    short_enums: bool

    @property
    def core(self) -> str | None:
        """The core of ours that these are made for; None when it is none of them."""
        known = (load_core(name) for name in core_names())
        made_for = (self.architecture, self.float_unit)
        return next((core.name for core in known if (core.architecture, core.float_unit) == made_for), None)

    def __str__(self) -> str:
        precision = "double precision" if self.double_precision else "single precision"
        float_unit = self.float_unit if self.float_unit == "no FPU" else f"{self.float_unit}, {precision}"
        enums = "" if self.short_enums else ", enumerations as int"
        return f"{self.architecture}, {float_unit}, {'hard' if self.hard_float else 'soft'}-float ABI{enums}"


def read_targets(path: Path) -> frozenset[Target]:
    """Targets of all objects in the static library `path`. Raises NotALibrary, or OSError when it cannot be read."""
    return targets_of(path.read_bytes())


def targets_of(data: bytes) -> frozenset[Target]:
    """Targets of all objects in the static library with these contents. Raises NotALibrary."""
    targets = frozenset(_target_of(member) for member in members(data))
    if not targets:
        raise NotALibrary("it holds no objects")
    return targets


def compilers_of(data: bytes) -> tuple[str, ...]:
    """What the objects of the static library say that compiled them, sorted."""
    found = set()
    for member in members(data):
        section = ELFFile(io.BytesIO(member)).get_section_by_name(".comment")
        if section is not None:
            found |= {word.decode("ascii", "replace") for word in section.data().split(b"\0") if word}
    return tuple(sorted(found))


def _target_of(member: bytes) -> Target:
    try:
        elf = ELFFile(io.BytesIO(member))
        if elf["e_machine"] == "EM_ARM" and not elf.little_endian:
            raise NotALibrary("it is big-endian")
        section = elf.get_section_by_name(".ARM.attributes")
        if elf["e_machine"] != "EM_ARM" or not isinstance(section, ARMAttributesSection):
            raise NotALibrary("it holds an object that is not for Arm")
        tags = {
            attribute.tag: attribute.value
            for vendor in section.iter_subsections()
            for scope in vendor.iter_subsubsections("TAG_FILE")
            for attribute in scope.iter_attributes()
        }
    except (ELFError, UnicodeDecodeError) as error:
        raise NotALibrary("it holds an object that cannot be read") from error
    architecture, float_unit = tags.get("TAG_CPU_ARCH", 0), tags.get("TAG_FP_ARCH", 0)
    return Target(
        architecture=_ARCHITECTURES.get(architecture, f"architecture {architecture}"),
        float_unit=_FLOAT_UNITS.get(float_unit, f"FPU {float_unit}"),
        hard_float=tags.get("TAG_ABI_VFP_ARGS", 0) == 1,
        double_precision=float_unit != 0 and tags.get("TAG_ABI_HARDFP_USE", 0) != 1,
        short_enums=tags.get("TAG_ABI_ENUM_SIZE", 1) != 2,
    )
