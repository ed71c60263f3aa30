"""What importers of all kinds ask of an operator's options and shapes."""

from __future__ import annotations

from hil.model.network import Activation, Params, Tensor
from hil.model.tflite import schema
from hil.model.tflite.container import RawOperator
from hil.model.tflite.flatbuffer import Table
from hil.model.tflite.tensors import CoreTensors

Imported = tuple[tuple[int, ...], Params]
"""Core indices of an operator's inputs, and its parameters."""


def options_of(operator: RawOperator) -> Table:
    """The operator's options. Raises ModelError when there are none."""
    if operator.options is None:
        raise operator.refuse("it has no options")
    return operator.options


def activation_of(operator: RawOperator, code: int) -> Activation:
    """The fused activation that `code` stands for. Raises ModelError for an unknown one."""
    activation = schema.ACTIVATIONS.get(code)
    if activation is None:
        supported = ", ".join(schema.ACTIVATIONS.values())
        raise operator.refuse(f"fused activation {code} is not supported; supported: {supported}")
    return activation


def expect_shape(operator: RawOperator, tensors: CoreTensors, shape: tuple[int, ...], position: int = 0) -> None:
    """Raise ModelError unless the file states that output `position` has `shape`, which LiteRT computes, or leaves that
    open."""
    stated = tensors.output(operator, position)[0].shape
    if stated != shape and not tensors.restate(operator, position, shape):
        raise operator.refuse(f"its output has shape {list(stated)}, but its inputs and options give {list(shape)}")


def image(operator: RawOperator, tensors: CoreTensors, position: int = 0) -> Tensor:
    """Input `position` as (1, H, W, C). Raises ModelError for other shapes."""
    source = tensors.source(operator, position)
    if len(source.shape) != 4:
        raise operator.refuse(f"its input has shape {list(source.shape)}; supported: 4 dimensions")
    if source.shape[0] != 1:
        raise operator.refuse(f"its batch is {source.shape[0]}; convert the model with batch size 1")
    return source


def axis_of(operator: RawOperator, axis: int, rank: int) -> int:
    """`axis` counted from the front. Raises ModelError when there is no such dimension."""
    if not -rank <= axis < rank:
        raise operator.refuse(f"axis {axis} does not exist in {rank} dimensions")
    return axis % rank
