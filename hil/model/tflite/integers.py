"""Integer arithmetic that is constant once all shapes are static: what converters emit for an open batch dimension.

SHAPE of a tensor is known, since LiteRT runs a file with the shapes that it states; what follows from it is computed
here as LiteRT would, so that RESHAPE and its like get constants. Nothing of it runs on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from hil.model.tflite import limits, schema
from hil.model.tflite.container import Container, RawOperator, RawTensor

IntArray = NDArray[np.int64]
"""Values of a constant int32 or int64 tensor."""

_TYPES = (schema.INT32, schema.INT64)
_BOTH_INT8 = (schema.INT8, schema.INT8)


def fold_integers(container: Container) -> tuple[dict[int, IntArray], frozenset[int]]:
    """(all constant integer tensors of the file by index, the operators that were computed to find them).

    Raises ModelError for an operator that LiteRT would refuse as well.
    """
    known: dict[int, IntArray] = {}
    for index, raw in enumerate(container.tensors):
        small = raw.data is not None and raw.elements <= limits.MAX_FOLDED_ELEMENTS
        if small and raw.type in _TYPES and not raw.objection:
            width = "<i4" if raw.type == schema.INT32 else "<i8"
            known[index] = np.frombuffer(bytes(raw.data or b""), width).astype(np.int64).reshape(raw.shape)
    folded = set()
    for operator in container.operators:
        results = _computed(operator, container.tensors, known)
        if results is not None:
            for index, value in zip(operator.outputs, results, strict=True):
                _check_result(operator, container.tensors[index], value)
                known[index] = value
            folded.add(operator.index)
    return known, frozenset(folded)


def with_filled(container: Container, known: Mapping[int, IntArray]) -> tuple[Container, frozenset[int]]:
    """The file with int8 results of FILL as constants, and the operators that they came from.

    Raises ModelError for an operator that LiteRT would refuse as well.
    """
    tensors, filled = list(container.tensors), set()
    for operator in container.operators:
        if operator.name == "FILL" and len(operator.inputs) == 2 and len(operator.outputs) == 1:
            (dims, value), output = operator.inputs, operator.outputs[0]
            raw, result = container.tensors[value] if value >= 0 else None, tensors[output]
            if dims not in known or raw is None or raw.data is None or (raw.type, result.type) != _BOTH_INT8:
                continue
            if raw.objection or result.objection or result.is_variable or result.data is not None:
                raise operator.refuse("its tensors are not plain")
            _check_result(operator, result, np.broadcast_to(np.int64(0), _dimensions(operator, known[dims])))
            if (raw.scales, raw.zero_points, raw.elements) != (result.scales, result.zero_points, 1):
                raise operator.refuse("its value has to be one element of the output's scale and zero point")
            tensors[output] = replace(result, data=memoryview(bytes(raw.data) * result.elements))
            filled.add(operator.index)
    return replace(container, tensors=tuple(tensors)) if filled else container, frozenset(filled)


def _dimensions(operator: RawOperator, values: IntArray) -> tuple[int, ...]:
    shape = tuple(values.reshape(-1).tolist())
    if len(shape) > limits.MAX_RANK or min(shape, default=1) < 1 or prod(shape) > limits.MAX_FOLDED_ELEMENTS:
        raise operator.refuse(f"a constant of shape {list(shape[:8])} is not supported")
    return shape


def _computed(operator: RawOperator, tensors: Sequence[RawTensor], known: dict[int, IntArray]) -> list[IntArray] | None:
    """The operator's results; None when it is none that only computes with constant integers."""
    outputs = [tensors[index] for index in operator.outputs]
    if not outputs or any(raw.type not in _TYPES or raw.data is not None for raw in outputs):
        return None
    if operator.name == "SHAPE" and len(operator.inputs) == 1 and operator.inputs[0] >= 0:
        return [np.array(tensors[operator.inputs[0]].shape, np.int64)]
    rule = _RULES.get(operator.name)
    if rule is None or any(index not in known for index in operator.inputs):
        return None
    try:
        return rule(operator, [known[index] for index in operator.inputs])
    except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise operator.refuse(f"its constant inputs do not suit it: {error}") from error


def _check_result(operator: RawOperator, raw: RawTensor, value: IntArray) -> None:
    if value.size > limits.MAX_FOLDED_ELEMENTS:
        raise operator.refuse(f"it makes {value.size} constants; at most {limits.MAX_FOLDED_ELEMENTS} are supported")
    if value.shape != raw.shape:
        raise operator.refuse(f"its output has shape {list(raw.shape)}, but its inputs give {list(value.shape)}")
    low, high = (-(2**31), 2**31 - 1) if raw.type == schema.INT32 else (-(2**62), 2**62)
    if value.size and not low <= value.min() <= value.max() <= high:
        raise operator.refuse("its constant result does not fit its type")


def _option(operator: RawOperator, slot: int) -> int:
    return operator.options.int32(slot) if operator.options is not None else 0


