"""CIFAR-10 from its original files: binary or python batches, unpacked or in their .tar.gz.

A record is a label and 32x32 pixels, all red ones first, then green, then blue. Both kinds give the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from munas.data.archive import is_archive, members
from munas.data.loader import Labelled, Loader, Parts, Sources, candidates, file_named, missing
from munas.data.pickled import PickledArray, read_pickled
from munas.data.streams import read_all
from munas.errors import DatasetError

NAME = "cifar10"
SIDE = 32
CHANNELS = 3
PIXELS = SIDE * SIDE * CHANNELS
MAX_BATCH_BYTES = 40 << 20
"""Of one batch of 10,000 images, which has 31 MB."""

ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
BINARY_BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
PYTHON_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")

INSTRUCTION = (
    "download 'CIFAR-10 binary version' (cifar-10-binary.tar.gz) or 'CIFAR-10 python version' (cifar-10-python.tar.gz) "
    "from the CIFAR-10 page into that folder, unpacked or not, or name the archive or folder as the source"
)


def find(source: Path | None) -> Sources:
    """The six batches, or the archive that has them. Raises DatasetError when there are none or not all six."""
    if source is not None and source.is_file():
        return Sources(source.parent, (source,))
    places = candidates(NAME, source)
    folders = [place / folder for place in places for folder in ("", *FOLDERS)]
    for folder in folders:
        for names in (BINARY_BATCHES, PYTHON_BATCHES):
            found = [file_named([folder], name) for name in names]
            if any(found) and not all(found):
                lacking = ", ".join(name for name, path in zip(names, found, strict=True) if path is None)
                missing(NAME, lacking, [folder], INSTRUCTION)
            if all(found):
                return Sources(folder, tuple(path for path in found if path is not None))
    archive = file_named(places, *ARCHIVES)
    if archive is None:
        missing(NAME, "batches and no archive of them", places, INSTRUCTION)
    return Sources(archive.parent, (archive,))


def read(sources: Sources) -> Parts:
    """Five batches for training, one for testing; scaled by the mean and standard deviation of the training part."""
    batches = _from_archive(sources.files[0]) if len(sources.files) == 1 else _from_files(sources.files)
    counts = {name: len(labels) for name, (_, labels) in batches.items()}
    if len(set(counts.values())) != 1:
        raise DatasetError(f"the batches of CIFAR-10 in {sources.root} have different numbers of images: {counts}")
    *training, test = batches.values()
    images, labels = zip(*training, strict=True)
    return Parts(train=(np.concatenate(images), np.concatenate(labels)), test=test)


LOADER = Loader(NAME, (SIDE, SIDE, CHANNELS), 10, find, read, entry=NAME)


def _from_files(files: Iterable[Path]) -> dict[str, Labelled]:
    return {path.name: _batch(read_all(path, MAX_BATCH_BYTES), path) for path in files}


def _from_archive(archive: Path) -> dict[str, Labelled]:
    if not is_archive(archive):
        raise DatasetError(f"{archive} is not called like an archive (.tar.gz); name the archive or folder of CIFAR-10")
    found: dict[str, Labelled] = {}
    for name, raw in members(archive, MAX_BATCH_BYTES):
        if name.name in BINARY_BATCHES or name.name in PYTHON_BATCHES:
            found[name.name] = _batch(raw, archive / name)
    for names in (BINARY_BATCHES, PYTHON_BATCHES):
        if all(name in found for name in names):
            return {name: found[name] for name in names}
    raise DatasetError(f"{archive} does not have all six batches of CIFAR-10, only {sorted(found) or 'other files'}")


def _batch(raw: bytes, path: Path) -> Labelled:
    return _binary_batch(raw, path) if path.suffix == ".bin" else _python_batch(raw, path)


def _binary_batch(raw: bytes, path: Path) -> Labelled:
    if not raw or len(raw) % (1 + PIXELS):
        raise DatasetError(f"{path} has {len(raw)} bytes, no whole number of records of {1 + PIXELS}; get it again")
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + PIXELS)
    return _images(records[:, 1:]), records[:, 0].astype(np.int64)


def _python_batch(raw: bytes, path: Path) -> Labelled:
    content = read_pickled(raw, path)
    data, labels = content.get("data"), content.get("labels")
    if not isinstance(data, PickledArray) or not isinstance(labels, list):
        raise DatasetError(f"{path} is no batch of CIFAR-10: it has no array 'data' and list 'labels'")
    try:
        pixels = data.to_numpy()
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
    if pixels.ndim != 2 or pixels.shape[1] != PIXELS or len(pixels) != len(labels):
        raise DatasetError(f"{path} has {len(labels)} labels and data of {pixels.shape} instead of (N, {PIXELS})")
    if not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise DatasetError(f"{path} has a label that is no whole number in 0..9")
    return _images(pixels), np.array(labels, dtype=np.int64)


def _images(records: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3072) planes of a colour to (N, 32, 32, 3)."""
    return np.ascontiguousarray(records.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1))
