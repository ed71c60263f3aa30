"""Finding an installed TensorFlow Lite Micro: its headers, and its library for the core.

`TFLM_ROOT` names a folder where TFLM was built as its own guide for generic Cortex-M targets says (see `guide`), or
where headers and library were copied to.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hil.boards.core import core_names, load_core
from hil.errors import BuildError, ToolMissing
from hil.files import read_regular
from hil.runtimes.tflm.archive import NotALibrary, indexed_symbols
from hil.runtimes.tflm.elf import Target, compilers_of, targets_of
from hil.runtimes.tflm.guide import ROOT_VARIABLE, SINGLE_PRECISION, advice, has_double_precision, make_command
from hil.runtimes.tflm.headers import RESOLVER, Registry, linked_registrations, own_registrations, read_registry

LIBRARY_NAME = "libtensorflow-microlite.a"

# Where TFLM's own build leaves libraries, and where a plain installation has them.
_LIBRARY_PATTERNS = (f"gen/*/lib/{LIBRARY_NAME}", f"lib/*/{LIBRARY_NAME}", f"lib/{LIBRARY_NAME}", LIBRARY_NAME)
_MOST_BYTES = 1 << 28  # a library with its debug information has some tens of megabytes
_DOWNLOADS = "tensorflow/lite/micro/tools/make/downloads"
# A header that is needed, and the include folders below the root that may have it.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "tensorflow/lite/micro/micro_interpreter.h": (".", "include"),
    RESOLVER: (".", "include"),
    "flatbuffers/flatbuffers.h": (f"{_DOWNLOADS}/flatbuffers/include", "third_party/flatbuffers/include", "include"),
    "fixedpoint/fixedpoint.h": (f"{_DOWNLOADS}/gemmlowp", "third_party/gemmlowp", "include"),
    "ruy/profiler/instrumentation.h": (f"{_DOWNLOADS}/ruy", "third_party/ruy", "include"),
}
_LOG, _KERNELS = "_Z11MicroPrintfPKcz", "arm_convolve_s8"  # absent: no strings; the portable kernels
# Of registrations for some types only: not all of them are declared in a header.
_TYPED = re.compile(r"(_INT4|_INT8|_INT16)+\Z")


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a library. `sha256` is the file's; `compiler` what its objects say."""

    sha256: str
    targets: frozenset[Target]
    compiler: str
    symbols: frozenset[str]

    @property
    def has_log(self) -> bool:
        """Whether it was built with TFLM's error strings: not with BUILD_TYPE=release."""
        return _LOG in self.symbols

    @property
    def has_cmsis_nn(self) -> bool:
        """Whether its kernels are CMSIS-NN's."""
        return _KERNELS in self.symbols


@dataclass(frozen=True, slots=True)
class Installation:
    """TFLM for one core. `build` is the name of the folder that TFLM's make left the library in, where it did."""

    root: Path
    library: Path
    include_dirs: tuple[Path, ...]
    contents: Contents
    build: str

    @property
    def version(self) -> str:
        """Identifies the library (TFLM has no releases): the start of its SHA-256."""
        return self.contents.sha256[:12]

    @property
    def headers(self) -> Path:
        """The include folder of TFLM's own headers."""
        return self.include_dirs[0]

    @property
    def registry(self) -> Registry:
        """Operators and kernels that the headers name."""
        return read_registry(self.headers)

    @property
    def defines(self) -> tuple[str, ...]:
        """As the library was compiled: TFLM's headers have other contents otherwise."""
        log = () if self.contents.has_log else ("-DTF_LITE_STRIP_ERROR_STRINGS",)
        kernels = ("-DCMSIS_NN",) if self.contents.has_cmsis_nn else ()
        return ("-DTF_LITE_STATIC_MEMORY", *kernels, *log)

    def __str__(self) -> str:
        """Build, target, compiler and digest: for identities and for people."""
        targets = " and ".join(sorted(map(str, self.contents.targets)))
        kernels = "CMSIS-NN" if self.contents.has_cmsis_nn else "portable kernels"
        log = "" if self.contents.has_log else ", no strings"
        built = f"{self.build}, " if self.build else ""
        compiler = f", {self.contents.compiler}" if self.contents.compiler else ""
        return f"{self.version} ({built}{kernels}{log}; {targets}{compiler})"


def find_tflm(core: str, root: str | None = None, *, double_precision: bool = False) -> Installation:
    """TFLM for `core` (``cortex-m4``, ``cortex-m7``) under `root`, or else under ``$TFLM_ROOT``.

    `double_precision`: the chip's FPU has it, so that the library may use it. Raises ToolMissing when TFLM is not set
    or not complete, and BuildError when no library there fits the core, its FPU and the float ABI; the message says
    what each library found is for.
    """
    double_precision = double_precision or has_double_precision(core)
    how = advice(core, double_precision=double_precision)
    where = root_folder(root)
    if not where:
        raise ToolMissing(f"TensorFlow Lite Micro for {core} ({ROOT_VARIABLE} is not set)", how)
    folder = Path(where).expanduser()
    if not folder.is_dir():
        raise ToolMissing(f"TensorFlow Lite Micro for {core} ({ROOT_VARIABLE}: no folder {where})", how)
    include_dirs = _include_dirs(folder, core, how)
    library = _library_for(core, folder, double_precision, how)
    contents = _contents(library, library.stat().st_mtime_ns)
    _check_headers(include_dirs[0], library, contents)
    build = library.parent.parent.name if library.parent.name == "lib" and library.parent.parent != folder else ""
    return Installation(folder, library, include_dirs, contents, build)


