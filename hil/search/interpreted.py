"""What a network costs in TFLM, for the search: its .tflite is written from the architecture, its arena replayed, and
the code of its operators is what the linker makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hil.errors import ModelError
from hil.runtimes.base import OperatorSet
from hil.runtimes.tflm.network import Network, make_network
from hil.runtimes.tflm.work import converted_work_of
from munas.arch.graph import Graph
from munas.cost.calibration import Linked
from munas.cost.interpreted import INTERPRETED
from munas.cost.kernels import Work
from munas.cost.resources import Assessor, Deployed
from munas.tflite.flatbuffer import write_tflite

CONVERTER_BYTES = 1024
"""By how much a file of TensorFlow's converter may be larger than ours of the same graph: names and metadata."""
CONVERTER_ARENA_BYTES = 256
"""The same for the arena: tensors that ours does not have (shapes)."""

LinkedSets = Callable[[OperatorSet], Linked | None]
"""What images of networks of these operators have besides the network (hil.measure.harness.Harness.linked)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpretedAssessor(Assessor):
    """Costs with TFLM; µNAS's proxies are the same. Takes milliseconds a network, and a second for each set of
    operators that was not there before."""

    sets: LinkedSets

    def linked(self, works: Sequence[Work]) -> Linked:
        """See `Assessor.linked`."""
        found = self.sets(OperatorSet(frozenset(INTERPRETED[work.variant][0] for work in works)))
        assert found is not None  # TFLM's images are linked by set
        return found

    def deployed(self, graph: Graph, tflite: bytes) -> Deployed:
        """See `Assessor.deployed`. Of the network's own file everything is known to the byte."""
        if (own := _own(tflite)) is not None:
            return Deployed([step.work for step in own.steps], own.arena_bytes, own.weights_bytes)
        network = _network(write_tflite(graph, 0))
        works = [work for op in network.model.ops if (work := converted_work_of(op, network.model)) is not None]
        return Deployed(works, network.arena_bytes + CONVERTER_ARENA_BYTES, network.weights_bytes + CONVERTER_BYTES)


def _own(tflite: bytes) -> Network | None:
    """What a converter made of a network; None where there is no file, or one of which not everything is known."""
    try:
        found = make_network(tflite, "candidate") if tflite else None
    except ModelError:  # whoever measures it says why
        return None
    return found if found is not None and found.is_arena_known else None


def _network(data: bytes) -> Network:
    try:
        return make_network(data, "candidate")
    except ModelError as error:
        raise AssertionError("every network of the space can be imported") from error
