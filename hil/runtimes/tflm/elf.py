"""What the objects in a static library were compiled for, read from their build attributes (ABI for the Arm, ELF)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection

from hil.boards.core import core_names, load_core

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


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


class NotALibrary(ValueError):
    """The file is no static library of ELF objects for Arm."""


def read_targets(path: Path) -> frozenset[Target]:
    """Targets of all objects in the static library `path`. Raises NotALibrary, or OSError when it cannot be read."""
    data = path.read_bytes()
    targets = frozenset(_target_of(member) for member in _members(data))
    if not targets:
        raise NotALibrary(f"{path} holds no objects")
    return targets


def _members(data: bytes) -> Iterator[bytes]:
    """Contents of the archive's objects, without its index and table of long names."""
    if not data.startswith(_MAGIC):
        raise NotALibrary("it does not start as an archive does")
    position = len(_MAGIC)
    while position + _HEADER_BYTES <= len(data):
        header = data[position : position + _HEADER_BYTES]
        if header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise NotALibrary(f"no archive member at byte {position}")
        size = int(header[48:58])
        start = position + _HEADER_BYTES
        if header[:16].strip() not in (b"/", b"//", b"/SYM64/"):
            yield data[start : start + size]
        position = start + size + size % 2


def _target_of(member: bytes) -> Target:
    try:
        elf = ELFFile(io.BytesIO(member))
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
