"""What a search believes of a network with TFLM: from its architecture with a margin, from its own file to the byte."""

from __future__ import annotations

from hil.runtimes.base import OperatorSet
from hil.runtimes.tflm.network import make_network
from hil.search.interpreted import CONVERTER_ARENA_BYTES, CONVERTER_BYTES, InterpretedAssessor
from munas.arch.graph import build_graph
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType
from munas.cost.calibration import Linked, MemoryModel
from munas.cost.converted import as_converted
from munas.tflite.flatbuffer import write_tflite

SHAPE, CLASSES = (8, 8, 1), 10
ARCHITECTURE = Architecture((Block((Layer(LayerType.CONV, 3, 4, 1, relu=True),)),), None, (DenseLayer(12),))
asked: list[OperatorSet] = []


def linked(wanted: OperatorSet) -> Linked:
    asked.append(wanted)
    return Linked(50_000, 4000)


ASSESSOR = InterpretedAssessor(
    MemoryModel(60_000, (), static_ram=5120, stack_reserved=0, stack_used=0), None, SHAPE, CLASSES, sets=linked
)
FILE = write_tflite(as_converted(build_graph(ARCHITECTURE, SHAPE, CLASSES)), 1)


def test_of_a_file_memory_is_known_to_the_byte() -> None:
    network = make_network(FILE, "net")
    found = ASSESSOR.assess(ARCHITECTURE, FILE)
    assert (found.ram, found.flash, found.flash_weights) == (
        network.arena_bytes + 4000, len(FILE) + 50_000, len(FILE)
    )  # fmt: skip
    assert asked[-1] == OperatorSet(frozenset(network.operators))


def test_of_an_architecture_it_is_never_less() -> None:
    exact, found = ASSESSOR.assess(ARCHITECTURE, FILE), ASSESSOR.assess(ARCHITECTURE)
    assert (found.ram - exact.ram, found.flash - exact.flash) == (CONVERTER_ARENA_BYTES, CONVERTER_BYTES)


def test_a_file_that_cannot_be_read_changes_nothing() -> None:
    assert ASSESSOR.assess(ARCHITECTURE, b"no model") == ASSESSOR.assess(ARCHITECTURE)
