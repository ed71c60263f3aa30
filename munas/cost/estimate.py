"""What a network will need on the device, before anything is built: time, arena, flash, RAM, MACs.

Estimates of a µNAS graph and of a planned .tflite are the same figure for the same network: both go through the list of
`munas.cost.kernels.Work` that the device will execute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from munas.arch.footprint import problem_of
from munas.arch.graph import Graph
from munas.cost.calibration import Calibration, Linked, Prediction
from munas.cost.kernels import KernelVariant, Work
from munas.cost.operators import work_of
from munas.cost.optimise import Optimise, specialised
from munas.cost.variants import constant_bytes, layer_bytes
from munas.memory.layout import plan_memory

ARENA_ALIGNMENT = 4  # bytes; tensors and scratch start at a word


@dataclass(frozen=True, slots=True)
class Estimate:
    """Everything in bytes but `macs` and `latency`.

    `flash_weights` holds all that a network consists of, layer tables too; `flash_code` is all other flash.
    """

    macs: int
    latency: Prediction
    arena: int
    ram_total: int
    flash_weights: int
    flash_code: int
    uncalibrated: tuple[KernelVariant, ...] = ()

    @property
    def flash_total(self) -> int:
        """All flash."""
        return self.flash_weights + self.flash_code

    def fits(self, flash: int, sram: int) -> bool:
        """Whether the network fits a budget in bytes. Nothing is promised for one with uncalibrated kernels."""
        return self.flash_total <= flash and self.ram_total <= sram and not self.uncalibrated


def works_of(
    graph: Graph, *, dense_per_channel: bool = True, optimise: Optimise = Optimise.BALANCED
) -> tuple[Work, ...]:
    """Work of every step that the device executes for a deployed graph."""
    return specialised([_deployed(work_of(operator), dense_per_channel) for operator in graph.operators], optimise)


def _deployed(work: Work, dense_per_channel: bool) -> Work:
    # One output has one scale, which is what a layer quantised per tensor has.
    if work.variant is KernelVariant.FC_PER_CHANNEL and (not dense_per_channel or work.rows == 1):
        return replace(work, variant=KernelVariant.FC)
    return work


def arena_bytes(graph: Graph, works: Sequence[Work] | None = None) -> int:
    """Bytes of activation memory on the device: input counted, kernel scratch included, best order, in-place Add.

    `works` saves time when the caller has the graph's works already.
    """
    works = works_of(graph) if works is None else works
    scratch = {id(operator): work.scratch_bytes for operator, work in zip(graph.operators, works, strict=True)}
    problem = problem_of(graph, count_input=True, align=ARENA_ALIGNMENT, scratch=lambda operator: scratch[id(operator)])
    return plan_memory(problem)[1].arena


def weights_bytes(works: Sequence[Work]) -> int:
    """Flash of kernels, biases and requantisation parameters as they are deployed."""
    return sum(constant_bytes(work.variant, work.columns * work.rows, work.rows) for work in works)


def table_bytes(works: Sequence[Work]) -> int:
    """Flash of the tables that describe the steps."""
    return sum(layer_bytes(work.variant) for work in works)


def estimate(
    graph: Graph, calibration: Calibration, *, dense_per_channel: bool = True, optimise: Optimise = Optimise.BALANCED
) -> Estimate:
    """Estimate of a deployed graph's network."""
    works = works_of(graph, dense_per_channel=dense_per_channel, optimise=optimise)
    return estimate_works(
        works, calibration, arena=arena_bytes(graph, works), weights=weights_bytes(works), tables=table_bytes(works)
    )


def estimate_works(
    works: Sequence[Work],
    calibration: Calibration,
    *,
    arena: int,
    weights: int,
    tables: int,
    linked: Linked | None = None,
) -> Estimate:
    """Estimate of a network that executes `works`; `arena`, `weights` and `tables` are bytes as planned.

    `linked` is what the linker says of its image, where it was asked; None: what the calibration predicts.
    """
    memory, paths = calibration.memory, [work.variant for work in works]
    latency = calibration.latency.predict(works)
    return Estimate(
        macs=sum(work.macs for work in works),
        latency=latency,
        arena=arena,
        ram_total=memory.ram(arena, paths) if linked is None else arena + linked.ram,
        flash_weights=weights + tables,
        flash_code=memory.code(paths) if linked is None else linked.code,
        uncalibrated=tuple(dict.fromkeys((*latency.uncalibrated, *(memory.unknown(paths) if linked is None else ())))),
    )
