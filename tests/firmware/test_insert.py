"""A network put into a linked image is, byte for byte, what the linker makes of it. Needs no TFLM."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hil.build.insert import Template
from hil.build.sources import LINK_FLAGS
from hil.build.toolchain import find_toolchain
from hil.resources import firmware_dir

pytestmark = pytest.mark.firmware

CORE = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
RUNTIME = """
#include <stdint.h>
__attribute__((section(".vectors"))) const uint32_t vectors[16] = {1};
int32_t data[5] = {1, 2, 3};
int zero[10];
__attribute__((section(".arena"), aligned(16))) signed char hil_arena[16];
extern const unsigned char g_model[];
extern const char hil_build_id[];
const uint8_t hil_arena_takes_the_rest = 1;
const char text[] = "a constant behind the code";
void hil_reset(void)
{
    data[0] += g_model[3] + hil_build_id[2] + text[zero[1]] + hil_arena_takes_the_rest;
    for (;;) {
    }
}
"""
MEMORY = """
MEMORY { FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 4M RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 64K }
_stack_size = 2048;
"""
ARRAY = '__attribute__((section(".hil_model_data"), aligned(16))) const unsigned char g_model[] = {%s};\n'


def network(size: int) -> bytes:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()


def identity(size: int) -> bytes:
    return b"%032x" % size


def patches(size: int) -> Mapping[str, tuple[int, bytes]]:
    return {"hil_build_id": (0, identity(size))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("insert")
    (folder / "memory.x").write_text(MEMORY)
    (folder / "runtime.c").write_text(RUNTIME)
    compile_one(folder, "runtime")
    return folder


def compile_one(folder: Path, name: str) -> None:
    flags = (*CORE, "-O2", "-ffunction-sections", "-fdata-sections")
    subprocess.run([find_toolchain().gcc, *flags, "-c", f"{name}.c", "-o", f"{name}.o"], cwd=folder, check=True)


def linked(folder: Path, size: int) -> bytes:
    """What the linker makes of `network(size)`."""
    (folder / "model.c").write_text(f'const char hil_build_id[] = "{identity(size).decode()}";\n')
    (folder / "data.c").write_text(ARRAY % ",".join(map(str, network(size))))
    for name in ("model", "data"):
        compile_one(folder, name)
    flags = (*CORE, *LINK_FLAGS, "-L.", f"-T{firmware_dir() / 'link.ld'}")
    command = [find_toolchain().gcc, *flags, "runtime.o", "model.o", "data.o", "-o", "firmware.elf"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "firmware.elf").read_bytes()


def test_it_is_what_the_linker_makes(folder: Path) -> None:
    # In steps about a page's end, which what lies behind the network in the file is aligned to.
    page = 0x1000 - 0xF0
    sizes = (16, 1000, *range(page - 40, page + 41, 8), 4097, 70_001)
    images = {size: linked(folder, size) for size in sizes}
    for first in (16, 4097, 70_001):
        template = Template(images[first])
        assert template.model_bytes == first
        for size, image in images.items():
            assert template.with_network(network(size), patches(size)) == image, (first, size)


def test_a_patch_that_is_longer_than_its_object_is_refused(folder: Path) -> None:
    template = Template(linked(folder, 100))
    with pytest.raises(ValueError, match="hil_build_id has 33 bytes, not 40"):
        template.with_network(network(50), {"hil_build_id": (0, bytes(40))})


@pytest.mark.parametrize("image", [b"", b"\x7fELF" + bytes(48), bytes(100)])
def test_what_is_no_image_of_ours_is_refused(image: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an image|not in list|unpack"):
        Template(image)
