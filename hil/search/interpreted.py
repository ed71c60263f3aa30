"""What a network costs in TFLM, for the search: its .tflite is written from the architecture, its arena replayed."""

from __future__ import annotations

from hil.errors import ModelError
from hil.runtimes.tflm.network import Network, make_network
from hil.runtimes.tflm.work import converted_work_of
from munas.arch.graph import Graph
from munas.cost.resources import Assessor, Deployed
from munas.tflite.flatbuffer import write_tflite

CONVERTER_BYTES = 1024
"""By how much a file of TensorFlow's converter may be larger than ours of the same graph: names and metadata."""
CONVERTER_ARENA_BYTES = 256
"""The same for the arena: tensors that ours does not have (shapes)."""


class InterpretedAssessor(Assessor):
    """Costs with TFLM; µNAS's proxies are the same. Takes milliseconds a network."""

    __slots__ = ()

    def deployed(self, graph: Graph) -> Deployed:
        """See `Assessor.deployed`."""
        network = _network(write_tflite(graph, 0))
        works = [work for op in network.model.ops if (work := converted_work_of(op, network.model)) is not None]
        return Deployed(works, network.arena_bytes + CONVERTER_ARENA_BYTES, network.weights_bytes + CONVERTER_BYTES)


def _network(data: bytes) -> Network:
    try:
        return make_network(data, "candidate")
    except ModelError as error:
        raise AssertionError("every network of the space can be imported") from error
