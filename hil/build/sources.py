"""Which C sources make a firmware, and how they are compiled: one list for our own build and for the CMake project.

CMSIS-NN and CMSIS-Core come from the installed bakenn wheel, or from full trees that CMSIS_NN_ROOT and CMSIS_CORE_ROOT
name; they are compiled where they are (or copied into a generated project), never kept in this repository.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hil.boards.board import Board
from hil.boards.linked import link_of
from hil.boards.target import Target
from hil.build.object_file import TableLayouts
from hil.errors import BoardError, ToolMissing, UsageError
from hil.resources import firmware_dir
from munas.cost.optimise import Optimise

CMSIS_NN_VERSION = "4.0.0"
_CMSIS_NN_REVISION = "V.11.2.0"  # of its arm_nnfunctions.h
INSTALL_CMSIS = "pip install bakenn==1.0.0"

# Sources that the kernels in firmware/kernels call, directly or not, on a core with the DSP extension and without MVE.
_CMSIS_NN_SOURCES = ("Source/ConvolutionFunctions/arm_depthwise_conv_s8.c",)
_CMSIS_NN_HEADERS = tuple(
    f"Include/arm_nn{name}.h" for name in ("_math_types", "_types", "functions", "supportfunctions")
)
_CMSIS_CORE_HEADERS = ("Include/cmsis_compiler.h", "Include/cmsis_gcc.h")
_LICENCES = ("LICENSE.txt", "LICENSE")

LANGUAGE_FLAGS = ("-std=c11", "-ffunction-sections", "-fdata-sections", "-fno-common")
FAST, SMALL = "-O2", "-Os"  # kernels; all that does not run during an inference (it would not fit into 16 KiB)
WARNING_FLAGS = ("-Wall", "-Wextra", "-Werror")
# CMSIS-NN copies words with memcpy in its inner loops. With builtins that is one load; out of line it is 3.5 x slower.
CMSIS_DEFINES = ("-DBAKENN_CMSIS_NN_BUILTIN_MEMORY",)
CMSIS_FLAGS = ("-w", *CMSIS_DEFINES)
LINK_FLAGS = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,--build-id=none")


@dataclass(frozen=True, slots=True)
class CmsisRoots:
    """Folders that hold ``Include`` (and, for `nn`, ``Source``)."""

    nn: Path
    core: Path


@dataclass(frozen=True, slots=True)
class Group:
    """Sources that are compiled with the same flags; `name` is unique in a library."""

    name: str
    files: tuple[Path, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """All that is linked besides the generated model.c.

    `includes` are ours, `system_includes` CMSIS's (or TFLM's). `archives` are linked behind ours, as they are.
    """

    groups: tuple[Group, ...]
    includes: tuple[Path, ...]
    system_includes: tuple[Path, ...]
    core_flags: tuple[str, ...]
    defines: tuple[str, ...]
    linker_script: Path
    archives: tuple[Path, ...] = ()

    def compile_flags(self, group: Group) -> tuple[str, ...]:
        """Flags for a source of `group`, include folders too."""
        ours = tuple(f"-I{path}" for path in self.includes)
        system = tuple(word for path in self.system_includes for word in ("-isystem", str(path)))
        return (*self.core_flags, *group.flags, *self.defines, *ours, *system)

    def model_flags(self, project: Path) -> tuple[str, ...]:
        """Flags for the model.c in the folder `project`."""
        return (*self.compile_flags(self.groups[0]), f"-I{project}")

    def link_flags(self, project: Path) -> tuple[str, ...]:
        """Flags for the link of a project whose memory.x lies in the folder `project`."""
        return (*self.core_flags, *LINK_FLAGS, f"-L{project}", f"-T{self.linker_script}")

    def digest(self) -> str:
        """SHA-256 over contents, names and flags of everything that is compiled; 64 hex digits. Not over folders.

        Files are read again when one was changed: every measurement asks, and reading them takes 2.5 ms.
        """
        named = (*(path for group in self.groups for path in group.files), *self.archives, self.linker_script)
        stamps = [(str(path), status.st_mtime_ns, status.st_size) for path in named for status in (path.stat(),)]
        for folder in self._header_folders:
            with os.scandir(folder) as entries:
                headers = (entry for entry in entries if entry.name.endswith(".h"))
                found = [(entry.path, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in headers]
            stamps += sorted(found)
        return _library_digest(self, tuple(stamps))

    @property
    def _header_folders(self) -> tuple[Path, ...]:
        """Folders whose headers may be included; a port's header lies beside it."""
        beside = (path.parent for group in self.groups for path in group.files)
        return tuple(
            folder for folder in dict.fromkeys((*self.includes, *self.system_includes, *beside)) if folder.is_dir()
        )

    def read_digest(self) -> str:
        """`digest`, of what the files hold now."""
        state = hashlib.sha256()
        for group in self.groups:
            _feed(state, [group.name, *group.flags])
            for path in group.files:
                _feed(state, [path.name, path.read_bytes()])
        for path in self.archives:
            status = path.stat()
            _feed(state, [path.name, _archive_digest(path, status.st_mtime_ns, status.st_size)])
        for folder in self._header_folders:
            for path in sorted(folder.glob("*.h")):
                _feed(state, [path.name, path.read_bytes()])
        _feed(state, [self.linker_script.read_bytes(), *self.core_flags, *self.defines, *LINK_FLAGS])
        return state.hexdigest()


