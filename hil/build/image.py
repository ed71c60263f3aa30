"""Project -> ELF. The library is compiled once per core, flags and sources into the cache; a network costs one
compile of its model.c and one link."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hil.build import stack
from hil.build.elf import LinkedElf, Sizes, functions_of, read_kept, sizes_of
from hil.build.linker import DirectLinker
from hil.build.sources import LINK_FLAGS, Group, Library, Project
from hil.build.toolchain import Toolchain, run_tool
from hil.cache import cached_folder, digest
from hil.errors import BudgetError, BuildError
from munas.scratch import scratch_folder

ARCHIVE = "libhil.a"
_BOUND = "bound"
_COMPILE_JOBS = 2


@dataclass(frozen=True, slots=True)
class Image:
    """A linked firmware. `sha256` is over the ELF file; `functions` are bytes of flash by name, weights left out.

    `stack_bound` is the most stack that its call graph can use, bytes; None where that cannot be known.
    """

    elf: Path
    sha256: str
    sizes: Sizes
    functions: dict[str, int]
    stack_bound: int | None = None


def build_library(library: Library, toolchain: Toolchain) -> Path:
    """The archive of runtime, port and kernels, from the cache or compiled now (a few seconds). Raises BuildError."""
    key = digest([toolchain.version, library.digest()])
    return cached_folder("library", key, functools.partial(_fill, library, toolchain)) / ARCHIVE


def _fill(library: Library, toolchain: Toolchain, folder: Path) -> None:
    def compile_one(job: tuple[Group, Path]) -> Path:
        group, source = job
        target = folder / f"{group.name}-{source.stem}.o"
        run_tool([toolchain.gcc, *library.compile_flags(group), "-c", source, "-o", target])
        return target

    with ThreadPoolExecutor(_COMPILE_JOBS) as pool:
        objects = list(pool.map(compile_one, [(group, file) for group in library.groups for file in group.files]))
    run_tool([toolchain.ar, "rcsD", folder / ARCHIVE, *objects])
    for path in objects:
        path.unlink()


def compile_model(project: Project, toolchain: Toolchain) -> Path:
    """Compile the project's model.c; the object file, in the project's folder. Raises BuildError."""
    target = project.folder / "model.o"
    flags = project.library.model_flags(project.folder)
    run_tool([toolchain.gcc, *flags, "-c", project.folder / "model.c", "-o", target])
    return target


def headers_beside(group: Group) -> list[Path]:
    """Generated headers in the folders of the sources of a project's part."""
    return sorted({path for file in group.files for path in file.parent.glob("*.h")})


def _part(library: Library, group: Group, source: Path, toolchain: Toolchain) -> Path:
    """Object file of a project's part, from the cache or compiled now."""

    def fill(folder: Path) -> None:
        flags = (*library.compile_flags(group), f"-I{source.parent}")
        run_tool([toolchain.gcc, *flags, "-c", source, "-o", folder / f"{source.stem}.o"])

    headers = (path.read_bytes() for path in headers_beside(Group(group.name, (source,), ())))
    key = digest([toolchain.version, library.digest(), *group.flags, source.read_bytes(), *headers])
    return cached_folder("part", key, fill) / f"{source.stem}.o"


def link(
    project: Project, model_object: Path, archive: Path, toolchain: Toolchain, direct: DirectLinker | None = None
) -> Image:
    """Link `model_object` with the project's parts and the library, which are compiled when they are not in the cache.

    Raises BudgetError with the bytes that each region lacks, or BuildError.
    """
    elf = project.folder / "firmware.elf"
    parts = link_objects(project, [model_object], project.folder, archive, toolchain, elf, direct)
    linked = LinkedElf(elf)
    functions = functions_of(linked)
    # An interpreter's calls through pointers say nothing of what they call.
    bound = None if project.library.archives else _stack_bound(elf, [archive, *parts], functions, toolchain)
    return Image(elf, hashlib.sha256(linked.data).hexdigest(), sizes_of(linked), functions, bound)


def link_objects(
    project: Project,
    objects: Sequence[Path],
    memory: Path,
    archive: Path,
    toolchain: Toolchain,
    elf: Path,
    direct: DirectLinker | None = None,
) -> list[Path]:
    """Link `objects` and the project's parts to `elf`; the parts' object files. `memory` is the folder of memory.x.

    With `direct`, the compiler's driver is left out. Raises BudgetError or BuildError, and leaves no `elf` then.
    """
    parts = [_part(project.library, group, source, toolchain) for group in project.parts for source in group.files]
    archives = [archive, *project.library.archives]
    mathematics = ["-lm"] if project.library.archives else []
    flags = project.library.link_flags(memory)
    command: list[str | Path] = [toolchain.gcc, *flags, *objects, *parts, *archives, *mathematics, "-o", elf]
    try:
        run_tool(command if direct is None else direct.command(command, (memory, *objects, elf)))
    except (BudgetError, BuildError):
        elf.unlink(missing_ok=True)
        raise
    return parts


def _stack_bound(elf: Path, built: Sequence[Path], functions: Mapping[str, int], toolchain: Toolchain) -> int | None:
    """`stack_bound`, once for each set of functions of what was `built`, in the cache: a quarter of a sample's time.

    A campaign links few such sets. Which of the functions a network's table names makes no difference: a kernel is
    linked because the table names it, or because one that calls it is.
    """

    def fill(folder: Path) -> None:
        bound = stack.stack_bound(elf, toolchain)
        (folder / _BOUND).write_text("unknown" if bound is None else str(bound), encoding="ascii")

    # The folders in the cache are named by what their content was built from.
    sources = (path.parent.name for path in built)
    key = digest([_reader(), *sources, *(f"{name} {size}" for name, size in sorted(functions.items()))])
    text = (cached_folder("stack", key, fill) / _BOUND).read_text(encoding="ascii")
    return None if text == "unknown" else int(text)


@functools.cache
def _reader() -> bytes:
    return Path(stack.__file__).read_bytes()


def kernel_functions(kernel: str, library: Library, archive: Path, toolchain: Toolchain) -> dict[str, int]:
    """What the linker keeps of the library for the function `kernel` alone: bytes of flash by name."""
    with scratch_folder("kernel") as folder:
        elf = folder / "kernel.elf"
        entry = (f"-Wl,-e,{kernel}", f"-Wl,-u,{kernel}")
        # Of an interpreter the whole runtime comes along, which wants a network; that is in every image, and not asked.
        ignore = ["-Wl,--unresolved-symbols=ignore-all"] if library.archives else []
        archives: list[str | Path] = [archive, *library.archives, *(["-lm"] if library.archives else [])]
        run_tool([toolchain.gcc, *library.core_flags, *LINK_FLAGS, *entry, *ignore, *archives, "-o", elf])
        return read_kept(elf)


def flags_text(library: Library) -> str:
    """The flags that shape the code, without include paths: part of a measurement's identity."""
    words = [*library.core_flags, *library.groups[0].flags, *library.defines]
    return " ".join(word for word in words if not word.startswith("-W"))
