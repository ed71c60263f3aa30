"""Random networks of one operator or a few that the search space does not have: arithmetic, functions, movements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from munas.tflite.file import QUANTIZE_OPTIONS, Code, Fused, Options, concat_options
from tests.firmware.operators import Network

_FUSED = (Fused.NONE, Fused.RELU, Fused.RELU6, Fused.RELU_N1_TO_1)
FUNCTIONS = {
    Code.LOGISTIC: None, Code.TANH: None, Code.EXP: None, Code.HARD_SWISH: None, Code.ABS: Options(78),
    Code.RELU_N1_TO_1: None, Code.LEAKY_RELU: None, Code.LOG: None, Code.GELU: None,
}  # fmt: skip
_BINARY = {
    Code.ADD: 11, Code.SUB: 28, Code.MUL: 21, Code.MAXIMUM: 39, Code.MINIMUM: 39, Code.PRELU: 0
}  # fmt: skip


def _result(n: Network, code: Code, inputs: Sequence[int], shape: Sequence[int], options: Options | None,
            like: int | None = None, scale: float | None = None) -> int:  # fmt: skip
    """An operator whose output has `shape`, batch included where it is not 1 at the front."""
    output = n.activation(tuple(shape[1:]), scale) if like is None else n.like(like, tuple(shape[1:]))
    n.file.operator(code, inputs, output, options)
    return output


def _full(n: Network, tensor: int) -> tuple[int, ...]:
    return (1, *n.shapes[tensor])


def _ints(n: Network, values: object) -> int:
    return n.file.constant("i", np.array(values, "<i4"))


def function(n: Network) -> int:
    """A function of one int8, over all of its values."""
    rng = n.rng
    code = list(FUNCTIONS)[int(rng.integers(len(FUNCTIONS)))]
    return function_of(n, code)


def function_of(n: Network, code: Code) -> int:
    """`code` at scales that its results suit."""
    rng = n.rng
    source_scale, source_zero = n.scales[n.input]
    options = FUNCTIONS[code]
    scale, zero = source_scale * rng.uniform(0.4, 2), int(rng.integers(-128, 128))
    if code is Code.LOGISTIC:
        scale, zero = 1 / 256, -128
    elif code is Code.TANH:
        scale, zero = 1 / 128, 0
    elif code is Code.EXP:
        scale = math.exp(source_scale * (127 - source_zero)) / rng.uniform(100, 300)
    elif code is Code.LOG:
        scale = float(rng.uniform(0.01, 0.1))
    elif code is Code.GELU:
        options = Options(116, ((0, "Bool", int(rng.random() < 0.5)),))
    elif code is Code.HARD_SWISH:
        scale = source_scale * rng.uniform(0.5, 2)
    elif code is Code.LEAKY_RELU:
        options = Options(75, ((0, "Float32", float(rng.choice([0.01, 0.1, 0.3, 1.5, -0.2]))),))
    output = n.activation(n.shapes[n.input], scale, zero)
    n.file.operator(code, [n.input], output, options)
    return output


def _operand_shape(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to (1, *shape): whole, per channel, scalar, or with some dimensions of 1."""
    choice = int(rng.integers(5))
    if choice == 0:
        return (1, *shape)
    if choice == 1:
        return (shape[-1],)
    if choice == 2:
        return ()
    return (1, *(size if rng.random() < 0.6 else 1 for size in shape))


