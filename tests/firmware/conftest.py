"""Fixtures for tests that run images under QEMU."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.link.device import Device, Timeouts
from hil.targets.runners.base import Session
from hil.targets.runners.qemu import QEMU, QemuRunner
from tests.firmware import images

BRISK = Timeouts(boot_s=20.0, command_s=10.0, inference_s=20.0, host_per_device=0.5)


@pytest.fixture(scope="session")
def runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runtime's objects are compiled to, once a session."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(params=["cortex-m4", "cortex-m7"])
def core(request: pytest.FixtureRequest) -> str:
    """Both cores."""
    return str(request.param)


@pytest.fixture
def build(runtime_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``build(model, core, memory=...)``: an ELF of that C text."""

    def make(model: str, core: str = "cortex-m4", memory: str | None = None) -> Path:
        objects = images.runtime(core, runtime_folder / core)
        return images.link(model, objects, tmp_path / core, core=core, memory=memory)

    return make


@pytest.fixture
def boot() -> Callable[..., object]:
    """``with boot(image, core) as (session, device)``: booted to m-ready under QEMU."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")

    @contextmanager
    def run(image: Path, core: str = "cortex-m4", timeouts: Timeouts = BRISK) -> Iterator[tuple[Session, Device]]:
        with QemuRunner(timeouts=timeouts).open(image, load_board(images.MACHINES[core])) as session:
            device = Device(session.port, session.timeouts)
            device.wait_ready()
            yield session, device

    return run
