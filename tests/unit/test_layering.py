"""What the import contracts in pyproject.toml (`make lint`) cannot say: light imports, and the files of C."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from hil.cycle_model.description import load_description
from hil.cycle_model.native import engine_dir
from hil.cycle_model.tables import render_tables

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "module", ["munas", "munas.arch.graph", "munas.cost.estimate", "hil", "hil.boards.board", "hil.link.protocol"]
)
def test_core_modules_load_without_heavy_packages(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'tensorflow', 'keras', 'ai_edge_litert', 'hil'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    allowed = {"hil"} if module.startswith("hil") else set()
    assert set(ast.literal_eval(done.stdout.strip())) <= allowed


def symbols_of(nm: str, object_file: Path) -> tuple[set[str], set[str]]:
    """What an object file defines for others, and what it wants from them."""
    listed = subprocess.run([nm, "-g", "-P", str(object_file)], capture_output=True, text=True, check=True).stdout
    pairs = [line.split()[:2] for line in listed.splitlines()]
    return {name for name, kind in pairs if kind not in "Uw"}, {name for name, kind in pairs if kind in "Uw"}


def require_order(nm: str, objects: Iterable[Path]) -> None:
    """Fails with the cycle when files use each other in a circle."""
    symbols = {path.stem: symbols_of(nm, path) for path in objects}
    home = {name: stem for stem, (defined, _) in symbols.items() for name in defined}
    needs = {stem: {home[name] for name in wanted if name in home} - {stem} for stem, (_, wanted) in symbols.items()}
    assert any(needs.values())
    graphlib.TopologicalSorter(needs).prepare()


def compiled(compiler: list[str], sources: Iterable[Path], folder: Path) -> list[Path]:
    files = sorted(sources)
    subprocess.run([*compiler, "-c", *map(str, files)], cwd=folder, check=True)
    return [folder / f"{path.stem}.o" for path in files]


@pytest.mark.firmware
def test_no_cycle_between_files_of_the_firmware_runtime(tmp_path: Path) -> None:
    runtime = ROOT / "firmware" / "runtime"
    compiler = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-std=c11", "-O1", f"-I{ROOT}/firmware/kernels"]
    require_order("arm-none-eabi-nm", compiled(compiler, runtime.glob("*.c"), tmp_path))


def test_no_cycle_between_files_of_the_cycle_engine(tmp_path: Path) -> None:
    engine = engine_dir()
    (tmp_path / "thumb2_tables.h").write_text(render_tables(load_description(engine)), encoding="ascii")
    sources = [path for path in engine.glob("*.c") if path.name != "plugin.c"]  # which needs GLib's headers
    require_order("nm", compiled(["cc", "-std=c11", f"-I{engine}", f"-I{tmp_path}"], sources, tmp_path))
