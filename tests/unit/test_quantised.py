"""The product's one rule of quantisation beside LiteRT's own QUANTIZE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.model.litert import LiteRt
from munas.tflite.file import QUANTIZE_OPTIONS, Code, Element, TfliteFile
from munas.tflite.quantise import quantised, real_range, saturated

SCALES = [2 / 255, 1 / 255, 1.0, 0.5, 2.0**-20, 2.0**20, 0.003921568859368563, 0.0173, 3.7]
ZERO_POINTS = [-128, -1, 0, 1, 37, 127]


def litert(
    values: NDArray[np.float32], scale: float, zero_point: int, element: Element = Element.INT8
) -> NDArray[np.signedinteger[Any]]:
    """What QUANTIZE makes of them."""
    file = TfliteFile()
    x = file.activation("x", values.shape, None, element=Element.FLOAT32)
    y = file.activation("y", values.shape, scale, zero_point, element)
    file.operator(Code.QUANTIZE, [x], y, QUANTIZE_OPTIONS, 1)
    interpreter = LiteRt(file.finish([x], [y]))
    interpreter.run([(x, values)])
    found: NDArray[np.signedinteger[Any]] = interpreter.read(y)
    return found


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_it_is_litert_s_on_ties_and_over_the_range(scale: float, zero_point: int) -> None:
    rng = np.random.default_rng(1)
    halves = (np.arange(-600, 601) / 2).astype(np.float32)
    ties = halves * np.float32(scale)
    near = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    below_half = np.float32(0.5 - 2.0**-25) * np.float32(scale) * np.array([1, -1], np.float32)
    wide = rng.uniform(-300, 300, 4000).astype(np.float32) * np.float32(scale)
    far = np.array([-2e9, -1e6, -1025, 1023, 1e6, 2e9], np.float32) * np.float32(scale)
    values = np.concatenate([ties, *near, below_half, wide, far])
    assert np.array_equal(quantised(values, scale, zero_point), litert(values, scale, zero_point))


@pytest.mark.parametrize("scale", [2.0**-15, 1 / 32767, 3e-4, 1.0, 0.0173])
def test_sixteen_bits_are_litert_s_too(scale: float) -> None:
    rng = np.random.default_rng(2)
    halves = np.concatenate([np.arange(-400, 401), np.arange(65330, 65742), -np.arange(65330, 65742)]) / 2
    ties = halves.astype(np.float32) * np.float32(scale)
    near = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    wide = rng.uniform(-70000, 70000, 4000).astype(np.float32) * np.float32(scale)
    far = np.array([-1e9, -300000, 300000, 1e9], np.float32) * np.float32(scale)
    values = np.concatenate([ties, *near, wide, far])
    assert np.array_equal(quantised(values, scale, 0, np.int16), litert(values, scale, 0, Element.INT16))
    assert saturated(np.array([32767.4, 32767.6, -32768.6]) * scale, scale, 0, np.int16) == 2


def test_images_scaled_to_one_around_zero() -> None:
    """k / 127.5 - 1 with TensorFlow's scale 2 / 255 and zero point -1: every pixel is half way between two steps."""
    scale = float(np.float32(2 / 255))
    pixels = (np.arange(256) / 127.5 - 1).astype(np.float32)
    assert np.array_equal(quantised(pixels, scale, -1), litert(pixels, scale, -1))
    assert np.array_equal(quantised(pixels.astype(np.float64), scale, -1), quantised(pixels, scale, -1))


def test_saturation_is_counted_beyond_half_a_step() -> None:
    assert real_range(0.5, -128) == (0.0, 127.5)
    assert saturated(np.array([0.0, 127.5, -0.24, 127.74]), 0.5, -128) == 0
    assert saturated(np.array([-0.25, 127.75, -1e30, 1e30, np.float64(1e300)]), 0.5, -128) == 5
