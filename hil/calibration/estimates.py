"""`munas-hil estimate`: what a .tflite will need, from a calibration, without building or running anything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from hil.boards.board import Board
from hil.errors import ModelError
from hil.measure.harness import Harness
from munas.cost.calibration import Calibration
from munas.cost.estimate import Estimate, estimate_works
from munas.cost.optimise import GivenUp


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """The estimate of one file; the interval holds for a part `level` of networks.

    `fits` says whether it fits the board's budget, `given_up` which faster kernels gave way for the size of the code.
    """

    model: str
    sha256: str
    board: str
    unit: str
    level: float
    estimate: Estimate
    fits: bool
    given_up: tuple[GivenUp, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One entry of ``estimate --json``."""
        found = self.estimate
        latency = found.latency
        return {
            "model": self.model, "sha256": self.sha256, "board": self.board,
            "latency": {
                "unit": self.unit, "value": latency.latency, "low": latency.low, "high": latency.high,
                "level": self.level,
            },
            "macs": found.macs,
            "memory": {
                "arena": found.arena, "ram_total": found.ram_total, "flash_weights": found.flash_weights,
                "flash_code": found.flash_code, "flash_total": found.flash_total,
            },
            "fits": self.fits,
            "given_up": [item.to_json() for item in self.given_up],
        }  # fmt: skip


def estimate_model(data: bytes, name: str, board: Board, calibration: Calibration, harness: Harness) -> ModelEstimate:
    """The estimate of the .tflite `data`, called `name`, for what `harness` would build. Raises ModelError."""
    plan = harness.deploy(data, name)
    works = [step.work for step in plan.steps]
    found = estimate_works(
        works, calibration, arena=plan.arena_bytes, weights=plan.weights_bytes, tables=plan.table_bytes,
        linked=harness.linked_for(plan),
    )  # fmt: skip
    if found.uncalibrated:
        missing = ", ".join(sorted(found.uncalibrated))
        raise ModelError(
            f"{name} uses kernels that this calibration has never seen ({missing}); "
            "no figure can be defended for it: measure it instead"
        )
    fits = found.fits(board.budget.flash, board.budget.sram)
    digest = hashlib.sha256(data).hexdigest()
    latency = calibration.latency
    return ModelEstimate(name, digest, board.name, latency.unit, latency.level, found, fits, tuple(plan.given_up))
