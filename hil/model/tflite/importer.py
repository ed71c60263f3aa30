"""From the tables of a .tflite to a checked `Model`: edges stripped, tensors renumbered, operators in file order."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from hil.errors import ModelError
from hil.model.network import DType, Edge, Edges, Model, Op, OpKind, Quantization
from hil.model.tflite import schema
from hil.model.tflite.container import Container, RawOperator, RawTensor, read_container
from hil.model.tflite.operators import IMPORTERS
from hil.model.tflite.quantisation import activation_quantization
from hil.model.tflite.tensors import CoreTensors

_EDGE_KINDS = (OpKind.QUANTIZE, OpKind.DEQUANTIZE)
_UINT8_OFFSET = 128


@dataclass(frozen=True, slots=True)
class _Boundary:
    """The core's inputs or outputs (tensors of the file), how the file sees them, and the operators left out."""

    tensors: tuple[int, ...]
    edges: tuple[Edge, ...]
    dropped: frozenset[int]


def import_model(data: bytes, name: str) -> Model:
    """Import the bytes of a .tflite (see hil.model.network.parse_model). Raises ModelError."""
    container = read_container(data)
    inputs, outputs = _input_boundary(container), _output_boundary(container)
    core = [op for op in container.operators if op.index not in inputs.dropped | outputs.dropped]
    if not core:
        raise ModelError("the model has no operator between its inputs and outputs")
    tensors = CoreTensors(container)
    for index in inputs.tensors:
        tensors.add_input(index)
    ops = tuple(_import_operator(operator, tensors) for operator in core)
    _check_use(container, core, inputs.tensors, outputs.tensors)
    tensors.check_totals()
    return Model(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        tensors=tensors.finished(),
        ops=ops,
        inputs=tuple(tensors.activation(index) for index in inputs.tensors),
        outputs=tuple(tensors.activation(index) for index in outputs.tensors),
        edges=Edges(inputs.edges, outputs.edges),
    )


def _import_operator(operator: RawOperator, tensors: CoreTensors) -> Op:
    importer = IMPORTERS.get(operator.kind)
    if importer is None:
        raise operator.refuse("it is only supported at the inputs and outputs of the network")
    _check_arity(operator)
    inputs, params = importer(operator, tensors)
    output = tensors.add_output(operator)
    return Op(operator.index, operator.kind, inputs, (output,), params)


def _check_arity(operator: RawOperator) -> None:
    counts = schema.OPERATORS[operator.kind].inputs
    if len(operator.inputs) not in counts:
        raise operator.refuse(f"it has {len(operator.inputs)} inputs; supported: {' or '.join(map(str, counts))}")


def _input_boundary(container: Container) -> _Boundary:
    """Where the int8 core begins: at the file's int8 inputs, and behind a QUANTIZE of its float32 and uint8 inputs."""
    if not container.inputs or len(set(container.inputs)) != len(container.inputs):
        raise ModelError("the model has no inputs, or one of them twice")
    tensors, edges, dropped = [], [], []
    for position, index in enumerate(container.inputs):
        outer = container.tensors[index]
        if schema.DTYPES.get(outer.type) is DType.INT8:
            edges.append(Edge(DType.INT8, None, index, index))
            tensors.append(index)
            continue
        readers = [op for op in container.operators if index in op.inputs]
        if len(readers) != 1 or readers[0].kind is not OpKind.QUANTIZE:
            raise _not_int8(outer, f"input {position}", readers)
        inner = readers[0].outputs[0]
        edges.append(_edge(container, readers[0], index, inner, OpKind.QUANTIZE))
        tensors.append(inner)
        dropped.append(readers[0].index)
    return _Boundary(tuple(tensors), tuple(edges), frozenset(dropped))


def _output_boundary(container: Container) -> _Boundary:
    """Where the int8 core ends: at the file's int8 outputs, and before a (DE)QUANTIZE to float32 and uint8 outputs."""
    if not container.outputs or len(set(container.outputs)) != len(container.outputs):
        raise ModelError("the model has no outputs, or one of them twice")
    tensors, edges, dropped = [], [], []
    for position, index in enumerate(container.outputs):
        outer = container.tensors[index]
        if schema.DTYPES.get(outer.type) is DType.INT8:
            edges.append(Edge(DType.INT8, None, index, index))
            tensors.append(index)
            continue
        writers = [op for op in container.operators if index in op.outputs]
        if len(writers) != 1 or writers[0].kind not in _EDGE_KINDS or len(writers[0].inputs) != 1:
            raise _not_int8(outer, f"output {position}", writers)
        inner = writers[0].inputs[0]
        edges.append(_edge(container, writers[0], index, inner, OpKind.DEQUANTIZE))
        tensors.append(inner)
        dropped.append(writers[0].index)
    if len(set(tensors)) != len(tensors):
        raise ModelError("the model gives one tensor as two outputs")
    return _Boundary(tuple(tensors), tuple(edges), frozenset(dropped))


def _edge(container: Container, operator: RawOperator, outer: int, inner: int, float_kind: OpKind) -> Edge:
    """The edge across a QUANTIZE or DEQUANTIZE between a tensor of the file's interface and one of the core."""
    if inner < 0 or len(operator.inputs) != 1:
        raise operator.refuse("it needs exactly one input")
    raw, core = container.tensors[outer], container.tensors[inner]
    dtype = schema.DTYPES.get(raw.type)
    if schema.DTYPES.get(core.type) is not DType.INT8 or raw.shape != core.shape or raw.data or core.data:
        raise operator.refuse("it has to lead from or to an int8 activation of the same shape")
    if dtype is DType.FLOAT32 and operator.kind is float_kind:
        return Edge(DType.FLOAT32, None, outer, inner)
    if dtype is not DType.UINT8 or operator.kind is not OpKind.QUANTIZE:
        raise operator.refuse(f"{schema.type_name(raw.type)} is not supported; supported: float32, uint8, int8")
    quantization = activation_quantization(raw, operator, "its uint8 tensor")
    expected = activation_quantization(core, operator, "its int8 tensor")
    if quantization != Quantization(expected.scales, (expected.zero_point + _UINT8_OFFSET,)):
        raise operator.refuse("its uint8 and int8 tensors differ by more than the zero point's 128")
    return Edge(DType.UINT8, quantization, outer, inner)


def _not_int8(raw: RawTensor, what: str, neighbours: list[RawOperator]) -> ModelError:
    advice = "only int8 networks are supported; quantise the model with full-integer quantisation"
    if not neighbours:
        return ModelError(f"{what} is {schema.type_name(raw.type)} and no operator uses it; {advice}")
    return neighbours[0].refuse(f"{what} of the model is {schema.type_name(raw.type)}; {advice}")


def _check_use(
    container: Container, core: list[RawOperator], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    """Refuse outputs that nothing writes, and inputs and results that nothing reads: a plan has no place for them."""
    written = {op.outputs[0] for op in core}
    read = Counter(index for op in core for index in op.inputs)
    for position, index in enumerate(outputs):
        if index not in written:
            raise ModelError(f"output {position} of the model is not computed by any operator")
    for position, index in enumerate(inputs):
        if not read[index]:
            raise ModelError(f"input {position} of the model is not used")
    for operator in core:
        if not read[operator.outputs[0]] and operator.outputs[0] not in outputs:
            raise operator.refuse("its result is not used")
