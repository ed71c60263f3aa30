"""µNAS search space: architectures as immutable data, their JSON notation and the random generators.

The space is the one of the µNAS paper (arXiv 2010.14246): a CNN of 1-10 convolution blocks with a dense tail,
or an MLP. The JSON notation is the nested dictionary that the golden figures use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from numpy.random import Generator

MAX_BLOCKS = 10
MAX_LAYERS_PER_BLOCK = 3
MAX_DENSE_LAYERS = 3
MAX_MLP_LAYERS = 7
KERNEL_SIZES = (3, 5, 7)
MAX_FILTERS = 128
POOL_SIZES = (2, 4, 6)
MIN_UNITS, MAX_UNITS = 10, 256  # what is drawn; pruning may leave fewer units, down to one

RELU_PROBABILITY = 0.9
PRE_POOL_PROBABILITY = 0.25
POOLING_PROBABILITY = 0.9

T = TypeVar("T")


class ArchitectureError(ValueError):
    """An architecture outside the search space, or JSON that is not one; the message opens with the JSON path."""


class LayerType(StrEnum):
    """Convolution flavours, by their name in the JSON notation."""

    CONV = "Conv2D"
    POINTWISE = "1x1Conv2D"
    DEPTHWISE = "DWConv2D"


class PoolType(StrEnum):
    """Kinds of pooling, by their name in the JSON notation."""

    AVG = "avg"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution layer: optional 2x2 max pre-pool, convolution, optional batch norm, optional ReLU.

    `filters` is 0 for a depthwise layer, which keeps its channels; `kernel` is 1 and `stride` 1 for a 1x1 layer.
    """

    type: LayerType
    kernel: int = 1
    filters: int = 0
    stride: int = 1
    batch_norm: bool = False
    relu: bool = False
    pre_pool: bool = False

    def __post_init__(self) -> None:
        pointwise = self.type is LayerType.POINTWISE
        _one_of("ker_size", self.kernel, (1,) if pointwise else KERNEL_SIZES)
        _one_of("stride", self.stride, (1,) if pointwise else (1, 2))
        if self.type is LayerType.DEPTHWISE:
            _one_of("filters", self.filters, (0,))
        else:
            _in_range("filters", self.filters, 1, MAX_FILTERS)


@dataclass(frozen=True, slots=True)
class Block:
    """1-3 layers in a row; a branch reads the input of the last main block and is added to its output."""

    layers: tuple[Layer, ...]
    is_branch: bool = False

    def __post_init__(self) -> None:
        _in_range("number of layers", len(self.layers), 1, MAX_LAYERS_PER_BLOCK)


@dataclass(frozen=True, slots=True)
class Pooling:
    """Final pooling before the dense tail; the window is square and clipped to the feature map."""

    type: PoolType
    size: int

    def __post_init__(self) -> None:
        _one_of("pool_size", self.size, POOL_SIZES)


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A hidden dense layer. The space has 10-256 units; a network that was pruned may have fewer."""

    units: int
    relu: bool = True

    def __post_init__(self) -> None:
        _in_range("units", self.units, 1, MAX_UNITS)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A CNN of the search space. The layer that gives the logits is implied by the number of classes."""

    blocks: tuple[Block, ...]
    pooling: Pooling | None
    dense: tuple[DenseLayer, ...]

    def __post_init__(self) -> None:
        _in_range("number of conv_blocks", len(self.blocks), 1, MAX_BLOCKS)
        _in_range("number of dense_blocks", len(self.dense), 1, MAX_DENSE_LAYERS)
        if self.blocks[0].is_branch:
            raise ArchitectureError("conv_blocks[0]: the first block cannot be a branch")


@dataclass(frozen=True, slots=True)
class MlpArchitecture:
    """A multilayer perceptron: 1-7 hidden ReLU layers, given by their units (10-256, fewer once pruned)."""

    units: tuple[int, ...]

    def __post_init__(self) -> None:
        _in_range("number of layers", len(self.units), 1, MAX_MLP_LAYERS)
        for index, units in enumerate(self.units):
            _in_range(f"[{index}].units", units, 1, MAX_UNITS)


AnyArchitecture: TypeAlias = Architecture | MlpArchitecture


def narrowed(architecture: AnyArchitecture, share: float) -> AnyArchitecture:
    """The same network with a share (0..1) of the filters and units of every layer: one or more, and as few units as
    the space has."""

    def units(number: int) -> int:
        return max(MIN_UNITS, round(share * number))

    def layer(wide: Layer) -> Layer:
        return wide if wide.type is LayerType.DEPTHWISE else replace(wide, filters=max(1, round(share * wide.filters)))

    if isinstance(architecture, MlpArchitecture):
        return MlpArchitecture(tuple(map(units, architecture.units)))
    blocks = tuple(replace(block, layers=tuple(map(layer, block.layers))) for block in architecture.blocks)
    dense = tuple(replace(hidden, units=units(hidden.units)) for hidden in architecture.dense)
    return replace(architecture, blocks=blocks, dense=dense)


# ---------------------------------------------------------------------------------------------- JSON


