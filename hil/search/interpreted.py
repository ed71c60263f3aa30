"""What a network costs in TFLM, for the search: its .tflite is written from the architecture, its arena replayed."""

from __future__ import annotations

from dataclasses import replace

from hil.errors import ModelError
from hil.runtimes.tflm.network import Network, make_network
from hil.runtimes.tflm.work import converted_work_of
from munas.arch.graph import build_graph
from munas.arch.space import AnyArchitecture
from munas.cost.converted import as_converted
from munas.cost.resources import Assessor, Resources
from munas.tflite.flatbuffer import write_tflite

CONVERTER_BYTES = 1024
"""By how much a file of TensorFlow's converter may be larger than ours of the same graph: names and metadata."""
CONVERTER_ARENA_BYTES = 256
"""The same for the arena: tensors that ours does not have (shapes)."""


class InterpretedAssessor(Assessor):
    """Costs with TFLM; µNAS's proxies are the same. Takes milliseconds a network."""

    __slots__ = ()

    def assess(self, architecture: AnyArchitecture) -> Resources:
        """See `Assessor.assess`."""
        proxies = replace(self, calibration=None).proxies_of(architecture)
        graph = as_converted(build_graph(architecture, self.input_shape, self.num_classes))
        network = _network(write_tflite(graph, 0))
        works = [work for op in network.model.ops if (work := converted_work_of(op, network.model)) is not None]
        prediction = None if self.calibration is None else self.calibration.latency.predict(works)
        weights = network.weights_bytes + CONVERTER_BYTES
        return replace(
            proxies,
            ram=self.memory.ram(network.arena_bytes + CONVERTER_ARENA_BYTES),
            flash=weights + self.memory.code(work.variant for work in works),
            flash_weights=weights,
            latency=None if prediction is None else prediction.latency,
            latency_low=None if prediction is None else prediction.low,
            latency_high=None if prediction is None else prediction.high,
            unit="" if self.calibration is None else self.calibration.latency.unit,
        )

    def proxies_of(self, architecture: AnyArchitecture) -> Resources:
        """What does not depend on the runtime."""
        return Assessor.assess(self, architecture)


def _network(data: bytes) -> Network:
    try:
        return make_network(data, "candidate")
    except ModelError as error:
        raise AssertionError("every network of the space can be imported") from error
