"""An .npz of arrays as a data set: ``x_train``, ``y_train`` and, where there are, ``x_val`` and ``x_test`` with theirs.

The names are these or those of `PARTS` and `_KINDS`. None of it is unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data.own_checks import MAX_BYTES, PARTS, Own, checked, counted, same_names, short, some
from munas.errors import DatasetError
from munas.files import FOREIGN_ARRAYS, opened_regular

_MAX_LABEL = 2.0**24  # of labels in floats: up to here 32 bits hold every whole number

_KINDS: Mapping[str, tuple[str, ...]] = {
    "inputs": ("x", "images", "inputs", "data"),
    "labels": ("y", "labels", "target"),
}
_CLASSES = ("classes", "class_names", "names")


def _names(part: str, kind: str) -> tuple[str, ...]:
    """What arrays of a kind of a part are called, the usual name first."""
    both = [name for word in PARTS[part] for stem in _KINDS[kind] for name in (f"{stem}_{word}", f"{word}_{stem}")]
    return (*both, *_KINDS[kind]) if part == "train" else tuple(both)


_ROLES = {name: (part, kind) for part in PARTS for kind in _KINDS for name in _names(part, kind)}


def from_arrays(path: Path) -> Own:
    """All of it, checked."""
    arrays = _loaded(path)
    parts = _paired(arrays, path)
    found = _images({part: pair["inputs"] for part, pair in parts.items()}, path)
    labels = {part: _labels(pair["labels"], f"{path}, labels of the {part} part") for part, pair in parts.items()}
    for part, inputs in found.items():
        if len(inputs) != len(labels[part]):
            raise DatasetError(f"{path}, {part} part: {len(inputs)} inputs and {len(labels[part])} labels")
    for name in sorted(arrays.keys() - _ROLES.keys()):
        is_named_so = any(name.startswith(f"{stem}_") or name.endswith(f"_{stem}") for stem in _KINDS["inputs"])
        if is_named_so and arrays[name].shape[1:] == parts["train"]["inputs"].shape[1:]:
            known = ", ".join(word for words in PARTS.values() for word in words)
            raise DatasetError(f"{path} has the array {name}, which is of no part that is known ({known})")
    classes = _same_classes(labels, str(path))
    made = {part: (inputs, np.searchsorted(classes, labels[part]).astype(np.int64)) for part, inputs in found.items()}
    return checked(made, _class_names(arrays, classes, path), str(path), standardised=False)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz; whatever is wrong with it inside the block is a DatasetError."""
    try:
        with opened_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except DatasetError:
        raise
    except (OSError, *FOREIGN_ARRAYS) as error:
        raise DatasetError(f"{path} is no readable .npz file: {short(error)}") from error


