"""A data set as the search sees it: three parts of examples in read-only memory maps, and how to scale them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """One part of a data set.

    `inputs` are (N, height, width, channels), uint8 for images and float32 for speech features: a read-only np.memmap
    of the cache, so that processes share its pages. `labels` are int64 (N,), from 0.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Training, validation and test part; a network sees ``inputs.astype(float32) * scale + offset`` (per channel).

    `sha256` is over the names and contents of the source files, 64 hex digits. `folder` is the cache entry that the
    memory maps are of, None for a data set made in memory. `positive_below`, when not None, makes it a binary task:
    label 1 for the original labels below it. `constants` are what a device needs besides `scale` and `offset` to make
    inputs (the front end of speech-commands), empty for images.
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    train: Examples
    validation: Examples
    test: Examples
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    sha256: str
    folder: Path | None = None
    positive_below: int | None = None
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the path of the cache entry, so that sending it to a worker costs nothing and maps stay shared."""
        if self.folder is None:
            fields = (self.name, self.input_shape, self.num_classes, self.train, self.validation, self.test)
            return Dataset, (*fields, self.scale, self.offset, self.sha256)
        return _reopen, (self.folder, self.name, self.positive_below)


def binary(dataset: Dataset, name: str, positive_below: int) -> Dataset:
    """The task "is the label below `positive_below`?" on the same inputs and parts: label 1 for yes, 0 for no."""

    def relabel(part: Examples) -> Examples:
        return Examples(part.inputs, _read_only((part.labels < positive_below).astype(np.int64)))

    return replace(
        dataset,
        name=name,
        num_classes=2,
        train=relabel(dataset.train),
        validation=relabel(dataset.validation),
        test=relabel(dataset.test),
        positive_below=positive_below,
    )


def _reopen(folder: Path, name: str, positive_below: int | None) -> Dataset:
    """The other end of `Dataset.__reduce__`. Raises pickle.UnpicklingError when the cache entry is gone."""
    from munas.data.entry import EntryError, open_entry  # entry.py needs the classes above

    try:
        dataset = open_entry(folder)
    except EntryError as error:
        raise pickle.UnpicklingError(f"the cached data set {name} has gone: {error}") from error
    return dataset if positive_below is None else binary(dataset, name, positive_below)


def _read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.setflags(write=False)
    return array
