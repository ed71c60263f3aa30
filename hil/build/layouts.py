"""Where the compiler puts the fields of a C struct, and what else it writes into every object: asked once, then cached.

So that tables can be laid out without it, and no second list of the structs in firmware/kernels exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hil.build.object_file import FieldNames, Frame, Layout
from hil.build.sources import Library
from hil.build.toolchain import Toolchain, run_tool
from hil.cache import cached_folder, digest
from hil.elf_file import ElfFile, NotElf
from hil.errors import BuildError
from munas.scratch import scratch_folder

_SECTION = ".rodata.hil_layout"
_OBJECT = "layout.o"


@dataclass(slots=True)
class Layouts:
    """`TableLayouts` of one library and toolchain, in this process and in the cache."""

    library: Library
    toolchain: Toolchain
    _key: str = ""
    _found: dict[tuple[str, FieldNames], tuple[Layout, ElfFile]] = field(default_factory=dict)

    def of(self, struct: str, fields: FieldNames) -> Layout:
        """See `TableLayouts`."""
        return self._asked(struct, fields)[0]

    def object_frame(self) -> Frame:
        """See `TableLayouts`."""
        elf = self._asked("hil_step_t", ())[1]
        added = (".comment", ".ARM.attributes")
        return elf.flags, tuple((name, elf.sections[elf.names.index(name)], elf.content(name)) for name in added)

    def _asked(self, struct: str, fields: FieldNames) -> tuple[Layout, ElfFile]:
        key = (struct, fields)
        if key not in self._found:
            self._found[key] = self._compiled(struct, fields)
        return self._found[key]

    def _compiled(self, struct: str, fields: FieldNames) -> tuple[Layout, ElfFile]:
        text = _source(struct, fields)
        self._key = self._key or digest([self.toolchain.version, self.library.digest()])

        def fill(folder: Path) -> None:
            with scratch_folder("layout") as scratch:
                source = scratch / "layout.c"
                source.write_text(text, encoding="ascii")
                flags = self.library.model_flags(scratch)
                run_tool([self.toolchain.gcc, *flags, "-c", source, "-o", folder / _OBJECT])

        path = cached_folder("layout", digest([self._key, text]), fill) / _OBJECT
        try:
            elf = ElfFile(path.read_bytes())
            numbers = memoryview(elf.content(_SECTION)).cast("I").tolist()
        except (OSError, NotElf) as error:
            raise BuildError(f"{path} is damaged ({error}); clear it with: munas-hil cache --clear") from error
        places = tuple(zip(numbers[1::2], numbers[2::2], strict=True))
        return Layout(numbers[0], places), elf


def _source(struct: str, fields: Sequence[tuple[str, bool]]) -> str:
    rows = [
        f"    offsetof({struct}, {name}), sizeof((({struct} *)0)->{name}{'[0]' if is_array else ''}),"
        for name, is_array in fields
    ]
    lines = (
        "#include <stddef.h>", "#include <stdint.h>", '#include "hil_kernels.h"', '#include "hil_model.h"',
        f'const uint32_t hil_layout[] __attribute__((section("{_SECTION}"))) = {{',
        f"    sizeof({struct}),", *rows, "};", "",
    )  # fmt: skip
    return "\n".join(lines)
