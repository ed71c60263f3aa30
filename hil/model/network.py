"""An imported network: what planner, code generator and reference need, and nothing that they would have to check.

`hil.model.load.parse_model` turns an untrusted .tflite into a `Model` or raises `hil.errors.ModelError`. Whoever holds
a `Model` may rely on:

- The network is an int8 core of batch 1. QUANTIZE/DEQUANTIZE to and from float32 or uint8 at the very edges are not in
  `ops`; `edges` says how the file's own inputs and outputs map to `inputs` and `outputs`.
- `tensors[i].index == i`; only tensors of the core are listed. Activations are INT8 with one scale and one zero point
  in [-128, 127]; they hold no data. Each is an input, or is written exactly once.
- `ops` is in a topological order (the file's order). Shapes agree with the parameters. An operator of the file may be
  several of these (SPLIT), or none (integer arithmetic on static shapes, which the importer has computed). An output
  may be an input.
- Activations of `hil.model.tflite.schema.WIDE_KINDS` may be INT16, with zero point 0, or -32768 (a SOFTMAX of int8).
  All of an operator's are, but for SOFTMAX and QUANTIZE. Biases are INT64 then.
- Weights are INT8 with zero point 0 and data; biases are INT32 with data; other constants are INT8 with one scale and
  zero point. A scale is finite and positive, and small and large enough for TFLite's integer multipliers to exist.
- Shapes, axes and paddings that a file gives as constant tensors are in `params`; such tensors are not in `Op.inputs`.
- No text of the file reaches anything but `Tensor.name`, which is for reports only: at most 64 printable
  ASCII characters.

What `Op.params` is decides what an operator reads and does; `Op.kind` is what the file calls it, and picks the function
where the parameters are shared. One output each:

    ConvParams           x (1, H, W, Cin), weights (Cout, KH, KW, Cin / groups), bias (Cout,) or -1, along axis 0
    DepthwiseParams      x (1, H, W, Cin), weights (1, KH, KW, Cin * multiplier), bias or -1         along axis 3
    TransposeConvParams  x (1, H, W, Cin), weights (Cout, KH, KW, Cin), bias or -1                   along axis 0
    DenseParams          x (R * N elements), weights (M, N), bias or -1               per tensor or along axis 0
    AddParams            a, b of one shape
    BinaryParams         a, b that broadcast to the output; either may be a constant, not both
    ConcatParams         1 to 64 tensors (ASSIGN_VARIABLE: the one that is copied into a state)
    LstmParams           x (steps * inputs), hidden state (cells), cell state (cells, int16), weights (4, cells,
                         inputs), weights of the hidden state (4, cells, cells), biases (4, cells)
    SvdfParams           x (inputs), state (filters * memory, int16), weights (filters, inputs), weights in time
                         (filters, memory, int16), bias (filters / rank)
    all others           x

Per-channel weights of convolutions have as many scales as output channels, or one scale for all (`len(scales) == 1`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod


class OpKind(StrEnum):
    """Operators that are imported, by the schema's names. In the core QUANTIZE means int8 to int8 (float32 between
    DEQUANTIZE and QUANTIZE is taken for the int8 that it was).
    """

    ADD = "ADD"
    AVERAGE_POOL_2D = "AVERAGE_POOL_2D"
    CONCATENATION = "CONCATENATION"
    CONV_2D = "CONV_2D"
    DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
    DEPTH_TO_SPACE = "DEPTH_TO_SPACE"
    DEQUANTIZE = "DEQUANTIZE"
    FULLY_CONNECTED = "FULLY_CONNECTED"
    LOGISTIC = "LOGISTIC"
    MAX_POOL_2D = "MAX_POOL_2D"
    MUL = "MUL"
    RELU = "RELU"
    RELU_N1_TO_1 = "RELU_N1_TO_1"
    RELU6 = "RELU6"
    RESHAPE = "RESHAPE"
    RESIZE_BILINEAR = "RESIZE_BILINEAR"
    SOFTMAX = "SOFTMAX"
    SPACE_TO_DEPTH = "SPACE_TO_DEPTH"
    TANH = "TANH"
    PAD = "PAD"
    GATHER = "GATHER"
    BATCH_TO_SPACE_ND = "BATCH_TO_SPACE_ND"
    SPACE_TO_BATCH_ND = "SPACE_TO_BATCH_ND"
    TRANSPOSE = "TRANSPOSE"
    MEAN = "MEAN"
    SUB = "SUB"
    SQUEEZE = "SQUEEZE"
    STRIDED_SLICE = "STRIDED_SLICE"
    EXP = "EXP"
    LOG = "LOG"
    LOG_SOFTMAX = "LOG_SOFTMAX"
    SPLIT = "SPLIT"
    PRELU = "PRELU"
    MAXIMUM = "MAXIMUM"
    MINIMUM = "MINIMUM"
    PADV2 = "PADV2"
    SLICE = "SLICE"
    TRANSPOSE_CONV = "TRANSPOSE_CONV"
    EXPAND_DIMS = "EXPAND_DIMS"
    REDUCE_MAX = "REDUCE_MAX"
    PACK = "PACK"
    UNPACK = "UNPACK"
    REDUCE_MIN = "REDUCE_MIN"
    RESIZE_NEAREST_NEIGHBOR = "RESIZE_NEAREST_NEIGHBOR"
    LEAKY_RELU = "LEAKY_RELU"
    ABS = "ABS"
    MIRROR_PAD = "MIRROR_PAD"
    REVERSE_V2 = "REVERSE_V2"
    SPLIT_V = "SPLIT_V"
    QUANTIZE = "QUANTIZE"
    HARD_SWISH = "HARD_SWISH"
    GELU = "GELU"
    TILE = "TILE"
    CALL_ONCE = "CALL_ONCE"
    VAR_HANDLE = "VAR_HANDLE"
    READ_VARIABLE = "READ_VARIABLE"
    ASSIGN_VARIABLE = "ASSIGN_VARIABLE"
    BROADCAST_TO = "BROADCAST_TO"
    UNIDIRECTIONAL_SEQUENCE_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    SVDF = "SVDF"


class DType(StrEnum):
    """Element types. FLOAT32 and UINT8 only occur at the edges, INT64 in biases of 16-bit activations."""

    INT8 = "int8"
    INT16 = "int16"
    INT64 = "int64"
    INT32 = "int32"
    UINT8 = "uint8"
    FLOAT32 = "float32"

    @property
    def size_bytes(self) -> int:
        """Bytes an element takes."""
        return {DType.INT8: 1, DType.UINT8: 1, DType.INT16: 2, DType.INT64: 8}.get(self, 4)


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
    """CONV_2D. Pairs are (height, width). Padding is filled with the input's zero point. Output channel o reads the
    input channels of group o // (Cout / groups).
    """

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding
    activation: Activation
    groups: int = 1


@dataclass(frozen=True, slots=True)
class DepthwiseParams:
    """DEPTHWISE_CONV_2D: output channel o reads input channel o // depth_multiplier."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding
    activation: Activation
    depth_multiplier: int