def _loaded(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz by lower-case name, none of them pickled."""
    found: dict[str, NDArray[Any]] = {}
    with _archive(path) as archive:
        whole = sum(item.file_size for item in archive.infolist())
        if whole > MAX_BYTES:
            raise DatasetError(f"{path} unpacks to {whole} bytes, more than {MAX_BYTES}")
        for name in (item.filename for item in archive.infolist() if item.filename.endswith(".npy")):
            if (key := _key(name)) in found:
                raise DatasetError(f"{path} has two arrays {key} (capitals make no difference); leave one out")
            found[key] = _array(archive, name, path)
    return found


def _key(member: str) -> str:
    """What an archive's member is known as."""
    return member.removesuffix(".npy").lower()


def _paired(arrays: Mapping[str, NDArray[Any]], path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Inputs and labels of each part that is there. Raises DatasetError for halves and for two of a kind."""
    given: dict[tuple[str, str], str] = {}
    for name in sorted(arrays.keys() & _ROLES.keys()):
        part, kind = _ROLES[name]
        if (other := given.setdefault((part, kind), name)) != name:
            raise DatasetError(
                f"{path} has two arrays for the {kind} of the {part} part, {other} and {name}; leave one out"
            )
    for part, kind in given:
        for other in _KINDS.keys() - {kind}:
            if (part, other) not in given:
                usual = _names(part, other)[0]
                raise DatasetError(f"{path} has {given[part, kind]} without the {other} to it, such as {usual}")
    if ("train", "inputs") not in given:
        raise DatasetError(f"{path} has no arrays x_train and y_train (it has {some([*arrays]) or 'none'})")
    return {part: {kind: arrays[given[part, kind]] for kind in _KINDS} for part in PARTS if (part, "inputs") in given}


def _class_names(arrays: Mapping[str, NDArray[Any]], labels: NDArray[Any], path: Path) -> tuple[str, ...]:
    """Of `labels`, one of each class, ascending: as the file names them, or as the labels themselves."""
    texts = tuple(map(str, labels.tolist()))
    names = [name for name in _CLASSES if name in arrays]
    if not names:
        return texts
    if len(names) > 1:
        raise DatasetError(f"{path} has two arrays of classes' names, {' and '.join(names)}; leave one out")
    where, values = f"{path}, array {names[0]}", arrays[names[0]]
    if values.ndim != 1 or values.dtype.kind not in "iuSU":
        raise DatasetError(f"{where} is {_extents(values)} of {values.dtype.name}; classes have a list of names")
    try:
        named = tuple(item.decode() if isinstance(item, bytes) else str(item) for item in values.tolist())
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: {short(error)}") from error
    if len(named) != len(texts):
        raise DatasetError(f"{where} has {counted(len(named), 'name')}, and the labels have {len(texts)} values")
    if twice := [name for name in named if named.count(name) > 1]:
        raise DatasetError(f"{where} has the name {twice[0]} twice")
    if set(named) == set(texts):  # a list of the labels, in whatever order
        return texts
    if labels.dtype.kind == "U":
        raise DatasetError(f"{where} does not have the label {next(name for name in texts if name not in named)}")
    return named


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    with archive.open(name) as stream:
        try:
            found: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            if found.dtype.kind == "U":
                "".join(found.ravel().tolist()).encode()  # text of numbers that are no characters
        except FOREIGN_ARRAYS as error:
            raise DatasetError(f"{path}, array {name}: {short(error)}") from error
    return found


def _labels(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Labels (N,) of whole numbers or text."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DatasetError(f"{where} are an array of {_extents(values)}; there must be one label for each input")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            exact = values.astype(np.float64)  # the limit is beyond floats of 16 bits
        if (np.abs(exact) <= _MAX_LABEL).all() and (exact == np.rint(exact)).all():
            values = exact.astype(np.int64)
    if values.dtype.kind not in "iubU":
        raise DatasetError(f"{where} are {values.dtype.name}, neither whole numbers nor text")
    return values


def _images(parts: Mapping[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """Inputs (N, H, W, C) of all parts: uint8 where those of all are whole numbers of 0 to 255, or else float32."""
    shaped = {part: _shaped(values, f"{path}, {part} part") for part, values in parts.items()}
    if all(_holds_bytes(values) for values in shaped.values()):
        return {part: values.astype(np.uint8, copy=False) for part, values in shaped.items()}
    return {part: _floats(values, f"{path}, {part} part") for part, values in shaped.items()}


def _shaped(values: NDArray[Any], where: str) -> NDArray[Any]:
    if values.ndim and not len(values):
        raise DatasetError(f"{where}: it has no examples")
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4:
        raise DatasetError(f"{where}: an array of {_extents(values)} instead of (N, height, width[, channels])")
    if values.dtype.kind not in "iubf":
        raise DatasetError(f"{where}: inputs of {values.dtype.name} are neither whole numbers nor floats")
    return values


def _holds_bytes(values: NDArray[Any]) -> bool:
    if values.dtype in (np.uint8, np.bool_) or not values.size:
        return True
    return values.dtype.kind != "f" and int(values.min()) >= 0 and int(values.max()) <= 255


def _floats(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    sound = np.isfinite(values).all(axis=(1, 2, 3))
    if not sound.all():
        raise DatasetError(f"{where}: input {int(np.argmin(sound))} has values that are not finite (NaN or infinite)")
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    if not np.isfinite(found).all():
        raise DatasetError(f"{where}: values that 32-bit floats cannot hold")
    return found


def _extents(values: NDArray[Any]) -> str:
    return "x".join(map(str, values.shape)) or "one value"


def arrays_left_out(path: Path) -> str:
    """The arrays that are no part of the data set, counted and named; or nothing."""
    with _archive(path) as archive:
        known = {f"{name}.npy" for name in (*_ROLES, *_CLASSES)}
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.lower() not in known]
    return f"{counted(len(names), 'array')} ({some(names)})" if names else ""


def _same_classes(labels: Mapping[str, NDArray[Any]], where: str) -> NDArray[Any]:
    """The classes of all parts, ascending."""
    kinds = {values.dtype.kind == "U" for values in labels.values()}
    if len(kinds) > 1:
        raise DatasetError(f"{where}: labels are text in one part and numbers in another")
    found = {part: np.unique(values) for part, values in labels.items()}
    same_names({part: list(map(str, values.tolist())) for part, values in found.items()}, where)
    return found["train"]