def parse_architecture(obj: object) -> AnyArchitecture:
    """Read the JSON notation: an object is a CNN, a list an MLP. Raises ArchitectureError with the JSON path."""
    if isinstance(obj, list):
        units = tuple(
            _integer(_object(item, f"[{index}]", {"units"}), "units", f"[{index}]") for index, item in enumerate(obj)
        )
        return _at("", lambda: MlpArchitecture(units))
    fields = _object(obj, "", {"conv_blocks", "pooling", "dense_blocks"})
    blocks = tuple(_parse_block(item, path) for item, path in _items(fields, "conv_blocks", ""))
    dense = tuple(_parse_dense(item, path) for item, path in _items(fields, "dense_blocks", ""))
    pooling = None if fields["pooling"] is None else _parse_pooling(fields["pooling"], "pooling")
    return _at("", lambda: Architecture(blocks, pooling, dense))


def to_dict(architecture: AnyArchitecture) -> dict[str, Any] | list[dict[str, Any]]:
    """JSON notation of an architecture: `parse_architecture(to_dict(a)) == a`."""
    if isinstance(architecture, MlpArchitecture):
        return [{"units": units} for units in architecture.units]
    pooling = architecture.pooling
    return {
        "conv_blocks": [
            {"is_branch": block.is_branch, "layers": [_layer_dict(layer) for layer in block.layers]}
            for block in architecture.blocks
        ],
        "pooling": None if pooling is None else {"type": pooling.type.value, "pool_size": pooling.size},
        "dense_blocks": [
            {"units": layer.units, "activation": "relu" if layer.relu else None} for layer in architecture.dense
        ],
    }


def _layer_dict(layer: Layer) -> dict[str, Any]:
    values = {
        "type": layer.type.value,
        "ker_size": layer.kernel,
        "filters": layer.filters,
        "2x_stride": layer.stride == 2,
        "has_bn": layer.batch_norm,
        "has_relu": layer.relu,
        "has_prepool": layer.pre_pool,
    }
    return {key: value for key, value in values.items() if key in _LAYER_KEYS[layer.type]}


_COMMON_KEYS = {"type", "has_bn", "has_relu", "has_prepool"}
_LAYER_KEYS = {
    LayerType.CONV: _COMMON_KEYS | {"ker_size", "filters", "2x_stride"},
    LayerType.POINTWISE: _COMMON_KEYS | {"filters"},
    LayerType.DEPTHWISE: _COMMON_KEYS | {"ker_size", "2x_stride"},
}


def _parse_block(obj: object, path: str) -> Block:
    fields = _object(obj, path, {"is_branch", "layers"})
    layers = tuple(_parse_layer(item, item_path) for item, item_path in _items(fields, "layers", path))
    is_branch = _boolean(fields, "is_branch", path)
    return _at(path, lambda: Block(layers, is_branch))


def _parse_layer(obj: object, path: str) -> Layer:
    if not isinstance(obj, Mapping) or obj.get("type") not in tuple(LayerType):
        raise ArchitectureError(f"{path}: expected an object whose type is one of {', '.join(LayerType)}")
    kind = LayerType(obj["type"])
    fields = _object(obj, path, _LAYER_KEYS[kind])
    kernel = _integer(fields, "ker_size", path) if "ker_size" in fields else 1
    filters = _integer(fields, "filters", path) if "filters" in fields else 0
    stride = 2 if "2x_stride" in fields and _boolean(fields, "2x_stride", path) else 1
    batch_norm, relu, pre_pool = (_boolean(fields, key, path) for key in ("has_bn", "has_relu", "has_prepool"))
    return _at(path, lambda: Layer(kind, kernel, filters, stride, batch_norm, relu, pre_pool))


def _parse_pooling(obj: object, path: str) -> Pooling:
    fields = _object(obj, path, {"type", "pool_size"})
    if fields["type"] not in tuple(PoolType):
        raise ArchitectureError(f"{path}.type: expected one of {', '.join(PoolType)}, got {fields['type']!r}")
    size = _integer(fields, "pool_size", path)
    return _at(path, lambda: Pooling(PoolType(fields["type"]), size))


def _parse_dense(obj: object, path: str) -> DenseLayer:
    fields = _object(obj, path, {"units", "activation"})
    if fields["activation"] not in ("relu", None):
        raise ArchitectureError(f'{path}.activation: expected "relu" or null, got {fields["activation"]!r}')
    units = _integer(fields, "units", path)
    return _at(path, lambda: DenseLayer(units, fields["activation"] == "relu"))


def _object(obj: object, path: str, keys: set[str]) -> Mapping[str, Any]:
    """The object itself when it has exactly `keys`."""
    where = path or "architecture"
    if not isinstance(obj, Mapping):
        raise ArchitectureError(f"{where}: expected an object, got {type(obj).__name__}")
    if missing := sorted(keys - set(obj)):
        raise ArchitectureError(f"{where}: missing {', '.join(missing)}")
    if unknown := sorted(str(key) for key in set(obj) - keys):
        raise ArchitectureError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(keys))}")
    return obj


