"""Models whose graph is damaged where it means something: indices of operators and tensors, shapes, types, options.

Bytes that are flipped (tests/faults/test_hostile_tflite.py) rarely leave a file that can be read. Here all can;
what imports and plans them ends with a plan or a ModelError. More: ``MUNAS_HIL_FUZZ=20000 pytest tests/faults/...``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest

from hil.codegen.plan import make_plan
from hil.errors import ModelError
from hil.model.load import parse_model
from munas.tflite.file import Element
from tests.firmware import random_networks
from tests.streaming import streaming_network
from tests.tflite_samples import every_operator, whole_numbers

MUTATIONS = int(os.environ.get("MUNAS_HIL_FUZZ", "600"))
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 255, 256, 65535, 65536, -1)


def unpacked(data: bytes) -> Any:
    """The file as objects of the schema."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data, 0)


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def damage(model: Any, rng: random.Random) -> str:
    """Change one thing in place; what it was."""
    graph = rng.choice(model.subgraphs)
    ways = (_operand, _order, _code, _shape, _type, _scale, _option, _data, _interface, _flag)
    way = rng.choice(ways)
    try:
        way(model, graph, rng)
    except (IndexError, TypeError, ValueError, AttributeError):  # it has no such thing
        return ""
    return way.__name__


def _operand(model: Any, graph: Any, rng: random.Random) -> None:
    operator = rng.choice(graph.operators)
    side = "inputs" if rng.random() < 0.6 else "outputs"
    indices = [int(index) for index in getattr(operator, side)]
    choice = rng.random()
    if choice < 0.6:
        indices[rng.randrange(len(indices))] = rng.randrange(-1, len(graph.tensors))
    elif choice < 0.8:
        indices.append(rng.randrange(len(graph.tensors)))
    else:
        indices.pop(rng.randrange(len(indices)))
    setattr(operator, side, indices)


def _order(model: Any, graph: Any, rng: random.Random) -> None:
    operators = graph.operators
    first, second = rng.randrange(len(operators)), rng.randrange(len(operators))
    if rng.random() < 0.5:
        operators[first], operators[second] = operators[second], operators[first]
    elif rng.random() < 0.5:
        del operators[first]
    else:
        operators.insert(second, operators[first])


def _code(model: Any, graph: Any, rng: random.Random) -> None:
    rng.choice(graph.operators).opcodeIndex = rng.randrange(len(model.operatorCodes))


def _shape(model: Any, graph: Any, rng: random.Random) -> None:
    tensor = rng.choice(graph.tensors)
    shape = [int(size) for size in tensor.shape]
    choice = rng.random()
    if choice < 0.6:
        shape[rng.randrange(len(shape))] = rng.choice(SIZES)
    elif choice < 0.8:
        shape.insert(rng.randrange(len(shape) + 1), 1)
    else:
        rng.shuffle(shape)
    tensor.shape = shape


def _type(model: Any, graph: Any, rng: random.Random) -> None:
    rng.choice(graph.tensors).type = rng.choice((0, 2, 3, 4, 7, 9, 17))


def _scale(model: Any, graph: Any, rng: random.Random) -> None:
    quantisation = rng.choice(graph.tensors).quantization
    if rng.random() < 0.5:
        quantisation.scale = [rng.choice((0.0, 1e-45, 1e-6, 0.01, 1.0, 1e6, 3e38))] * len(quantisation.scale)
    else:
        quantisation.zeroPoint = [rng.choice((-129, -128, -1, 0, 1, 127, 128))] * len(quantisation.zeroPoint)


def _option(model: Any, graph: Any, rng: random.Random) -> None:
    options = rng.choice(graph.operators).builtinOptions
    names = [name for name, value in vars(options).items() if isinstance(value, int | float)]
    name = rng.choice(names)
    value = getattr(options, name)
    if isinstance(value, bool):
        setattr(options, name, not value)
    elif isinstance(value, float):
        setattr(options, name, rng.choice((0.0, -1.0, 1e-9, 2.0, 1e9)))
    else:
        setattr(options, name, rng.choice((0, 1, 2, 3, 4, 5, 100)))


