"""firmware/link.ld: what must not link, what it says then, and the sizes that an ELF carries."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.firmware.images import ADDER, header, memory_x, symbol

pytestmark = pytest.mark.firmware

Build = Callable[..., Path]
WEIGHTS = """
const signed char weights[{size}] __attribute__((section(".rodata.hil_weights.w"), used, aligned(4))) = {{1}};
int hil_model_infer(hil_mark_fn mark) {{ (void)mark; return weights[hil_arena[0]] == 7; }}
"""


def shortfall(build: Build, model: str, **memory: object) -> dict[str, int]:
    """Region -> bytes missing, as the linker says it."""
    with pytest.raises(AssertionError) as caught:
        build(model, memory=memory_x(**memory))  # type: ignore[arg-type]
    return {name: int(count) for name, count in re.findall(r"region `(\w+)' overflowed by (\d+)", str(caught.value))}


def test_sizes_add_up(build: Build) -> None:
    image = build(header(arena=5000) + WEIGHTS.format(size=1001), memory=memory_x(stack=1024))
    assert symbol(image, "_weights_size") == 1001
    assert symbol(image, "_arena_size") == 5000
    assert symbol(image, "_stack_end") - symbol(image, "_stack_start") == 1024
    static = symbol(image, "_static_size")
    assert 0 <= symbol(image, "_ram_used") - 1024 - static - 5000 < 16  # what aligns the arena
    assert symbol(image, "_code_size") + 1001 == symbol(image, "_flash_used")


def test_runtime_stays_small(build: Build) -> None:
    """The runtime, protocol and port; the stub network (some 100 bytes) and memcpy (308) are in the figure too."""
    image = build(header() + ADDER)
    assert symbol(image, "_code_size") <= 7680
    assert symbol(image, "_static_size") <= 1024


@pytest.mark.parametrize("missing", [1, 4, 1000])
def test_shortfall_in_bytes_per_region(build: Build, missing: int) -> None:
    whole = build(header(arena=4096) + WEIGHTS.format(size=4096))
    flash, ram = symbol(whole, "_flash_used"), symbol(whole, "_ram_used")
    exact = memory_x(flash=str(flash), ram=str(ram))
    build(header(arena=4096) + WEIGHTS.format(size=4096), memory=exact)
    model = header(arena=4096) + WEIGHTS.format(size=4096)
    assert shortfall(build, model, flash=str(flash - missing)) == {"FLASH": missing}
    assert shortfall(build, model, ram=str(ram - missing)) == {"RAM": missing}
    both = shortfall(build, model, flash=str(flash - missing), ram=str(ram - missing))
    assert both == {"FLASH": missing, "RAM": missing}


@pytest.mark.parametrize(
    ("memory", "advice"),
    [
        (memory_x(stack=256), "below 512 bytes"),
        (memory_x(stack=1026), "not a multiple of 8"),
        (memory_x(physical_end=0x20001000), "inside the RAM budget"),
        (memory_x().replace("0x20000000", "0x20001000"), "multiple of 64 KB"),
    ],
)
def test_mistakes_in_memory_x_are_named(build: Build, memory: str, advice: str) -> None:
    with pytest.raises(AssertionError, match=f"ERROR.*{advice}"):
        build(header() + ADDER, memory=memory)


def test_image_needs_no_library_io(build: Build) -> None:
    """No heap, no stdio, no 64-bit or string helpers of a library besides memcpy."""
    names = subprocess.run(
        ["arm-none-eabi-nm", str(build(header() + ADDER))], capture_output=True, text=True, check=True
    ).stdout
    foreign = set(re.findall(r" [TtWw] (\S+)", names)) & {"malloc", "_malloc_r", "printf", "_write", "_sbrk", "strcmp"}
    assert not foreign
    assert "__aeabi_uldivmod" not in names
