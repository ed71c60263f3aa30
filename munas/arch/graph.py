"""Operator graph of an architecture: shapes, MACs and weights.

Two modes. `deployed` is the network that Keras trains and TensorFlow Lite deploys: pooling rounds down, a sum of n
terms is a chain of two-input additions. `paper` is the graph of the µNAS authors, which rounds pooling up and
adds n terms at once; it exists to reproduce their figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias, cast, get_args

from munas.arch.space import (
    AnyArchitecture,
    Architecture,
    ArchitectureError,
    Block,
    Layer,
    LayerType,
    MlpArchitecture,
    PoolType,
    parse_architecture,
)

INPUT = -1
"""Producer index that stands for the network's input."""

MAX_EXTENT = 2**31 - 1  # of anything that a file gives: far above any network, and figures stay printable
MAX_RANK = 4

Shape: TypeAlias = tuple[int, ...]
"""(H, W, C) or (N,), in elements; the batch of one is implied."""

Mode: TypeAlias = Literal["deployed", "paper"]

_OLDER_MODES: Mapping[str, Mode] = {"faithful": "deployed", "reference": "paper"}
"""What older versions called them: still taken on the command line and in files."""


def mode_of(name: str) -> Mode:
    """The mode called `name`, today or by older versions. Raises ValueError for any other text."""
    for mode in get_args(Mode):
        if mode == _OLDER_MODES.get(name, name):
            return cast("Mode", mode)
    raise ValueError(f"mode {name!r} is not one of {', '.join(get_args(Mode))}")


class Kind(StrEnum):
    """Operators of the graph, by their name in the golden notation."""

    CONV = "Conv2D"
    DEPTHWISE = "DWConv2D"
    DENSE = "Dense"
    POOL = "Pool"
    ADD = "Add"


