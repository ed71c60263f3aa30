"""Images that are linked once for all networks with the same parts, and then take one network after the other."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from hil.build.elf import LinkedElf, Sizes, functions_of, sizes_of
from hil.build.image import Image, headers_beside, link_objects
from hil.build.insert import Template
from hil.build.sources import Project
from hil.build.toolchain import Toolchain
from hil.cache import cached_folder, digest
from hil.errors import BudgetError, BuildError
from munas.cost.calibration import Linked

_ANY_FLASH = re.compile(r"(FLASH \(rx\) : ORIGIN = \w+, LENGTH = )\d+")  # in memory.x


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image that takes networks, and what is true of it with any of them."""

    template: Template
    sizes: Sizes
    functions: dict[str, int]


def insert(project: Project, archive: Path, toolchain: Toolchain, flash_bytes: int) -> Image:
    """The image of a project with an insertion: linked once for all networks with the same parts, then written.

    What the linker would make of the network, byte for byte (tests/firmware/test_insert.py). Raises BudgetError with
    the bytes that each region lacks, or BuildError.
    """
    assert project.insertion is not None
    prepared = _prepared(project, archive, toolchain)
    try:
        content = prepared.template.with_network(project.insertion.data, project.insertion.patches)
    except ValueError as error:
        raise BuildError(f"BUG: {error}; report this") from error
    more = len(project.insertion.data) - prepared.template.model_bytes
    sizes = replace(
        prepared.sizes, flash_total=prepared.sizes.flash_total + more, weights=prepared.sizes.weights + more
    )
    if sizes.flash_total > flash_bytes:
        lacking = sizes.flash_total - flash_bytes
        raise BudgetError(
            f"the network does not fit the budget: it overflows FLASH by {lacking} bytes (the interpreter and its "
            f"kernels take {sizes.code}, the network {sizes.weights}); use a smaller network or a larger --flash",
            {"FLASH": lacking},
        )
    elf = project.folder / "firmware.elf"
    elf.write_bytes(content)
    return Image(elf, hashlib.sha256(content).hexdigest(), sizes, prepared.functions)


def linked_set(project: Project, archive: Path, toolchain: Toolchain) -> Linked:
    """What every image of a project that `Runtime.render_set` wrote has besides the network: one link, once.

    Raises BudgetError when its RAM is too small for any network, or BuildError.
    """
    sizes = _prepared(project, archive, toolchain).sizes
    return Linked(sizes.code, sizes.ram_total - sizes.arena)


_PREPARED: dict[str, _Prepared] = {}
"""Images that this process has read, by their key in the cache: a campaign has few."""


def _prepared(project: Project, archive: Path, toolchain: Toolchain) -> _Prepared:
    """The image without a network, from the cache or linked now."""
    memory = _ANY_FLASH.sub(r"\g<1>64M", (project.folder / "memory.x").read_text(encoding="ascii"))

    def fill(folder: Path) -> None:
        (folder / "memory.x").write_text(memory, encoding="ascii")
        link_objects(project, [], folder, archive, toolchain, folder / "firmware.elf")

    sources = [path.read_bytes() for group in project.parts for path in (*group.files, *headers_beside(group))]
    key = digest([toolchain.version, project.library.digest(), memory, *sources])
    if key not in _PREPARED:
        linked = LinkedElf(cached_folder("image", key, fill) / "firmware.elf")
        _PREPARED[key] = _Prepared(Template(linked.data), sizes_of(linked), functions_of(linked))
    return _PREPARED[key]
