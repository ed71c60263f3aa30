"""An imported network: what planner, code generator and reference need, and nothing that they would have to check.

`hil.model.load.parse_model` turns an untrusted .tflite into a `Model` or raises `hil.errors.ModelError`. Whoever holds
a `Model` may rely on:

- The network is an int8 core of batch 1. QUANTIZE/DEQUANTIZE to and from float32 or uint8 at the very edges are not in
  `ops`; `edges` says how the file's own inputs and outputs map to `inputs` and `outputs`.
- `tensors[i].index == i`; only tensors of the core are listed. Activations are INT8 with one scale and one zero point
  in [-128, 127]; they hold no data. Their first dimension is 1. Each is an input, or is written exactly once.
- `ops` is in a topological order (the file's order). Shapes agree with the parameters.
- Weights are INT8 with zero point 0 and data; biases are INT32 with data. A scale is finite and positive, and small and
  large enough for TFLite's integer multipliers to exist.
- Shapes, axes and paddings that a file gives as constant tensors are in `params`; such tensors are not in `Op.inputs`.
- No text of the file reaches anything but `Tensor.name`, which is for reports only: at most 64 printable
  ASCII characters.

Inputs of each kind (`Op.inputs`), one output each:

    CONV_2D            x (1, H, W, Cin), weights (Cout, KH, KW, Cin), bias (Cout,) or -1     quantised along axis 0
    DEPTHWISE_CONV_2D  x (1, H, W, Cin), weights (1, KH, KW, Cin * multiplier), bias or -1   quantised along axis 3
    FULLY_CONNECTED    x (any shape of N elements), weights (M, N), bias or -1       per tensor or along axis 0
    MAX_POOL_2D, AVERAGE_POOL_2D, MEAN, PAD, RESHAPE, SOFTMAX, RELU, RELU6, QUANTIZE         x
    ADD                a, b of one shape
    CONCATENATION      1 to 16 tensors

Per-channel weights of convolutions have as many scales as output channels, or one scale for all (`len(scales) == 1`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod


class OpKind(StrEnum):
    """Operators of the int8 core. DEQUANTIZE only occurs at the edges, QUANTIZE in the core means int8 to int8."""

    CONV_2D = "CONV_2D"
    DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
    FULLY_CONNECTED = "FULLY_CONNECTED"
    MAX_POOL_2D = "MAX_POOL_2D"
    AVERAGE_POOL_2D = "AVERAGE_POOL_2D"
    ADD = "ADD"
    PAD = "PAD"
    RESHAPE = "RESHAPE"
    MEAN = "MEAN"
    SOFTMAX = "SOFTMAX"
    RELU = "RELU"
    RELU6 = "RELU6"
    CONCATENATION = "CONCATENATION"
    QUANTIZE = "QUANTIZE"
    DEQUANTIZE = "DEQUANTIZE"


class DType(StrEnum):
    """Element types. In the core only INT8 and INT32 occur; FLOAT32 and UINT8 at the edges."""

    INT8 = "int8"
    INT32 = "int32"
    UINT8 = "uint8"
    FLOAT32 = "float32"

    @property
    def size_bytes(self) -> int:
        """Bytes an element takes."""
        return 1 if self in (DType.INT8, DType.UINT8) else 4


class Activation(StrEnum):
    """Fused activation; its int8 range follows from the output's quantisation (TFLite: CalculateActivationRange...)."""

    NONE = "NONE"
    RELU = "RELU"
    RELU_N1_TO_1 = "RELU_N1_TO_1"
    RELU6 = "RELU6"


@dataclass(frozen=True, slots=True)
class Quantization:
    """real = scale * (q - zero_point). Scales are float32 values; one per tensor, or one per index along `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantisation (the first one otherwise)."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantisation (0 for weights and biases)."""
        return self.zero_points[0]

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale."""
        return len(self.scales) > 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """An activation (`data` is None) or a constant (`data` holds prod(shape) little-endian elements)."""

    index: int
    shape: tuple[int, ...]
    dtype: DType
    quantization: Quantization | None
    data: bytes | None
    name: str = ""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's contents."""
        return self.elements * self.dtype.size_bytes

    @property
    def quant(self) -> Quantization:
        """The quantisation of a tensor that must have one (every activation, weight and bias does)."""
        assert self.quantization is not None
        return self.quantization


@dataclass(frozen=True, slots=True)
class Padding:
    """Explicit spatial padding in elements (SAME and VALID are resolved by the importer, as TFLite computes them)."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class ConvParams:
    """CONV_2D. Pairs are (height, width). Padding is filled with the input's zero point."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass(frozen=True, slots=True)
class DepthwiseParams:
    """DEPTHWISE_CONV_2D: output channel o reads input channel o // depth_multiplier."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding
    activation: Activation
    depth_multiplier: int


@dataclass(frozen=True, slots=True)
class DenseParams:
    """FULLY_CONNECTED: the input's N elements are read as one vector, whatever its shape is."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class PoolParams:
    """MAX_POOL_2D, AVERAGE_POOL_2D. Padded elements do not count. Input and output share scale and zero point."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass(frozen=True, slots=True)
class AddParams:
    """ADD of two activations of one shape, each with its own scale."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class PadParams:
    """PAD by the zero point, one entry a dimension of the tensor. Input and output share scale and zero point."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReshapeParams:
    """RESHAPE: only the shape changes (always equal to the output's)."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MeanParams:
    """MEAN over height and width (axes (1, 2) of a rank-4 tensor)."""

    axes: tuple[int, ...]
    keep_dims: bool


@dataclass(frozen=True, slots=True)
class SoftmaxParams:
    """SOFTMAX along the last dimension; the output has scale 1/256 and zero point -128."""

    beta: float


@dataclass(frozen=True, slots=True)
class ConcatParams:
    """CONCATENATION along `axis` (not negative, never 0). All tensors share scale and zero point; no activation."""

    axis: int


@dataclass(frozen=True, slots=True)
class NoParams:
    """RELU, RELU6 (scales may differ between input and output) and QUANTIZE (int8 to int8)."""


Params = (
    ConvParams
    | DepthwiseParams
    | DenseParams
    | PoolParams
    | AddParams
    | PadParams
    | ReshapeParams
    | MeanParams
    | SoftmaxParams
    | ConcatParams
    | NoParams
)


@dataclass(frozen=True, slots=True)
class Op:
    """One operator. `index` is its place in the file (edges count there too); tensors index Model.tensors."""

    index: int
    kind: OpKind
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: Params


@dataclass(frozen=True, slots=True)
class Edge:
    """How one input or output of the file maps to the core.

    `dtype`/`quantization` describe the file's own tensor (INT8: it is the core's tensor itself; FLOAT32 has no
    quantisation; UINT8 differs from the core by 128 only). `file_tensor` is that tensor's index *in the file*, and
    `core_tensor` the one of the int8 tensor behind it; they are equal for INT8.
    """

    dtype: DType
    quantization: Quantization | None
    file_tensor: int
    core_tensor: int


@dataclass(frozen=True, slots=True)
class Edges:
    """One edge for each of Model.inputs and Model.outputs, in their order."""

    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """The int8 core of a .tflite. `name` is the caller's (file stem), `sha256` that of the whole file, in hex."""

    name: str
    sha256: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    edges: Edges
