"""What is installed, what is missing, and the command that installs it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass

from hil.boards.core import core_names, load_core
from hil.build.toolchain import INSTALL_GCC, find_toolchain
from hil.cache import cache_dir
from hil.errors import HilError, ToolMissing
from hil.host_compiler import INSTALL_CC
from hil.runtimes.tflm.cxx import INSTALL_CXX, require_cxx
from hil.runtimes.tflm.detect import UnfitError, find_tflm, installed, root_folder
from hil.runtimes.tflm.guide import make_command
from hil.targets.runners.renode import INSTALL as INSTALL_RENODE
from hil.targets.runners.renode import find_renode, version_problem

INSTALL_QEMU = "apt-get install qemu-system-arm"
INSTALL_CMAKE = "apt-get install cmake make"
_USUAL_CORE = "cortex-m4"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`. `needed` is False for what only some commands use; `install` is empty when it is there."""

    name: str
    found: bool
    detail: str
    needed: bool
    install: str = ""


def examine() -> tuple[Check, ...]:
    """All checks, in the order in which a first run would need them. Raises nothing."""
    return (
        _compiler(),
        _program("qemu-system-arm", "QEMU", INSTALL_QEMU, needed=True),
        _package("ai-edge-litert", "reference kernels"),
        _package("bakenn", "CMSIS-NN 4.0.0 kernels and CMSIS-Core headers"),
        _cache(),
        _program("cc", "compiles the timing model, and what keeps QEMU loaded", INSTALL_CC, needed=False),
        _program("cmake", "builds what `generate` writes", INSTALL_CMAKE, needed=False),
        *_search_extra(),
        _cxx(),
        _tflm(),
        _renode(),
    )


def _compiler() -> Check:
    try:
        toolchain = find_toolchain()
    except HilError as error:
        return Check("arm-none-eabi-gcc", False, str(error), needed=True, install=INSTALL_GCC)
    return Check("arm-none-eabi-gcc", True, toolchain.version, needed=True)


def _program(program: str, purpose: str, install: str, *, needed: bool) -> Check:
    path = shutil.which(program)
    if path is None:
        return Check(program, False, purpose, needed, install)
    return Check(program, True, _first_line([path, "--version"]), needed)


def _renode() -> Check:
    try:
        command = find_renode()
    except ToolMissing as error:
        detail = "second emulator" if error.tool == "renode" else f"second emulator; {error.tool}"
        return Check("renode", False, detail, needed=False, install=error.install)
    said = _first_line([*command, "--version"])
    if problem := version_problem(said):
        return Check("renode", False, problem, needed=False, install=INSTALL_RENODE)
    return Check("renode", True, said, needed=False)


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else f"exit status {done.returncode}"


def _package(name: str, purpose: str, install: str = "make install", *, needed: bool = True) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name), needed)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, purpose, needed, f"pip install {name} (or: {install})")


def _search_extra() -> tuple[Check, ...]:
    """What `search` needs besides; nothing is imported."""
    packages = (
        ("tensorflow", "`search`: trains and quantises networks"),
        ("keras", "`search`: trains networks"),
        ("scikit-learn", "`search`: has the data set digits"),
        ("pillow", "`search`: reads the images of Chars74K"),
    )
    return tuple(_package(name, purpose, "make install-search", needed=False) for name, purpose in packages)


def _tflm() -> Check:
    """TFLM: there when a core has a library; which ones, and which have none."""
    what = "TensorFlow Lite Micro"
    try:
        with contextlib.suppress(UnfitError):
            find_tflm(_USUAL_CORE, double_precision=True)  # what is missing is said of this core
        found = installed()
    except HilError as error:
        install = error.install if isinstance(error, ToolMissing) else make_command(_USUAL_CORE)
        detail = error.tool if isinstance(error, ToolMissing) else str(error)
        return Check(what, False, f"for --runtime tflm; {detail}", needed=False, install=install)
    if not found:
        detail = f"for --runtime tflm; {root_folder()} has no library for any of {', '.join(core_names())}"
        return Check(what, False, detail, needed=False, install=make_command(_USUAL_CORE))
    cores = [f"{core}: {item}" for core, item in found.items()]
    without = ", ".join(name for name in core_names() if name not in found)
    return Check(what, True, "; ".join([*cores, *([f"none for {without}"] if without else [])]), needed=False)


def _cxx() -> Check:
    """The C++ library of the cross compiler, which Debian packages apart."""
    name = "libstdc++-arm-none-eabi-newlib"
    try:
        require_cxx(load_core(_USUAL_CORE).flags)
    except HilError:
        return Check(name, False, "C++ library, for --runtime tflm", needed=False, install=INSTALL_CXX)
    return Check(name, True, "C++ library, for --runtime tflm", needed=False)


def _cache() -> Check:
    folder = cache_dir()
    parent = _existing_parent(folder)
    writable = os.path.isdir(parent) and os.access(parent, os.W_OK)
    return Check("cache folder", writable, str(folder), needed=True, install="set MUNAS_HIL_CACHE to a folder you own")


def _existing_parent(path: os.PathLike[str]) -> str:
    current = os.path.abspath(path)
    while not os.path.exists(current):
        current = os.path.dirname(current)
    return current