def binary_of(n: Network, code: Code) -> int:
    """`code` of two operands: activations or a constant on either side, one of them perhaps smaller."""
    rng, shape = n.rng, n.shapes[n.input]
    extreme = code in (Code.MAXIMUM, Code.MINIMUM)
    scale, zero = n.scales[n.input]
    if rng.random() < 0.5 or code is Code.PRELU:
        small = _operand_shape(rng, shape)
        other_scale = scale if extreme else float(np.float32(rng.uniform(0.01, 0.1)))
        other_zero = zero if extreme else int(rng.integers(-128, 128))
        values = rng.integers(-128, 128, small).astype(np.int8)
        other = n.file.constant("c", np.asarray(values, np.int8), [other_scale], zero_point=other_zero)
    elif rng.random() < 0.5 and max(shape) > 1:  # a smaller activation: the mean of one
        other = n.reduce(Code.REDUCE_MAX, n.input, [1, 2]) if rng.random() < 0.5 else n.input
        other_scale, _ = n.scales[other]
        if not extreme and other != n.input:
            other = n.requantize(other)
            other_scale, _ = n.scales[other]
    else:
        other = n.input if extreme else n.requantize(n.input)
        other_scale, _ = n.scales[other]
    big = scale * other_scale * 60 if code is Code.MUL else scale + other_scale
    if code is Code.PRELU:
        big = max(scale * other_scale * 100, scale)
    output = n.like(n.input, shape) if extreme else n.activation(shape, big * rng.uniform(0.5, 1.5))
    fused = int(rng.choice(_FUSED)) if code in (Code.ADD, Code.SUB, Code.MUL) else 0
    union = _BINARY[code]
    options = Options(union, ((0, "Int8", fused),) if fused else ()) if union else None
    first, second = (n.input, other) if code is Code.PRELU or rng.random() < 0.7 else (other, n.input)
    n.file.operator(code, [first, second], output, options)
    return output


def add_broadcast(n: Network) -> int:
    return binary_of(n, Code.ADD)


def sub(n: Network) -> int:
    return binary_of(n, Code.SUB)


def mul(n: Network) -> int:
    return binary_of(n, Code.MUL)


def maximum(n: Network) -> int:
    return binary_of(n, Code.MAXIMUM)


def minimum(n: Network) -> int:
    return binary_of(n, Code.MINIMUM)


def prelu(n: Network) -> int:
    return binary_of(n, Code.PRELU)


def _axes(n: Network) -> list[int]:
    rank = len(n.shapes[n.input]) + 1
    count = int(n.rng.integers(1, rank))
    return sorted(int(axis) for axis in n.rng.choice(np.arange(1, rank), count, replace=False))


def reduce_mean(n: Network) -> int:
    return n.reduce(Code.MEAN, n.input, _axes(n), bool(n.rng.random() < 0.5))


def reduce_max(n: Network) -> int:
    return n.reduce(Code.REDUCE_MAX, n.input, _axes(n), bool(n.rng.random() < 0.5))


def reduce_min(n: Network) -> int:
    return n.reduce(Code.REDUCE_MIN, n.input, _axes(n), bool(n.rng.random() < 0.5))


def strided_slice(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    begins, ends, steps, masks = [0], [1], [1], [1, 1]
    for axis, size in enumerate(shape[1:], start=1):
        low, high = sorted(int(value) for value in rng.integers(0, size + 1, 2))
        high = max(high, low + 1)
        step = int(rng.integers(1, 3))
        if high > size:
            low, high = size - 1, size
        if rng.random() < 0.25:
            low, high, step = high - 1, low - 1 if low else -size - 1, -step
        begins.append(low - size if low >= 0 and rng.random() < 0.3 else low)
        ends.append(high)
        steps.append(step)
        if rng.random() < 0.2:
            masks[0] |= 1 << axis
        if rng.random() < 0.2:
            masks[1] |= 1 << axis
    index = tuple(
        slice(None if masks[0] >> axis & 1 else begin, None if masks[1] >> axis & 1 else end, step)
        for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True))
    )
    result = np.empty(shape)[index].shape
    if 0 in result:
        return strided_slice(n)
    options = Options(32, ((0, "Int32", masks[0]), (1, "Int32", masks[1])))
    inputs = [n.input, _ints(n, begins), _ints(n, ends), _ints(n, steps)]
    return _result(n, Code.STRIDED_SLICE, inputs, result, options, like=n.input)


