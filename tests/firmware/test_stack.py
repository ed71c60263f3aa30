"""The most stack that an image can use: never below what painting the stack shows, and what GCC says of frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.build import stack
from hil.build.image import _stack_bound
from hil.build.stack import stack_bound
from hil.build.toolchain import Toolchain, find_toolchain, run_tool
from hil.measure.harness import Harness, Options
from tests.networks import small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]

SOURCE = """
#include <stdint.h>
__attribute__((noinline, used)) int leaf(int *to) { volatile int a[20]; a[*to & 15] = 1; return a[3]; }
__attribute__((noinline, used)) int deeper(int *to) { volatile int a[60]; a[*to & 15] = leaf(to); return a[3] + 1; }
__attribute__((noinline, used)) double floats(double x) { volatile double a[4]; a[0] = x; return a[1] + leaf(0); }
int (*const pointers[2])(int *) = {leaf, deeper};
__attribute__((noinline, used)) int hil_feed(int *to) { return pointers[*to & 1](to) + 1; }
__attribute__((naked, used)) void hil_reset(void) { __asm volatile("bl hil_feed"); __builtin_unreachable(); }
"""


CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
CORTEX_M0 = ("-mcpu=cortex-m0", "-mthumb", "-mfloat-abi=soft")


def image(folder: Path, source: str, core: tuple[str, ...] = CORTEX_M4) -> tuple[Path, dict[str, int]]:
    """An ELF of `source`, and the frames that GCC says it has."""
    (folder / "a.c").write_text(source)
    gcc = find_toolchain().gcc
    run_tool([gcc, *core, "-O2", "-fstack-usage", "-c", folder / "a.c", "-o", folder / "a.o"])
    run_tool([gcc, *core, "-nostdlib", "-Wl,-e,hil_reset", folder / "a.o", "-lgcc", "-o", folder / "a.elf"])
    rows = (line.split("\t") for line in (folder / "a.su").read_text().splitlines())
    return folder / "a.elf", {row[0].rsplit(":", 1)[1]: int(row[1]) for row in rows}


@pytest.mark.parametrize("core", [CORTEX_M4, CORTEX_M0])
@pytest.mark.parametrize("words", [60, 300])
def test_frames_are_what_gcc_says_and_calls_add_up(core: tuple[str, ...], words: int, tmp_path: Path) -> None:
    """Armv6-M has no instruction for a frame of more than 508 bytes."""
    elf, frames = image(tmp_path, SOURCE.replace("a[60]", f"a[{words}]"), core)
    functions, _ = stack._symbols_and_tables(elf)
    objdump = str(find_toolchain().gcc).removesuffix("gcc") + "objdump"
    stack._parse(run_tool([objdump, "-d", "--no-show-raw-insn", elf]), functions)
    assert {name: functions[name].frame for name in frames} == frames
    assert frames["deeper"] >= 4 * words > frames["leaf"] >= 80
    assert stack_bound(elf, find_toolchain()) == frames["hil_feed"] + frames["deeper"] + frames["leaf"]


@pytest.mark.parametrize("core", [CORTEX_M4, CORTEX_M0])
def test_what_cannot_be_known_is_not_said(core: tuple[str, ...], tmp_path: Path) -> None:
    varying = "int sink(char *); int hil_reset(int n) { char a[n]; return sink(a); } int sink(char *a) { return a[0]; }"
    assert stack_bound(image(tmp_path, varying, core)[0], find_toolchain()) is None
    assert stack_bound(image(tmp_path, "int other; void start(void) { other = 1; }")[0], find_toolchain()) is None


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_the_bound_is_above_what_is_seen_and_below_what_is_reserved(seed: int) -> None:
    harness = Harness(load_board("mps2-an386"), Options())
    memory = harness.measure(small_network(seed), f"net{seed}").measurement.memory
    assert 0 < memory.stack_used <= memory.stack_bound <= memory.stack_reserved


def test_the_bound_is_read_from_images_once_for_each_set_of_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by another process, as it is in the cache; it takes as long as a link."""
    elf, _ = image(tmp_path, SOURCE)
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    asked: list[Path] = []
    whole = stack.stack_bound

    def counted(elf: Path, toolchain: Toolchain) -> int | None:
        asked.append(elf)
        return whole(elf, toolchain)

    monkeypatch.setattr(stack, "stack_bound", counted)
    built = [tmp_path / "library" / "libhil.a"]
    for functions in ({"leaf": 8}, {"leaf": 8}, {"leaf": 8, "deeper": 4}, {"leaf": 12}, {"leaf": 8, "deeper": 4}):
        assert _stack_bound(elf, built, functions, find_toolchain()) == whole(elf, find_toolchain())
    assert len(asked) == 3
    _stack_bound(elf, [tmp_path / "another" / "libhil.a"], {"leaf": 8}, find_toolchain())
    assert len(asked) == 4
    unknown = image(tmp_path, "int other; void start(void) { other = 1; }")[0]
    for _ in range(2):
        assert _stack_bound(unknown, built, {"start": 8}, find_toolchain()) is None
    assert len(asked) == 5