@dataclass(frozen=True, slots=True)
class Insertion:
    """A network that is put into an image linked without it (hil.build.insert).

    `data` is the network; `patches` bytes of other objects by symbol: (offset in it, bytes).
    """

    data: bytes
    patches: Mapping[str, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Project:
    """A written project. `library` is what its model.c is linked with; `build_id` names every input of the build.

    `parts` are generated sources that many networks have in common, so that their objects are worth keeping. With an
    `insertion` the sources are those of an image that has room for any network, and parts are all of them. `network`
    writes the object file of model.c for who knows how the compiler lays tables out (hil.build.layouts).
    """

    folder: Path
    files: tuple[Path, ...]
    build_id: str
    library: Library
    parts: tuple[Group, ...] = ()
    insertion: Insertion | None = None
    network: Callable[[TableLayouts], bytes] | None = None


@functools.lru_cache(maxsize=16)
def _library_digest(library: Library, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """The library's digest as long as `stamps` (path, time in ns, bytes) of its files are these."""
    del stamps
    return library.read_digest()


@functools.lru_cache(maxsize=16)
def _archive_digest(path: Path, modified_ns: int, size: int) -> str:
    """SHA-256 of a file of megabytes, read again when it was changed."""
    del modified_ns, size
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _feed(state: hashlib._Hash, parts: Iterable[str | bytes]) -> None:
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(b"%d:" % len(raw) + raw)


def find_cmsis() -> CmsisRoots:
    """CMSIS-NN and CMSIS-Core. Raises ToolMissing without the wheel, UsageError for a root that is not what it says."""
    packaged = _wheel_vendor()
    roots = [
        _root("CMSIS_NN_ROOT", packaged and packaged / "cmsis_nn", (*_CMSIS_NN_SOURCES, *_CMSIS_NN_HEADERS)),
        _root("CMSIS_CORE_ROOT", packaged and packaged / "cmsis_core", _CMSIS_CORE_HEADERS),
    ]
    return CmsisRoots(*roots)


def _wheel_vendor() -> Path | None:
    """Where the bakenn wheel keeps CMSIS, without importing it (that would import its compiler)."""
    spec = importlib.util.find_spec("bakenn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        vendor = Path(folder) / "backend" / "cmsis_nn" / "vendor"
        if vendor.is_dir():
            return vendor
    return None


def _root(variable: str, packaged: Path | None, needed: Iterable[str]) -> Path:
    named = os.environ.get(variable)
    root = Path(named) if named else packaged
    if root is None:
        raise ToolMissing(f"CMSIS-NN {CMSIS_NN_VERSION} (wheel bakenn)", INSTALL_CMSIS)
    missing = next((name for name in needed if not (root / name).is_file()), None)
    if missing is None:
        if named:
            _refuse_other_version(variable, root)
        return root.resolve()
    if named:
        raise UsageError(f"{variable}={named} has no {missing}; it has to be the root of CMSIS-NN {CMSIS_NN_VERSION}")
    raise ToolMissing(f"CMSIS-NN {CMSIS_NN_VERSION} (the installed bakenn lacks {missing})", INSTALL_CMSIS)


def _refuse_other_version(variable: str, root: Path) -> None:
    """Raise UsageError for a CMSIS-NN whose headers say that they are of another version: its functions take other
    arguments, and its macros have other names."""
    header = root / "Include" / "arm_nnfunctions.h"
    text = header.read_text(encoding="utf-8", errors="replace")[:4096] if header.is_file() else ""
    revision, date = (re.search(rf"\${word}:\s*(.*\S)", text) for word in ("Revision", "Date"))
    if revision is not None and revision[1] != _CMSIS_NN_REVISION:
        of = f" of {date[1]}" if date is not None else ""
        raise UsageError(
            f"{variable}={root} is another CMSIS-NN{of} (arm_nnfunctions.h {revision[1]}) than {CMSIS_NN_VERSION} "
            f"({_CMSIS_NN_REVISION}), which our kernels call; unset it, or name a tree of that version"
        )


def library(board: Board, target: Target, cmsis: CmsisRoots, firmware: Path | None = None) -> Library:
    """Everything that a firmware for `target` of `board` is compiled from, besides its model.c.

    `firmware` is another copy of our firmware folder (that of a generated project). Raises BoardError without a port.
    """
    root = firmware or firmware_dir()
    port = root / "port" / f"{target.port}.c"
    if not port.is_file():
        raise BoardError(f"board {board.name} needs the port firmware/port/{target.port}.c, which does not exist yet")
    fast, small = ((*LANGUAGE_FLAGS, level) for level in (FAST, SMALL))
    chosen = small if board.optimise is Optimise.SIZE else fast
    upstream = tuple(cmsis.nn / name for name in _CMSIS_NN_SOURCES)
    plain = () if board.processor.dsp else ("-include", "hil_no_dsp.h")
    return Library(
        groups=(
            Group("kernels", _sources(root / "kernels"), (*chosen, *WARNING_FLAGS, *CMSIS_DEFINES, *plain)),
            Group("cmsis-nn", upstream, (*fast, *CMSIS_FLAGS)),
            Group("runtime", _sources(root / "runtime"), (*small, *WARNING_FLAGS)),
            Group("port", port_files(root, target), (*small, *WARNING_FLAGS)),
        ),
        includes=(root / "runtime", root / "kernels"),
        system_includes=(cmsis.nn / "Include", cmsis.core / "Include"),
        core_flags=board.core_flags,
        defines=tuple(f"-D{name}={value}" for name, value in sorted(target.defines.items())),
        linker_script=root / "link.ld",
    )


def port_files(root: Path, target: Target) -> tuple[Path, ...]:
    """The port of `target` in the firmware folder `root`; the serial functions that take the place of its own, where
    they do."""
    rtt = (root / "port" / "rtt.c",) if link_of(target) == "rtt" else ()
    return (root / "port" / f"{target.port}.c", *rtt)


def _sources(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.c")))


def cmsis_files(root: Path) -> tuple[Path, ...]:
    """What a generated project needs of a CMSIS tree: sources, headers, and the licence that goes with them."""
    names = (*_CMSIS_NN_SOURCES, *_CMSIS_NN_HEADERS, *_CMSIS_CORE_HEADERS, *_LICENCES)
    return tuple(root / name for name in names if (root / name).is_file())
