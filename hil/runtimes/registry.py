"""All runtimes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hil.boards.board import Board, Via
from hil.boards.sizes import KIB
from hil.runtimes.base import Runtime
from hil.runtimes.cmsis_nn import CmsisNn
from hil.runtimes.tflm.runtime import Tflm

RUNTIMES: Mapping[str, Callable[[Board, Via], Runtime]] = {"cmsis-nn": CmsisNn, "tflm": Tflm}
DEFAULT_RUNTIME = "cmsis-nn"
USUAL_BUDGETS: Mapping[str, tuple[int, int]] = {"tflm": (256 * KIB, 128 * KIB)}
"""Flash and SRAM where none are given and the board's own are not enough: TFLM's code alone is up to 100 KB."""
