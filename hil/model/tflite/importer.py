"""From the tables of a .tflite to a checked `Model`: edges stripped, tensors renumbered, operators in file order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from hil.errors import ModelError
from hil.model.network import DType, Edge, Edges, Model, Op, OpKind, Quantization
from hil.model.tflite import schema
from hil.model.tflite.constants import fold, is_of_constants
from hil.model.tflite.container import Container, RawOperator, RawTensor, read_container
from hil.model.tflite.dilation import Dilated, dilated_convolutions, import_dilated
from hil.model.tflite.integers import IntArray, fold_integers, with_filled
from hil.model.tflite.operators import IMPORTERS
from hil.model.tflite.quantisation import activation_quantization
from hil.model.tflite.refusals import FULL_INTEGER, check_quantised, unsupported
from hil.model.tflite.states import STATE_KINDS, States
from hil.model.tflite.tensors import VARIABLE, CoreTensors

HOST_FUNCTIONS = ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH")
"""Behind DEQUANTIZE, on float32: the application's."""

_MAX_BEHIND = 4
_MAX_PASSES = 16  # each finds shapes that the next one computes others from
_EDGE_KINDS = (OpKind.QUANTIZE, OpKind.DEQUANTIZE)
_UINT8_OFFSET = 128


@dataclass(frozen=True, slots=True)
class _Boundary:
    """The core's inputs or outputs (tensors of the file), how the file sees them, and the operators left out."""

    tensors: tuple[int, ...]
    edges: tuple[Edge, ...]
    dropped: frozenset[int]
    unsigned: frozenset[int] = frozenset()  # inputs that are uint8 in the file, held as int8 less 128


def import_model(data: bytes, name: str) -> Model:
    """Import the bytes of a .tflite (see hil.model.network.parse_model). Raises ModelError."""
    container = read_container(data)
    check_quantised(container)
    for _ in range(_MAX_PASSES):
        integers, folded = fold_integers(container)
        filled_in, filled = with_filled(container, integers)
        tensors = CoreTensors(filled_in, integers)
        problem: ModelError | None = None
        try:
            model = _imported(filled_in, integers, folded | filled, tensors, name, hashlib.sha256(data).hexdigest())
        except ModelError as error:
            problem = error
        if not tensors.restated:
            if problem is not None:
                raise problem
            return model
        shapes = {index: replace(container.tensors[index], shape=shape) for index, shape in tensors.restated.items()}
        container = replace(
            container, tensors=tuple(shapes.get(index, raw) for index, raw in enumerate(container.tensors))
        )
    raise ModelError("too many of its shapes are open; convert the model with batch size 1")


def _imported(
    container: Container,
    integers: dict[int, IntArray],
    computed: frozenset[int],
    tensors: CoreTensors,
    name: str,
    sha256: str,
) -> Model:
    """The model of a file whose shapes are as stated; `tensors.restated` has those that turned out to be others."""
    inputs, outputs = _input_boundary(container), _output_boundary(container)
    left_out = inputs.dropped | outputs.dropped | computed
    core = [op for op in container.operators if op.index not in left_out]
    dilated = dilated_convolutions(container, core, integers)
    for index in inputs.tensors:
        tensors.add_input(index, is_unsigned=index in inputs.unsigned)
    states = States(container, tensors)
    ops = tuple(op for operator in core for op in _import_operator(operator, tensors, dilated, states))
    _check_outputs(tensors, outputs.tensors)
    _check_rest(container, tensors)
    tensors.check_totals()
    return Model(
        name=name,
        sha256=sha256,
        tensors=tensors.finished(),
        ops=ops,
        inputs=tuple(_registered(tensors, index) for index in inputs.tensors),
        outputs=tuple(_registered(tensors, index) for index in outputs.tensors),
        edges=Edges(inputs.edges, outputs.edges),
        states=states.finished() + tensors.owned_states,
    )


def _registered(tensors: CoreTensors, index: int) -> int:
    found = tensors.activation(index)
    assert found is not None
    return found


def _import_operator(
    operator: RawOperator, tensors: CoreTensors, dilated: Mapping[int, Dilated | None], states: States
) -> Iterator[Op]:
    """The operators of the core that one of the file becomes."""
    if operator.index in dilated:
        found = dilated[operator.index]
        if found is not None:
            yield from import_dilated(found, tensors)
        return
    if operator.kind in STATE_KINDS:
        assigned = states.import_operator(operator)
        if assigned is not None:
            yield assigned
        return
    importer = IMPORTERS.get(operator.kind) if operator.kind is not None else None
    if operator.kind is OpKind.DEQUANTIZE:
        check_arity(operator)
        tensors.alias(operator, tensors.source(operator))
        return
    if importer is None or operator.kind is None:
        raise unsupported(operator)
    check_arity(operator)
    tensors.check_widths(operator)
    # All outputs are checked before one is registered: parts of a SPLIT do not read each other.
    folds = is_of_constants(operator, tensors)
    with tensors.of_constants() if folds else nullcontext():
        found_all = importer(operator, tensors)
    imported = found_all if isinstance(found_all, list) else [found_all]
    if len(imported) != len(operator.outputs):
        raise operator.refuse(f"it has {len(operator.outputs)} outputs; supported: {len(imported)}")
    if folds:
        fold(operator, tensors, imported)
        return
    for position, (inputs, params) in enumerate(imported):
        is_float = operator.kind is not OpKind.QUANTIZE and any(
            tensors.is_float(operator, at) for at in range(len(operator.inputs))
        )
        source = tensors.core(inputs[0]) if is_float else None
        yield Op(operator.index, operator.kind, inputs, (tensors.add_output(operator, position, source),), params)


