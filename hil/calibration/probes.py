"""Probes: small networks that run every kernel variant on shapes that the µNAS space does not have.

The time of a layer is explained by the trips of its kernel's loops, and a loop's cost is only known as well as it was
exercised. Networks of the search space have no padding, square windows, few strides and no dilation, and leave out
half of the kernels. A probe is one image with many layers: its input is read as a tensor of another shape by every arm
(RESHAPE costs nothing), each arm runs one operator, and their results are joined. A probe is a pure function of seed
and index, as samples are (hil.calibration.sample), and is written without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hil.calibration import probe_arms as arms
from hil.calibration import probe_plain as plain
from hil.calibration import probe_wide as wide
from hil.calibration.probe import SIZES, USUAL_ROOM, Probe, Room
from munas.cost.kernels import KernelVariant
from munas.cost.variants import SPECS
from munas.tflite.file import (
    Code,
)

PROBES = 72
PROBES_VERSION = 4  # raise it when other probes are drawn: old results are then another run
ARMS = 10  # operators of a probe

ARMS_OF: Mapping[KernelVariant, tuple[arms.Arm, ...]] = {
    # Arithmetic of two operands: the operator that the variant is named after.
    **{
        variant: (plain.binary(Code[variant.name]),)
        for variant, spec in SPECS.items()
        if spec.struct == "hil_binary_t" and variant.name in Code.__members__
    },
    KernelVariant.CONV_1X1: (arms.conv_pointwise,),
    KernelVariant.CONV_ANY: (arms.conv_coarse,),
    KernelVariant.CONV_IM2COL: (
        arms.conv,
        arms.conv_along_one_axis,
        arms.conv_of_one_channel,
        arms.conv_deep,
    ),
    KernelVariant.DW_3X3: (arms.depthwise_3x3,),
    KernelVariant.DW: (arms.depthwise,),
    KernelVariant.DW_ANY: (arms.depthwise_coarse,),
    KernelVariant.DW_MULT4: (arms.depthwise_multiplied,),
    KernelVariant.DW_GENERIC: (
        arms.depthwise_dilated,
        arms.depthwise_multiplied,
    ),
    KernelVariant.FC: (
        arms.dense,
        arms.dense_small,
    ),
    KernelVariant.FC_PER_CHANNEL: (
        arms.dense,
        arms.dense_small,
    ),
    KernelVariant.FC_ANY: (arms.dense_coarse,),
    KernelVariant.MAX_POOL: (arms.max_pool,),
    KernelVariant.AVG_POOL: (arms.avg_pool,),
    KernelVariant.ADD: (arms.add,),
    KernelVariant.ADD_PADDED: (arms.add_padded,),
    KernelVariant.PAD: (arms.pad,),
    KernelVariant.MEAN: (arms.mean,),
    KernelVariant.SOFTMAX: (arms.softmax,),
    KernelVariant.RELU: (arms.relu,),
    KernelVariant.CONCAT: (arms.concat,),
    KernelVariant.REQUANTIZE: (arms.requantize,),
    KernelVariant.LOOKUP: (plain.lookup,),
    KernelVariant.COPY: (plain.copy, plain.slices),
    KernelVariant.SELECT: (plain.select,),
    KernelVariant.ADD_BROADCAST: (plain.binary(Code.ADD),),
    KernelVariant.PRELU: (plain.prelu,),
    KernelVariant.SUM: (plain.reduced(Code.MEAN),),
    KernelVariant.REDUCE_MAX: (plain.reduced(Code.REDUCE_MAX),),
    KernelVariant.REDUCE_MIN: (plain.reduced(Code.REDUCE_MIN),),
    KernelVariant.FC_ROWS: (plain.dense_rows,),
    KernelVariant.FC_PER_CHANNEL_ROWS: (plain.dense_rows,),
    KernelVariant.FC_ROWS_ANY: (plain.dense_rows_coarse,),
    KernelVariant.CONV_GROUPED: (plain.grouped,),
    KernelVariant.CONV_TRANSPOSED: (plain.transposed,),
    KernelVariant.RESIZE_BILINEAR: (plain.resized,),
    KernelVariant.LSTM: (plain.lstm,),
    KernelVariant.SVDF: (plain.svdf,),
    KernelVariant.LOG_SOFTMAX: (plain.log_softmax,),
    KernelVariant.SOFTMAX_TO_16: (wide.softmax_to_16,),
    KernelVariant.WIDE_CONV: (wide.conv, wide.depthwise),
    KernelVariant.WIDE_FC: (wide.dense,),
    KernelVariant.WIDE_ADD: (wide.binary(Code.ADD),),
    KernelVariant.WIDE_SUB: (wide.binary(Code.SUB),),
    KernelVariant.WIDE_MUL: (wide.binary(Code.MUL),),
    KernelVariant.WIDE_MAXIMUM: (wide.binary(Code.MAXIMUM),),
    KernelVariant.WIDE_MINIMUM: (wide.binary(Code.MINIMUM),),
    KernelVariant.WIDE_SUM: (wide.reduced(Code.MEAN),),
    KernelVariant.WIDE_REDUCE_MAX: (wide.reduced(Code.REDUCE_MAX),),
    KernelVariant.WIDE_REDUCE_MIN: (wide.reduced(Code.REDUCE_MIN),),
    KernelVariant.WIDE_RESIZE_BILINEAR: (wide.resized,),
    KernelVariant.WIDE_MAX_POOL: (wide.pool(Code.MAX_POOL_2D),),
    KernelVariant.WIDE_AVG_POOL: (wide.pool(Code.AVERAGE_POOL_2D),),
    KernelVariant.WIDE_LOGISTIC: (wide.function(Code.LOGISTIC),),
    KernelVariant.WIDE_TANH: (wide.function(Code.TANH),),
    KernelVariant.WIDE_SOFTMAX: (wide.softmax,),
    KernelVariant.WIDE_REQUANTIZE: (wide.requantize,),
}
"""What exercises each kernel variant; a test demands an entry, and that probes run it, for every row of the table."""

_STREAM = 0x9807E  # of random numbers: not that of the samples
_ALL: tuple[arms.Arm, ...] = tuple(arm for variant in KernelVariant for arm in ARMS_OF.get(variant, ()))
_OF_TFLM: tuple[arms.Arm, ...] = (
    arms.conv_pointwise, arms.conv_coarse, arms.conv, arms.conv_along_one_axis, arms.conv_of_one_channel,
    arms.conv_deep, arms.depthwise_3x3, arms.depthwise, arms.depthwise_coarse, arms.depthwise_multiplied,
    arms.depthwise_dilated, arms.dense, arms.dense_small, arms.max_pool, arms.avg_pool, arms.add, arms.pad, arms.mean,
    arms.softmax, arms.relu, arms.concat, arms.requantize,
)  # fmt: skip
"""Those of operators whose loops in TFLM are known (munas.cost.interpreted)."""
PROBES_OF: Mapping[str, int] = {"cmsis-nn": PROBES, "tflm": 36}
"""How many probes a calibration measures, by runtime."""


def probe_tflite(seed: int, index: int, room: Room = USUAL_ROOM, runtime: str = "cmsis-nn") -> bytes:
    """The .tflite of probe `index` of `seed` for the runtime; every arm comes in turn."""
    chosen = _OF_TFLM if runtime == "tflm" else _ALL
    rng = np.random.default_rng([seed, index, _STREAM])
    sizes = [size for size in SIZES if size <= room.inputs] or [SIZES[0]]
    zero_point = int(rng.choice([-128, 0, int(rng.integers(-128, 128))]))
    probe = Probe(rng, int(rng.choice(sizes)), float(rng.uniform(0.01, 0.1)), zero_point, room)
    results, shapes = [], []
    for number in range(ARMS):
        result, shape = chosen[(index * ARMS + number) % len(chosen)](probe)
        if len(shape) == 3:
            result, shape = arms.thinned(probe, result, (shape[0], shape[1], shape[2]), room.outputs)
        results.append(result)
        shapes.append(shape)
    return probe.finish(results, shapes)
