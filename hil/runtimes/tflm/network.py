"""A network as TFLM executes it: the flatbuffer itself, operator by operator in the file's order, in TFLM's arena."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hil.codegen.plan import Port, one_buffer
from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import (
    BinaryParams,
    ConvParams,
    DenseParams,
    DType,
    LookupParams,
    Model,
    Op,
    OpKind,
    Quantization,
    ReduceParams,
)
from hil.model.tflite.container import Container, RawOperator, read_container
from hil.model.tflite.schema import type_name
from hil.runtimes.tflm.adders import PLANNED, is_narrow
from hil.runtimes.tflm.arena import Arena, measure_arena
from hil.runtimes.tflm.extract import core_of
from hil.runtimes.tflm.floats import float_model, is_float
from hil.runtimes.tflm.work import VARIANTS, unknown, work_of
from munas.cost.kernels import Work

MAX_CONCATENATED = 10  # what TFLM's kernel takes
_NO_QUANTIZATION = Quantization((1.0,), (0,))  # of float32


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator of the file. `kind` is the schema's name, `name` the file's own of its result: for reports, never
    for C. `types` are those of what it reads and writes, constants apart."""

    index: int
    kind: str
    name: str
    work: Work
    types: tuple[str, ...]

    @property
    def what(self) -> str:
        """Operator and types: for messages."""
        return f"{self.kind} of {' and '.join(self.types)}" if self.types else self.kind


@dataclass(frozen=True, slots=True)
class Network:
    """Ready to be generated. `flatbuffer` has int8 inputs and outputs (hil.runtimes.tflm.extract.core_of), or it is the
    file itself, where that is float32 throughout.

    `imported` is the file's model, `model` the flatbuffer's. `arena` is a forecast: the device says what it is.
    """

    imported: Model
    model: Model
    container: Container
    flatbuffer: bytes
    arena: Arena
    steps: tuple[Layer, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def input(self) -> Port:
        """Where the device takes the input: the one, or one behind the other in a buffer behind the arena."""
        return one_buffer(self.inputs)

    @property
    def output(self) -> Port:
        """Where the device gives the output, likewise."""
        return one_buffer(self.outputs)

    @property
    def model_name(self) -> str:
        """For people."""
        return self.model.name

    @property
    def arena_bytes(self) -> int:
        """The forecast of the least arena that starts."""
        return self.arena.required_bytes

    @property
    def is_arena_known(self) -> bool:
        """Whether the forecast knows every operator; else it is a lower bound."""
        return all(is_planned(self.model, operator, self.container) for operator in self.container.operators)

    @property
    def constant_channels(self) -> int:
        """None is left out: the interpreter takes the file as it is."""
        return 0

    @property
    def given_up(self) -> tuple[()]:
        """Its kernels are as they are."""
        return ()

    @property
    def lower_bound_bytes(self) -> int:
        """What TFLM will say that it uses: the least that is needed once it has started."""
        return self.arena.used_bytes

    @property
    def weights_bytes(self) -> int:
        """The whole flatbuffer: TFLM reads weights, shapes and scales from it."""
        return len(self.flatbuffer)

    @property
    def table_bytes(self) -> int:
        """None: the interpreter makes its tables in the arena."""
        return 0

    @property
    def sha256(self) -> str:
        """Of the flatbuffer."""
        return hashlib.sha256(self.flatbuffer).hexdigest()

    @property
    def is_float(self) -> bool:
        """Whether it is float32."""
        return self.input.is_float

    @property
    def is_wide(self) -> bool:
        """Whether an operator that TFLM also has for int8 only works on other types."""
        return self.is_float or any(is_narrow(op.kind) and _is_wide(self.model, op) for op in self.model.ops)

    @property
    def variables(self) -> int:
        """How many resource variables the network keeps states in."""
        return sum(operator.kind is OpKind.VAR_HANDLE for operator in self.container.operators)

    @property
    def operators(self) -> tuple[str, ...]:
        """The kinds in use, sorted: they decide which code is linked."""
        inner = {operator.name for graph in self.container.others for operator in graph.operators}
        return tuple(sorted({step.kind for step in self.steps} | inner))


def make_network(data: bytes, name: str) -> Network:
    """Check the .tflite `data` and forecast its arena. Raises ModelError for what the importer or TFLM does not
    support."""
    container = read_container(data)
    if is_float(container):
        original = model = float_model(container, data, name)
        flatbuffer = data
    else:
        original = parse_model(data, name)
        flatbuffer = core_of(data, original)
        model = original if flatbuffer is data else parse_model(flatbuffer, name)
        container = container if flatbuffer is data else read_container(flatbuffer)
        _check(model)
    arena = measure_arena(container, model)
    return Network(
        imported=original,
        model=model,
        container=container,
        flatbuffer=flatbuffer,
        arena=arena,
        steps=tuple(_layers(model, container)),
        inputs=_ports(model, model.inputs, arena.input_offset),
        outputs=_ports(model, model.outputs, arena.output_offset),
    )


def _layers(model: Model, container: Container) -> Iterator[Layer]:
    """One for each operator that TFLM runs, also where generated code folds or splits it."""
    imported = {op.index: op for op in model.ops}
    for operator in container.operators:
        op = imported.get(operator.index)
        result = container.tensors[operator.outputs[0]] if operator.outputs else None
        known = op is not None and op.kind is operator.kind and op.kind in VARIANTS and not _is_wide(model, op)
        work = work_of(op, model) if op is not None and known else unknown(result.elements if result else 0)
        yield Layer(operator.index, operator.name, result.name if result else "", work, _types(operator, container))


def _types(operator: RawOperator, container: Container) -> tuple[str, ...]:
    tensors = [container.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
    return tuple(dict.fromkeys(type_name(tensor.type) for tensor in tensors if tensor.data is None))


def _check(model: Model) -> None:
    for op in model.ops:
        if op.kind is OpKind.CONCATENATION and len(op.inputs) > MAX_CONCATENATED:
            raise ModelError(
                f"operator {op.index} ({op.kind}): it has {len(op.inputs)} inputs, and TFLM takes at most "
                f"{MAX_CONCATENATED}; use --runtime cmsis-nn"
            )


def _is_wide(model: Model, op: Op) -> bool:
    return any(model.tensors[index].dtype is DType.INT16 for index in (*op.inputs, *op.outputs) if index >= 0)


def is_planned(model: Model, operator: RawOperator, container: Container) -> bool:
    """Whether the arena's forecast knows the operator in this form."""
    op = next((op for op in model.ops if op.index == operator.index), None)
    if op is None or op.kind is not operator.kind or op.kind not in PLANNED or _is_wide(model, op):
        return False
    match op.params:
        case ConvParams():
            return op.params.groups == 1
        case DenseParams():
            return op.params.rows == 1
        case ReduceParams():
            return op.params.axes == (1, 2) and len(model.tensors[op.inputs[0]].shape) == 4
        case BinaryParams() | LookupParams():
            return False
    return True


def _ports(model: Model, tensors: Sequence[int], offset: int) -> tuple[Port, ...]:
    """`offset` is the first one's in the arena; of several the offsets count from the buffer's start."""
    ports, start = [], offset if len(tensors) == 1 else 0
    for tensor in tensors:
        found = model.tensors[tensor]
        kind, is_float = found.quantization or _NO_QUANTIZATION, found.dtype is DType.FLOAT32
        port = Port(tensor, start, found.size_bytes, found.shape, kind.scale, kind.zero_point, is_float)
        ports.append(port)
        start += port.size
    return tuple(ports)