@dataclass(frozen=True, slots=True)
class TransposeConvParams:
    """TRANSPOSE_CONV: input pixel (y, x) adds to output pixels from
    (y, x) * stride - (padding.top, padding.left) on.
    """

    stride: tuple[int, int]
    padding: Padding
    activation: Activation


@dataclass(frozen=True, slots=True)
class DenseParams:
    """FULLY_CONNECTED: the input's elements are read as `rows` vectors of as many as a unit has weights."""

    activation: Activation
    rows: int = 1


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
class BinaryParams:
    """ADD, SUB, MUL, MAXIMUM, MINIMUM and PRELU (input, alpha) of two tensors that broadcast to the output's shape."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class PadParams:
    """PAD, PADV2 by `value`, one entry a dimension of the tensor. Input and output share scale and zero point."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int


@dataclass(frozen=True, slots=True)
class ReshapeParams:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: only the shape changes (always equal to the output's)."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReduceParams:
    """MEAN, REDUCE_MAX, REDUCE_MIN over `axes` (ascending, not negative)."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SoftmaxParams:
    """SOFTMAX along the last dimension, whose output has scale 1/256 and zero point -128, and LOG_SOFTMAX, whose output
    has scale 1/16 and zero point 127."""

    beta: float


@dataclass(frozen=True, slots=True)
class ConcatParams:
    """CONCATENATION and PACK: runs of the inputs' elements from dimension `axis` on, one after the other.

    All tensors share scale and zero point; no activation.
    """

    axis: int


@dataclass(frozen=True, slots=True)
class LookupParams:
    """A function of one int8: `table` holds its 256 int8 results, for -128 first."""

    table: bytes


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a movement: where its `count` elements lie in the input, as offsets from the first one.

    They are `step` elements apart (0: the same one again and again), or where `offsets` says.
    """

    count: int
    step: int
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class WideFunctionParams:
    """LOGISTIC and TANH of int16: an input times `multiplier`, shifted right by `shift`, is where a table is read."""

    multiplier: int
    shift: int


@dataclass(frozen=True, slots=True)
class MoveParams:
    """Whatever only moves elements: output (i, j, ...) is input element `start` + the axes' offsets of i, j, ...

    STRIDED_SLICE, SLICE, SPLIT, SPLIT_V, UNPACK, TRANSPOSE, REVERSE_V2, GATHER of constants, TILE, BROADCAST_TO,
    MIRROR_PAD, DEPTH_TO_SPACE, SPACE_TO_DEPTH, RESIZE_NEAREST_NEIGHBOR. `axes` have as many elements in all as the
    output.
    """

    start: int
    axes: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class ResizeParams:
    """RESIZE_BILINEAR of (1, H, W, C). Scales are input pixels an output pixel, times 1024."""

    scale: tuple[int, int]
    half_pixel_centers: bool


@dataclass(frozen=True, slots=True)
class LstmParams:
    """UNIDIRECTIONAL_SEQUENCE_LSTM over `steps` inputs. Gates are those of input, forgetting, cell and output.

    `input_scales` and `hidden_scales` take each gate's sums to steps of 2^-12, `output_scale` products of two numbers
    of 16 bits to the output's steps. A cell has `integer_bits` besides its sign, and is at most `clip` (0: anything).
    """

    steps: int
    input_scales: tuple[float, ...]
    hidden_scales: tuple[float, ...]
    output_scale: float
    output_zero_point: int
    integer_bits: int
    clip: int


@dataclass(frozen=True, slots=True)
class SvdfParams:
    """SVDF: `rank` filters make one output. Scales take a filter's sum to its state's steps, those to the output's."""

    rank: int
    feature_scale: float
    output_scale: float


@dataclass(frozen=True, slots=True)
class NoParams:
    """RELU, RELU6 (scales may differ between input and output) and QUANTIZE (int8 to int8)."""


Params = (
    ConvParams
    | DepthwiseParams
    | TransposeConvParams
    | DenseParams
    | PoolParams
    | AddParams
    | BinaryParams
    | PadParams
    | ReshapeParams
    | ReduceParams
    | SoftmaxParams
    | ConcatParams
    | LookupParams
    | MoveParams
    | ResizeParams
    | LstmParams
    | SvdfParams
    | WideFunctionParams
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
    `core_tensor` the one of the int8 tensor behind it; they are equal for INT8. A softmax and its like on float32 in
    front of an output are not in the core either.
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
    """The int8 core of a .tflite. `name` is the caller's (file stem), `sha256` that of the whole file, in hex.

    `states` are tensors that live from one inference to the next, with what they hold before the first one. They are
    read before ASSIGN_VARIABLE writes them, or belong to one LSTM or SVDF, which does both.
    """

    name: str
    sha256: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    edges: Edges
    states: tuple[tuple[int, bytes], ...] = ()
