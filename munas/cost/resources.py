"""What a network costs, for the search, which asks thousands of times: µNAS' proxies, bytes and time of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from munas.arch.footprint import peak_memory
from munas.arch.graph import Graph, Mode, Shape, build_graph
from munas.arch.space import AnyArchitecture
from munas.cost.calibration import Calibration, Linked, MemoryModel
from munas.cost.converted import as_converted
from munas.cost.estimate import arena_bytes, table_bytes, weights_bytes, works_of
from munas.cost.kernels import Work
from munas.cost.optimise import Optimise


@dataclass(frozen=True, slots=True)
class Resources:
    """Costs of a network.

    `macs`, `model_size` (kernel and bias elements) and `peak_memory` (bytes; -1 where it was not asked for) are µNAS'
    proxies, of the `Assessor`'s mode of the graph. All others are of the deployed graph: `ram` and
    `flash` are bytes as the runtime uses them, `flash_weights` the part of flash that is weights, biases,
    requantisation parameters and layer tables. Latency is in `unit`, with the interval that holds it; None, and an
    empty unit, without a calibration.
    """

    macs: int
    model_size: int
    peak_memory: int
    ram: int
    flash: int
    flash_weights: int
    latency: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a runtime makes of a graph: steps, and bytes of its arena and of its constants in flash."""

    works: Sequence[Work]
    arena: int
    constants: int


@dataclass(frozen=True, slots=True)
class Assessor:
    """Costs of architectures on one data set and board; pure, and can be pickled.

    `proxies` asks for `peak_memory`, which needs an order of its own. `mode` is the graph that µNAS' proxies are of:
    ``paper`` is its authors', for a search that bounds what they bound. `optimise` decides which kernels networks get.
    """

    memory: MemoryModel
    calibration: Calibration | None
    input_shape: Shape
    num_classes: int
    proxies: bool = False
    mode: Mode = "deployed"
    optimise: Optimise = Optimise.BALANCED

    def assess(self, architecture: AnyArchitecture, tflite: bytes = b"") -> Resources:
        """Costs of an architecture's network; `tflite` is its file, where that has been made.

        Raises ArchitectureError where the input has no such network.
        """
        graph = build_graph(architecture, self.input_shape, self.num_classes)
        counted = graph
        if self.mode == "paper":
            counted = build_graph(architecture, self.input_shape, self.num_classes, self.mode)
        deployed = self.deployed(as_converted(graph), tflite)
        linked = self.linked(deployed.works)
        prediction = None if self.calibration is None else self.calibration.latency.predict(deployed.works)
        return Resources(
            macs=counted.macs,
            model_size=counted.model_size,
            peak_memory=peak_memory(counted) if self.proxies else -1,
            ram=deployed.arena + linked.ram,
            flash=deployed.constants + linked.code,
            flash_weights=deployed.constants,
            latency=None if prediction is None else prediction.latency,
            latency_low=None if prediction is None else prediction.low,
            latency_high=None if prediction is None else prediction.high,
            unit="" if self.calibration is None else self.calibration.latency.unit,
        )

    def linked(self, works: Sequence[Work]) -> Linked:
        """What its image has besides constants and arena. Another runtime's assessor may ask the linker."""
        return Linked(self.memory.code(work.variant for work in works), self.memory.ram(0))

    def deployed(self, graph: Graph, tflite: bytes) -> Deployed:
        """What the runtime makes of a graph as the converter leaves it: in `tflite`, where that is not empty. Another
        runtime's assessor has its own."""
        works = works_of(graph, optimise=self.optimise)
        return Deployed(works, arena_bytes(graph, works), weights_bytes(works) + table_bytes(works))
