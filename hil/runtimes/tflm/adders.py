"""The operators of TFLM whose arena we know how to plan: what its resolver calls them."""

from __future__ import annotations

from hil.model.network import OpKind

# The resolver's method for an operator, and the registration of its int8-only kernel where TFLM has one.
ADDERS: dict[OpKind, tuple[str, str]] = {
    OpKind.CONV_2D: ("AddConv2D", "CONV_2D_INT8"),
    OpKind.DEPTHWISE_CONV_2D: ("AddDepthwiseConv2D", "DEPTHWISE_CONV_2D_INT8"),
    OpKind.FULLY_CONNECTED: ("AddFullyConnected", "FULLY_CONNECTED_INT8"),
    OpKind.MAX_POOL_2D: ("AddMaxPool2D", "MAX_POOL_2D_INT8"),
    OpKind.AVERAGE_POOL_2D: ("AddAveragePool2D", "AVERAGE_POOL_2D_INT8"),
    OpKind.ADD: ("AddAdd", "ADD_INT8"),
    OpKind.PAD: ("AddPad", "PAD_INT8"),
    OpKind.SOFTMAX: ("AddSoftmax", "SOFTMAX_INT8"),
    OpKind.RESHAPE: ("AddReshape", ""),
    OpKind.MEAN: ("AddMean", ""),
    OpKind.RELU: ("AddRelu", ""),
    OpKind.RELU6: ("AddRelu6", ""),
    OpKind.CONCATENATION: ("AddConcatenation", ""),
    OpKind.QUANTIZE: ("AddQuantize", ""),
}
