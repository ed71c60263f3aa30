"""munas-hil: the loop from a .tflite to figures measured on a (possibly emulated) Cortex-M, and back.

`__all__` is what programs may rely on; everything else may change between versions. Names are loaded when they are
first used, so that `import hil` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.version import VERSION as __version__
from munas.lazy import exports

if TYPE_CHECKING:
    from hil.api.calibration import CalibrationRun, calibrate, estimate, load_calibration
    from hil.api.harness import Harness, generate
    from hil.boards.board import Board, board_names, load_board
    from hil.calibration.estimates import ModelEstimate
    from hil.calibration.result import CalibrationResult
    from hil.errors import (
        BoardError,
        BudgetError,
        BuildError,
        CalibrationMismatch,
        CheckFailed,
        DeviceAmbiguous,
        DeviceMissing,
        HilError,
        InfrastructureError,
        LinkError,
        ModelError,
        RunnerError,
        StoreError,
        TargetFaultError,
        ToolMissing,
        UsageError,
    )
    from hil.measure.measurement import Build, Identity, Latency, LayerTime, Measurement, Memory, Outputs

_HOMES = {
    "hil.api.calibration": ("CalibrationRun", "calibrate", "estimate", "load_calibration"),
    "hil.api.harness": ("Harness", "generate"),
    "hil.boards.board": ("Board", "board_names", "load_board"),
    "hil.calibration.estimates": ("ModelEstimate",),
    "hil.calibration.result": ("CalibrationResult",),
    "hil.errors": (
        "BoardError", "BudgetError", "BuildError", "CalibrationMismatch", "CheckFailed", "DeviceAmbiguous",
        "DeviceMissing", "HilError", "InfrastructureError", "LinkError", "ModelError", "RunnerError", "StoreError",
        "TargetFaultError", "ToolMissing", "UsageError",
    ),
    "hil.measure.measurement": ("Build", "Identity", "Latency", "LayerTime", "Measurement", "Memory", "Outputs"),
}  # fmt: skip

__all__ = [
    "Board",
    "BoardError",
    "BudgetError",
    "Build",
    "BuildError",
    "CalibrationMismatch",
    "CalibrationResult",
    "CalibrationRun",
    "CheckFailed",
    "DeviceAmbiguous",
    "DeviceMissing",
    "Harness",
    "HilError",
    "Identity",
    "InfrastructureError",
    "Latency",
    "LayerTime",
    "LinkError",
    "Measurement",
    "Memory",
    "ModelError",
    "ModelEstimate",
    "Outputs",
    "RunnerError",
    "StoreError",
    "TargetFaultError",
    "ToolMissing",
    "UsageError",
    "__version__",
    "board_names",
    "calibrate",
    "estimate",
    "generate",
    "load_board",
    "load_calibration",
]

__getattr__, __dir__ = exports(__name__, _HOMES)