def check_arity(operator: RawOperator) -> None:
    """Raise ModelError unless the operator has as many inputs as LiteRT's kernel takes."""
    assert operator.kind is not None
    counts = schema.OPERATORS[operator.kind].inputs
    if len(operator.inputs) not in counts:
        supported = " or ".join(map(str, counts)) if len(counts) < 4 else f"{counts[0]} to {counts[-1]}"
        raise operator.refuse(f"it has {len(operator.inputs)} inputs; supported: {supported}")


def _check_outputs(tensors: CoreTensors, outputs: tuple[int, ...]) -> None:
    for position, index in enumerate(outputs):
        found = tensors.activation(index)
        if found is None:
            raise ModelError(f"output {position} of the model is not computed by any operator")
        if tensors.core(found).data is not None:
            raise ModelError(f"output {position} of the model is a constant, which is not supported")
        if tensors.is_stale(found):
            raise ModelError(f"output {position} of the model is a variable that is assigned, which is not supported")


def _check_rest(container: Container, tensors: CoreTensors) -> None:
    """Refuse what no operator has complained about: LiteRT would look at it nevertheless."""
    calls = sum(operator.kind is OpKind.CALL_ONCE for operator in container.operators)
    if len(container.others) > calls:
        raise ModelError(
            f"the model has {1 + len(container.others)} subgraphs; supported: one, without control flow, and one for "
            "the initial values of variables"
        )
    for index, raw in enumerate(container.tensors):
        if raw.objection:
            raise ModelError(f"tensor {index} ('{raw.name}') {raw.objection}")
        if raw.is_variable and not tensors.is_owned(index):
            raise ModelError(f"tensor {index} ('{raw.name}') {VARIABLE}")


def _input_boundary(container: Container) -> _Boundary:
    """Where the int8 core begins: at the file's int8 inputs, and behind a QUANTIZE of its float32 and uint8 inputs."""
    if not container.inputs or len(set(container.inputs)) != len(container.inputs):
        raise ModelError("the model has no inputs, or one of them twice")
    tensors, edges, dropped, unsigned = [], [], [], []
    for position, index in enumerate(container.inputs):
        outer = container.tensors[index]
        own = schema.DTYPES.get(outer.type)
        if own is DType.INT8 or own is DType.INT16:
            edges.append(Edge(own, None, index, index))
            tensors.append(index)
            continue
        readers = [op for op in container.operators if index in op.inputs]
        cast = _whole_numbers(container, readers, index)
        if cast is not None:
            edges.append(Edge(DType.UINT8, Quantization((1.0,), (0,)), index, cast[1].outputs[0]))
            tensors.append(cast[1].outputs[0])
            dropped += [operator.index for operator in cast]
            continue
        if len(readers) != 1 or readers[0].kind is not OpKind.QUANTIZE:
            raise _not_int8(outer, f"input {position}", readers)
        if len(readers[0].outputs) != 1:
            raise readers[0].refuse(f"it has {len(readers[0].outputs)} outputs")
        inner = readers[0].outputs[0]
        if outer.type == schema.UINT8 and not _is_shift(outer, container.tensors[inner]):
            edges.append(Edge(DType.UINT8, activation_quantization(outer, readers[0], "its input"), index, index))
            tensors.append(index)
            unsigned.append(index)
            continue
        edges.append(_edge(container, readers[0], index, inner, OpKind.QUANTIZE))
        tensors.append(inner)
        dropped.append(readers[0].index)
    return _Boundary(tuple(tensors), tuple(edges), frozenset(dropped), frozenset(unsigned))


def _whole_numbers(
    container: Container, readers: list[RawOperator], index: int
) -> tuple[RawOperator, RawOperator] | None:
    """CAST of a uint8 input to float32 and QUANTIZE of that where int8 is the input less 128; else None."""
    if container.tensors[index].type != schema.UINT8 or len(readers) != 1 or readers[0].name != "CAST":
        return None
    cast = readers[0]
    number = cast.outputs[0] if len(cast.inputs) == len(cast.outputs) == 1 else -1
    behind = [op for op in container.operators if number in op.inputs]
    if number < 0 or len(behind) != 1 or behind[0].kind is not OpKind.QUANTIZE:
        return None
    if not len(behind[0].inputs) == len(behind[0].outputs) == 1:
        return None
    (outer, between), inner = (container.tensors[at] for at in (index, number)), container.tensors[behind[0].outputs[0]]
    is_plain = not any(raw.data or raw.objection or raw.is_variable for raw in (outer, between, inner))
    types = (between.type, inner.type, inner.scales, inner.zero_points)
    same_shape = outer.shape == between.shape == inner.shape
    is_exact = types == (schema.FLOAT32, schema.INT8, (1.0,), (-_UINT8_OFFSET,))
    return (cast, behind[0]) if is_plain and same_shape and is_exact else None


