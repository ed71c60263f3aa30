"""Rows of weights, and what their outputs need, as firmware/kernels/hil_rows.h wants them in flash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hil.codegen.layer import Constant
from hil.model.quantise import Multiplier

_FOUR = 4
BY_FOURS = [0, 2, 1, 3]  # what SXTB16 leaves of four bytes, itself and rotated by 8
_SATURATES = 2**30  # a product this large, shifted by one bit only, might not fit when the zero point is added
_ALWAYS_ZERO = Multiplier(2**31, -32)  # the shift leaves nothing of any sum


def groups_of(count: int) -> Iterator[tuple[int, int]]:
    """(first row, rows) of the groups that the kernels take together: fours, then a two, then a one."""
    first = 0
    while first < count:
        size = _FOUR if count - first >= _FOUR else 2 if count - first >= 2 else 1
        yield first, size
        first += size


def row_weights(weights: NDArray[np.int8], comment: str, *, by_fours: bool, packed: bool = False) -> Constant:
    """(rows, columns) int8 weights, interleaved within each group of rows.

    `by_fours`: columns in the order 0, 2, 1, 3. `packed`: groups of four rows are packed for hil_quads.
    """
    if by_fours:
        fours = weights.shape[1] // 4 * 4
        mixed = weights[:, :fours].reshape(len(weights), -1, 4)[:, :, BY_FOURS].reshape(len(weights), -1)
        weights = np.concatenate([mixed, weights[:, fours:]], axis=1)
    groups = []
    for first, size in groups_of(len(weights)):
        group = _interleaved(weights[first : first + size])
        groups.append(_packed(group) if packed and size == _FOUR else group)
    return Constant("weights", "int8_t", np.concatenate(groups).tobytes(), comment)


def _packed(group: NDArray[np.int8]) -> NDArray[np.int8]:
    """Bytes so that two of them, as 16 bits, are 256 times the odd one plus the even one, which has a sign."""
    pairs = group.reshape(-1, 2).copy()
    pairs[:, 1] -= pairs[:, 0] < 0
    return pairs.reshape(-1)


def packable(weights: NDArray[np.int8]) -> bool:
    """Whether each weight can be one less; converters write -127 at least."""
    return not (weights == -128).any()


def _interleaved(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """One group. Two columns of two rows share a word (rows 0, 1, 0, 1), of one row four columns (0, 2, 1, 3)."""
    count, columns = rows.shape
    even = columns // 2 * 2
    rest = rows[:, even:].T.reshape(-1)
    if count == 1:
        fours = columns // 4 * 4
        mixed = rows[0, :fours].reshape(-1, 4)[:, BY_FOURS].reshape(-1)
        return np.concatenate([mixed, rows[0, fours:]])
    pairs = rows[:, :even].reshape(count // 2, 2, even // 2, 2)  # twin, row of the twin, pair, column of the pair
    return np.concatenate([pairs.transpose(2, 0, 3, 1).reshape(-1), rest])


def row_channels(bias: NDArray[np.int32], multipliers: Sequence[Multiplier]) -> Constant:
    """Biases, multipliers and shifts (a byte each), group by group."""
    words: list[int] = []
    for first, size in groups_of(len(bias)):
        words += _group_words(bias[first : first + size], multipliers[first : first + size])
    comment = f"{len(bias)} biases, multipliers, shifts"
    return Constant("channels", "int32_t", np.array(words, "<i4").tobytes(), comment)


def tap_weights(weights: NDArray[np.int8], comment: str) -> Constant:
    """(channels, taps) int8 weights, four bytes a tap for each four channels (firmware/kernels/hil_taps.h)."""
    groups = [weights[chosen].T.reshape(-1) for chosen in _fours(len(weights))]
    if len(weights) < _FOUR:
        groups = [np.pad(weights.T, ((0, 0), (0, _FOUR - len(weights)))).reshape(-1)]
    return Constant("weights", "int8_t", np.concatenate(groups).tobytes(), comment)


def plane_weights(weights: NDArray[np.int8], comment: str, *, down: bool) -> Constant:
    """(channels, 9) int8 weights, nine bytes a channel for each four channels, across the pairs of outputs first.

    `down`: pairs lie one below the other, so that this is by columns (firmware/kernels/hil_planes.h).
    """
    taps = weights.reshape(-1, 3, 3)
    turned = (taps.transpose(0, 2, 1) if down else taps).reshape(-1, 9)
    groups = [turned[chosen].reshape(-1) for chosen in _fours(len(turned))]
    return Constant("weights", "int8_t", np.concatenate(groups).tobytes(), comment)


def tap_channels(bias: NDArray[np.int32], multipliers: Sequence[Multiplier]) -> Constant:
    """Biases, multipliers and shifts for each four channels."""
    fill = max(0, _FOUR - len(bias))
    padded, scales = np.pad(bias, (0, fill)), [*multipliers, *[_ALWAYS_ZERO] * fill]
    words: list[int] = []
    for chosen in _fours(len(padded)):
        words += _group_words(padded[chosen], scales[chosen])
    comment = f"{len(bias)} biases, multipliers, shifts"
    return Constant("channels", "int32_t", np.array(words, "<i4").tobytes(), comment)


def _fours(channels: int) -> Iterator[slice]:
    """Each four channels; the last four overlap those before when there are not four left."""
    for first in range(0, channels, _FOUR):
        begin = max(0, min(first, channels - _FOUR))
        yield slice(begin, begin + _FOUR)


def _group_words(bias: NDArray[np.int32], multipliers: Sequence[Multiplier]) -> list[int]:
    scales = [fixed_scale(item) for item in multipliers]
    shifts = bytes(shift & 0xFF for _, shift in scales).ljust(4, b"\0")
    return [*bias.tolist(), *(multiplier for multiplier, _ in scales), int.from_bytes(shifts, "little", signed=True)]


def fixed_scale(item: Multiplier) -> tuple[int, int]:
    """(multiplier, shift) of hil_rows.h."""
    found = item if item.significand else _ALWAYS_ZERO
    return 2 * found.significand - 2**32, -1 - found.shift


def fits_fast_rows(weights: NDArray[np.int8], bias: NDArray[np.int32], multipliers: Sequence[Multiplier]) -> bool:
    """Whether the fast kernels may: scales below 1/2, and room for a zero point on top of any sum."""
    if not packable(weights):
        return False
    largest = np.abs(bias.astype(np.int64)) + 128 * np.abs(weights.astype(np.int64)).sum(axis=1)
    return all(
        item.significand == 0 or item.shift < -1 or (item.shift == -1 and most < _SATURATES)
        for item, most in zip(multipliers, largest.tolist(), strict=True)
    )
