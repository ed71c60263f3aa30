"""A core that locks up before its boot message: the build's failure, never that of the network that was to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from hil.boards.board import Board, load_board
from hil.calibration.calibrate import Request, SampleJobFactory
from hil.errors import InfrastructureError, NeverBooted
from hil.jobs.campaign import run_campaign
from hil.jobs.store import Store
from hil.measure.harness import Harness, Measured
from hil.measure.workers import HarnessFactory
from hil.targets.runners.base import Session
from hil.targets.runners.qemu import QEMU, QemuRunner
from tests.firmware import images
from tests.networks import small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]


class WithoutVectors:
    """Runs images whose initial stack pointer and reset vector are zero, as those of a damaged library were."""

    @contextmanager
    def open(self, image: Path, board: Board) -> Iterator[Session]:
        with image.open("rb") as file:
            first = min(
                (item for item in ELFFile(file).iter_segments() if item["p_type"] == "PT_LOAD" and item["p_filesz"]),
                key=lambda item: item["p_paddr"],
            )
            offset = int(first["p_offset"])
        with image.open("r+b") as file:
            file.seek(offset)
            file.write(bytes(8))
        with QemuRunner().open(image, board) as session:
            yield session


@dataclass(frozen=True)
class Broken(HarnessFactory):
    """Measures with such images."""

    def __call__(self) -> Callable[[bytes, str], Measured]:
        harness = Harness(self.board, self.options)
        harness._runner = WithoutVectors()
        return harness.measure


@pytest.fixture
def board() -> Board:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    return load_board("mps2-an386")


def test_it_is_infrastructure_s_failure(board: Board) -> None:
    with pytest.raises(NeverBooted, match="before its boot message") as caught:
        Broken(board)()(small_network(0), "net")
    assert isinstance(caught.value, InfrastructureError)
    assert caught.value.exit_status == 3


@pytest.mark.parametrize("samples", [1, 3])
def test_no_sample_of_a_campaign_is_stored_as_failed(board: Board, tmp_path: Path, samples: int) -> None:
    """Not even the last ones, which are tried again and again."""
    request = Request(board, Harness(board).identity, Broken(board), tmp_path, samples)
    factory = SampleJobFactory(request.measurer, request.seed, request.limits, request.identity)
    with Store(tmp_path / "store.sqlite") as store:
        run = store.run_id(request.run)
        with pytest.raises(NeverBooted, match="cache --clear"):
            run_campaign(store, run, range(samples), factory, workers=1)
        assert list(store.results(run)) == []
