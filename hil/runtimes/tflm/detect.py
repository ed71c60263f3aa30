"""Finding an installed TensorFlow Lite Micro: its headers, and its library for the core.

`TFLM_ROOT` names a folder where TFLM was built as its own guide for generic Cortex-M targets says
(tensorflow/lite/micro/cortex_m_generic/README.md there), or where headers and library were copied to.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hil.boards.core import load_core
from hil.errors import BuildError, ToolMissing
from hil.runtimes.tflm.elf import NotALibrary, Target, read_targets

ROOT_VARIABLE = "TFLM_ROOT"
LIBRARY_NAME = "libtensorflow-microlite.a"
ADVICE = (
    f"building it by its own guide, tensorflow/lite/micro/cortex_m_generic/README.md, with the cmsis_nn kernels; "
    f"then set {ROOT_VARIABLE} to that folder"
)

# Where TFLM's own build leaves libraries, and where a plain installation has them.
_LIBRARY_PATTERNS = (f"gen/*/lib/{LIBRARY_NAME}", f"lib/*/{LIBRARY_NAME}", f"lib/{LIBRARY_NAME}", LIBRARY_NAME)
_DOWNLOADS = "tensorflow/lite/micro/tools/make/downloads"
# A header that is needed, and the include folders below the root that may have it.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "tensorflow/lite/micro/micro_interpreter.h": (".", "include"),
    "flatbuffers/flatbuffers.h": (f"{_DOWNLOADS}/flatbuffers/include", "third_party/flatbuffers/include", "include"),
    "fixedpoint/fixedpoint.h": (f"{_DOWNLOADS}/gemmlowp", "third_party/gemmlowp", "include"),
    "ruy/profiler/instrumentation.h": (f"{_DOWNLOADS}/ruy", "third_party/ruy", "include"),
}


@dataclass(frozen=True, slots=True)
class Installation:
    """TFLM for one core. `version` identifies the library (TFLM has no releases): the start of its SHA-256."""

    root: Path
    library: Path
    include_dirs: tuple[Path, ...]
    version: str


def find_tflm(core: str, root: str | None = None) -> Installation:
    """TFLM for `core` (``cortex-m4``, ``cortex-m7``) under `root`, or else under ``$TFLM_ROOT``.

    Raises ToolMissing when it is not set or not complete, and BuildError when no library there fits the core, its FPU
    and the float ABI; the message says what each library found is for.
    """
    where = root or os.environ.get(ROOT_VARIABLE, "")
    if not where:
        raise ToolMissing(f"TensorFlow Lite Micro ({ROOT_VARIABLE} is not set)", ADVICE)
    folder = Path(where).expanduser()
    if not folder.is_dir():
        raise ToolMissing(f"TensorFlow Lite Micro ({ROOT_VARIABLE}: no folder {where})", ADVICE)
    include_dirs = _include_dirs(folder)
    library = _library_for(core, folder)
    return Installation(folder, library, include_dirs, _sha256(library, library.stat().st_mtime_ns)[:12])


def _include_dirs(folder: Path) -> tuple[Path, ...]:
    found: dict[Path, None] = {}
    for header, candidates in _HEADERS.items():
        match = next((folder / where for where in candidates if (folder / where / header).is_file()), None)
        if match is None:
            raise ToolMissing(f"TensorFlow Lite Micro (no {header} in {folder})", ADVICE)
        found[match] = None
    return tuple(found)


def _library_for(core: str, folder: Path) -> Path:
    libraries = list(dict.fromkeys(path for pattern in _LIBRARY_PATTERNS for path in sorted(folder.glob(pattern))))
    if not libraries:
        raise ToolMissing(f"TensorFlow Lite Micro (no {LIBRARY_NAME} in {folder})", ADVICE)
    verdicts = {path: _objection(core, path) for path in libraries}
    fitting = [path for path, objection in verdicts.items() if objection is None]
    if not fitting:
        reasons = "; ".join(f"{path.relative_to(folder)}: {objection}" for path, objection in verdicts.items())
        raise BuildError(f"TensorFlow Lite Micro in {folder} has no library for {core}: {reasons}")
    return min(fitting, key=_preference)


def _preference(path: Path) -> tuple[int, str]:
    """A release build that still has its profiler and its log before others: it is what a product would link."""
    build = path.parent.parent.name
    return (0 if "release_with_logs" in build else 1 if "_default_" in build else 2), str(path)


def _objection(core: str, library: Path) -> str | None:
    """Why `library` cannot be linked for `core`; None when it can."""
    try:
        targets = _targets(library, library.stat().st_mtime_ns)
    except NotALibrary as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return next((text for text in (_mismatch(core, target) for target in _ordered(targets)) if text), None)


def _mismatch(core: str, target: Target) -> str | None:
    if not target.hard_float and load_core(core).fpu:
        return f"it uses the soft-float ABI ({target})"
    if target.core != core:
        return f"it is for {target.core or 'another core'} ({target})"
    if target.double_precision:
        return f"it uses double precision, which the FPU of many a {core} lacks ({target})"
    return None if target.short_enums else f"its enumerations have another size ({target})"


def _ordered(targets: Iterable[Target]) -> list[Target]:
    return sorted(targets, key=str)


@functools.lru_cache(maxsize=16)
def _targets(library: Path, modified_ns: int) -> frozenset[Target]:
    del modified_ns  # only there so that a rebuilt library is read again
    return read_targets(library)


@functools.lru_cache(maxsize=16)
def _sha256(library: Path, modified_ns: int) -> str:
    del modified_ns
    with library.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
