"""Integer parameters of kernels: against exact arithmetic, and against what LiteRT's reference computes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import ModelError
from hil.model import quantise
from hil.model.network import Activation, Quantization


def per_tensor(scale: float, zero_point: int = 0) -> Quantization:
    return Quantization((float(np.float32(scale)),), (zero_point,))


def device_dense(total: int, scale: tuple[int, int]) -> int:
    """What hil_dense makes of a sum, before zero point and clamping; in its 64 bits."""
    if total == 0:
        return 0
    low, shift = abs(total) * (scale[1] & 0xFFFFFFC0), scale[1] & 63
    product = abs(total) * scale[0] + (low >> 32)
    product += (low % 2**32 + (1 << 42 - (64 - max(31, product.bit_length())))) >> 32
    assert product + (1 << shift - 1) < 2**64, "the device has 64 bits"
    rounded = (product + (1 << shift - 1)) >> shift
    return -rounded if total < 0 else rounded


def reference_dense(total: int, source: Quantization, weight: float, output: Quantization) -> int:
    """LiteRT's FullyConnected: a product in double, C's round()."""
    return quantise.round_half_away(float(total) * (source.scale * weight / output.scale))


def interesting_sums(scale: float) -> list[int]:
    """Sums around every point where the rounded product of an int8 output changes, and the extremes."""
    sums = {0, 1, -1, 2**31 - 1, -(2**31)}
    for half in range(256):
        centre = int((half + 0.5) / scale)
        sums.update(sign * (centre + offset) for offset in (-1, 0, 1, 2) for sign in (1, -1))
    return [total for total in sums if -(2**31) <= total < 2**31]


@given(st.floats(2.0**-31, 2.0**30))
def test_a_multiplier_is_within_half_a_unit(real: float) -> None:
    found = quantise.quantize_multiplier(real)
    assert 2**30 <= found.significand < 2**31
    exact = Fraction(real) / Fraction(2) ** (found.shift - 31)
    assert abs(exact - found.significand) <= (Fraction(1, 2) if found.significand > 2**30 else 1)


def test_multipliers_at_the_edges() -> None:
    assert quantise.quantize_multiplier(0.0) == quantise.Multiplier(0, 0)
    assert quantise.quantize_multiplier(1.0) == quantise.Multiplier(2**30, 1)
    assert quantise.quantize_multiplier(1 - 2.0**-33) == quantise.Multiplier(2**30, 1)  # the significand overflowed
    assert quantise.quantize_multiplier(2.0**-40) == quantise.Multiplier(0, 0)
    for wrong in (-1.0, math.inf, math.nan, 2.0**31):
        with pytest.raises(ModelError):
            quantise.quantize_multiplier(wrong)


@pytest.mark.parametrize("seed", range(20))
def test_dense_scales_round_as_double_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, output = per_tensor(rng.uniform(1e-3, 1)), per_tensor(np.exp(rng.uniform(-7, 7)))
    weights = Quantization(tuple(float(np.float32(w)) for w in np.exp(rng.uniform(-12, 0, 8))), (0,) * 8)
    for weight, scale in zip(weights.scales, quantise.dense_scales(source, weights, output), strict=True):
        for total in interesting_sums(source.scale * weight / output.scale):
            expected = reference_dense(total, source, weight, output)
            if abs(expected) < 512:  # beyond, an int8 output is clamped
                assert device_dense(total, scale) == expected, (total, scale)


@pytest.mark.parametrize("out", [1, 2, 6, 14, 49, 96, 98, 1022, 4095, 65536])
@pytest.mark.parametrize("weight", [1, 3, 7, 255])
def test_dense_scales_at_exact_and_inexact_ties(weight: int, out: int) -> None:
    """Ratios like 1/98 make sums whose product is a half, or would be if double did not round it: 49 / 98 < 0.5."""
    source, output = per_tensor(1.0), per_tensor(out)
    scale = quantise.dense_scales(source, per_tensor(weight), output)[0]
    for total in interesting_sums(weight / out):
        expected = reference_dense(total, source, weight, output)
        if abs(expected) < 512:
            assert device_dense(total, scale) == expected, total


def test_dense_scales_out_of_range() -> None:
    tiny = quantise.dense_scales(per_tensor(2.0**-28), per_tensor(2.0**-40), per_tensor(1.0))[0]
    assert all(device_dense(total, tiny) == 0 for total in (2**31 - 1, -(2**31), 0))
    with pytest.raises(ModelError, match="too large"):
        quantise.dense_scales(per_tensor(1024.0), per_tensor(1024.0), per_tensor(2.0**-20))


def test_activation_ranges() -> None:
    output = per_tensor(0.05, -10)
    assert quantise.activation_range(Activation.NONE, output) == (-128, 127)
    assert quantise.activation_range(Activation.RELU, output) == (-10, 127)
    assert quantise.activation_range(Activation.RELU6, output) == (-10, 110)
    assert quantise.activation_range(Activation.RELU_N1_TO_1, output) == (-30, 10)
    with pytest.raises(ModelError, match="too small"):
        quantise.activation_range(Activation.RELU6, per_tensor(1e-12))


def test_add_refuses_what_the_reference_aborts_on() -> None:
    with pytest.raises(ModelError, match="ADD"):
        quantise.add_parameters(per_tensor(1.0), per_tensor(1.0), per_tensor(2.0**-20))
    found = quantise.add_parameters(per_tensor(0.5), per_tensor(0.25), per_tensor(1.0))
    assert found.first == quantise.Multiplier(2**30, 0)  # the larger scale is half of twice itself
    assert found.second == quantise.Multiplier(2**30, -1)
    assert found.output.shift <= 0


def test_softmax_refuses_what_the_reference_aborts_on() -> None:
    with pytest.raises(ModelError, match="SOFTMAX"):
        quantise.softmax_parameters(per_tensor(2.0**-28), 1.0)
    assert quantise.softmax_parameters(per_tensor(2.0**20), 1.0).diff_min == 0  # only the largest input counts


@pytest.mark.parametrize("count", [1, 2, 3, 7, 49, 64, 4095, 65535])
def test_mean_multiplier_divides_by_the_count(count: int) -> None:
    found = quantise.mean_multiplier(per_tensor(0.1), per_tensor(0.07), count)
    real = float(np.float32(0.1)) / float(np.float32(0.07)) / count
    assert found.significand / 2**31 * 2.0**found.shift == pytest.approx(real, rel=2e-9 * 2)
    assert 0 < found.significand < 2**31
