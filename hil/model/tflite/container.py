"""The tables of a .tflite as plain data: tensors, operators, inputs and outputs, checked one by one.

What is checked here is what LiteRT looks at in any tensor or operator, used or not; what operators mean is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hil.errors import ModelError
from hil.model.network import OpKind
from hil.model.tflite import limits, schema
from hil.model.tflite.flatbuffer import Flatbuffer, Table, corrupt


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor as the file states it; `data` is None when it is computed. `type` is the schema's element type.

    `objection` says why nothing that uses the tensor can be imported (sparse, ...); empty when it is plain. A variable
    lives from one inference to the next. `is_open` means that the converter knew some dimensions only at run time, and
    wrote 1 for them.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    data: memoryview | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    objection: str = ""
    is_variable: bool = False
    is_open: bool = False

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class RawOperator:
    """An operator as the file states it. `kind` is None where the schema's operator is none of ours.

    `name` is the schema's for its operator, `place` the file's for its first output; `options` is None when the file
    gives none. `intermediates` are tensors that only lend it their quantisation.
    """

    index: int
    kind: OpKind | None
    name: str
    place: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    intermediates: tuple[int, ...] = ()

    def refuse(self, reason: str) -> ModelError:
        """The error that this operator cannot be imported: which one, where, why."""
        place = f" (it makes '{self.place}')" if self.place else ""
        return ModelError(f"operator {self.index} ({self.name}): {reason}{place}")


@dataclass(frozen=True, slots=True)
class Subgraph:
    """Tensors and operators of a graph that is not the network itself."""

    tensors: tuple[RawTensor, ...]
    operators: tuple[RawOperator, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """Everything of a file that matters. `others` are subgraphs beside the network's."""

    tensors: tuple[RawTensor, ...]
    operators: tuple[RawOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    size_bytes: int  # of the whole file
    others: tuple[Subgraph, ...] = ()


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
    if not subgraphs:
        raise corrupt("it has no subgraph")
    buffers = [_buffer(table) for table in root.tables(4, 2 * limits.MAX_TENSORS, "buffers")]
    main, *others = (_subgraph(root, table, buffers) for table in subgraphs)
    tensors = main.tensors
    if not main.operators:
        raise ModelError("the model has no operators")
    inputs, outputs = subgraphs[0].int32s(1), subgraphs[0].int32s(2)
    if max(len(inputs), len(outputs)) > limits.MAX_INTERFACE:
        raise ModelError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs; at most {limits.MAX_INTERFACE}"
        )
    for index in (*inputs, *outputs):
        if not 0 <= index < len(tensors):
            raise corrupt(f"tensor {index} does not exist")
    return Container(tensors, main.operators, inputs, outputs, len(data), tuple(others))


def _subgraph(root: Table, table: Table, buffers: list[memoryview]) -> Subgraph:
    tables = table.tables(0, limits.MAX_TENSORS, "tensors")
    tensors = tuple(_tensor(item, index, buffers) for index, item in enumerate(tables))
    return Subgraph(tensors, _operators(root, table, tensors))


def _buffer(table: Table) -> memoryview:
    if table.uint64(1) > 1 or table.uint64(2) > 1:
        raise ModelError("weights after the flatbuffer (models over 2 GB) are not supported")
    return table.raw(0)