def _data(model: Any, graph: Any, rng: random.Random) -> None:
    """Constants that are shapes, axes and the like: int32, a few of them."""
    few = [tensor for tensor in graph.tensors if tensor.type == 2 and int(np.prod(tensor.shape)) <= 16]
    buffer = model.buffers[rng.choice(few).buffer]
    values = np.frombuffer(bytes(bytearray(buffer.data)), "<i4").copy()
    values[rng.randrange(len(values))] = rng.choice((*SIZES, -2, -3, 2**31 - 1, -(2**31)))
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)


def _interface(model: Any, graph: Any, rng: random.Random) -> None:
    side = rng.choice(("inputs", "outputs"))
    indices = [int(index) for index in getattr(graph, side)]
    if rng.random() < 0.5:
        indices[rng.randrange(len(indices))] = rng.randrange(len(graph.tensors))
    else:
        indices.append(rng.randrange(len(graph.tensors)))
    setattr(graph, side, indices)


def _flag(model: Any, graph: Any, rng: random.Random) -> None:
    tensor = rng.choice(graph.tensors)
    tensor.isVariable = not tensor.isVariable


ORIGINALS = {
    "every": every_operator,
    "float32 edges": lambda: every_operator(Element.FLOAT32),
    "uint8 edges": lambda: every_operator(Element.UINT8),
    "whole numbers": whole_numbers,
    "streaming": streaming_network,
    **{
        kind.__name__: lambda kind=kind: random_networks.network(kind, 5)  # type: ignore[misc]
        for kind in random_networks.KINDS
    },
}


def is_planned(data: bytes) -> bool:
    """Whether the file is imported and planned. Anything but a plan or a ModelError fails the test."""
    try:
        plan = make_plan(parse_model(data, "damaged"))
    except ModelError:
        return False
    assert plan.arena_bytes > 0
    return True


@pytest.mark.slow
def test_damaged_graphs_are_planned_or_refused() -> None:
    rng = random.Random(11)
    originals = {name: build() for name, build in ORIGINALS.items()}
    verdicts = []
    for _ in range(MUTATIONS):
        name = rng.choice(list(originals))
        model = unpacked(originals[name])
        done = [damage(model, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        data = packed(model)
        try:
            verdicts.append(is_planned(data))
        except Exception as error:
            error.add_note(f"{name} after {done}")
            raise
    assert 0 < sum(verdicts) < len(verdicts)  # both kinds were met, or the damage is no good


def _nothing(indices: list[int]) -> list[int]:
    return []


def _absent(indices: list[int]) -> list[int]:
    return [-1] * len(indices)


def _one_more(indices: list[int]) -> list[int]:
    return [*indices, *indices[-1:]]


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("change", [_nothing, _absent, _one_more])
def test_each_operator_with_other_operands(change: Callable[[list[int]], list[int]], side: str) -> None:
    for name, build in ORIGINALS.items():
        data = build()
        for at in range(len(unpacked(data).subgraphs[0].operators)):
            model = unpacked(data)
            operator = model.subgraphs[0].operators[at]
            setattr(operator, side, change([int(index) for index in getattr(operator, side)]))
            try:
                is_planned(packed(model))
            except Exception as error:
                error.add_note(f"{name}, operator {at}")
                raise


@pytest.mark.slow
@pytest.mark.parametrize("shape", [[], [1], [1, 1, 1, 1, 1]], ids=str)
def test_each_operator_on_elements_alone(shape: list[int]) -> None:
    """All that an operator reads and makes, longer constants apart, has the shape of one element."""
    for name, build in ORIGINALS.items():
        data = build()
        for at in range(len(unpacked(data).subgraphs[0].operators)):
            model = unpacked(data)
            graph = model.subgraphs[0]
            for index in (*graph.operators[at].inputs, *graph.operators[at].outputs):
                held = model.buffers[graph.tensors[index].buffer].data
                if index >= 0 and (held is None or len(held) <= 1):
                    graph.tensors[index].shape = shape
            try:
                is_planned(packed(model))
            except Exception as error:
                error.add_note(f"{name}, operator {at}")
                raise


@pytest.mark.parametrize("name", ["every", "streaming", "lstm", "conv"])
def test_packing_changes_nothing(name: str) -> None:
    data = ORIGINALS[name]()
    again = parse_model(packed(unpacked(data)), "m")
    model = parse_model(data, "m")
    assert (again.ops, again.states) == (model.ops, model.states)
