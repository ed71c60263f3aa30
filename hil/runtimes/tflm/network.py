"""A network as TFLM executes it: the flatbuffer itself, operator by operator in the file's order, in TFLM's arena."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from hil.codegen.plan import Port
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
    ReduceParams,
)
from hil.model.tflite.container import Container, RawOperator, read_container
from hil.runtimes.tflm.adders import PLANNED
from hil.runtimes.tflm.arena import Arena, measure_arena
from hil.runtimes.tflm.extract import core_of
from hil.runtimes.tflm.work import VARIANTS, unknown, work_of
from munas.cost.kernels import Work

MAX_CONCATENATED = 10  # what TFLM's kernel takes


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator of the file. `name` is the file's own name of its result: for reports, never for C."""

    index: int
    kind: OpKind
    name: str
    work: Work


@dataclass(frozen=True, slots=True)
class Network:
    """Ready to be generated. `flatbuffer` has int8 inputs and outputs (hil.runtimes.tflm.extract.core_of).

    `imported` is the file's model, `model` the flatbuffer's. `arena` is a forecast: the device says what it is.
    """

    imported: Model
    model: Model
    container: Container
    flatbuffer: bytes
    arena: Arena
    steps: tuple[Layer, ...]
    input: Port
    output: Port

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The one input."""
        return (self.input,)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The one output."""
        return (self.output,)

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
    def operators(self) -> tuple[OpKind, ...]:
        """The kinds in use, sorted: they decide which code is linked."""
        return tuple(sorted({step.kind for step in self.steps}))


def make_network(data: bytes, name: str) -> Network:
    """Check the .tflite `data` and forecast its arena. Raises ModelError for what the importer or TFLM does not
    support."""
    original = parse_model(data, name)
    flatbuffer = core_of(data, original)
    model = original if flatbuffer is data else parse_model(flatbuffer, name)
    container = read_container(flatbuffer)
    _check(model, container)
    arena = measure_arena(container, model)
    return Network(
        imported=original,
        model=model,
        container=container,
        flatbuffer=flatbuffer,
        arena=arena,
        steps=tuple(_layers(model, container)),
        input=_port(model, model.inputs[0], arena.input_offset),
        output=_port(model, model.outputs[0], arena.output_offset),
    )


def _layers(model: Model, container: Container) -> Iterator[Layer]:
    """One for each operator that TFLM runs, also where generated code folds or splits it."""
    imported = {op.index: op for op in model.ops}
    for operator in container.operators:
        op, result = imported.get(operator.index), container.tensors[operator.outputs[0]]
        assert operator.kind is not None  # or the importer would have refused it
        is_same = op is not None and op.kind is operator.kind
        work = work_of(op, model) if op is not None and is_same and op.kind in VARIANTS else unknown(result.elements)
        yield Layer(operator.index, operator.kind, result.name, work)


def _check(model: Model, container: Container) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"the network has {len(model.inputs)} inputs and {len(model.outputs)} outputs; the tflm runtime takes one "
            "of each: use --runtime cmsis-nn"
        )
    if container.others:
        raise ModelError("the network keeps states in resource variables; use --runtime cmsis-nn")
    for op in model.ops:
        reason = _objection(model, op)
        if reason:
            raise ModelError(f"operator {op.index} ({op.kind}): {reason}; use --runtime cmsis-nn")


def _objection(model: Model, op: Op) -> str | None:
    """What TFLM cannot do, or does wrongly without a word, of what the importer takes; None when all is well."""
    if op.kind is OpKind.CONCATENATION and len(op.inputs) > MAX_CONCATENATED:
        return f"it has {len(op.inputs)} inputs, and TFLM takes at most {MAX_CONCATENATED}"
    if any(model.tensors[index].dtype is DType.INT16 for index in (*op.inputs, *op.outputs) if index >= 0):
        return "it has tensors of 16 bits, of which no result was held against TFLM's kernels yet"
    if op.kind is not OpKind.RELU6:
        return None
    source, result = model.tensors[op.inputs[0]].quantization, model.tensors[op.outputs[0]].quantization
    if source != result:
        return "its input and output are quantised differently, which TFLM's kernel does not look at"
    return None


def is_planned(model: Model, operator: RawOperator, container: Container) -> bool:
    """Whether the arena's forecast knows the operator in this form."""
    op = next((op for op in model.ops if op.index == operator.index), None)
    if op is None or op.kind is not operator.kind or op.kind not in PLANNED:
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


def _port(model: Model, tensor: int, offset: int) -> Port:
    found = model.tensors[tensor]
    return Port(tensor, offset, found.elements, found.shape, found.quant.scale, found.quant.zero_point)
