"""Fixtures shared by all layers of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes says nothing on a machine that stops for seconds. The rest is as it was: on CI, hypothesis'
# own profile for that.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of golden figures and real models; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("MUNAS_HIL_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden" / "munas.json").is_file():
        pytest.skip("the shared folder with golden figures is not beside the project")
    return folder
