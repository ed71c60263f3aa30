"""What tests of the runtime `tflm` share. Those that build need TFLM, by $TFLM_ROOT, and are not run without it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hil.runtimes.tflm.detect import ROOT_VARIABLE
from munas.tflite.file import (
    PAD_OPTIONS,
    QUANTIZE_OPTIONS,
    Code,
    Element,
    Fused,
    TfliteFile,
    add_options,
    concat_options,
    conv_options,
    dense_options,
    pool_options,
    reducer_options,
    softmax_options,
)
from tests.tflite_samples import Chain

needs_tflm = pytest.mark.skipif(
    not os.environ.get(ROOT_VARIABLE), reason=f"{ROOT_VARIABLE} is not set: TensorFlow Lite Micro is not here"
)


def every_operator() -> bytes:
    """A network of every operator that TFLM computes as LiteRT does (its RELU6 does not change the scale)."""
    chain = Chain()
    entry = chain.tensor((1, 12, 10, 2), name="image")
    conv = chain.convolution(entry, 4, 3, same=True, stride=(2, 1), activation=Fused.RELU6)
    wide = chain.depthwise(conv, 3, multiplier=2, same=True)
    shape = (1, 3, 5, 8)
    large = chain.same_scale(Code.MAX_POOL_2D, [wide], shape, pool_options((2, 2), (2, 2)), 0.04, 5)
    halves = pool_options((2, 2), (2, 2), same=True)
    small = chain.same_scale(Code.AVERAGE_POOL_2D, [large], (1, 2, 3, 8), halves, 0.04, 5)
    paddings = chain.integers([(0, 0), (0, 1), (0, 2), (0, 0)])
    padded = chain.same_scale(Code.PAD, [small, paddings], shape, PAD_OPTIONS, 0.04, 5)
    total = chain.same_scale(Code.ADD, [large, padded], shape, add_options(Fused.RELU), 0.06, -20)
    rectified = chain.same_scale(Code.RELU, [total], shape, None, 0.05, -128)
    clipped = chain.same_scale(Code.RELU6, [rectified], shape, None, 0.05, -128)
    rescaled = chain.same_scale(Code.QUANTIZE, [clipped], shape, QUANTIZE_OPTIONS, 0.04, 5)
    joined = chain.same_scale(Code.CONCATENATION, [rescaled, padded], (1, 3, 5, 16), concat_options(-1), 0.04, 5)
    mean = chain.same_scale(Code.MEAN, [joined, chain.integers([1, 2])], (1, 1, 1, 16), reducer_options(True), 0.03, 1)
    flat = chain.same_scale(Code.RESHAPE, [mean, chain.integers([-1, 16])], (1, 16), None, 0.03, 1)
    hidden = chain.dense(flat, 9, scale_in=0.03)
    logits = chain.dense(hidden, 5, per_channel=False, scale_in=0.1)
    softmax = chain.same_scale(Code.SOFTMAX, [logits], (1, 5), softmax_options(), 1 / 256, -128)
    return chain.file.finish([entry], [softmax])


def float_network(seed: int = 0) -> bytes:
    """A network of float32 with two inputs and two outputs."""
    rng, file = np.random.default_rng(seed), TfliteFile()

    def tensor(*shape: int) -> int:
        return file.activation("f", shape, None, element=Element.FLOAT32)

    def weights(*shape: int) -> int:
        return file.constant("w", rng.normal(0, 0.5, shape).astype("<f4"))

    image, extra = tensor(1, 8, 7, 3), tensor(1, 6)
    conv, pooled, flat, joined = tensor(1, 6, 5, 5), tensor(1, 3, 2, 5), tensor(1, 30), tensor(1, 36)
    scores, probabilities = tensor(1, 4), tensor(1, 4)
    file.operator(Code.CONV_2D, [image, weights(5, 3, 3, 3), weights(5)], conv, conv_options(activation=Fused.RELU), 1)
    file.operator(Code.MAX_POOL_2D, [conv], pooled, pool_options((2, 2), (2, 2)), 1)
    file.operator(Code.RESHAPE, [pooled, file.constant("s", np.array([1, 30], "<i4"))], flat, None, 1)
    file.operator(Code.CONCATENATION, [flat, extra], joined, concat_options(-1), 1)
    file.operator(Code.FULLY_CONNECTED, [joined, weights(4, 36), weights(4)], scores, dense_options(), 1)
    file.operator(Code.SOFTMAX, [scores], probabilities, softmax_options(), 1)
    return file.finish([image, extra], [scores, probabilities])
