"""All runtimes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hil.boards.board import Board, Via
from hil.runtimes.base import Runtime
from hil.runtimes.cmsis_nn import CmsisNn
from hil.runtimes.tflm.runtime import Tflm

RUNTIMES: Mapping[str, Callable[[Board, Via], Runtime]] = {"cmsis-nn": CmsisNn, "tflm": Tflm}
DEFAULT_RUNTIME = "cmsis-nn"
