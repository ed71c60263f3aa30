"""Augmentation moves pixels where it should, and is decided by the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from munas.training.augment import Augmentation, augmented, fill_value

IMAGES = np.random.default_rng(3).integers(0, 256, (60, 9, 8, 2), dtype=np.uint8)
FILL = np.array([7, 9], np.uint8)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The image moved by whole pixels, the fill coming in."""
    result = np.empty_like(image)
    result[:] = FILL
    height, width = image.shape[:2]
    rows, columns = range(max(0, down), min(height, height + down)), range(max(0, right), min(width, width + right))
    for row in rows:
        for column in columns:
            result[row, column] = image[row - down, column - right]
    return result


def test_each_image_is_shifted_and_flipped_on_its_own() -> None:
    found = augmented(IMAGES, Augmentation(2, flip=True), FILL, np.random.default_rng(0))
    seen = set()
    for before, after in zip(IMAGES, found, strict=True):
        ways = {
            (down, right, flip)
            for down in range(-2, 3)
            for right in range(-2, 3)
            for flip in (False, True)
            if np.array_equal(after, shifted(before, down, right)[:, :: -1 if flip else 1])
        }
        assert len(ways) == 1
        seen |= ways
    assert len(seen) > 25


def test_a_symmetric_shift_brings_in_the_mirrored_edge() -> None:
    found = augmented(IMAGES, Augmentation(2, symmetric=True), FILL, np.random.default_rng(0))
    for before, after in zip(IMAGES, found, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
        height, width = before.shape[:2]
        windows = [padded[d : d + height, r : r + width] for d in range(5) for r in range(5)]
        assert any(np.array_equal(after, window) for window in windows)
    plain = augmented(IMAGES, Augmentation(2), FILL, np.random.default_rng(0))
    assert not np.array_equal(found, plain)


def test_a_share_is_rotated() -> None:
    found = augmented(IMAGES, Augmentation(rotation_rad=0.2, rotation_share=0.3), FILL, np.random.default_rng(0))
    changed = [not np.array_equal(a, b) for a, b in zip(IMAGES, found, strict=True)]
    assert 8 <= sum(changed) <= 28


def test_a_rotation_is_about_the_centre_and_fills_from_outside() -> None:
    pytest.importorskip("tensorflow")
    image = np.zeros((1, 9, 9, 2), np.uint8)
    image[:] = FILL
    image[0, 4, :] = 200  # a horizontal line through the centre
    quarter = Augmentation(rotation_rad=np.pi / 2, rotation_share=1.0)

    class Most(np.random.Generator):
        def uniform(self, low, high, size):  # type: ignore[no-untyped-def]
            return np.full(size, high)

    found = augmented(image, quarter, FILL, Most(np.random.PCG64(0)))
    upright = np.empty_like(image)
    upright[:] = FILL
    upright[0, :, 4] = 200
    np.testing.assert_array_equal(found, upright)


def test_the_seed_decides_and_the_originals_stay() -> None:
    before = IMAGES.copy()
    everything = Augmentation(2, flip=True, rotation_rad=0.2, rotation_share=0.3)
    first, again, other = (augmented(IMAGES, everything, FILL, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(IMAGES, before)


def test_the_fill_is_what_scales_to_zero() -> None:
    assert fill_value((1 / 255,), (0.0,)).tolist() == [0]
    assert fill_value((1 / 60, 1 / 50), (-2.0, -2.5)).tolist() == [120, 125]


def test_no_augmentation_is_false() -> None:
    assert not Augmentation()
    assert Augmentation(flip=True)