_NAME_STEMS = {
    Kind.CONV: "conv2d",
    Kind.DEPTHWISE: "dw_conv2d",
    Kind.DENSE: "dense",
    Kind.POOL: "pool",
    Kind.ADD: "add",
}


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. One byte an element; `weight_bytes` counts kernel and bias elements as one byte each.

    Convolution and pooling windows have VALID padding. The inputs of an addition may be smaller than its output: they
    are zero-padded at the bottom and the right.
    """

    kind: Kind
    name: str
    inputs: tuple[int, ...]
    in_shapes: tuple[Shape, ...]
    out_shape: Shape
    kernel: int = 0
    stride: int = 1
    pool: tuple[int, int] | None = None
    pool_type: Literal["max", "avg"] | None = None
    activation: Literal["relu"] | None = None
    batch_norm: bool = False
    weight_bytes: int = field(init=False)
    macs: int = field(init=False)

    def __post_init__(self) -> None:
        weight_bytes, macs = _cost(self)
        object.__setattr__(self, "weight_bytes", weight_bytes)
        object.__setattr__(self, "macs", macs)

    @property
    def out_elements(self) -> int:
        """Elements, and bytes, of the output."""
        return math.prod(self.out_shape)

    @property
    def loads(self) -> int:
        """Elements read, as the µNAS authors count them: two a MAC and the bias; each term of an addition once."""
        if self.kind is Kind.ADD:
            return len(self.inputs) * self.out_elements
        return self.macs if self.kind is Kind.POOL else 2 * self.macs + self.out_elements

    @property
    def in_place_inputs(self) -> tuple[int, ...]:
        """Producers whose buffer the output may take over: the terms of an addition that have its shape."""
        if self.kind is not Kind.ADD:
            return ()
        pairs = zip(self.inputs, self.in_shapes, strict=True)
        return tuple(dict.fromkeys(producer for producer, shape in pairs if shape == self.out_shape))


def _cost(op: Operator) -> tuple[int, int]:
    """(weight bytes, MACs) of an operator, as µNAS counts them."""
    elements, channels = op.out_elements, op.out_shape[-1]
    match op.kind:
        case Kind.CONV:
            taps = op.kernel * op.kernel * op.in_shapes[0][-1]
            return (taps + 1) * channels, taps * elements
        case Kind.DEPTHWISE:
            taps = op.kernel * op.kernel
            return (taps + 1) * channels, taps * elements
        case Kind.DENSE:
            fan_in = math.prod(op.in_shapes[0])
            return (fan_in + 1) * channels, fan_in * channels
        case Kind.POOL:
            assert op.pool is not None
            return 0, elements * op.pool[0] * op.pool[1]
        case Kind.ADD:
            return 0, (len(op.inputs) - 1) * elements


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators in build order (topological); the last one gives the network's output."""

    input_shape: Shape
    operators: tuple[Operator, ...]
    mode: Mode = "deployed"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, as µNAS counts them."""
        return sum(op.macs for op in self.operators)

    @property
    def model_size(self) -> int:
        """Number of kernel and bias elements (µNAS: bytes at one byte each)."""
        return sum(op.weight_bytes for op in self.operators)

    @property
    def output_shape(self) -> Shape:
        """Shape of the logits."""
        return self.operators[-1].out_shape


class _Builder:
    """Appends operators, knowing the shapes of all outputs so far."""

    def __init__(self, input_shape: Shape, mode: Mode) -> None:
        self.input_shape, self.mode = input_shape, mode
        self.operators: list[Operator] = []
        self._names: dict[Kind, int] = {}

    def shape(self, producer: int) -> Shape:
        return self.input_shape if producer == INPUT else self.operators[producer].out_shape

    def _append(self, kind: Kind, inputs: Sequence[int], out_shape: Shape, **attributes: Any) -> int:
        number = self._names.get(kind, 0)
        self._names[kind] = number + 1
        name = f"{_NAME_STEMS[kind]}_{number}" if number else _NAME_STEMS[kind]
        in_shapes = tuple([self.shape(producer) for producer in inputs])
        self.operators.append(Operator(kind, name, tuple(inputs), in_shapes, out_shape, **attributes))
        return len(self.operators) - 1

    def convolution(self, source: int, layer: Layer, filters: int | None = None) -> int:
        """Pre-pool and convolution of a layer; `filters` overrides the layer's own."""
        if layer.pre_pool and max(self.shape(source)[:2]) > 1:
            source = self.pool(source, (2, 2), PoolType.MAX)
        height, width, channels = self.shape(source)
        kernel = min(layer.kernel, height, width)
        rows, columns = (-(-(size - kernel + 1) // layer.stride) for size in (height, width))
        depthwise = layer.type is LayerType.DEPTHWISE
        return self._append(
            Kind.DEPTHWISE if depthwise else Kind.CONV,
            (source,),
            (rows, columns, channels if depthwise else filters or layer.filters),
            kernel=kernel,
            stride=layer.stride,
            activation="relu" if layer.relu else None,
            batch_norm=layer.batch_norm,
        )

    def pool(self, source: int, size: tuple[int, int], kind: PoolType) -> int:
        """Pooling whose stride is its window; the window is clipped to the feature map."""
        height, width, channels = self.shape(source)
        window = (min(size[0], height), min(size[1], width))
        if self.mode == "paper":
            rows, columns = -(-height // window[0]), -(-width // window[1])
        else:
            rows, columns = height // window[0], width // window[1]
        return self._append(Kind.POOL, (source,), (rows, columns, channels), pool=window, pool_type=kind.value)

    def add(self, sources: Sequence[int]) -> int:
        """Sum of all sources, each zero-padded to the largest shape."""
        shapes = [self.shape(source) for source in sources]
        largest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        if self.mode == "paper":
            return self._append(Kind.ADD, sources, largest)
        total = sources[0]
        for source in sources[1:]:
            total = self._append(Kind.ADD, (total, source), largest)
        return total

    def dense(self, source: int, units: int, relu: bool) -> int:
        return self._append(Kind.DENSE, (source,), (units,), activation="relu" if relu else None)

    def block(self, source: int, layers: Iterable[Layer]) -> int:
        for layer in layers:
            source = self.convolution(source, layer)
        return source

    def branch(self, source: int, block: Block, channels: int) -> int:
        """A branch block: its output has the channels of the main block that it runs beside."""
        last = block.layers[-1]
        source = self.block(source, block.layers[:-1])
        if last.type is not LayerType.DEPTHWISE:
            return self.convolution(source, last, filters=channels)
        return self.convolution(self.convolution(source, last), Layer(LayerType.POINTWISE, filters=channels))

    def merge(self, pending: Sequence[int]) -> int:
        """One output out of a main block's and its branches': shrink the large ones by pooling, then add all."""
        if len(pending) == 1:
            return pending[0]
        smallest = [min([self.shape(source)[axis] for source in pending]) for axis in (0, 1)]
        shrunk = []
        for source in pending:
            rows, columns = (round(self.shape(source)[axis] / smallest[axis]) for axis in (0, 1))
            needs_pool = rows > 1 or columns > 1
            shrunk.append(self.pool(source, (rows, columns), PoolType.MAX) if needs_pool else source)
        return self.add(shrunk)


def build_graph(
    architecture: AnyArchitecture, input_shape: Sequence[int], num_classes: int, mode: Mode = "deployed"
) -> Graph:
    """The network of an architecture.

    `input_shape` is (H, W, C); an MLP takes any shape. Two classes give one logit. Raises ArchitectureError for an
    impossible shape or number of classes, ValueError for an unknown mode.
    """
    try:
        shape = _checked_shape(input_shape)
    except ValueError as error:
        raise ArchitectureError(f"input_shape: {error}") from None
    mode = mode_of(mode)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or not 2 <= num_classes <= MAX_EXTENT:
        raise ArchitectureError(f"num_classes {_short(num_classes)} is not an integer from 2 to {MAX_EXTENT}")
    builder = _Builder(shape, mode)
    if isinstance(architecture, MlpArchitecture):
        source = INPUT
        for units in architecture.units:
            source = builder.dense(source, units, relu=True)
    else:
        if len(shape) != 3:
            raise ArchitectureError(f"input_shape {list(shape)} of a CNN is not [height, width, channels]")
        source = _build_cnn(builder, architecture)
    builder.dense(source, 1 if num_classes == 2 else num_classes, relu=False)
    return Graph(shape, tuple(builder.operators), mode)


def _checked_shape(shape: object) -> Shape:
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not 1 <= len(shape) <= MAX_RANK:
        raise ValueError(f"{_short(shape)} is not a list of 1 to {MAX_RANK} positive integers")
    for size in shape:
        _checked_integer(size, "size", 1)
    return tuple(shape)


def _checked_integer(value: object, what: str, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MAX_EXTENT:
        raise ValueError(f"{what} {_short(value)} is not an integer from {low} to {MAX_EXTENT}")
    return value


def _window(size: Sequence[object]) -> tuple[int, int]:
    rows, columns = (_checked_integer(extent, "pool_size", 1) for extent in size)
    return rows, columns


def _short(value: object) -> str:
    """A value of somebody's file, for one line of a message."""
    if isinstance(value, int) and abs(value) > MAX_EXTENT:
        return "of many digits"
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > MAX_RANK:
        return f"of {len(value)} elements"
    return repr(value)[:60]


def _build_cnn(builder: _Builder, architecture: Architecture) -> int:
    """Convolution blocks, final pooling and hidden dense layers; returns the producer of the last one's output."""
    block_input, pending = INPUT, [INPUT]
    for block in architecture.blocks:
        if block.is_branch:
            pending.append(builder.branch(block_input, block, channels=builder.shape(pending[0])[-1]))
        else:
            block_input = builder.merge(pending)
            pending = [builder.block(block_input, block.layers)]
    source = builder.merge(pending)
    if architecture.pooling is not None:
        size = architecture.pooling.size
        source = builder.pool(source, (size, size), architecture.pooling.type)
    for layer in architecture.dense:
        source = builder.dense(source, layer.units, layer.relu)
    return source


def graph_from_layers(layers: object, mode: Mode = "paper") -> Graph:
    """A graph from the golden `layers` notation: shapes are taken from it, weights and MACs are computed.

    Raises ArchitectureError naming the layer that is malformed.
    """
    index_of = {"INPUT": INPUT}
    operators: list[Operator] = []
    input_shape: Shape | None = None
    for number, layer in enumerate(layers if isinstance(layers, list) else ()):
        try:
            operator = _parse_operator(layer, index_of)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ArchitectureError(f"layers[{number}]: {type(error).__name__}: {error}") from error
        for producer, shape in zip(operator.inputs, operator.in_shapes, strict=True):
            input_shape = shape if producer == INPUT else input_shape
        operators.append(operator)
        index_of[operator.name] = number
    if input_shape is None:
        raise ArchitectureError("layers: expected a list of operators, one of which reads INPUT")
    return Graph(input_shape, tuple(operators), mode)


def _parse_operator(layer: Mapping[str, Any], index_of: Mapping[str, int]) -> Operator:
    pool = layer["pool_size"] if layer.get("op") == Kind.POOL else layer.get("pool_size")
    inputs = tuple(index_of[name] for name in layer["inputs"])
    in_shapes = tuple(_checked_shape(shape[1:]) for shape in layer["in_shapes"])
    if len(inputs) != len(in_shapes) or not inputs:
        raise ValueError("inputs and in_shapes differ in length")
    return Operator(
        Kind(layer["op"]),
        str(layer["name"]),
        inputs,
        in_shapes,
        _checked_shape(layer["out_shape"][1:]),
        kernel=_checked_integer(layer.get("kernel_size", 0), "kernel_size", 0),
        stride=_checked_integer(layer.get("stride", 1), "stride", 1),
        pool=None if pool is None else _window(pool),
        pool_type=None if pool is None else PoolType(layer["type"]).value,
        activation="relu" if layer.get("activation") == "relu" else None,
        batch_norm=bool(layer.get("batch_norm", False)),
    )


def operator_notation(graph: Graph, op: Operator) -> dict[str, Any]:
    """An operator in the golden `layers` notation (shapes with the batch of one)."""
    notation: dict[str, Any] = {
        "op": op.kind.value,
        "name": op.name,
        "inputs": ["INPUT" if producer == INPUT else graph.operators[producer].name for producer in op.inputs],
        "in_shapes": [[1, *shape] for shape in op.in_shapes],
        "out_shape": [1, *op.out_shape],
        "weight_bytes": op.weight_bytes,
        "macs": op.macs,
        "loads": op.loads,
    }
    if op.kind in (Kind.CONV, Kind.DEPTHWISE):
        notation |= {"kernel_size": op.kernel, "stride": op.stride}
    if op.kind is Kind.CONV:
        notation["num_filters"] = op.out_shape[-1]
    if op.kind is Kind.DENSE:
        notation["units"] = op.out_shape[-1]
    if op.kind in (Kind.CONV, Kind.DEPTHWISE, Kind.DENSE):
        notation |= {"activation": op.activation, "batch_norm": op.batch_norm}
    if op.pool is not None:
        notation |= {"pool_size": list(op.pool), "type": op.pool_type}
    return notation


def graph_of_entry(entry: object, mode: Mode = "deployed") -> Graph:
    """The graph of one entry of a `munas-hil graph` file: {input_shape, num_classes, architecture}, or {layers}.

    Other keys are ignored, so that the golden file's own entries can be given. Raises ArchitectureError.
    """
    if not isinstance(entry, Mapping):
        raise ArchitectureError(f"expected an object with input_shape, num_classes and architecture, got {entry!r:.40}")
    if "architecture" not in entry and "layers" in entry:
        return graph_from_layers(entry["layers"], mode)
    if missing := [key for key in ("input_shape", "num_classes", "architecture") if key not in entry]:
        raise ArchitectureError(f"missing {', '.join(missing)}")
    architecture = parse_architecture(entry["architecture"])
    return build_graph(architecture, entry["input_shape"], entry["num_classes"], mode)
