"""What to tell TFLM's own make, core by core: its guide for generic Cortex-M targets has one option for each.

That guide is tensorflow/lite/micro/cortex_m_generic/README.md there; TFLM's makefile for the target knows these names.
"""

from __future__ import annotations

from collections.abc import Mapping

from hil.boards.core import load_core

ROOT_VARIABLE = "TFLM_ROOT"
BUILD_TYPE = "release_with_logs"
_MAKEFILE = "tensorflow/lite/micro/tools/make/Makefile"

# TARGET_ARCH for our float ABI: the plain names of cores with an FPU are soft-float there.
_ARCHITECTURES: Mapping[str, str] = {
    "cortex-m0": "cortex-m0",
    "cortex-m3": "cortex-m3",
    "cortex-m33": "cortex-m33",
    "cortex-m4": "cortex-m4+fp",
    "cortex-m55": "cortex-m55",
    "cortex-m7": "cortex-m7+fp",
}
SINGLE_PRECISION: Mapping[str, str] = {"cortex-m7": "FPU=fpv5-sp-d16"}
"""The option without which TFLM's make uses an FPU of double precision, by core."""


def has_double_precision(core: str) -> bool:
    """Whether the core's own flags say that its FPU has double precision."""
    return any(flag.startswith("-mfpu=") and "-sp-" not in flag for flag in load_core(core).flags)


def make_command(core: str, *, double_precision: bool = False) -> str:
    """The command that builds the library for `core`, in the folder of TFLM's sources."""
    words = [f"make -f {_MAKEFILE} TARGET=cortex_m_generic TARGET_ARCH={_ARCHITECTURES.get(core, core)}"]
    if core in SINGLE_PRECISION and not double_precision:
        words.append(SINGLE_PRECISION[core])
    return " ".join([*words, f"OPTIMIZED_KERNEL_DIR=cmsis_nn BUILD_TYPE={BUILD_TYPE} microlite"])


def advice(core: str, *, double_precision: bool = False) -> str:
    """How to get TFLM for `core`: what follows "install it with:"."""
    command = make_command(core, double_precision=double_precision)
    return f"{command} (in the folder of TensorFlow Lite Micro's sources, which {ROOT_VARIABLE} has to name)"