def slice_part(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    begins = [int(rng.integers(0, size)) for size in shape]
    rows = list(zip(shape, begins, strict=True))
    sizes = [-1 if rng.random() < 0.3 else int(rng.integers(1, size - begin + 1)) for size, begin in rows]
    result = [size - begin if want == -1 else want for size, begin, want in zip(shape, begins, sizes, strict=True)]
    return _result(n, Code.SLICE, [n.input, _ints(n, begins), _ints(n, sizes)], result, Options(48), like=n.input)


def _rejoined(n: Network, parts: list[int], axis: int) -> int:
    """The parts in another order, so that all of them count."""
    return n.concat(parts[1:] + parts[:1], axis)


def split(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    axis = int(rng.integers(1, len(shape)))
    counts = [count for count in range(1, 5) if shape[axis] % count == 0]
    count = int(rng.choice(counts))
    part = tuple(size // count if at == axis else size for at, size in enumerate(shape))
    outputs = [n.like(n.input, part[1:]) for _ in range(count)]
    n.file.operator(Code.SPLIT, [_ints(n, axis), n.input], outputs, Options(35, ((0, "Int32", count),)))
    return _rejoined(n, outputs, axis)


def split_v(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    axis = int(rng.integers(1, len(shape)))
    first = int(rng.integers(1, shape[axis])) if shape[axis] > 1 else 1
    sizes = [first, shape[axis] - first] if first < shape[axis] else [first]
    outputs = [
        n.like(n.input, tuple(size if at == axis else have for at, have in enumerate(shape))[1:]) for size in sizes
    ]
    options = Options(79, ((0, "Int32", len(sizes)),))
    n.file.operator(Code.SPLIT_V, [n.input, _ints(n, sizes), _ints(n, axis)], outputs, options)
    return _rejoined(n, outputs, axis)


def unpack_pack(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    axis = int(rng.integers(1, len(shape)))
    part = tuple(size for at, size in enumerate(shape) if at != axis)
    outputs = [n.like(n.input, part[1:]) for _ in range(shape[axis])]
    n.file.operator(Code.UNPACK, [n.input], outputs, Options(64, ((0, "Int32", shape[axis]), (1, "Int32", axis))))
    to = int(rng.integers(1, len(shape)))
    result = (*part[:to], shape[axis], *part[to:])
    options = Options(59, ((0, "Int32", shape[axis]), (1, "Int32", to)))
    return _result(n, Code.PACK, outputs[::-1], result, options, like=n.input)


def transpose(n: Network) -> int:
    order = [0, *(1 + int(axis) for axis in n.rng.permutation(3))]
    shape = [_full(n, n.input)[axis] for axis in order]
    return _result(n, Code.TRANSPOSE, [n.input, _ints(n, order)], shape, Options(26), like=n.input)


def reverse(n: Network) -> int:
    shape = _full(n, n.input)
    first, last = sorted(int(axis) for axis in n.rng.integers(1, len(shape), 2))
    axes = _ints(n, range(first, last + 1))
    return _result(n, Code.REVERSE_V2, [n.input, axes], shape, Options(81), like=n.input)


def log_softmax(n: Network) -> int:
    """At scales from small ones on, at which all logarithms are alike, to those at which few are not the least."""
    scale = float(np.exp(n.rng.uniform(-7, 0)))
    source = n.activation(n.shapes[n.input], scale)
    n.file.operator(Code.QUANTIZE, [n.input], source, QUANTIZE_OPTIONS)
    output = n.activation(n.shapes[source], 1 / 16, 127)
    n.file.operator(Code.LOG_SOFTMAX, [source], output, Options(36))
    return output


def gather(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    axis = int(rng.integers(1, len(shape)))
    indices = rng.integers(0, shape[axis], int(rng.integers(1, 9)))
    result = (*shape[:axis], len(indices), *shape[axis + 1 :])
    return _result(
        n, Code.GATHER, [n.input, _ints(n, indices)], result, Options(23, ((0, "Int32", axis),)), like=n.input
    )


def blocks(n: Network) -> int:
    """DEPTH_TO_SPACE behind SPACE_TO_DEPTH of another block, or either alone."""
    rng = n.rng
    tiled = n.tile(n.input, (2, 3, 4))
    _, height, width, channels = _full(n, tiled)
    if rng.random() < 0.5:
        shape = (1, height * 2, width * 2, channels // 4)
        return _result(n, Code.DEPTH_TO_SPACE, [tiled], shape, Options(94, ((0, "Int32", 2),)), like=tiled)
    if height % 2 or width % 2:
        tiled = n.tile(tiled, (2, 2, 1))
        height, width = 2 * height, 2 * width
    shape = (1, height // 2, width // 2, channels * 4)
    return _result(n, Code.SPACE_TO_DEPTH, [tiled], shape, Options(19, ((0, "Int32", 2),)), like=tiled)


def tile(n: Network) -> int:
    return n.tile(n.input, tuple(int(count) for count in n.rng.integers(1, 4, 3)))


def broadcast_to(n: Network) -> int:
    small = n.reduce(Code.REDUCE_MAX, n.input, _axes(n), keep_dims=True)
    shape = _full(n, n.input)
    return _result(n, Code.BROADCAST_TO, [small, _ints(n, shape)], shape, Options(104), like=small)


def padv2(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    amounts = [(0, 0), *((int(rng.integers(0, 3)), int(rng.integers(0, 3))) for _ in shape[1:])]
    scale, zero = n.scales[n.input]
    number = np.array([rng.integers(-128, 128)], np.int8)
    number = np.zeros(1, "<i2") if n.input in n.wide else number
    value = n.file.constant("v", number, [scale], zero_point=zero)
    result = [size + sum(pair) for size, pair in zip(shape, amounts, strict=True)]
    return _result(n, Code.PADV2, [n.input, _ints(n, amounts), value], result, Options(43), like=n.input)


def mirror_pad(n: Network) -> int:
    rng, shape = n.rng, _full(n, n.input)
    symmetric = int(rng.random() < 0.5)
    most = [size - 1 + symmetric for size in shape]
    amounts = [(0, 0), *((int(rng.integers(0, limit + 1)), int(rng.integers(0, limit + 1))) for limit in most[1:])]
    result = [size + sum(pair) for size, pair in zip(shape, amounts, strict=True)]
    options = Options(77, ((0, "Int8", symmetric),))
    return _result(n, Code.MIRROR_PAD, [n.input, _ints(n, amounts)], result, options, like=n.input)


def _resized(n: Network, code: Code, union: int, slots: tuple[int, int]) -> int:
    rng = n.rng
    _, height, width, channels = _full(n, n.input)
    size = (int(rng.integers(1, 3 * height)), int(rng.integers(1, 3 * width)))
    align, half = ((0, 0), (1, 0), (0, 1))[int(rng.integers(3))]
    options = Options(union, ((slots[0], "Bool", align), (slots[1], "Bool", half)))
    return _result(n, code, [n.input, _ints(n, size)], (1, *size, channels), options, like=n.input)


def resize_nearest(n: Network) -> int:
    return _resized(n, Code.RESIZE_NEAREST_NEIGHBOR, 74, (0, 1))


def resize_bilinear(n: Network) -> int:
    return _resized(n, Code.RESIZE_BILINEAR, 15, (2, 3))


def dense_rows(n: Network) -> int:
    """Rows of the last dimension, or of all but the first."""
    rng, shape = n.rng, n.shapes[n.input]
    per_channel = bool(rng.random() < 0.5)
    return n.dense_rows(
        n.input, int(rng.integers(1, 12)), shape[-1], keep=bool(rng.random() < 0.5), per_channel=per_channel
    )


def conv_grouped(n: Network) -> int:
    """Groups of two channels and more, or of one (which is a depthwise convolution)."""
    rng = n.rng
    groups, depth = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    wide = n.pad(n.input, ((0, 0), (0, 0), (0, -n.shapes[n.input][2] % (groups * depth))))
    scrambled = n.requantize(wide)
    return n.conv(scrambled, groups * int(rng.integers(1, 4)), (2, 3), (1, 2), same=True, groups=groups)


def conv_negative(n: Network) -> int:
    """Weights with negative scales, which converters do not write, but some files have."""
    n.turns_signs = True
    n.activation((1,))
    if n.rng.random() < 0.5:
        return n.depthwise(n.input, 2, (2, 2), same=True)
    return n.conv(n.input, 5, (2, 3), same=True)


def conv_transposed(n: Network) -> int:
    rng = n.rng
    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    same, bias = rng.random(2) < (0.5, 0.7)
    return n.transpose_conv(n.input, int(rng.integers(1, 6)), kernel, stride, same=bool(same), bias=bool(bias))


def squeeze_expand(n: Network) -> int:
    """A function between an EXPAND_DIMS and a SQUEEZE: tensors of five dimensions."""
    shape = _full(n, n.input)
    wide = n.like(n.input, (*shape[1:3], 1, shape[3]))
    n.file.operator(Code.EXPAND_DIMS, [n.input, _ints(n, 3)], wide, Options(52))
    doubled = n.activation((*shape[1:3], 2, shape[3]), *n.scales[n.input])
    n.file.operator(Code.CONCATENATION, [wide, wide], doubled, concat_options(3))
    axes = _ints(n, [3])
    small = n.like(doubled, (*shape[1:3], 1, shape[3]))
    n.file.operator(Code.REDUCE_MAX, [doubled, axes], small, Options(27, ((0, "Bool", 1),)))
    result = n.like(n.input, shape[1:])
    n.file.operator(Code.SQUEEZE, [small], result, Options(30, ints=(3,)))
    return n.requantize(result)


def lstm(n: Network) -> int:
    """Over the rows of an image, whose columns and channels are the inputs; a second one behind it, or not."""
    rng, shape = n.rng, n.shapes[n.input]
    rows = n.like(n.input, (shape[0], shape[1] * shape[2]))
    n.file.operator(Code.RESHAPE, [n.input, _ints(n, (1, *n.shapes[rows]))], rows)
    time_major = bool(rng.random() < 0.2)
    if time_major:
        first = n.file.activation("rows", (shape[0], 1, shape[1] * shape[2]), *n.scales[rows])
        n.shapes[first], n.scales[first] = n.shapes[rows], n.scales[rows]
        n.file.operator(Code.RESHAPE, [rows, _ints(n, (shape[0], 1, shape[1] * shape[2]))], first)
        return n.lstm(first, int(rng.integers(1, 14)), time_major=True)
    found = n.lstm(rows, int(rng.integers(1, 14)))
    return n.lstm(found, int(rng.integers(1, 14))) if rng.random() < 0.4 else found


def svdf(n: Network) -> int:
    rng = n.rng
    flat = n.reshape(n.input, (math.prod(n.shapes[n.input]),))
    found = n.svdf(flat, int(rng.integers(1, 9)), int(rng.integers(1, 4)), int(rng.integers(1, 9)))
    return n.svdf(found, int(rng.integers(1, 9)), 1, int(rng.integers(1, 9))) if rng.random() < 0.4 else found


def dilated_row(n: Network) -> int:
    """A dilated convolution of one dimension as converters write it for an open batch: blocks, given a height of 1."""
    rng, shape = n.rng, n.shapes[n.input]
    length, channels, kind = shape[0] * shape[1], shape[2], n.scales[n.input]
    block, taps, depthwise = int(rng.integers(1, 5)), int(rng.integers(1, 4)), bool(rng.random() < 0.4)
    reach = (taps - 1) * block if rng.random() < 0.6 or length <= (taps - 1) * block else 0
    extra = -(length + reach) % block
    before = int(rng.integers(0, reach + 1))
    inside = (length + reach + extra) // block
    row = n.reshape(n.input, (length, channels))
    split = n.file.activation("blocks", (block, inside, channels), *kind)
    pads = [(before, reach - before + extra)]
    n.file.operator(Code.SPACE_TO_BATCH_ND, [row, _ints(n, [block]), _ints(n, pads)], split, Options(25))
    high = n.like(n.input, (1, inside, channels))
    n.file.operator(Code.EXPAND_DIMS, [split, _ints(n, 1)], high, Options(52))
    if depthwise:
        made = n.depthwise(high, int(rng.integers(1, 3)), (1, taps))
    else:
        groups = channels if rng.random() < 0.2 else 2 - channels % 2
        made = n.conv(high, groups * int(rng.integers(1, 6)), (1, taps), groups=groups)
    filters, left = n.shapes[made][2], n.shapes[made][1]
    flat = n.file.activation("flat", (block, left, filters), *n.scales[made])
    if rng.random() < 0.5:
        n.file.operator(Code.SQUEEZE, [made], flat, Options(30, ints=(1,)))
    else:
        n.file.operator(Code.RESHAPE, [made, _ints(n, [-1, left, filters])], flat)
    output = n.like(made, (left * block - extra, filters))
    crops = [(0, extra)]
    n.file.operator(Code.BATCH_TO_SPACE_ND, [flat, _ints(n, [block]), _ints(n, crops)], output, Options(24))
    return n.requantize(output)


KINDS: tuple[Callable[[Network], int], ...] = (
    function, add_broadcast, sub, mul, maximum, minimum, prelu, reduce_mean, reduce_max, reduce_min, strided_slice,
    slice_part, split, split_v, unpack_pack, transpose, gather, blocks, tile, broadcast_to, padv2, mirror_pad,
    resize_nearest, resize_bilinear, dense_rows, conv_grouped, conv_negative, conv_transposed, squeeze_expand,
    lstm, svdf,
)  # fmt: skip
