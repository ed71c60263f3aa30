"""Data sets of the user's own for tests: arrays, pictures, recordings."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.search.prepare import introduced
from munas.data import Dataset, load_dataset

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (60, 8, 9), np.uint8), np.arange(60) % 3


def saved(folder: Path, **arrays: Any) -> str:
    path = folder / "own.npz"
    np.savez_compressed(path, **arrays)
    return str(path)


def loaded(folder: Path, **arrays: Any) -> Dataset:
    return load_dataset(saved(folder, **arrays), None, folder / "cache")


def write_pictures(
    folder: Path, sizes: dict[str, int], mode: str = "RGB", side: int = 10, suffix: str = ".png"
) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, count in sizes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shape = (side, side, 3) if mode == "RGB" else (side, side)
            picture = image.fromarray(RNG.integers(0, 256, shape, np.uint8), mode)
            picture.save(folder / name / f"{number}{suffix}")


def write_clip(path: Path, samples: int = 16_000, rate: int = 16_000, loudest: int = 9000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(channels)
        clip.setsampwidth(2)
        clip.setframerate(rate)
        clip.writeframes(RNG.integers(-loudest, loudest + 1, samples, np.int16).tobytes())


def said(path: Path) -> list[str]:
    """What the start says after its first line, each without the name in front."""
    data = load_dataset(str(path), None, path.parent / "cache")
    return [line.removeprefix(f"{path}: ") for line in introduced(data, str(path))[1:]]
