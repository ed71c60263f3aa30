"""What to search for: all that the user typed, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.boards.board import Board
from hil.measure.measurement import Identity
from hil.search.bounds import Limits
from hil.search.recalibrate import NOTHING, Base
from hil.search.training import TrainingSetup
from munas.cost.calibration import Calibration, KernelCode
from munas.cost.calibration_file import write_calibration
from munas.cost.resources import Assessor
from munas.data import Dataset
from munas.jobs.base import JobBackend
from munas.jobs.local import LOCAL
from munas.search.study import SearchSettings

STORE_FILE = "search.sqlite"  # in the run folder
UNLIMITED = 1_000_000  # trials, where minutes end the search


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Up to `front` networks, trained again with `seeds` seeds each at `effort`."""

    front: int = 5
    seeds: int = 3
    effort: float = 1.0
    recalibrate: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A search that can be run.

    `settings.seconds` is the search phase's part of `seconds`, which is for everything (None: no limit), `setup_s`
    included, that it took to get here. `base` is what `--recalibrate` adds to. `command` reproduces the run.
    """

    board: Board
    calibration: Calibration | None
    dataset: Dataset
    limits: Limits
    assessor: Assessor
    settings: SearchSettings
    training: TrainingSetup
    export: ExportOptions
    folder: Path
    seconds: float | None = None
    setup_s: float = 0.0
    expected_trials: int | None = None
    preset: str | None = None
    base: Base = NOTHING
    code: KernelCode | None = None
    command: str = ""
    backend: JobBackend = LOCAL

    def identity(self, board_identity: Identity) -> dict[str, Any]:
        """What makes this search this one, besides its settings: another one's store is refused."""
        found = None if self.calibration is None else write_calibration(self.calibration)
        return {
            "board": asdict(board_identity), "calibration": found, "dataset_sha256": self.dataset.sha256,
            "training": dict(self.training.identity), "mode": self.assessor.mode,
        }  # fmt: skip
