"""Fixtures shared by all layers of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of golden figures and real models; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("MUNAS_HIL_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden" / "munas.json").is_file():
        pytest.skip("the shared folder with golden figures is not beside the project")
    return folder
