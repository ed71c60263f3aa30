"""µNAS: search space, operator graph, memory and cost estimators, data sets, training and the search itself.

Never imports `hil`, and can be used alone. `__all__` is what programs may rely on; names are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from munas.lazy import exports

if TYPE_CHECKING:
    from munas.arch.footprint import describe, peak_memory
    from munas.arch.graph import Graph, Operator, build_graph
    from munas.arch.space import (
        Architecture,
        ArchitectureError,
        MlpArchitecture,
        parse_architecture,
        random_cnn,
        random_mlp,
        to_dict,
    )
    from munas.cost.calibration import Calibration
    from munas.cost.calibration_file import CalibrationError, load_calibration
    from munas.cost.estimate import Estimate, arena_bytes, estimate
    from munas.data.catalogue import load_dataset
    from munas.data.dataset import Dataset
    from munas.errors import DatasetError
    from munas.tflite.flatbuffer import write_tflite

_HOMES = {
    "munas.arch.footprint": ("describe", "peak_memory"),
    "munas.arch.graph": ("Graph", "Operator", "build_graph"),
    "munas.arch.space": (
        "Architecture", "ArchitectureError", "MlpArchitecture", "parse_architecture", "random_cnn", "random_mlp",
        "to_dict",
    ),
    "munas.cost.calibration": ("Calibration",),
    "munas.cost.calibration_file": ("CalibrationError", "load_calibration"),
    "munas.cost.estimate": ("Estimate", "arena_bytes", "estimate"),
    "munas.data.catalogue": ("load_dataset",),
    "munas.data.dataset": ("Dataset",),
    "munas.errors": ("DatasetError",),
    "munas.tflite.flatbuffer": ("write_tflite",),
}  # fmt: skip

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Calibration",
    "CalibrationError",
    "Dataset",
    "DatasetError",
    "Estimate",
    "Graph",
    "MlpArchitecture",
    "Operator",
    "arena_bytes",
    "build_graph",
    "describe",
    "estimate",
    "load_calibration",
    "load_dataset",
    "parse_architecture",
    "peak_memory",
    "random_cnn",
    "random_mlp",
    "to_dict",
    "write_tflite",
]

__getattr__, __dir__ = exports(__name__, _HOMES)