def sliced(operator: RawOperator, begin: IntArray, end: IntArray, strides: IntArray) -> tuple[slice | int, ...]:
    """The index of a STRIDED_SLICE: a slice for each leading dimension, a number for each that is dropped.

    Raises ModelError for masks that are not supported.
    """
    if _option(operator, 2) or _option(operator, 3):
        raise operator.refuse("its ellipsis and new-axis masks are not supported")
    if _option(operator, 5):
        raise operator.refuse("an end that is an offset from the begin is not supported")
    begins, ends, steps = (item.reshape(-1).tolist() for item in (begin, end, strides))
    if not len(begins) == len(ends) == len(steps) or 0 in steps:
        raise operator.refuse("its begin, end and strides do not suit each other")
    begin_mask, end_mask, shrink_mask = (_option(operator, slot) for slot in (0, 1, 4))
    index: list[slice | int] = []
    for axis, (first, last, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << axis
        if shrink_mask & bit:
            index.append(first)
        else:
            index.append(slice(None if begin_mask & bit else first, None if end_mask & bit else last, step))
    return tuple(index)


def _strided_slice(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    data, begin, end, strides = inputs
    return [np.asarray(data[sliced(operator, begin, end, strides)], np.int64)]


def _pack(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    return [np.stack(inputs, axis=_option(operator, 1))]


def _unpack(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    axis = _option(operator, 1)
    return [np.take(inputs[0], index, axis) for index in range(inputs[0].shape[axis])]


def _concatenation(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    return [np.concatenate(inputs, axis=_option(operator, 0))]


def _gather(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    if _option(operator, 1) or inputs[1].min(initial=0) < 0:
        raise ValueError("batch dimensions and negative indices are not supported")
    if inputs[1].size * inputs[0].size > limits.MAX_FOLDED_ELEMENTS:
        raise ValueError("too many elements")
    return [np.take(inputs[0], inputs[1], _option(operator, 0))]


def _reshape(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    shape = inputs[1].reshape(-1).tolist() if len(inputs) == 2 else operator.options and operator.options.int32s(0)
    return [inputs[0].reshape(shape or ())]


def _squeeze(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    axes = operator.options.int32s(0) if operator.options is not None else ()
    return [np.squeeze(inputs[0], tuple(axes) or None)]


def _expand_dims(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    return [np.expand_dims(inputs[0], int(inputs[1].reshape(-1)[0]))]


def _slice(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    data, begins, sizes = inputs
    pairs = zip(begins.reshape(-1).tolist(), sizes.reshape(-1).tolist(), strict=True)
    return [data[tuple(slice(first, None if size == -1 else first + size) for first, size in pairs)]]


def _fill(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    shape = inputs[0].reshape(-1).tolist()
    if min(shape, default=0) < 0 or np.prod(shape, dtype=np.float64) > limits.MAX_FOLDED_ELEMENTS:
        raise ValueError("too many elements")
    return [np.full(shape, inputs[1].reshape(-1)[0], np.int64)]


def _range(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    first, last, step = (int(item.reshape(-1)[0]) for item in inputs)
    values = range(first, last, step)
    if len(values) > limits.MAX_FOLDED_ELEMENTS:
        raise ValueError("too many elements")
    return [np.array(values, np.int64)]


def _cast(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
    return [inputs[0]]


def _reduce(function: Callable[..., IntArray]) -> Callable[[RawOperator, list[IntArray]], list[IntArray]]:
    def apply(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
        keep = operator.options is not None and operator.options.flag(0)
        axes = tuple(inputs[1].reshape(-1).tolist())
        return [np.asarray(function(inputs[0], axis=axes, keepdims=keep), np.int64)]

    return apply


def _binary(function: Callable[[IntArray, IntArray], IntArray]) -> Callable[..., list[IntArray]]:
    def apply(operator: RawOperator, inputs: list[IntArray]) -> list[IntArray]:
        first, second = inputs
        fuses = operator.name in ("ADD", "SUB", "MUL", "DIV") and operator.options is not None
        if fuses and operator.options is not None and operator.options.int8(0):
            raise ValueError("a fused activation")
        if prod(np.broadcast_shapes(first.shape, second.shape)) > limits.MAX_FOLDED_ELEMENTS:
            raise ValueError("too many elements")
        return [np.asarray(function(first, second), np.int64)]

    return apply


def _divided(first: IntArray, second: IntArray) -> IntArray:
    if not second.all():
        raise ZeroDivisionError("division by zero")
    result: IntArray = np.fix(first / second).astype(np.int64)  # C rounds towards zero; operands are below 2^53
    return result


def _floor_divided(first: IntArray, second: IntArray) -> IntArray:
    if not second.all():
        raise ZeroDivisionError("division by zero")
    return first // second


_RULES: dict[str, Callable[[RawOperator, list[IntArray]], list[IntArray]]] = {
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "PACK": _pack,
    "UNPACK": _unpack,
    "CONCATENATION": _concatenation,
    "GATHER": _gather,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand_dims,
    "FILL": _fill,
    "RANGE": _range,
    "CAST": _cast,
    "REDUCE_PROD": _reduce(np.prod),
    "SUM": _reduce(np.sum),
    "REDUCE_MAX": _reduce(np.max),
    "REDUCE_MIN": _reduce(np.min),
    "ADD": _binary(np.add),
    "SUB": _binary(np.subtract),
    "MUL": _binary(np.multiply),
    "DIV": _binary(_divided),
    "FLOOR_DIV": _binary(_floor_divided),
    "MAXIMUM": _binary(np.maximum),
    "MINIMUM": _binary(np.minimum),
}
"""Each gives the operator's outputs, or raises ValueError and its like for inputs that do not suit it."""
