"""Augmented copies of raw images: shifted, flipped, some of them rotated. All of it is decided by a generator's seed.

Shifting and flipping copy bytes, a group of equal shifts at a time: 0.1 ms for a batch of 128 images of 28x28, and
0.5 ms with rotation, where the step itself takes from 3 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Augmentation:
    """`shift_pixels` at most, up or down and left or right; a horizontal flip for half of the images; a rotation by at
    most `rotation_rad` for a share of them. What a shift brings in is zero, or the image's own edge, mirrored, where it
    is `symmetric`."""

    shift_pixels: int = 0
    flip: bool = False
    rotation_rad: float = 0.0
    rotation_share: float = 0.0
    symmetric: bool = False

    def __bool__(self) -> bool:
        return bool(self.shift_pixels or self.flip or (self.rotation_rad and self.rotation_share))


def fill_value(scale: Sequence[float], offset: Sequence[float]) -> NDArray[np.uint8]:
    """The raw pixel (C,) that is closest to zero after scaling: what comes in from outside of an image."""
    raw = np.rint(-np.asarray(offset, np.float64) / np.asarray(scale, np.float64))
    return np.clip(raw, 0, 255).astype(np.uint8)


def augmented(
    images: NDArray[np.uint8], augmentation: Augmentation, fill: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """New images (N, H, W, C) out of `images`, which are left alone."""
    result = _rotated(images, augmentation, fill, rng)
    if augmentation.shift_pixels or augmentation.flip:
        result = _moved(result, augmentation, fill, rng)
    return result


def _moved(
    images: NDArray[np.uint8], augmentation: Augmentation, fill: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    count, height, width, channels = images.shape
    most = augmentation.shift_pixels
    if augmentation.symmetric:
        padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="symmetric")
    else:
        padded = np.empty((count, height + 2 * most, width + 2 * most, channels), np.uint8)
        padded[:] = fill
        padded[:, most : most + height, most : most + width] = images
    moves = rng.integers(0, 2 * most + 1, (2, count))
    flips = rng.integers(0, 2, count) if augmentation.flip else np.zeros(count, np.int64)
    kinds = (moves[0] * (2 * most + 1) + moves[1]) * 2 + flips
    result = np.empty_like(images)
    for kind in np.unique(kinds):
        chosen = np.flatnonzero(kinds == kind)
        down, right = moves[0, chosen[0]], moves[1, chosen[0]]
        part = padded[chosen, down : down + height, right : right + width]
        result[chosen] = part[:, :, ::-1] if kind % 2 else part
    return result


def _rotated(
    images: NDArray[np.uint8], augmentation: Augmentation, fill: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Images of which a share is turned about its centre, bilinearly."""
    if not (augmentation.rotation_rad and augmentation.rotation_share):
        return images
    turned = np.flatnonzero(rng.random(len(images)) < augmentation.rotation_share)
    angles = rng.uniform(-augmentation.rotation_rad, augmentation.rotation_rad, len(turned))
    result = images.copy()
    if len(turned):
        result[turned] = _turned(images[turned], angles, fill)
    return result


def _turned(images: NDArray[np.uint8], angles: NDArray[np.float64], fill: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each image turned by its angle in radians."""
    from munas.training.backend import tf

    height, width = images.shape[1:3]
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    shift_x = centre_x - cos * centre_x + sin * centre_y
    shift_y = centre_y - sin * centre_x - cos * centre_y
    transforms = np.stack([cos, -sin, shift_x, sin, cos, shift_y, zero, zero], axis=1).astype(np.float32)
    # The fill is zero: what is outside is made zero first and gets its value back afterwards.
    values: NDArray[Any] = tf.raw_ops.ImageProjectiveTransformV3(
        images=images.astype(np.float32) - fill,
        transforms=transforms,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    ).numpy()
    return np.clip(np.rint(values + fill), 0, 255).astype(np.uint8)
