"""Importers of operators along axes: MEAN, REDUCE_MAX, REDUCE_MIN, SOFTMAX."""

from __future__ import annotations

import math

from hil.model.network import OpKind, ReduceParams, SoftmaxParams
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
        quantisation.check_rescale(operator, source.quant, output, summed=count)
    else:
        quantisation.same(operator, [source.quant, output])
    return (source.index,), ReduceParams(axes)


def softmax(operator: RawOperator, tensors: CoreTensors) -> Imported:
    """SOFTMAX along the last dimension."""
    source, beta = tensors.source(operator), options_of(operator).float32(0)
    expect_shape(operator, tensors, source.shape)
    if source.shape[-1] > limits.MAX_CLASSES:
        raise operator.refuse(f"{source.shape[-1]} classes are not supported; supported: {limits.MAX_CLASSES}")
    tensors.count_work(operator, source.elements)
    quantisation.check_softmax(operator, source, beta, tensors.output(operator)[1], wide=tensors.is_wide(operator))
    return (source.index,), SoftmaxParams(beta)
