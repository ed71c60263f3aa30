"""Importers of operators along axes: MEAN, REDUCE_MAX, REDUCE_MIN, SOFTMAX, LOG_SOFTMAX."""

from __future__ import annotations

import math

from hil.model.network import OpKind, ReduceParams, SoftmaxParams, Tensor
from hil.model.tflite import limits, quantisation
from hil.model.tflite.checks import Imported, axis_of, expect_shape, options_of
from hil.model.tflite.container import RawOperator
from hil.model.tflite.tensors import CoreTensors


def reduction(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """MEAN, REDUCE_MAX, REDUCE_MIN over any axes."""
    source = tensors.source(operator)
    rank = len(source.shape)
    keep_dims = operator.options is not None and operator.options.flag(0)
    values = tensors.integers(operator, 1, limits.MAX_RANK)
    if tensors.raw(operator, 1).type != 2:
        raise operator.refuse("its axes have to be int32")
    axes = tuple(sorted({axis_of(operator, axis, rank) for axis in values}))
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(source.shape))
    left = tuple(size for axis, size in enumerate(source.shape) if axis not in axes)
    shape = kept if keep_dims else left
    expect_shape(operator, tensors, shape)
    tensors.count_work(operator, source.elements)
    output, count = tensors.output(operator)[1], math.prod(source.shape[axis] for axis in axes)
    if operator.kind is OpKind.MEAN:
        most = 65535.0 if tensors.is_wide(operator) else 255.0
        quantisation.check_rescale(operator, source.quant, output, summed=count, most=most)
    else:
        quantisation.same(operator, [source.quant, output])
    return (source.index,), ReduceParams(axes)


def softmax(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """SOFTMAX along the last dimension."""
    source, beta = _along_classes(operator, tensors, limits.MAX_CLASSES), options_of(operator).float32(0)
    quantisation.check_softmax(operator, source, beta, tensors.output(operator)[1], wide=tensors.is_wide(operator))
    return (source.index,), SoftmaxParams(beta)


def log_softmax(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """LOG_SOFTMAX along the last dimension."""
    source = _along_classes(operator, tensors, limits.MAX_CLASSES - 1)  # its kernel does not notice a sum of 2^12
    quantisation.check_log_softmax(operator, source.quant, tensors.output(operator)[1])
    return (source.index,), SoftmaxParams(1.0)


def _along_classes(operator: RawOperator, tensors: CoreTensors, most: int) -> Tensor:
    source = tensors.source(operator)
    expect_shape(operator, tensors, source.shape)
    if not source.shape:
        raise operator.refuse("its input is a single element, which has no classes")
    if source.shape[-1] > most:
        raise operator.refuse(f"{source.shape[-1]} classes are not supported; supported: {most}")
    tensors.count_work(operator, source.elements)
    return source