def _is_shift(outer: RawTensor, inner: RawTensor) -> bool:
    """Whether an int8 tensor is the uint8 one less 128."""
    if len(outer.scales) != 1 or len(inner.scales) != 1:
        return True  # damaged: the edge's own checks say so
    return (outer.scales, outer.zero_points[0] - _UINT8_OFFSET) == (inner.scales, inner.zero_points[0])


def _output_boundary(container: Container) -> _Boundary:
    """Where the int8 core ends: at the file's int8 outputs, and before a (DE)QUANTIZE to float32 and uint8 outputs."""
    if not container.outputs:
        raise ModelError("the model has no outputs")
    tensors, edges, dropped = [], [], []
    for position, index in enumerate(container.outputs):
        outer = container.tensors[index]
        own = schema.DTYPES.get(outer.type)
        if own is DType.INT8 or own is DType.INT16:
            edges.append(Edge(own, None, index, index))
            tensors.append(index)
            continue
        last, behind = _behind_the_core(container, index)
        writers = [op for op in container.operators if last in op.outputs]
        if len(writers) != 1 or writers[0].kind not in _EDGE_KINDS or len(writers[0].inputs) != 1:
            raise _not_int8(outer, f"output {position}", [op for op in container.operators if index in op.outputs])
        inner = writers[0].inputs[0]
        edge = _edge(container, writers[0], last, inner, OpKind.DEQUANTIZE)
        edges.append(replace(edge, file_tensor=index))
        tensors.append(inner)
        dropped += [writers[0].index, *behind]
    return _Boundary(tuple(tensors), tuple(edges), frozenset(dropped))


def _behind_the_core(container: Container, index: int) -> tuple[int, list[int]]:
    """(the float32 tensor that DEQUANTIZE makes, operators between it and output `index`): functions of float32 that
    leave the largest element the largest are the application's, as DEQUANTIZE is.
    """
    behind: list[int] = []
    while len(behind) < _MAX_BEHIND:
        writers = [op for op in container.operators if index in op.outputs]
        is_function = len(writers) == 1 and writers[0].name in HOST_FUNCTIONS and len(writers[0].inputs) == 1
        source = writers[0].inputs[0] if is_function else -1
        if source < 0 or writers[0].index in behind:
            return index, behind
        if {container.tensors[at].type for at in (index, source)} != {schema.FLOAT32}:
            return index, behind
        behind.append(writers[0].index)
        index = source
    return index, behind


def _edge(container: Container, operator: RawOperator, outer: int, inner: int, float_kind: OpKind) -> Edge:
    """The edge across a QUANTIZE or DEQUANTIZE between a tensor of the file's interface and one of the core."""
    if inner < 0 or len(operator.inputs) != 1:
        raise operator.refuse("it needs exactly one input")
    raw, core = container.tensors[outer], container.tensors[inner]
    dtype = schema.DTYPES.get(raw.type)
    is_wide = core.type == schema.INT16
    if core.type not in (schema.INT8, schema.INT16) or not _alike(raw, core) or raw.data or core.data:
        raise operator.refuse("it has to lead from or to an int8 activation of the same shape")
    if dtype is DType.FLOAT32 and operator.kind is float_kind:
        return Edge(DType.FLOAT32, None, outer, inner)
    if dtype is DType.INT32 and is_wide and operator.kind is OpKind.QUANTIZE and float_kind is OpKind.DEQUANTIZE:
        return Edge(DType.INT32, None, outer, inner)
    if is_wide:
        raise operator.refuse(f"{schema.type_name(raw.type)} is not supported here; supported: float32, int16, int8")
    if dtype is not DType.UINT8 or operator.kind is not OpKind.QUANTIZE:
        raise operator.refuse(f"{schema.type_name(raw.type)} is not supported; supported: float32, uint8, int8")
    quantization = activation_quantization(raw, operator, "its uint8 tensor")
    expected = activation_quantization(core, operator, "its int8 tensor")
    if quantization != Quantization(expected.scales, (expected.zero_point + _UINT8_OFFSET,)):
        raise operator.refuse("its uint8 and int8 tensors differ by more than the zero point's 128")
    return Edge(DType.UINT8, quantization, outer, inner)


def _alike(raw: RawTensor, core: RawTensor) -> bool:
    """Whether both have one shape, or one that is not known yet."""
    return raw.shape == core.shape or (len(raw.shape) == len(core.shape) and raw.is_open)


def _not_int8(raw: RawTensor, what: str, neighbours: list[RawOperator]) -> ModelError:
    advice = f"only int8 networks are supported; {FULL_INTEGER}"
    if not neighbours:
        return ModelError(
            f"{what} is {schema.type_name(raw.type)} and no operator uses it; convert the model without it"
        )
    if neighbours[0].kind is None:
        return unsupported(neighbours[0])
    return neighbours[0].refuse(f"{what} of the model is {schema.type_name(raw.type)}; {advice}")
