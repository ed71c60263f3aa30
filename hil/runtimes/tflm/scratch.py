"""Scratch that TFLM's kernels ask for, in bytes: CMSIS-NN's on a core with the DSP extension, or the portable ones'."""

from __future__ import annotations

from hil.model.network import ConvParams, DepthwiseParams, Model, Op, OpKind
from hil.model.tflite.container import Container, RawOperator


def scratch_bytes(operator: RawOperator, container: Container, model: Model, cmsis_nn: bool) -> tuple[int, ...]:
    """Sizes of the buffers that one operator requests, in the order of its requests."""
    if operator.kind is OpKind.MEAN:
        source, axes = container.tensors[operator.inputs[0]], container.tensors[operator.inputs[1]]
        return 4 * container.tensors[operator.outputs[0]].elements, 4 * len(source.shape), 4 * axes.elements
    if not cmsis_nn:
        return ()
    imported = next((op for op in model.ops if op.index == operator.index), None)
    size = 0 if imported is None else _cmsis_nn_bytes(imported, operator, container)
    return (size,) if size else ()


def _cmsis_nn_bytes(op: Op, operator: RawOperator, container: Container) -> int:
    source = container.tensors[operator.inputs[0]].shape
    if op.kind is OpKind.AVERAGE_POOL_2D:
        return 4 * source[3]
    if op.kind is OpKind.FULLY_CONNECTED:
        return _dense_bytes(operator, container)
    if isinstance(op.params, ConvParams):
        return _convolution_bytes(op.params, container.tensors[operator.inputs[1]].shape)
    if isinstance(op.params, DepthwiseParams):
        return _depthwise_bytes(op.params, source[3], container.tensors[operator.inputs[1]].shape)
    return 0


def _convolution_bytes(params: ConvParams, weights: tuple[int, ...]) -> int:
    """Two columns of the input, expanded to int16; none when a pixel is a column (1x1)."""
    _, height, width, channels = weights
    unpadded = params.padding.top == 0 and params.padding.left == 0
    if (height, width) == (1, 1) and unpadded and params.dilation == (1, 1):
        return 0
    return 2 * 2 * -(-height * width * channels // 4) * 4


def _depthwise_bytes(params: DepthwiseParams, channels: int, weights: tuple[int, ...]) -> int:
    """One window of all channels, expanded to int16; none for 3x3 and where the slow kernel is taken."""
    _, height, width, outputs = weights
    if channels != outputs or params.dilation != (1, 1):
        return 0
    if (height, width) == (3, 3) and params.padding.top <= 1 and params.padding.left <= 1:
        return 0
    return 2 * channels * height * width


def _dense_bytes(operator: RawOperator, container: Container) -> int:
    """A dense layer with a result of rank 3 or 4 runs as 1x1 convolution, which wants its one scale once a channel."""
    weights, result = container.tensors[operator.inputs[1]], container.tensors[operator.outputs[0]]
    as_convolution = len(result.shape) > 2 and weights.shape[-1] % 4 == 0
    return 8 * result.shape[-1] if as_convolution and len(weights.scales) == 1 else 0
