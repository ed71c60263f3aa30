"""A data set in the cache: six .npy files and a dataset.json that describes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data.dataset import Dataset, Examples
from munas.data.loader import Labelled

FORMAT = 1
"""Of the entries; part of their keys, so a change makes new entries. Raise it too when a loader's output changes."""

DESCRIPTION = "dataset.json"
PARTS = ("train", "validation", "test")


class EntryError(Exception):
    """A cache entry is not complete or not readable; it can be built anew."""


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
