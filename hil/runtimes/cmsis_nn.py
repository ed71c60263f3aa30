"""The runtime `cmsis-nn`: a static call graph into CMSIS-NN kernels and ours, planned on the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hil.boards.board import Board, Via
from hil.build.sources import CMSIS_NN_VERSION, Project, find_cmsis, library
from hil.codegen.plan import Plan, make_plan
from hil.codegen.project import render
from hil.codegen.render import Options
from hil.model.load import parse_model
from hil.runtimes.base import Deployment, OperatorSet
from munas.cost.kernels import KernelVariant
from munas.cost.variants import SPECS


class CmsisNn:
    """A static call graph into CMSIS-NN kernels and ours, planned on the host."""

    name = "cmsis-nn"
    kernels = f"CMSIS-NN {CMSIS_NN_VERSION}"
    kernel_symbols: Mapping[KernelVariant, str] = {variant: spec.function for variant, spec in SPECS.items()}
    kernel_entry_bytes = 0  # tables are the network's

    def __init__(self, board: Board, via: Via) -> None:
        self._board, self._via = board, via
        self._cmsis = find_cmsis()
        self.library = library(board, board.target(via), self._cmsis)

    def deploy(self, data: bytes, name: str, *, keep_constant_channels: bool = False) -> Plan:
        """See `Runtime.deploy`."""
        optimise = self._board.optimise
        return make_plan(parse_model(data, name), keep_constant_channels=keep_constant_channels, optimise=optimise)

    def render(self, deployment: Deployment, folder: Path, options: Options) -> Project:
        """See `Runtime.render`."""
        assert isinstance(deployment, Plan)
        return render(deployment, self._board, self._via, self._cmsis, folder, options)

    def operator_set(self, deployment: Deployment) -> None:
        """See `Runtime.operator_set`: which kernels a network calls is in its own tables."""

    def render_set(self, wanted: OperatorSet, folder: Path, options: Options) -> None:
        """See `Runtime.render_set`."""

    def reference(self, deployment: Deployment) -> None:
        """See `Runtime.reference`: all kernels are bit-equal to LiteRT's."""
