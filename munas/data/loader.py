"""What a data set's loader consists of, and what it hands over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import platformdirs
from numpy.typing import NDArray

from munas.errors import DatasetError

Labelled = tuple[NDArray[Any], NDArray[np.int64]]
"""Inputs (N, height, width, channels) and labels int64 (N,)."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files a data set is read from, in a fixed order; `root` is what their names are relative to."""

    root: Path
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What `Loader.read` found. A part that is None is split off, stratified: the test part first, then validation.

    Without `scale` and `offset` (per channel), they are chosen so that the training inputs of each channel have mean 0
    and standard deviation 1.
    """

    train: Labelled
    validation: Labelled | None = None
    test: Labelled | None = None
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] | None = None
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loader:
    """How one data set is found and read.

    `find` gets the folder or file that the user named, or None for the usual places. Both functions raise DatasetError:
    `find` with the instruction how to get the data, `read` with the name of the file that is wrong. `entry` names
    the entries in the cache and is the same for a data set and its binary variant on the same inputs, which has
    `positive_below`; the entry has `base_classes`.
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    find: Callable[[Path | None], Sources]
    read: Callable[[Sources], Parts]
    entry: str
    positive_below: int | None = None
    base_classes: int | None = None  # where they are not num_classes


def data_folder(name: str) -> Path:
    """Where downloaded data sets are expected: ``$MUNAS_HIL_DATA/name``, or munas-hil's folder for the user's data."""
    override = os.environ.get("MUNAS_HIL_DATA")
    return (Path(override) if override else Path(platformdirs.user_data_dir("munas-hil")) / "datasets") / name


def candidates(name: str, source: Path | None, *usual: Path) -> tuple[Path, ...]:
    """The places to look for data set `name` in: only `source` when the user named one."""
    return (source,) if source is not None else (data_folder(name), *usual)


def missing(name: str, what: str, looked: Iterable[Path], instruction: str) -> NoReturn:
    """Raises the DatasetError of a data set that is not there: what was looked for, where, and how to get it."""
    places = " or ".join(str(place) for place in looked)
    raise DatasetError(f"data set {name}: no {what} in {places}; {instruction}")


def file_named(folders: Sequence[Path], *names: str) -> Path | None:
    """The first existing file of these names, folder by folder. Raises DatasetError when a folder cannot be read."""
    for folder in folders:
        for name in names:
            path = folder / name
            try:
                if path.is_file():
                    return path
            except OSError as error:
                raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    return None
