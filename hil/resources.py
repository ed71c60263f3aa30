"""Where the files that are not Python lie: board files and firmware, in a checkout or inside an installed package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_ROOT = Path(str(resources.files("hil")))


def boards_dir() -> Path:
    """Folder of the shipped board files."""
    return _shipped("boards")


def firmware_dir() -> Path:
    """Folder of our own firmware sources: runtime, ports, kernels, templates, linker script."""
    return _shipped("firmware")


def _shipped(name: str) -> Path:
    """A wheel has the folder `name` in hil/shipped, a checkout beside hil/."""
    packaged = _ROOT / "shipped" / name
    return packaged if packaged.is_dir() else _ROOT.parent / name
