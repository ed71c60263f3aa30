"""Building: sizes are exact, a link that does not fit fails with the shortfall, the cache survives concurrency."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from hil.boards.board import load_board
from hil.build.elf import LinkedElf, read_kept, sizes_of
from hil.build.image import build_library, compile_model, link
from hil.build.sources import find_cmsis, library
from hil.build.toolchain import find_toolchain, run_tool
from hil.cache import cached_folder
from hil.codegen.plan import make_plan
from hil.codegen.project import Options as ProjectOptions
from hil.codegen.project import render
from hil.errors import BudgetError, BuildError, InfrastructureError, ToolMissing
from hil.measure.harness import Harness, Options
from hil.model.load import parse_model
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.tflite.flatbuffer import write_tflite
from tests.networks import small_network

pytestmark = pytest.mark.firmware


def test_the_elf_is_what_the_plan_says(tmp_path: Path) -> None:
    harness = Harness(load_board("mps2-an386"))
    for seed in range(3):
        plan = make_plan(parse_model(small_network(seed), f"net{seed}"))
        project = render(plan, harness.board, "qemu", find_cmsis(), tmp_path / str(seed))
        image = link(project, compile_model(project, find_toolchain()), _archive(), find_toolchain())
        assert image.sizes.arena == plan.arena_bytes
        assert image.sizes.weights == plan.weights_bytes + plan.table_bytes
        assert image.sizes.flash_total == image.sizes.weights + image.sizes.code
        padding = image.sizes.ram_total - image.sizes.arena - image.sizes.static_ram - image.sizes.stack_reserved
        assert 0 <= padding < 32


def _archive() -> Path:
    board = load_board("mps2-an386")
    return build_library(library(board, board.target("qemu"), find_cmsis()), find_toolchain())


@pytest.mark.parametrize(("flash", "sram", "region"), [(8192, 65536, "FLASH"), (65536, 4096, "RAM")])
def test_a_network_over_budget_fails_with_the_shortfall(tmp_path: Path, flash: int, sram: int, region: str) -> None:
    harness = Harness(load_board("mps2-an386").with_budget(flash, sram))
    with pytest.raises(BudgetError, match=f"overflows {region} by") as caught:
        harness.measure(small_network(1), "too-large")
    missing = caught.value.shortfall_bytes[region]
    wanted = (flash + missing, 65536) if region == "FLASH" else (65536, sram + missing)
    # Exactly that much more is enough, and one byte less is not.
    Harness(load_board("mps2-an386").with_budget(*wanted)).measure(small_network(1), "fits")
    short = (wanted[0] - 4, wanted[1]) if region == "FLASH" else (wanted[0], wanted[1] - 4)
    with pytest.raises(BudgetError):
        Harness(load_board("mps2-an386").with_budget(*short)).measure(small_network(1), "does not")


def test_code_stays_within_16_kib_for_a_network_of_every_operator(tmp_path: Path) -> None:
    """Depthwise of both kinds, both convolutions, both pools, dense, padded and in-place Add."""
    from tests.networks import every_operator

    graph = every_operator()
    plan = make_plan(parse_model(write_tflite(graph, 1), "all"))
    paths = {str(path) for path in plan.paths} | {str(path) for item in plan.given_up for path in item.kernels}
    assert {"conv-1x1", "conv-im2col", "dw-3x3", "dw", "max-pool", "avg-pool", "add", "add-padded"} <= paths
    project = render(plan, load_board("mps2-an386"), "qemu", find_cmsis(), tmp_path)
    sizes = link(project, compile_model(project, find_toolchain()), _archive(), find_toolchain()).sizes
    assert sizes.code <= 16 * 1024


def test_a_missing_compiler_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolMissing, match="apt-get install gcc-arm-none-eabi"):
        find_toolchain()


def test_a_compiler_that_fails_is_a_build_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = find_toolchain().gcc
    broken = tmp_path / "arm-none-eabi-gcc"
    fails = 'case " $* " in *" -c "*) echo "cc1: fatal error: out of memory" >&2; exit 1;; esac'
    broken.write_text(f'#!/bin/sh\n{fails}\nexec {real} "$@"\n')
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    os.symlink(find_toolchain().ar, tmp_path / "arm-none-eabi-gcc-ar")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BuildError, match="out of memory"):
        Harness(load_board("mps2-an386"))
    assert not list((tmp_path / "cache" / "library").glob("[0-9a-f]*")), "a failed build left an entry in the cache"


@pytest.mark.slow
def test_two_processes_build_one_library(tmp_path: Path) -> None:
    code = (
        "from hil.boards.board import load_board; from hil.measure.harness import Harness; "
        "found = Harness(load_board('mps2-an386')); print(found._archive.read_bytes().__hash__() and found._archive)"
    )
    environment = {**os.environ, "MUNAS_HIL_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    archives = {process.communicate(timeout=280)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(archives) == 1
    assert [path.name for path in (tmp_path / "library").iterdir()] == [Path(archives.pop()).parent.name]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(blocker))
    with pytest.raises(InfrastructureError, match="MUNAS_HIL_CACHE"):
        cached_folder("library", "00", lambda _: None)


def test_a_full_disk_in_the_cache_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path))

    def fill(folder: Path) -> None:
        with open("/dev/full", "wb") as full:
            full.write(b"x" * 65536)

    with pytest.raises(InfrastructureError, match="No space left"):
        cached_folder("library", "00", fill)
    assert not list((tmp_path / "library").iterdir())


def test_an_elf_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "no.elf"
    path.write_bytes(b"\x7fELF" + bytes(20))
    with pytest.raises(BuildError):
        sizes_of(LinkedElf(path))


@pytest.mark.slow
def test_the_generated_folder_builds_alone(tmp_path: Path) -> None:
    """As a user does it: a folder, plain CMake, nothing of this project on any path."""
    harness = Harness(load_board("mps2-an386"), Options())
    project = harness.generate(small_network(2), "alone", tmp_path / "project")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for command in (["cmake", "-B", "build"], ["cmake", "--build", "build"]):
        done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    images = list((project.folder / "build").glob("*.elf"))
    assert len(images) == 1
    sizes = sizes_of(LinkedElf(images[0]))
    plan = make_plan(parse_model(small_network(2), "alone"))
    assert (sizes.arena, sizes.weights) == (plan.arena_bytes, plan.weights_bytes + plan.table_bytes)


def test_rendering_is_deterministic(tmp_path: Path) -> None:
    plan = make_plan(parse_model(small_network(3), "same"))
    board, cmsis = load_board("mps2-an386"), find_cmsis()
    first = render(plan, board, "qemu", cmsis, tmp_path / "a", ProjectOptions(standalone=True))
    second = render(plan, board, "qemu", cmsis, tmp_path / "b", ProjectOptions(standalone=True))
    assert first.build_id == second.build_id
    for path in first.files:
        assert path.read_bytes() == (second.folder / path.name).read_bytes()


def test_a_different_weight_is_a_different_build(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    graph = build_graph(random_cnn(rng), (12, 12, 1), 10)
    board, cmsis = load_board("mps2-an386"), find_cmsis()
    plans = [make_plan(parse_model(write_tflite(graph, seed), "same")) for seed in (1, 2)]
    first, second = (
        render(plan, board, "qemu", cmsis, tmp_path / str(seed)).build_id for seed, plan in enumerate(plans)
    )
    assert first != second


@pytest.mark.slow
def test_an_emptied_library_does_not_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing refers to the start-up code but the linker script: without it the core would lock up."""
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path))
    harness = Harness(load_board("mps2-an386"), Options())
    (archive,) = (tmp_path / "library").glob("*/libhil.a")
    archive.write_bytes(b"!<arch>\n")
    with pytest.raises(BuildError, match=r"hil_reset|vector table"):
        harness.measure(small_network(2), "emptied")


