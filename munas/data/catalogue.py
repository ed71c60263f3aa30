"""All data sets by name, and `load_dataset`: find the files, look into the cache, read and split on a miss.

The user's own (`munas.data.own`) are named by their file or folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from munas.cache import CacheError, cache_dir, digest, discard, filled_folder
from munas.data import chars74k, cifar10, own, speech_commands
from munas.data.dataset import FORMAT, PARTS, Dataset, EntryError, binary, open_entry, write_entry
from munas.data.fingerprint import fingerprint
from munas.data.idx import idx_loader
from munas.data.loader import Labelled, Loader, Parts, Sources
from munas.data.packaged_csv import DIGITS, MNIST_5K, csv_loader
from munas.data.scaling import moments, standardise
from munas.data.split import TEST_SHARE, VALIDATION_SHARE, stratified
from munas.errors import DatasetError

_ATTEMPTS = 3


def _binary(loader: Loader, positive_below: int) -> Loader:
    return replace(
        loader, name=f"{loader.name}-binary", num_classes=2, positive_below=positive_below,
        base_classes=loader.num_classes,
    )  # fmt: skip


_MNIST = idx_loader(
    "mnist", "download the four IDX files of MNIST into that folder, or name the folder that has them as the source"
)
_FASHION = idx_loader(
    "fashion-mnist",
    "install Debian's package dataset-fashion-mnist (apt install dataset-fashion-mnist), or name the folder that has "
    "the four IDX files of the Fashion-MNIST repository as the source",
    usual=(Path("/usr/share/datasets/fashion-mnist"),),
)

DATASETS: dict[str, Loader] = {
    loader.name: loader
    for loader in (
        csv_loader(DIGITS),
        csv_loader(MNIST_5K),
        _MNIST,
        _FASHION,
        cifar10.LOADER,
        chars74k.LOADER,
        speech_commands.LOADER,
        _binary(_MNIST, 5),
        _binary(cifar10.LOADER, 5),
        chars74k.BINARY,
    )
}


def load_dataset(name: str, source: Path | None = None, cache: Path | None = None) -> Dataset:
    """The data set called `name`, from `source` (a folder or file) or else from the usual places; or the one of the
    .npz file or the folder of class folders `name`.

    What was read once is kept under `cache` (by default munas-hil's cache folder), by the SHA-256 of the source files:
    changed files make a new entry. Several processes may load the same set at once. Raises DatasetError when there is
    no such set, its files are missing (the message says how to get them) or wrong, or the cache cannot be written.
    """
    loader, root = DATASETS.get(name), (cache or cache_dir()) / "datasets"
    if loader is None and not own.is_own(name):
        raise DatasetError(
            f"no data set is called {name!r}; there are {', '.join(DATASETS)}, an .npz file, or a folder of class"
            " folders"
        )
    try:
        if loader is None:
            return _own(name, own.find(Path(name)), root)
        dataset = _cached(loader.name, loader.entry, loader.find(source), root, partial(_prepared, loader))
    except CacheError as error:
        raise DatasetError(str(error)) from error
    except OSError as error:  # of looking around in folders; reading a file has its own messages
        raise DatasetError(f"cannot look for data set {name}: {error}") from error
    return dataset if loader.positive_below is None else binary(dataset, name, loader.positive_below)


def _own(path: str, sources: Sources, root: Path) -> Dataset:
    """A data set of the user's own; its name says no more than the file's or folder's."""
    name = own.own_name(path)
    name = f"{name}-own" if name in DATASETS else name

    def prepare(sources: Sources) -> tuple[dict[str, Any], dict[str, Labelled]]:
        found = own.read(sources)
        parts = {part: labelled for part in PARTS if (labelled := getattr(found.parts, part)) is not None}
        return {
            "input_shape": found.input_shape, "num_classes": len(found.classes), "classes": found.classes,
            "is_own": True, "scale": found.parts.scale, "offset": found.parts.offset,
            "constants": dict(found.parts.constants),
        }, parts  # fmt: skip

    return _cached(name, name, sources, root, prepare)


def _cached(
    name: str,
    entry: str,
    sources: Sources,
    root: Path,
    prepare: Callable[[Sources], tuple[dict[str, Any], dict[str, Labelled]]],
) -> Dataset:
    sha256 = fingerprint(sources, root)
    target = root / f"{entry}-{digest([str(FORMAT), entry, sha256])}"

    def fill(folder: Path) -> None:
        header, parts = prepare(sources)
        if fingerprint(sources, root) != sha256:
            raise DatasetError(f"the files of data set {name} in {sources.root} changed while they were read")
        write_entry(folder, {"name": entry, **header, "sha256": sha256}, parts)

    for attempt in range(_ATTEMPTS):
        try:
            return open_entry(filled_folder(target, fill))
        except EntryError as error:
            if attempt == _ATTEMPTS - 1:
                raise DatasetError(f"the cache entry of {name} is damaged: {error}; remove it") from error
            discard(target)
    raise AssertionError


def _prepared(loader: Loader, sources: Sources) -> tuple[dict[str, Any], dict[str, Labelled]]:
    """Header and parts for `write_entry`: checked, split and with the scaling decided."""
    found = loader.read(sources)
    where = f"data set {loader.entry} in {sources.root}"
    classes = loader.base_classes or loader.num_classes
    parts = _split(found, where)
    for name, labelled in parts.items():
        _check(labelled, loader.input_shape, classes, f"{where}, {name} part")
    if len(np.unique(parts["train"][1])) != classes:
        raise DatasetError(f"{where}: not every one of the {classes} classes has training examples")
    scale, offset = found.scale, found.offset
    if scale is None or offset is None:
        scale, offset = standardise(*moments(parts["train"][0]))
    header = {
        "input_shape": loader.input_shape,
        "num_classes": classes,
        "scale": scale,
        "offset": offset,
        "constants": dict(found.constants),
    }
    return header, parts


def _split(found: Parts, where: str) -> dict[str, Labelled]:
    train, validation, test = found.train, found.validation, found.test
    try:
        if test is None:
            train, test = _held_out(train, TEST_SHARE)
        if validation is None:
            train, validation = _held_out(train, VALIDATION_SHARE)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    return {"train": train, "validation": validation, "test": test}


def _held_out(labelled: Labelled, share: float) -> tuple[Labelled, Labelled]:
    inputs, labels = labelled
    rest, held_out = stratified(labels, share)
    return (inputs[rest], labels[rest]), (inputs[held_out], labels[held_out])


def _check(labelled: Labelled, input_shape: tuple[int, int, int], classes: int, where: str) -> None:
    inputs, labels = labelled
    if not len(labels):
        raise DatasetError(f"{where}: there are no examples")
    assert inputs.shape == (len(labels), *input_shape), (inputs.shape, len(labels), input_shape)
    assert inputs.dtype in (np.uint8, np.float32)
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise DatasetError(f"{where}: label {wrong} is outside 0..{classes - 1}")