def root_folder(root: str | None = None) -> str:
    """The folder that is named, empty when none is."""
    return root or os.environ.get(ROOT_VARIABLE, "")


def installed(root: str | None = None) -> Mapping[str, Installation]:
    """TFLM's libraries by core, for every core of ours that has one. Raises ToolMissing without TFLM, and BuildError
    when headers and library do not belong together."""
    found: dict[str, Installation] = {}
    for core in core_names():
        try:
            found[core] = find_tflm(core, root, double_precision=True)
        except UnfitError:
            continue
    return found


class UnfitError(BuildError):
    """TFLM is there, but none of its libraries is for the core."""


def _include_dirs(folder: Path, core: str, how: str) -> tuple[Path, ...]:
    found: dict[Path, None] = {}
    for header, candidates in _HEADERS.items():
        match = next((folder / where for where in candidates if (folder / where / header).is_file()), None)
        if match is None:
            raise ToolMissing(f"TensorFlow Lite Micro for {core} (no {header} in {folder})", how)
        found[match] = None
    return tuple(found)


def _library_for(core: str, folder: Path, double_precision: bool, how: str) -> Path:
    libraries = list(dict.fromkeys(path for pattern in _LIBRARY_PATTERNS for path in sorted(folder.glob(pattern))))
    if not libraries:
        raise ToolMissing(f"TensorFlow Lite Micro for {core} (no {LIBRARY_NAME} in {folder})", how)
    verdicts = {path: _objection(core, path, double_precision) for path in libraries}
    fitting = [path for path, objection in verdicts.items() if objection is None]
    if not fitting:
        reasons = "; ".join(f"{path.relative_to(folder)}: {objection}" for path, objection in verdicts.items())
        command = make_command(core, double_precision=double_precision)
        raise UnfitError(
            f"TensorFlow Lite Micro in {folder} has no library for {core} ({reasons}); build it: {command}"
        )
    return min(fitting, key=_preference)


def _preference(path: Path) -> tuple[int, str]:
    """A release build that still has its log before others: it is what a product would link."""
    build = path.parent.parent.name
    return (0 if "release_with_logs" in build else 1 if "_default" in build else 2), str(path)


def _objection(core: str, library: Path, double_precision: bool) -> str | None:
    """Why `library` cannot be linked for `core`; None when it can."""
    try:
        targets = _contents(library, library.stat().st_mtime_ns).targets
    except NotALibrary as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    reasons = (_mismatch(core, target, double_precision) for target in _ordered(targets))
    return next((text for text in reasons if text), None)


def _mismatch(core: str, target: Target, double_precision: bool) -> str | None:
    if not target.hard_float and load_core(core).fpu:
        return f"it uses the soft-float ABI ({target})"
    if target.core != core:
        return f"it is for {target.core or 'another core'} ({target})"
    if target.double_precision and not double_precision:
        option = SINGLE_PRECISION.get(core)
        instead = f"; {option} makes one that does not" if option else ""
        return f"it uses double precision, which this chip's FPU does not have{instead} ({target})"
    return None if target.short_enums else f"its enumerations have another size ({target})"


def _check_headers(headers: Path, library: Path, contents: Contents) -> None:
    """That headers and library are of one version: each registers the operators that the other one speaks of."""
    linked = linked_registrations(contents.symbols)
    if not linked:
        raise BuildError(f"{library} registers no operator of TensorFlow Lite Micro; build it again")
    try:
        registry = read_registry(headers)
    except OSError as error:
        raise BuildError(f"{headers}: TensorFlow Lite Micro's headers cannot be read: {error.strerror}") from error
    named = registry.registrations
    own = own_registrations(contents.symbols)
    foreign = sorted(name for name in own if not name.endswith("_REF") and _TYPED.sub("", name) not in named)
    lacking = sorted(registry.needed - linked)
    for what, names in (("does not name", foreign), ("wants", lacking)):
        if names:
            raise BuildError(
                f"headers in {headers} and {library} are of different versions of TensorFlow Lite Micro: the header "
                f"{what} {names[0]}, which the library {'lacks' if names is lacking else 'has'}; build it from these "
                "sources"
            )


def _ordered(targets: Iterable[Target]) -> list[Target]:
    return sorted(targets, key=str)


@functools.lru_cache(maxsize=16)
def _contents(library: Path, modified_ns: int) -> Contents:
    del modified_ns  # only there so that a rebuilt library is read again
    data = read_regular(library, _MOST_BYTES)
    compilers = "; ".join(compilers_of(data))
    return Contents(hashlib.sha256(data).hexdigest(), targets_of(data), compilers, indexed_symbols(data))