@pytest.mark.parametrize("variable", ["CPATH", "C_INCLUDE_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "LIBRARY_PATH"])
def test_the_compilers_environment_does_not_reach_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "stdint.h").write_text("#error planted\n")
    for tool in ("as", "ld", "cc1"):
        (planted / tool).write_text("#!/bin/sh\nexit 66\n")
        (planted / tool).chmod(0o755)
    monkeypatch.setenv(variable, f"{planted}/")
    source = tmp_path / "a.c"
    source.write_text("#include <stdint.h>\nint32_t one(void) { return 1; }\n")
    run_tool([find_toolchain().gcc, "-mcpu=cortex-m4", "-c", source, "-o", tmp_path / "a.o"])


@pytest.mark.parametrize("named", ["/nowhere/gcc", "/bin/true", "/bin/false", "gcc"])
def test_a_wrong_compiler_is_named(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("MUNAS_HIL_GCC", named)
    with pytest.raises(BuildError, match=f"MUNAS_HIL_GCC={named} is no Arm compiler"):
        find_toolchain()


def test_no_byte_of_a_kernel_is_counted_twice(tmp_path: Path) -> None:
    """libgcc's double addition on a core without doubles: four names, three of which are one place."""
    toolchain = find_toolchain()
    source, elf = tmp_path / "sum.c", tmp_path / "sum.elf"
    source.write_text("double sum(double a, double b) { return a + b; }\n", encoding="ascii")
    core = load_board("mps2-an500").core_flags
    run_tool([toolchain.gcc, *core, "-O2", "-nostartfiles", "-Wl,-e,sum", source, "-o", elf])
    functions = read_kept(elf)
    addition = {"__adddf3", "__aeabi_dadd", "__subdf3", "__aeabi_dsub"} & set(functions)
    assert len(addition) == 1
    with elf.open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text")
        assert sum(functions.values()) <= int(text["sh_size"])