def _tensor(table: Table, index: int, buffers: list[memoryview]) -> RawTensor:
    shape, element = table.int32s(0), table.int8(1)
    if len(shape) > limits.MAX_RANK or any(size < 0 for size in shape):
        raise ModelError(f"tensor {index} has shape {list(shape[:8])}; supported: at most {limits.MAX_RANK} dimensions")
    elements = math.prod(shape)
    if elements > limits.MAX_ACTIVATION_BYTES:
        raise ModelError(f"tensor {index} has {elements} elements; at most {limits.MAX_ACTIVATION_BYTES} are supported")
    signature = table.int32s(7)
    if signature and len(signature) != len(shape):
        raise corrupt(f"tensor {index} has a signature of another shape")
    buffer = table.uint32(2)
    if buffer >= len(buffers):
        raise corrupt(f"buffer {buffer} does not exist")
    data = buffers[buffer] if len(buffers[buffer]) else None
    bits = schema.ELEMENT_BITS.get(element)
    objection = _objection(table)
    if data is not None and bits is not None and not objection and len(data) != -(-elements * bits // 8):
        raise corrupt(f"tensor {index} needs {-(-elements * bits // 8)} bytes of data and has {len(data)}")
    scales, zero_points, axis = _quantization(table.table(4), index)
    name = table.text(3, limits.MAX_NAME_CHARACTERS)
    is_variable, is_open = table.flag(5), -1 in signature
    return RawTensor(name, shape, element, data, scales, zero_points, axis, objection, is_variable, is_open)


def _objection(table: Table) -> str:
    """Why a tensor cannot be used, with the remedy; empty when it can."""
    quantisation = table.table(4)
    if table.has(6):
        return "is sparse; convert again without Optimize.EXPERIMENTAL_SPARSITY"
    if table.has(9) or table.uint32(10):
        return "lies outside the file; export the model into one file"
    if quantisation is not None and quantisation.uint8(4):
        return "has a custom or block-wise quantisation; supported: per tensor, per channel"
    return ""


def _quantization(table: Table | None, index: int) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """(scales, zero points, axis) of a tensor; no scales when it is not quantised."""
    if table is None or table.uint8(4):
        return (), (), 0
    scales, zero_points = table.float32s(2), table.int64s(3)
    if len(zero_points) != len(scales):
        raise corrupt(f"tensor {index} has {len(scales)} scales and {len(zero_points)} zero points")
    return scales, zero_points, table.int32(6)


def _operators(root: Table, subgraph: Table, tensors: Sequence[RawTensor]) -> tuple[RawOperator, ...]:
    tables = root.tables(1, limits.MAX_OPERATORS, "operator codes")
    codes = [(max(table.int8(0), table.int32(3)), table) for table in tables]  # old files only have the byte
    operators = []
    for index, table in enumerate(subgraph.tables(3, limits.MAX_OPERATORS, "operators")):
        code_index = table.uint32(0)
        if code_index >= len(codes):
            raise corrupt(f"operator code {code_index} does not exist")
        code, code_table = codes[code_index]
        operators.append(_operator(table, index, code, code_table, tensors))
    return tuple(operators)


def _operator(table: Table, index: int, code: int, code_table: Table, tensors: Sequence[RawTensor]) -> RawOperator:
    kind = schema.KINDS.get(code)
    name = kind.value if kind else schema.operator_name(code)
    if code == schema.CUSTOM:
        name = f"custom operator {code_table.text(1, limits.MAX_NAME_CHARACTERS)}"
    member, options, outputs = table.uint8(3), table.table(4), table.int32s(2)
    place = tensors[outputs[0]].name if outputs and 0 <= outputs[0] < len(tensors) else ""
    operator = RawOperator(
        index, kind, name, place, table.int32s(1), outputs, options if member else None, table.int32s(8)
    )
    if kind is not None and (member not in (0, schema.OPERATORS[kind].options) or table.uint8(11)):
        raise operator.refuse("its options belong to another operator")
    _check_references(operator, len(tensors))
    return operator


def _check_references(operator: RawOperator, tensors: int) -> None:
    count = max(map(len, (operator.inputs, operator.outputs, operator.intermediates)))
    if count > limits.MAX_OPERANDS:
        raise operator.refuse(f"it has {count} inputs or outputs; at most {limits.MAX_OPERANDS} are supported")
    for index in operator.inputs:
        if not -1 <= index < tensors:
            raise operator.refuse(f"tensor {index} does not exist")
    for index in (*operator.outputs, *operator.intermediates):
        if not 0 <= index < tensors:
            raise operator.refuse(f"tensor {index} does not exist")
