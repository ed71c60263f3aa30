"""A data set as the search sees it, and its entry in the cache: six .npy files and a dataset.json.

Three parts of examples in read-only memory maps of the entry's files, and how to scale them. A data set travels between
processes as the path of its entry, which is why both are in one module.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data.loader import Labelled

FORMAT = 2
"""Of the entries; part of their keys, so a change makes new entries. Raise it too when a loader's output changes."""

DESCRIPTION = "dataset.json"
PARTS = ("train", "validation", "test")


class EntryError(Exception):
    """A cache entry is not complete or not readable; it can be built anew."""


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
    inputs (the front end of speech-commands), empty for images. `classes` are the classes' names where they have any,
    and `is_own` says that it is the user's own, which no recipe and no preset knows.
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
    classes: tuple[str, ...] = ()
    is_own: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the path of the cache entry, so that sending it to a worker costs nothing and maps stay shared."""
        if self.folder is None:
            fields = (self.name, self.input_shape, self.num_classes, self.train, self.validation, self.test)
            more = (self.folder, self.positive_below, dict(self.constants), self.classes, self.is_own)
            return Dataset, (*fields, self.scale, self.offset, self.sha256, *more)
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


def _read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.setflags(write=False)
    return array


def write_entry(folder: Path, header: dict[str, Any], parts: dict[str, Labelled]) -> None:
    """Writes all files of an entry. `header` has Dataset's plain fields, `parts` one item for each of PARTS.

    Files are flushed to the disk, so that after a power cut no file has its full size but not its content. Raises
    OSError.
    """
    files: dict[str, Any] = {}
    for name, arrays in parts.items():
        for kind, array in zip(("inputs", "labels"), arrays, strict=True):
            file = f"{name}-{kind}.npy"
            with (folder / file).open("wb") as stream:
                np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
            size = (folder / file).stat().st_size
            files[file] = {"bytes": size, "shape": list(array.shape), "dtype": array.dtype.str}
    text = json.dumps({"format": FORMAT, **header, "files": files}, indent=1)
    with (folder / DESCRIPTION).open("w") as description:
        description.write(text)
        description.flush()
        os.fsync(description.fileno())


def open_entry(folder: Path) -> Dataset:
    """The data set of an entry, as read-only memory maps. Raises EntryError unless sizes, shapes and types fit."""
    try:
        header = json.loads((folder / DESCRIPTION).read_text())
        if header["format"] != FORMAT:
            raise EntryError(f"{folder} is of format {header['format']}")
        train, validation, test = (_open_part(folder, part, header["files"]) for part in PARTS)
        height, width, channels = header["input_shape"]
        return Dataset(
            name=header["name"],
            input_shape=(height, width, channels),
            num_classes=header["num_classes"],
            train=train,
            validation=validation,
            test=test,
            scale=tuple(header["scale"]),
            offset=tuple(header["offset"]),
            sha256=header["sha256"],
            folder=folder,
            constants={name: tuple(values) for name, values in header["constants"].items()},
            classes=tuple(map(str, header.get("classes", ()))),
            is_own=bool(header.get("is_own", False)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EntryError(f"{folder}: {error}") from error


def _open_part(folder: Path, part: str, files: dict[str, Any]) -> Examples:
    inputs = _open_array(folder, f"{part}-inputs.npy", files, mapped=True)
    labels = _open_array(folder, f"{part}-labels.npy", files, mapped=False)
    labels.setflags(write=False)
    return Examples(inputs, labels)


def _open_array(folder: Path, file: str, files: dict[str, Any], mapped: bool) -> NDArray[Any]:
    path, expected = folder / file, files[file]
    if path.stat().st_size != expected["bytes"]:
        raise EntryError(f"{path} has {path.stat().st_size} bytes instead of {expected['bytes']}")
    array: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    if list(array.shape) != expected["shape"] or array.dtype.str != expected["dtype"]:
        raise EntryError(f"{path} is not the array that {DESCRIPTION} describes")
    return array


def _reopen(folder: Path, name: str, positive_below: int | None) -> Dataset:
    """The other end of `Dataset.__reduce__`. Raises pickle.UnpicklingError when the cache entry is gone."""
    try:
        dataset = open_entry(folder)
    except EntryError as error:
        raise pickle.UnpicklingError(f"the cached data set {name} has gone: {error}") from error
    return dataset if positive_below is None else binary(dataset, name, positive_below)
