"""What an operator costs in TFLM, as counts that its time can be explained by.

TFLM's kernels are CMSIS-NN's too, in another version, so the counts are those of munas.cost.kernels; what differs
between the versions is a factor that the fit finds. RESHAPE, which generated code does not have, copies its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from hil.model.network import ConvParams, DepthwiseParams, Model, Op, OpKind, PoolParams
from munas.cost import kernels
from munas.cost.gathers import Window
from munas.cost.kernels import KernelVariant, Work

Shape = tuple[int, ...]

# The variants that work of an operator may have: they decide which code is linked.
VARIANTS: Mapping[OpKind, tuple[KernelVariant, ...]] = {
    OpKind.CONV_2D: tuple(item for item in KernelVariant if item.value.startswith("conv-")),
    OpKind.DEPTHWISE_CONV_2D: tuple(item for item in KernelVariant if item.value.partition("-")[0] == "dw"),
    OpKind.FULLY_CONNECTED: (KernelVariant.FC, KernelVariant.FC_PER_CHANNEL),
    OpKind.MAX_POOL_2D: (KernelVariant.MAX_POOL,),
    OpKind.AVERAGE_POOL_2D: (KernelVariant.AVG_POOL,),
    OpKind.ADD: (KernelVariant.ADD, KernelVariant.ADD_PADDED),
    OpKind.PAD: (KernelVariant.PAD,),
    OpKind.MEAN: (KernelVariant.MEAN,),
    OpKind.SOFTMAX: (KernelVariant.SOFTMAX,),
    OpKind.RELU: (KernelVariant.RELU,),
    OpKind.RESHAPE: (KernelVariant.CONCAT,),
    OpKind.QUANTIZE: (KernelVariant.REQUANTIZE,),
    OpKind.CONCATENATION: (KernelVariant.COPY,),
}


def work_of(op: Op, model: Model) -> Work:
    """Work of one operator of an imported model."""
    shapes = [model.tensors[index].shape for index in op.inputs if index >= 0]
    source, output = shapes[0], model.tensors[op.outputs[0]].shape
    match op.params:
        case ConvParams():
            return kernels.conv(_hwc(source), _hwc(output), _window(op.params, shapes[1][1:3]))
        case DepthwiseParams():
            return kernels.depthwise(_hwc(source), _hwc(output), _window(op.params, shapes[1][1:3]))
        case PoolParams():
            kind = "max" if op.kind is OpKind.MAX_POOL_2D else "avg"
            return kernels.pool(_hwc(source), _hwc(output), _window(op.params, op.params.window), kind)
    if op.kind is OpKind.FULLY_CONNECTED:
        per_channel = model.tensors[op.inputs[1]].quant.per_channel
        return kernels.dense(shapes[1][1], shapes[1][0], per_channel=per_channel)
    if op.kind is OpKind.ADD:
        return kernels.add([_hwc(source), _hwc(source)], _hwc(output))
    if op.kind is OpKind.MEAN:
        return kernels.mean(_hwc(source))
    if op.kind is OpKind.SOFTMAX:
        return kernels.softmax(prod(source[:-1]), source[-1])
    return _moved(op, prod(source), shapes, output)


def unknown(elements: int) -> Work:
    """Work of an operator of which no more is known than that it writes `elements` bytes: none that is calibrated."""
    return kernels.elementwise(KernelVariant.LOOKUP, elements)


def _moved(op: Op, elements: int, shapes: list[Shape], output: Shape) -> Work:
    if op.kind is OpKind.PAD:
        return kernels.move(KernelVariant.PAD, elements, prod(output), [(prod(output[:-1]), output[-1])])
    if op.kind is OpKind.RESHAPE:
        return kernels.move(KernelVariant.CONCAT, elements, elements, [(1, elements)])
    if op.kind is OpKind.CONCATENATION:
        runs = [(prod(shape[:-1]), shape[-1]) for shape in shapes]
        return kernels.move(KernelVariant.COPY, sum(map(prod, shapes)), prod(output), runs)
    return kernels.elementwise(KernelVariant.REQUANTIZE if op.kind is OpKind.QUANTIZE else KernelVariant.RELU, elements)


def _hwc(shape: Shape) -> Shape:
    """Height, width, channels of a tensor of batch 1; missing dimensions are 1."""
    inner = shape[1:] if len(shape) > 1 else shape
    return (1,) * (3 - len(inner)) + tuple(inner)


def _window(params: ConvParams | DepthwiseParams | PoolParams, kernel: Shape) -> Window:
    padding = params.padding
    dilation = (1, 1) if isinstance(params, PoolParams) else params.dilation
    sides = (padding.top, padding.bottom, padding.left, padding.right)
    return Window((kernel[0], kernel[1]), params.stride, sides, dilation)
