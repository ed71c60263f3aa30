"""The tables of a .tflite as plain data: tensors, operators, inputs and outputs, checked one by one.

What is checked here is what LiteRT looks at in any tensor or operator, used or not; what operators mean is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hil.errors import ModelError
from hil.model.network import OpKind
from hil.model.tflite import limits, schema
from hil.model.tflite.flatbuffer import Flatbuffer, Table, corrupt


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor as the file states it; `data` is None when it is computed. `type` is the schema's element type."""

    name: str
    shape: tuple[int, ...]
    type: int
    data: memoryview | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class RawOperator:
    """An operator of a supported kind; `options` is None when the file gives none."""

    index: int
    kind: OpKind
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None

    def refuse(self, reason: str) -> ModelError:
        """The error that this operator cannot be imported."""
        return ModelError(f"operator {self.index} ({self.kind}): {reason}")


@dataclass(frozen=True, slots=True)
class Container:
    """Everything of a file that matters."""

    tensors: tuple[RawTensor, ...]
    operators: tuple[RawOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    size_bytes: int  # of the whole file


def read_container(data: bytes) -> Container:
    """Read the tables of a .tflite. Raises ModelError for whatever is wrong with them."""
    if len(data) > limits.MAX_FILE_BYTES:
        raise ModelError(f"the file has {len(data)} bytes; at most {limits.MAX_FILE_BYTES} are supported")
    file = Flatbuffer(data)
    root = file.root(schema.IDENTIFIER)
    if root.uint32(0) != schema.VERSION:
        raise ModelError(f"schema version {root.uint32(0)} is not supported; supported: {schema.VERSION}")
    if root.has(8) or root.has(9):
        raise ModelError("weights outside the file are not supported; export the model into one file")
    subgraphs = root.tables(2, limits.MAX_OPERATORS, "subgraphs")
    if len(subgraphs) != 1:
        raise ModelError(f"the model has {len(subgraphs)} subgraphs; supported: exactly one, without control flow")
    buffers = [_buffer(table) for table in root.tables(4, 2 * limits.MAX_TENSORS, "buffers")]
    subgraph = subgraphs[0]
    tables = subgraph.tables(0, limits.MAX_TENSORS, "tensors")
    tensors = tuple(_tensor(table, index, buffers) for index, table in enumerate(tables))
    operators = _operators(root, subgraph)
    inputs, outputs = subgraph.int32s(1), subgraph.int32s(2)
    if max(len(inputs), len(outputs)) > limits.MAX_INTERFACE:
        raise ModelError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs; at most {limits.MAX_INTERFACE}"
        )
    for index in (*inputs, *outputs):
        if not 0 <= index < len(tensors):
            raise corrupt(f"tensor {index} does not exist")
    for operator in operators:
        _check_references(operator, len(tensors))
    return Container(tensors, operators, inputs, outputs, len(data))


def _buffer(table: Table) -> memoryview:
    if table.uint64(1) > 1 or table.uint64(2) > 1:
        raise ModelError("weights after the flatbuffer (models over 2 GB) are not supported")
    return table.raw(0)


def _tensor(table: Table, index: int, buffers: list[memoryview]) -> RawTensor:
    shape, element = table.int32s(0), table.int8(1)
    if len(shape) > limits.MAX_RANK + 1 or any(size < 0 for size in shape):
        raise ModelError(f"tensor {index} has shape {list(shape[:8])}; supported: at most {limits.MAX_RANK} dimensions")
    elements = math.prod(shape)
    if elements > limits.MAX_ACTIVATION_BYTES:
        raise ModelError(f"tensor {index} has {elements} elements; at most {limits.MAX_ACTIVATION_BYTES} are supported")
    if table.flag(5) or table.has(6) or table.has(9) or table.uint32(10):
        raise ModelError(f"tensor {index} is variable, sparse or outside the file, which is not supported")
    signature = table.int32s(7)
    if signature and len(signature) != len(shape):
        raise corrupt(f"tensor {index} has a signature of another shape")
    buffer = table.uint32(2)
    if buffer >= len(buffers):
        raise corrupt(f"buffer {buffer} does not exist")
    data = buffers[buffer] if len(buffers[buffer]) else None
    width = schema.ELEMENT_BYTES.get(element)
    if data is not None and width is not None and len(data) != elements * width:
        raise corrupt(f"tensor {index} needs {elements * width} bytes of data and has {len(data)}")
    scales, zero_points, axis = _quantization(table.table(4), index)
    return RawTensor(table.text(3, limits.MAX_NAME_CHARACTERS), shape, element, data, scales, zero_points, axis)


def _quantization(table: Table | None, index: int) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """(scales, zero points, axis) of a tensor; no scales when it is not quantised."""
    if table is None:
        return (), (), 0
    if table.uint8(4):
        raise ModelError(f"tensor {index} has a custom or block-wise quantisation; supported: per tensor, per channel")
    scales, zero_points = table.float32s(2), table.int64s(3)
    if len(zero_points) != len(scales):
        raise corrupt(f"tensor {index} has {len(scales)} scales and {len(zero_points)} zero points")
    return scales, zero_points, table.int32(6)


def _operators(root: Table, subgraph: Table) -> tuple[RawOperator, ...]:
    tables = root.tables(1, limits.MAX_OPERATORS, "operator codes")
    codes = [max(table.int8(0), table.int32(3)) for table in tables]  # old files only have the byte
    operators = []
    for index, table in enumerate(subgraph.tables(3, limits.MAX_OPERATORS, "operators")):
        code_index = table.uint32(0)
        if code_index >= len(codes):
            raise corrupt(f"operator code {code_index} does not exist")
        operators.append(_operator(table, index, codes[code_index]))
    if not operators:
        raise ModelError("the model has no operators")
    return tuple(operators)


def _operator(table: Table, index: int, code: int) -> RawOperator:
    kind = schema.KINDS.get(code)
    if kind is None:
        supported = ", ".join(sorted(schema.KINDS.values()))
        raise ModelError(f"operator {index} ({schema.operator_name(code)}) is not supported; supported: {supported}")
    member, options = table.uint8(3), table.table(4)
    operator = RawOperator(index, kind, table.int32s(1), table.int32s(2), options if member else None)
    if member not in (0, schema.OPERATORS[kind].options) or table.uint8(11):
        raise operator.refuse("its options belong to another operator")
    return operator


def _check_references(operator: RawOperator, tensors: int) -> None:
    if len(operator.inputs) > limits.MAX_INTERFACE:
        raise operator.refuse(f"it has {len(operator.inputs)} inputs; at most {limits.MAX_INTERFACE} are supported")
    for index in operator.inputs:
        if not -1 <= index < tensors:
            raise operator.refuse(f"tensor {index} does not exist")
    if len(operator.outputs) != 1 or not 0 <= operator.outputs[0] < tensors:
        raise operator.refuse("it needs exactly one output")
