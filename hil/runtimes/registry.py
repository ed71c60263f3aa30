"""All runtimes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hil.boards.board import Board, Via
from hil.runtimes.base import Runtime
from hil.runtimes.cmsis_nn import CmsisNn
from hil.runtimes.tflm.runtime import Tflm

RUNTIMES: Mapping[str, Callable[[Board, Via], Runtime]] = {"cmsis-nn": CmsisNn, "tflm": Tflm}
DEFAULT_RUNTIME = "cmsis-nn"
USUAL_BUDGETS: Mapping[str, tuple[str | None, str | None]] = {"tflm": ("256K", "128K")}
"""Flash and SRAM where none are given and the board's own are not enough: TFLM's code alone is up to 90 KB."""


def usual_budget(runtime: str) -> tuple[str | None, str | None]:
    """Flash and SRAM of a calibration or search with the runtime where none are given; None: the board's own."""
    return USUAL_BUDGETS.get(runtime, (None, None))
