"""Importers of element-wise operators: arithmetic of two tensors, functions of one, changes of scale."""

from __future__ import annotations

import math

from hil.errors import ModelError
from hil.model import lookup
from hil.model.network import (
    AddParams,
    BinaryParams,
    DType,
    LookupParams,
    NoParams,
    OpKind,
    Quantization,
    Tensor,
    WideFunctionParams,
)
from hil.model.tflite import quantisation
from hil.model.tflite.checks import Imported, activation_of, expect_shape, options_of
from hil.model.tflite.container import RawOperator
from hil.model.tflite.tensors import CoreTensors

_SUMS = (OpKind.ADD, OpKind.SUB)
_EXTREMES = (OpKind.MAXIMUM, OpKind.MINIMUM)


def binary(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """ADD, SUB, MUL, MAXIMUM, MINIMUM and PRELU, with broadcasting and constants."""
    first, second = tensors.operand(operator, 0), tensors.operand(operator, 1)
    if first.data is not None and second.data is not None:
        raise operator.refuse("both of its inputs are constants; convert the model with constant folding")
    shape = _broadcast(operator, first, second)
    expect_shape(operator, tensors, shape)
    tensors.count_work(operator, math.prod(shape))
    output = tensors.output(operator)[1]
    most, left_shift = (2.0**15, 15) if tensors.is_wide(operator) else (255.0, 20)
    if tensors.is_wide(operator) and operator.kind in _SUMS and _are_powers(operator, first, second, output):
        raise operator.refuse("its scales are powers of two, for which TFLite has another kernel (pot_scale_int16)")
    has_activation = operator.kind in (*_SUMS, OpKind.MUL) and operator.options is not None
    activation = activation_of(operator, options_of(operator).int8(0) if has_activation else 0)
    if operator.kind in _SUMS:
        quantisation.check_add(operator, [first.quant, second.quant], output, left_shift)
    elif operator.kind in _EXTREMES:
        quantisation.same(operator, [first.quant, second.quant, output])
    else:
        quantisation.check_product(operator, first.quant, second.quant, output, most)
    plain = first.data is None and second.data is None and first.shape == second.shape
    if operator.kind is OpKind.ADD and plain:
        return (first.index, second.index), AddParams(activation)
    return (first.index, second.index), BinaryParams(activation)


def _are_powers(operator: RawOperator, first: Tensor, second: Tensor, output: Quantization) -> bool:
    """Whether a sum of int16 takes the kernel for scales that are powers of two: its options say so, by default."""
    scales = (first.quant.scale, second.quant.scale, output.scale)
    wanted = operator.options is None or operator.options.flag(1, True)
    return wanted and all(math.frexp(scale)[0] == 0.5 for scale in scales)


def _broadcast(operator: RawOperator, first: Tensor, second: Tensor) -> tuple[int, ...]:
    """The shape of two tensors together, as numpy and TFLite broadcast. Raises ModelError."""
    rank = max(len(first.shape), len(second.shape))
    left, right = ((1,) * (rank - len(item.shape)) + item.shape for item in (first, second))
    if any(a != b and 1 not in (a, b) for a, b in zip(left, right, strict=True)):
        raise operator.refuse(f"inputs of shape {list(first.shape)} and {list(second.shape)} do not broadcast")
    shape = tuple(max(a, b) for a, b in zip(left, right, strict=True))
    if operator.kind is OpKind.PRELU and shape != first.shape:
        raise operator.refuse("its slopes have more elements than its input")
    return shape


def rescaling(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """RELU, RELU6, and QUANTIZE of int8 to int8 (or of what was int8 before a DEQUANTIZE)."""
    is_quantize = operator.kind is OpKind.QUANTIZE
    source = tensors.source(operator, allow_float=is_quantize)
    expect_shape(operator, tensors, source.shape)
    tensors.count_work(operator, source.elements)
    output = tensors.output(operator)[1]
    wide = DType.INT16 in (source.dtype, DType.INT16 if tensors.is_wide(operator) else None)
    quantisation.check_rescale(operator, source.quant, output, most=65535.0 if wide else 255.0)
    if wide and tensors.is_float(operator):
        raise operator.refuse("float32 between int16 and another type is not supported")
    if is_quantize and tensors.is_float(operator):
        return (source.index,), LookupParams(lookup.requantised_float(source.quant, output))
    return (source.index,), NoParams()


def _wide_function(operator: RawOperator, scale: float, output_scale: float) -> WideFunctionParams:
    """How LOGISTIC and TANH of int16 scale their input for the table, as LiteRT's Prepare finds it."""
    if output_scale != 2.0**-15:
        raise operator.refuse("its output needs scale 1/32768")
    mantissa, exponent = math.frexp(scale)
    power = 12 + exponent - 1  # of the scale, times 4096
    if mantissa == 0.5 and power in ((0, 1) if operator.kind is OpKind.TANH else (0,)):
        return WideFunctionParams(3 << power, 0)
    multiplier, shift = scale * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        shift, multiplier = shift + 1, multiplier * 2.0
    if not 1 <= multiplier < 2.0**15:
        raise operator.refuse(f"an input scale of {scale:g} is not supported")
    return WideFunctionParams(int(multiplier), shift)


def function(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """LOGISTIC, TANH, HARD_SWISH and whatever else is a function of one int8."""
    source = tensors.source(operator)
    expect_shape(operator, tensors, source.shape)
    tensors.count_work(operator, source.elements)
    output = tensors.output(operator)[1]
    if tensors.is_wide(operator):
        return (source.index,), _wide_function(operator, source.quant.scale, output.scale)
    alpha = options_of(operator).float32(0) if operator.kind is OpKind.LEAKY_RELU else 0.0
    if not math.isfinite(alpha) or abs(alpha) > 2.0**20:
        raise operator.refuse(f"a slope of {alpha:g} is not supported")
    if operator.kind is OpKind.LOGISTIC and output.scale != 1 / 256:
        raise operator.refuse("its output needs scale 1/256")
    if operator.kind is OpKind.GELU:
        alpha = float(operator.options is not None and operator.options.flag(0))
    quantisation.check_rescale(operator, source.quant, output, slope=abs(alpha))
    assert operator.kind is not None
    try:
        return (source.index,), LookupParams(lookup.lookup_table(operator.kind, source.quant, output, alpha))
    except ModelError as error:
        raise operator.refuse(str(error)) from error
