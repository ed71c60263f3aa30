"""Importers of element-wise operators: arithmetic of two tensors, functions of one, changes of scale."""

from __future__ import annotations

import math

from hil.errors import ModelError
from hil.model import lookup
from hil.model.network import AddParams, BinaryParams, LookupParams, NoParams, OpKind, Tensor
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
    has_activation = operator.kind in (*_SUMS, OpKind.MUL) and operator.options is not None
    activation = activation_of(operator, options_of(operator).int8(0) if has_activation else 0)
    if operator.kind in _SUMS:
        quantisation.check_add(operator, [first.quant, second.quant], output)
    elif operator.kind in _EXTREMES:
        quantisation.same(operator, [first.quant, second.quant, output])
    else:
        quantisation.check_product(operator, first.quant, second.quant, output)
    plain = first.data is None and second.data is None and first.shape == second.shape
    if operator.kind is OpKind.ADD and plain:
        return (first.index, second.index), AddParams(activation)
    return (first.index, second.index), BinaryParams(activation)


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
    quantisation.check_rescale(operator, source.quant, output)
    if is_quantize and tensors.is_float(operator):
        return (source.index,), LookupParams(lookup.requantised_float(source.quant, output))
    return (source.index,), NoParams()


def function(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """LOGISTIC, TANH, HARD_SWISH and whatever else is a function of one int8."""
    source = tensors.source(operator)
    expect_shape(operator, tensors, source.shape)
    tensors.count_work(operator, source.elements)
    output = tensors.output(operator)[1]
    alpha = options_of(operator).float32(0) if operator.kind is OpKind.LEAKY_RELU else 0.0
    if not math.isfinite(alpha) or abs(alpha) > 2.0**20:
        raise operator.refuse(f"a slope of {alpha:g} is not supported")
    if operator.kind is OpKind.LOGISTIC and output.scale != 1 / 256:
        raise operator.refuse("its output needs scale 1/256")
    quantisation.check_rescale(operator, source.quant, output, slope=abs(alpha))
    assert operator.kind is not None
    try:
        return (source.index,), LookupParams(lookup.lookup_table(operator.kind, source.quant, output, alpha))
    except ModelError as error:
        raise operator.refuse(str(error)) from error
