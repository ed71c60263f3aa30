"""Sizes of what TFLM keeps in its arena, by processor and kernels: facts of TFLM's headers, counted with its compiler.

`CORTEX_M` is GCC for Arm with TFLM's CMSIS-NN kernels (enumerations are as short as they can be there); `HOST_64` is
the `tflite-micro` Python package for x86-64, with TFLM's portable kernels. All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hil.model.network import OpKind

BUFFER_ALIGNMENT = 16  # of tensors, scratch and everything that a kernel allocates
SCRATCH_REQUESTS_PER_OP = 12  # room that is kept free for requests while an operator is prepared
PLANNER_BYTES_PER_BUFFER = 40  # requirement 16, sorted size and number 8, list entry 12, offset 4


@dataclass(frozen=True, slots=True)
class Size:
    """Size and alignment of one object."""

    bytes: int
    align: int


@dataclass(frozen=True, slots=True)
class Abi:
    """`parameters`: what an operator's options become; `op_data`: what its kernel keeps. Absent kinds keep nothing."""

    name: str
    pointer: Size
    allocators: tuple[Size, ...]  # before the model: arena allocator, planner, model allocator, options' allocator
    subgraph: Size
    eval_tensor: Size
    node: Size
    tensor: Size
    quantization: Size
    allocation_info: Size
    scratch_request: Size
    scratch_handle: Size
    parameters: Mapping[OpKind, Size]
    op_data: Mapping[OpKind, int]
    cmsis_nn: bool


CORTEX_M = Abi(
    name="cortex-m",
    pointer=Size(4, 4),
    allocators=(Size(36, 4), Size(44, 4), Size(36, 4), Size(8, 4)),
    subgraph=Size(8, 4),
    eval_tensor=Size(12, 4),
    node=Size(32, 4),
    tensor=Size(32, 4),
    quantization=Size(12, 4),
    allocation_info=Size(24, 4),
    scratch_request=Size(12, 4),
    scratch_handle=Size(4, 4),
    parameters={
        OpKind.CONV_2D: Size(28, 4),
        OpKind.DEPTHWISE_CONV_2D: Size(28, 4),
        OpKind.FULLY_CONNECTED: Size(5, 1),
        OpKind.MAX_POOL_2D: Size(40, 4),
        OpKind.AVERAGE_POOL_2D: Size(40, 4),
        OpKind.ADD: Size(2, 1),
        OpKind.RESHAPE: Size(36, 4),
        OpKind.MEAN: Size(1, 1),
        OpKind.SOFTMAX: Size(4, 4),
        OpKind.CONCATENATION: Size(8, 4),
    },
    op_data={
        OpKind.CONV_2D: 60,
        OpKind.DEPTHWISE_CONV_2D: 60,
        OpKind.FULLY_CONNECTED: 72,
        OpKind.MAX_POOL_2D: 36,
        OpKind.AVERAGE_POOL_2D: 36,
        OpKind.ADD: 60,
        OpKind.PAD: 56,
        OpKind.MEAN: 44,
        OpKind.SOFTMAX: 64,
        OpKind.RELU: 28,
        OpKind.RELU6: 8,
        OpKind.CONCATENATION: 24,
        OpKind.QUANTIZE: 32,
        OpKind.DEQUANTIZE: 32,
    },
    cmsis_nn=True,
)

HOST_64 = Abi(
    name="x86-64",
    pointer=Size(8, 8),
    # The package counts its allocations: its two allocators are larger than the ones it would be shipped with.
    allocators=(Size(104, 8), Size(72, 8), Size(272, 8), Size(16, 8)),
    subgraph=Size(24, 8),
    eval_tensor=Size(24, 8),
    node=Size(64, 8),
    tensor=Size(64, 8),
    quantization=Size(24, 8),
    allocation_info=Size(32, 8),
    scratch_request=Size(16, 8),
    scratch_handle=Size(8, 8),
    parameters={
        **CORTEX_M.parameters,
        OpKind.FULLY_CONNECTED: Size(32, 8),
        OpKind.ADD: Size(8, 4),
    },
    op_data={
        **CORTEX_M.op_data,
        OpKind.CONV_2D: 80,
        OpKind.DEPTHWISE_CONV_2D: 80,
        OpKind.FULLY_CONNECTED: 72,
        OpKind.MAX_POOL_2D: 32,
        OpKind.AVERAGE_POOL_2D: 32,
        OpKind.SOFTMAX: 80,
        OpKind.CONCATENATION: 80,
    },
    cmsis_nn=False,
)
