"""The direction of dependencies: munas never imports hil; hil never imports TensorFlow; hil imports light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"tensorflow", "keras", "torch"}


def imported_roots(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "munas").rglob("*.py")), ids=lambda path: path.name)
def test_munas_never_imports_hil(path: Path) -> None:
    assert "hil" not in imported_roots(path)


@pytest.mark.parametrize("path", sorted((ROOT / "hil").rglob("*.py")), ids=lambda path: path.name)
def test_hil_never_imports_a_training_framework(path: Path) -> None:
    assert not imported_roots(path) & HEAVY


@pytest.mark.parametrize("module", ["munas.arch.graph", "munas.cost.estimate", "hil.boards.board", "hil.link.protocol"])
def test_core_modules_load_without_heavy_packages(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'tensorflow', 'keras', 'ai_edge_litert', 'hil'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    allowed = {"hil"} if module.startswith("hil") else set()
    assert set(ast.literal_eval(done.stdout.strip())) <= allowed