def _items(fields: Mapping[str, Any], key: str, path: str) -> list[tuple[object, str]]:
    where = f"{path}.{key}" if path else key
    if not isinstance(fields[key], list):
        raise ArchitectureError(f"{where}: expected a list, got {type(fields[key]).__name__}")
    return [(item, f"{where}[{index}]") for index, item in enumerate(fields[key])]


def _integer(fields: Mapping[str, Any], key: str, path: str) -> int:
    value = fields[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArchitectureError(f"{path}.{key}: expected an integer, got {value!r}")
    return value


def _boolean(fields: Mapping[str, Any], key: str, path: str) -> bool:
    value = fields[key]
    if not isinstance(value, bool):
        raise ArchitectureError(f"{path}.{key}: expected true or false, got {value!r}")
    return value


def _at(path: str, make: Callable[[], T]) -> T:
    """Run `make`, prefixing the path to the range error that it may raise."""
    try:
        return make()
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: {error}" if path else str(error)) from None


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ArchitectureError(f"{name} {value} is not in {low}..{high}")


def _one_of(name: str, value: int, allowed: Sequence[int]) -> None:
    if value not in allowed:
        raise ArchitectureError(f"{name} {value} is not one of {', '.join(map(str, allowed))}")


# -------------------------------------------------------------------------------------------- random
# Every draw takes one double from the generator and nothing else, so that a seed gives the same network on every
# platform and numpy version: the integer methods of Generator have changed their streams in the past.


def random_authors_cnn(rng: Generator) -> Architecture:
    """A CNN from the ranges that the authors' generator draws from, which leaves out the upper end of each: 1-9 blocks,
    1-2 layers, kernels 3 and 5, 1-127 filters, pools 2 and 4, 1-2 dense layers, 10-255 units. Morphs reach the rest."""
    return _random_cnn(rng, 1)


def random_cnn(rng: Generator) -> Architecture:
    """A CNN drawn as µNAS does: every choice uniform but ReLU (0.9), pre-pool (0.25) and final pooling (0.9)."""
    return _random_cnn(rng, 0)


def _random_cnn(rng: Generator, less: int) -> Architecture:
    """A CNN from ranges without their `less` uppermost values."""
    blocks = tuple(
        random_block(rng, index > 0, MAX_LAYERS_PER_BLOCK - less, less)
        for index in range(draw_integer(rng, 1, MAX_BLOCKS - less))
    )
    pooling = random_pooling(rng, less) if draw_boolean(rng, POOLING_PROBABILITY) else None
    dense = tuple(random_dense(rng, less) for _ in range(draw_integer(rng, 1, MAX_DENSE_LAYERS - less)))
    return Architecture(blocks, pooling, dense)


def random_mlp(rng: Generator) -> MlpArchitecture:
    """An MLP with 1-7 layers of 10-256 units, uniform."""
    return MlpArchitecture(
        tuple(draw_integer(rng, MIN_UNITS, MAX_UNITS) for _ in range(draw_integer(rng, 1, MAX_MLP_LAYERS)))
    )


def random_block(rng: Generator, may_branch: bool, max_layers: int = MAX_LAYERS_PER_BLOCK, less: int = 0) -> Block:
    """A block of 1..max_layers layers; a branch with probability 0.5 where `may_branch`. The `less` uppermost kernels
    and filters are left out."""
    is_branch = may_branch and draw_boolean(rng)
    return Block(tuple(random_layer(rng, less=less) for _ in range(draw_integer(rng, 1, max_layers))), is_branch)


def random_layer(rng: Generator, kind: LayerType | None = None, less: int = 0) -> Layer:
    """A layer of the given type, or of a uniformly drawn one."""
    kind = draw_choice(rng, tuple(LayerType)) if kind is None else kind
    pointwise, depthwise = kind is LayerType.POINTWISE, kind is LayerType.DEPTHWISE
    return Layer(
        type=kind,
        kernel=1 if pointwise else draw_choice(rng, KERNEL_SIZES[: len(KERNEL_SIZES) - less]),
        filters=0 if depthwise else draw_integer(rng, 1, MAX_FILTERS - less),
        stride=1 if pointwise else 1 + draw_boolean(rng),
        batch_norm=draw_boolean(rng),
        relu=draw_boolean(rng, RELU_PROBABILITY),
        pre_pool=draw_boolean(rng, PRE_POOL_PROBABILITY),
    )


def random_pooling(rng: Generator, less: int = 0) -> Pooling:
    """A final pooling, type and size uniform."""
    return Pooling(draw_choice(rng, tuple(PoolType)), draw_choice(rng, POOL_SIZES[: len(POOL_SIZES) - less]))


def random_dense(rng: Generator, less: int = 0) -> DenseLayer:
    """A hidden ReLU layer of uniformly many units."""
    return DenseLayer(draw_integer(rng, MIN_UNITS, MAX_UNITS - less))


def draw_integer(rng: Generator, low: int, high: int) -> int:
    """Uniform integer in low..high, both included."""
    return low + int(rng.random() * (high - low + 1))


def draw_boolean(rng: Generator, probability: float = 0.5) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def draw_choice(rng: Generator, options: Sequence[T]) -> T:
    """One of the options, uniform."""
    return options[draw_integer(rng, 0, len(options) - 1)]
