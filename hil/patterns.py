"""Inputs that host and device make alike, by name: what verification sends instead of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class PatternKind(IntEnum):
    """Inputs that the device can make by itself; the number is what travels."""

    RANDOM = 0
    MIN = 1
    MAX = 2
    ZERO_POINT = 3
    ALTERNATING = 4


@dataclass(frozen=True, slots=True)
class Pattern:
    """An input by name: `kind`, and a `seed` (32 bits) that only RANDOM uses."""

    kind: PatternKind
    seed: int = 0

    def data(self, size: int, zero_point: int = 0) -> bytes:
        """The `size` bytes (int8, two's complement) that the device makes of it."""
        return pattern(self.kind, self.seed, size, zero_point)


@dataclass(frozen=True, slots=True)
class FloatPattern:
    """An input of float32, which the host makes and sends: at random from -1 to 1, or without a seed all zeros."""

    seed: int | None

    def data(self, size: int, zero_point: int = 0) -> bytes:
        """`size` bytes, little-endian."""
        if self.seed is None:
            return bytes(size)
        words = _random_words(self.seed, size // 4)
        return (words * 2.0**-31 - 1.0).astype("<f4").tobytes()


def pattern(kind: PatternKind, seed: int, size: int, zero_point: int = 0) -> bytes:
    """`size` bytes of the pattern `kind`, the same as ``hil_pattern_byte`` in firmware/runtime/input.c.

    RANDOM mixes ``seed + i`` per 32-bit word i (Murmur3's finaliser), so that host and device can both make any part
    of it without the part before.
    """
    if kind is PatternKind.RANDOM:
        return _random_words(seed, (size + 3) // 4).tobytes()[:size]
    if kind is PatternKind.ALTERNATING:
        return (b"\x80\x7f" * ((size + 1) // 2))[:size]
    value = {PatternKind.MIN: -128, PatternKind.MAX: 127, PatternKind.ZERO_POINT: zero_point}[kind]
    return bytes([value & 0xFF]) * size


def _random_words(seed: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    word = np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed & 0xFFFFFFFF)
    word ^= word >> np.uint32(16)
    word *= np.uint32(0x85EBCA6B)
    word ^= word >> np.uint32(13)
    word *= np.uint32(0xC2B2AE35)
    word ^= word >> np.uint32(16)
    return word.astype("<u4")


def float_patterns(count: int, seed: int) -> tuple[FloatPattern, ...]:
    """`count` inputs of float32 to verify with: zeros as the second, the others random."""
    return tuple(FloatPattern(None if place == 1 else (seed + place) & 0xFFFFFFFF) for place in range(count))


def verification_patterns(count: int, seed: int) -> tuple[Pattern, ...]:
    """`count` inputs to verify with: random ones, and among the first eight each extreme once."""
    extremes = (PatternKind.MIN, PatternKind.MAX, PatternKind.ALTERNATING, PatternKind.ZERO_POINT)
    made = [Pattern(PatternKind.RANDOM, (seed + i) & 0xFFFFFFFF) for i in range(count)]
    for place, kind in zip(range(1, count, 2), extremes, strict=False):
        made[place] = Pattern(kind)
    return tuple(made)
