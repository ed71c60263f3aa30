"""The runtime `tflm`: TFLM's interpreter and kernels, linked from an installed TFLM, behind the same firmware."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hil.boards.board import Board, Via
from hil.boards.target import Target
from hil.build.sources import (
    FAST,
    LANGUAGE_FLAGS,
    LINK_FLAGS,
    SMALL,
    WARNING_FLAGS,
    Group,
    Insertion,
    Library,
    Project,
    port_files,
)
from hil.cache import cached_folder, digest
from hil.codegen.render import (
    Options,
    board_texts,
    build_id_of,
    copy_firmware,
    relative,
    template,
    write_project,
)
from hil.errors import BuildError, InfrastructureError, ToolMissing
from hil.resources import firmware_dir
from hil.runtimes.base import Deployment, Expected, OperatorSet
from hil.runtimes.tflm.cxx import INSTALL_CXX, require_cxx
from hil.runtimes.tflm.detect import Installation, find_tflm
from hil.runtimes.tflm.elf import readelf_names
from hil.runtimes.tflm.guide import has_double_precision, make_command
from hil.runtimes.tflm.headers import Registry
from hil.runtimes.tflm.network import Network, make_network
from hil.runtimes.tflm.package import PackageReference, is_judge_of
from hil.runtimes.tflm.project import (
    NETWORK,
    POINTER_BYTES,
    entries,
    model_struct,
    placeholder_texts,
    texts,
)
from hil.runtimes.tflm.reference import TflmReference
from hil.runtimes.tflm.work import VARIANTS
from munas.cost.kernels import KernelVariant

CXX_FLAGS = (
    *("-std=c++17", FAST, "-ffunction-sections", "-fdata-sections", "-fno-rtti", "-fno-exceptions"),
    *("-fno-threadsafe-statics", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", *WARNING_FLAGS, "-DNDEBUG"),
)
# The runtime's view of the network is written at start-up: an interpreter decides where input and output are.
RUNTIME_DEFINES = ("-DHIL_MODEL_IN_RAM",)
EMITTED_DEFINES = ("-DTF_LITE_STATIC_MEMORY", "-DCMSIS_NN")  # where no library has been looked at
_FOLDERS = ("runtime", "tflm")
ENTRIES = "entries.cc"
_ANY_ID = "0" * 32  # of an image before a network is in it


class Tflm:
    """See hil.runtimes.base.Runtime. TFLM is looked for when it is first needed: emission does without it."""

    name = "tflm"
    kernel_symbols: Mapping[KernelVariant, str] = {
        variant: f"hil_operator_{kind}" for kind, variants in VARIANTS.items() for variant in variants
    }
    kernel_entry_bytes = POINTER_BYTES

    def __init__(self, board: Board, via: Via) -> None:
        self._board, self._via = board, via

    @functools.cached_property
    def installation(self) -> Installation:
        """TFLM for the board. Raises ToolMissing or BuildError."""
        board = self._board
        return find_tflm(board.core, board.tflm_root, double_precision=board.double_precision)

    @property
    def kernels(self) -> str:
        """TFLM has no releases: its library's digest is its version, and its build's name and flags stand beside."""
        return f"TFLM {self.installation}"

    @functools.cached_property
    def library(self) -> Library:
        """Our firmware's share and TFLM's, with every operator that both know. Raises ToolMissing or BuildError."""
        found = self.installation
        require_cxx(self._board.core_flags)
        text = entries(sorted(found.registry.builtin), found.registry, False, True).encode("ascii")
        source = cached_folder("tflm", digest([text]), lambda folder: _write(folder / ENTRIES, text)) / ENTRIES
        target = self._board.target(self._via)
        archives = (found.library,)
        return _library(self._board, target, firmware_dir(), found.include_dirs, archives, found.defines, (source,))

    @property
    def _registry(self) -> Registry | None:
        """What TFLM registers; None where it is not installed. Raises BuildError."""
        try:
            return self.installation.registry
        except ToolMissing:
            return None
        except OSError as error:
            raise BuildError(f"TensorFlow Lite Micro's headers cannot be read: {error.strerror or error}") from error

    def deploy(self, data: bytes, name: str, *, keep_constant_channels: bool = False) -> Network:
        """See `Runtime.deploy`: an interpreter leaves nothing out."""
        return make_network(data, name)

    def render(self, deployment: Deployment, folder: Path, options: Options) -> Project:
        """See `Runtime.render`. A standalone project needs TFLM only when it is built."""
        assert isinstance(deployment, Network)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if options.standalone:
                return self._standalone(deployment, folder, options)
            return self._measured(deployment, folder, options)
        except OSError as error:
            raise InfrastructureError(f"cannot write the project into {folder}: {error.strerror or error}") from error

    def operator_set(self, deployment: Deployment) -> OperatorSet:
        """See `Runtime.operator_set`."""
        assert isinstance(deployment, Network)
        return OperatorSet(frozenset(deployment.operators), deployment.is_wide)

    def render_set(self, wanted: OperatorSet, folder: Path, options: Options) -> Project:
        """See `Runtime.render_set`: with kernels for int8 only, where TFLM has them and the set is not wide."""
        written = {
            **dict(placeholder_texts(sorted(wanted.kinds), self.installation.registry, wanted.wide)),
            **board_texts(self._board, self._via, options),
            "build.h": template("build.h").render(build_id=_ANY_ID),
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (folder / name).write_text(text, encoding="ascii")
        parts = (
            Group("model", (folder / "model.c",), self.library.groups[0].flags),
            Group("network", (folder / "model.cc",), self.library.groups[-1].flags),
        )
        return Project(folder, tuple(folder / name for name in sorted(written)), _ANY_ID, self.library, parts)

    def _measured(self, network: Network, folder: Path, options: Options) -> Project:
        """A project whose image is linked once for all networks with these operators."""
        project = self.render_set(self.operator_set(network), folder, options)
        texts = {path.name: path.read_text(encoding="ascii") for path in project.files}
        build_id = build_id_of({**texts, "network": network.sha256}, self.library, options.compiler)
        patches = {
            "hil_build_id": (0, build_id.encode()),
            "hil_model": (2 * POINTER_BYTES, model_struct(network)),
        }
        return replace(project, build_id=build_id, insertion=Insertion(network.flatbuffer, patches))

    def _standalone(self, network: Network, folder: Path, options: Options) -> Project:
        target = self._board.target(self._via)
        registry = self._registry
        command = make_command(self._board.core, double_precision=self._board.double_precision)
        files = {**dict(texts(network, registry)), **board_texts(self._board, self._via, options, command)}
        copied = copy_firmware(folder, target, _FOLDERS)
        linked = _library(self._board, target, copied, (), (), EMITTED_DEFINES, ())
        c_sources = [folder / "model.c", *(file for group in linked.groups[:-1] for file in group.files)]
        attributes = readelf_names(self._board.processor)
        files["CMakeLists.txt"] = template("tflm/CMakeLists.txt").render(
            core=self._board.core,
            core_flags=linked.core_flags,
            defines=linked.defines,
            c_files=relative(folder, c_sources),
            c_flags=linked.groups[0].flags,
            network_files=NETWORK,
            cxx_files=[ENTRIES, *relative(folder, linked.groups[-1].files)],
            cxx_flags=CXX_FLAGS,
            includes=relative(folder, linked.includes),
            link_flags=LINK_FLAGS,
            runtime_defines=RUNTIME_DEFINES,
            tag_arch=attributes[0],
            tag_fpu=attributes[1],
            double_precision=self._board.double_precision or has_double_precision(self._board.core),
            command=command,
            cxx_package=INSTALL_CXX,
        )
        return write_project(folder, files, linked, options)

    def reference(self, deployment: Deployment) -> Expected | None:
        """See `Runtime.reference`: float32 is held against LiteRT, within a rounding (hil/measure/rounding.py)."""
        assert isinstance(deployment, Network)
        if deployment.is_float:
            return None
        return PackageReference(deployment) if is_judge_of(deployment) else TflmReference(deployment)


def _library(
    board: Board,
    target: Target,
    firmware: Path,
    tflm_includes: tuple[Path, ...],
    archives: tuple[Path, ...],
    tflm_defines: tuple[str, ...],
    entries: tuple[Path, ...],
) -> Library:
    """`entries` is C++ that is not part of `firmware`."""
    c_flags = (*LANGUAGE_FLAGS, SMALL, *WARNING_FLAGS, *RUNTIME_DEFINES)
    cxx_flags = (*CXX_FLAGS, *RUNTIME_DEFINES, *tflm_defines)
    return Library(
        groups=(
            Group("runtime", tuple(sorted((firmware / "runtime").glob("*.c"))), c_flags),
            Group("port", port_files(firmware, target), c_flags),
            Group("tflm", (*sorted((firmware / "tflm").glob("*.cc")), *entries), cxx_flags),
        ),
        includes=(firmware / "runtime", firmware / "tflm"),
        system_includes=tflm_includes,
        core_flags=board.core_flags,
        defines=tuple(f"-D{name}={value}" for name, value in sorted(target.defines.items())),
        linker_script=firmware / "link.ld",
        archives=archives,
    )


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
