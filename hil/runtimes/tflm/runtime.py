"""The runtime `tflm`: TFLM's interpreter and kernels, linked from an installed TFLM, behind the same firmware."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from hil.boards.board import Board, Via
from hil.boards.target import Target
from hil.build.sources import FAST, LANGUAGE_FLAGS, LINK_FLAGS, SMALL, WARNING_FLAGS, Group, Library, Project
from hil.build.toolchain import find_toolchain, run_tool
from hil.codegen.render import Options, board_texts, copy_firmware, relative, template, write_project
from hil.errors import BuildError, InfrastructureError, ToolMissing
from hil.resources import firmware_dir
from hil.runtimes.base import Deployment
from hil.runtimes.tflm.detect import find_tflm
from hil.runtimes.tflm.network import Network, make_network
from hil.runtimes.tflm.project import OPERATORS, texts
from hil.runtimes.tflm.reference import TflmReference
from munas.cost.kernels import KernelVariant

INSTALL_CXX = "apt-get install libstdc++-arm-none-eabi-newlib"

# As TFLM itself is compiled: its headers have other contents otherwise.
TFLM_DEFINES = ("-DTF_LITE_STATIC_MEMORY", "-DCMSIS_NN", "-DNDEBUG")
CXX_FLAGS = (
    *("-std=c++17", FAST, "-ffunction-sections", "-fdata-sections", "-fno-rtti", "-fno-exceptions"),
    *("-fno-threadsafe-statics", *WARNING_FLAGS, *TFLM_DEFINES),
)
_FOLDERS = ("runtime", "tflm")


class Tflm:
    """See hil.runtimes.base.Runtime. TFLM is looked for when it is first needed: emission does without it."""

    name = "tflm"
    kernel_symbols: Mapping[KernelVariant, str] = {}  # operators share code in ways that only whole images show

    def __init__(self, board: Board, via: Via) -> None:
        self._board, self._via = board, via

    @property
    def kernels(self) -> str:
        """TFLM has no releases: its library's digest is its version."""
        return f"TFLM {find_tflm(self._board.core, self._board.tflm_root).version}, its CMSIS-NN"

    @functools.cached_property
    def library(self) -> Library:
        """Our firmware's share and TFLM's. Raises ToolMissing or BuildError."""
        found = find_tflm(self._board.core, self._board.tflm_root)
        _require_cxx(self._board.core_flags)
        target = self._board.target(self._via)
        return _library(self._board, target, firmware_dir(), found.include_dirs, (found.library,))

    def deploy(self, data: bytes, name: str, *, keep_constant_channels: bool = False) -> Network:
        """See `Runtime.deploy`: an interpreter leaves nothing out."""
        return make_network(data, name)

    def render(self, deployment: Deployment, folder: Path, options: Options) -> Project:
        """See `Runtime.render`. A standalone project needs TFLM only when it is built."""
        assert isinstance(deployment, Network)
        files = {**dict(texts(deployment)), **board_texts(self._board, self._via, options)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if options.standalone:
                return self._standalone(folder, files, options)
            parts = (Group("operators", (folder / OPERATORS,), CXX_FLAGS),)
            return write_project(folder, files, self.library, options, parts)
        except OSError as error:
            raise InfrastructureError(f"cannot write the project into {folder}: {error.strerror or error}") from error

    def _standalone(self, folder: Path, files: dict[str, str], options: Options) -> Project:
        target = self._board.target(self._via)
        copied = copy_firmware(folder, target, _FOLDERS)
        linked = _library(self._board, target, copied, (), ())
        c_sources = [folder / "model.c", *(file for group in linked.groups[:-1] for file in group.files)]
        files["CMakeLists.txt"] = template("tflm/CMakeLists.txt").render(
            core=self._board.core,
            core_flags=linked.core_flags,
            defines=linked.defines,
            c_files=relative(folder, c_sources),
            c_flags=linked.groups[0].flags,
            cxx_files=[OPERATORS, *relative(folder, linked.groups[-1].files)],
            cxx_flags=CXX_FLAGS,
            includes=relative(folder, linked.includes),
            link_flags=LINK_FLAGS,
        )
        return write_project(folder, files, linked, options)

    def reference(self, deployment: Deployment) -> TflmReference:
        """See `Runtime.reference`."""
        assert isinstance(deployment, Network)
        return TflmReference(deployment)


def _library(
    board: Board, target: Target, firmware: Path, tflm_includes: tuple[Path, ...], archives: tuple[Path, ...]
) -> Library:
    c_flags = (*LANGUAGE_FLAGS, SMALL, *WARNING_FLAGS)
    return Library(
        groups=(
            Group("runtime", tuple(sorted((firmware / "runtime").glob("*.c"))), c_flags),
            Group("port", (firmware / "port" / f"{target.port}.c",), c_flags),
            Group("tflm", tuple(sorted((firmware / "tflm").glob("*.cc"))), CXX_FLAGS),
        ),
        includes=(firmware / "runtime", firmware / "tflm"),
        system_includes=tflm_includes,
        core_flags=board.core_flags,
        defines=tuple(f"-D{name}={value}" for name, value in sorted(target.defines.items())),
        linker_script=firmware / "link.ld",
        archives=archives,
    )


@functools.cache
def _require_cxx(core_flags: tuple[str, ...]) -> None:
    """That the cross compiler has a C++ library, which Debian packages apart. Raises ToolMissing."""
    options = ("-x", "c++", "-fsyntax-only", "-include", "cstdint", "/dev/null")
    try:
        run_tool([find_toolchain().gcc, *core_flags, *options])
    except BuildError as error:
        raise ToolMissing("the C++ library of arm-none-eabi-gcc", INSTALL_CXX) from error
