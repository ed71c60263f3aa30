"""Networks of float32, which only an interpreter runs: whether a file is one, and what the host has to know of it.

Nothing in here looks at what operators mean: LiteRT and TFLM do, each for itself, and their answers are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hil.errors import ModelError
from hil.model.network import DType, Edge, Edges, Model, Tensor
from hil.model.tflite import schema
from hil.model.tflite.container import Container
from hil.model.tflite.refusals import unsupported

_QUANTISED = (schema.INT8, schema.UINT8, schema.INT16)
_CUSTOM = "custom operator"


def is_float(container: Container) -> bool:
    """Whether inputs and outputs are float32, and nothing between them is quantised."""
    ports = (*container.inputs, *container.outputs)
    made = [container.tensors[index] for operator in container.operators for index in operator.outputs]
    return (
        bool(ports)
        and all(container.tensors[index].type == schema.FLOAT32 for index in ports)
        and not any(tensor.type in _QUANTISED for tensor in made)
    )


def float_model(container: Container, data: bytes, name: str) -> Model:
    """The file as the host sees it: inputs and outputs, without operators. Raises ModelError."""
    for operator in container.operators:
        if operator.name.startswith(_CUSTOM):
            raise unsupported(operator)
    if container.others or any(tensor.is_variable for tensor in container.tensors):
        raise ModelError("the model is float32, and has states or control flow: these are supported in int8 only")
    if not container.inputs or len(set(container.inputs)) != len(container.inputs):
        raise ModelError("the model has no inputs, or one of them twice")
    made = {index for operator in container.operators for index in operator.outputs}
    for side, ports in (("input", container.inputs), ("output", container.outputs)):
        _check(container, side, ports, made)
    numbers = {index: number for number, index in enumerate(dict.fromkeys((*container.inputs, *container.outputs)))}
    tensors = tuple(
        Tensor(number, container.tensors[index].shape, DType.FLOAT32, None, None, container.tensors[index].name)
        for index, number in numbers.items()
    )
    inputs, outputs = (tuple(numbers[index] for index in ports) for ports in (container.inputs, container.outputs))
    edges = (
        tuple(Edge(DType.FLOAT32, None, index, index) for index in ports)
        for ports in (container.inputs, container.outputs)
    )
    return Model(name, hashlib.sha256(data).hexdigest(), tensors, (), inputs, outputs, Edges(*edges))


def _check(container: Container, side: str, ports: Sequence[int], made: set[int]) -> None:
    for position, index in enumerate(ports):
        tensor = container.tensors[index]
        what = f"{side} {position} of the model"
        if tensor.objection:
            raise ModelError(f"{what} {tensor.objection}")
        if min(tensor.shape, default=1) < 1:
            raise ModelError(f"{what} has shape {list(tensor.shape)}; supported: dimensions of 1 or more")
        if tensor.data is not None or (index in made) != (side == "output"):
            raise ModelError(
                f"{what} is {'computed by no' if side == 'output' else 'a constant or computed by an'} operator"
            )
