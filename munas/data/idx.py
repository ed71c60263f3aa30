"""MNIST and Fashion-MNIST: four IDX files, gzip-compressed or not.

The format is the one described with MNIST: two zero bytes, the element type (8 = unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit number, then the elements.
"""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from munas.data.loader import Labelled, Loader, Parts, Sources, candidates, file_named, missing
from munas.data.streams import opened, read_exactly
from munas.errors import DatasetError

SIDE = 28
MAX_EXAMPLES = 100_000
"""More than either set has; bounds what a wrong count or a decompression bomb can cost to 80 MB."""

_UNSIGNED_BYTE = 8

_NAMES = [
    [f"{part}-{kind}{dot}idx{rank}-ubyte{suffix}" for dot in "-." for suffix in ("", ".gz")]
    for part in ("train", "t10k")
    for kind, rank in (("images", 3), ("labels", 1))
]


def idx_loader(name: str, instruction: str, usual: tuple[Path, ...] = ()) -> Loader:
    """The loader of a data set of four IDX files named like MNIST's."""
    find = partial(_find, name, instruction, usual)
    return Loader(name, (SIDE, SIDE, 1), 10, find, _read, entry=name)


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes with `rank` dimensions. Raises DatasetError for any other content."""
    with opened(path) as stream:
        magic = read_exactly(stream, 4, path)
        if magic != bytes((0, 0, _UNSIGNED_BYTE, rank)):
            raise DatasetError(f"{path} is no IDX file of {rank}-dimensional unsigned bytes: starts with {magic.hex()}")
        shape = struct.unpack(f">{rank}I", read_exactly(stream, 4 * rank, path))
        if shape[0] > MAX_EXAMPLES or shape[1:] != (SIDE,) * (rank - 1):
            raise DatasetError(f"{path} has an array of {'x'.join(map(str, shape))}, which is no set of 28x28 images")
        raw = read_exactly(stream, int(np.prod(shape)), path)
        if stream.read(1):
            raise DatasetError(f"{path} goes on after its {shape[0]} entries; get it again")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _find(name: str, instruction: str, usual: tuple[Path, ...], source: Path | None) -> Sources:
    folders = candidates(name, source, *usual)
    for folder in folders:
        found = [file_named([folder], *names) for names in _NAMES]
        files = tuple(path for path in found if path is not None)
        if len(files) == len(found):
            return Sources(folder, files)
        if files:
            only = ", ".join(path.name for path in files)
            missing(name, f"complete set of four IDX files (only {only})", [folder], instruction)
    missing(name, "train-images-idx3-ubyte[.gz]", folders, instruction)


def _read(sources: Sources) -> Parts:
    train_images, train_labels, test_images, test_labels = sources.files
    return Parts(
        train=_labelled(train_images, train_labels),
        test=_labelled(test_images, test_labels),
        scale=(1 / 255,),
        offset=(0.0,),
    )


def _labelled(images_path: Path, labels_path: Path) -> Labelled:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DatasetError(f"{images_path} has {len(images)} images but {labels_path} has {len(labels)} labels")
    return images[..., np.newaxis], labels.astype(np.int64)
