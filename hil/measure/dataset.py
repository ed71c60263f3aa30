"""Labelled data from a stranger's .npz: arrays ``x`` (inputs) and ``y`` (classes), checked before a byte is believed.

Nothing is unpickled, and nothing is decompressed before the headers have said how large it will be.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hil.codegen.plan import Port
from hil.errors import UsageError

MAX_FILE_BYTES = 4 << 30
MAX_ARRAY_BYTES = 2 << 30  # decompressed
MAX_INPUTS = 10_000_000
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_FOREIGN = (ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Dataset:
    """`inputs` is int8 (N, elements), as the network takes them; `labels` int64 (N,); `sha256` is that of the file."""

    inputs: NDArray[np.int8]
    labels: NDArray[np.int64]
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)


def load_dataset(path: Path, takes: Port, classes: int, limit: int | None = None) -> Dataset:
    """The first `limit` labelled inputs of the .npz at `path` for a network with the input `takes`.

    ``x`` is (N, ...) with as many elements an input as the network's: int8 is taken as it is, floats are quantised with
    the network's scale and zero point. ``y`` holds N class numbers below `classes`. Raises UsageError.
    """
    if classes < 2:
        raise UsageError(f"the network has {classes} output: there are no classes whose accuracy could be measured")
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} cannot be read: not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with zipfile.ZipFile(path) as archive:
            x, y = _array(archive, "x", path), _array(archive, "y", path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except _FOREIGN as error:
        raise UsageError(f"{path} is not a sound .npz file: {' '.join(str(error).split())[:200]}") from error
    count = _count(x, y, path)
    count = count if limit is None else min(limit, count)
    labels = _labels(y, classes, path)
    return Dataset(_inputs(x[:count], takes, path), labels[:count], digest)


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    """One member. Its header is read first; data is only read when header and directory agree on a sane size."""
    members = [item for item in archive.infolist() if item.filename == f"{name}.npy"]
    if len(members) != 1:
        raise UsageError(f"{path} has {len(members) or 'no'} arrays {name!r}; it needs x (inputs) and y (classes)")
    if members[0].file_size > MAX_ARRAY_BYTES:
        raise UsageError(f"array {name!r} of {path} is larger than {MAX_ARRAY_BYTES >> 30} GiB")
    with archive.open(members[0]) as stream:
        shape, dtype, header_bytes = _header(stream, name, path)
    if prod(shape) * dtype.itemsize + header_bytes != members[0].file_size:
        raise UsageError(f"array {name!r} of {path} does not have the size that its header says")
    with archive.open(members[0]) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))


def _header(stream: IO[bytes], name: str, path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise UsageError(f"array {name!r} of {path} has the unknown format {version}")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UsageError(f"array {name!r} of {path} is {str(dtype)[:40]}, not of numbers")
    if not shape or len(shape) > 8 or any(length < 0 for length in shape):
        raise UsageError(f"array {name!r} of {path} has the shape {str(shape)[:80]}")
    return shape, dtype, stream.tell()


def _count(x: NDArray[Any], y: NDArray[Any], path: Path) -> int:
    if len(x) != len(y):
        raise UsageError(f"{path} has {len(x)} inputs and {len(y)} labels")
    if not 0 < len(x) <= MAX_INPUTS:
        raise UsageError(f"{path} has {len(x)} inputs; 1 to {MAX_INPUTS} are taken")
    return len(x)


def _labels(y: NDArray[Any], classes: int, path: Path) -> NDArray[np.int64]:
    if y.dtype.kind not in "iu" or y.size != len(y):
        raise UsageError(f"y of {path} is {y.dtype} of shape {_shape(y.shape)}; one whole number an input is needed")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise UsageError(f"y of {path} has classes {low} to {high}; the network has classes 0 to {classes - 1}")
    return y.reshape(-1).astype(np.int64)


def _inputs(x: NDArray[Any], takes: Port, path: Path) -> NDArray[np.int8]:
    if prod(x.shape[1:]) != takes.size:
        raise UsageError(
            f"x of {path} has inputs of shape {_shape(x.shape[1:])}; the network takes {_shape(takes.shape[1:])}"
        )
    flat = x.reshape(len(x), takes.size)
    if flat.dtype == np.int8:
        return np.ascontiguousarray(flat)
    if flat.dtype.kind != "f":
        raise UsageError(f"x of {path} is {x.dtype}; int8 (quantised as the network's input) or floats are taken")
    parts = np.array_split(flat, max(1, flat.nbytes >> 26))  # bounds the memory that float64 takes
    quantised: NDArray[np.int8] = np.concatenate([_quantised(part, takes, path) for part in parts])
    return quantised


def _quantised(values: NDArray[Any], takes: Port, path: Path) -> NDArray[np.int8]:
    """As TFLite's QUANTIZE: half away from zero, saturated."""
    if not np.isfinite(values).all():
        raise UsageError(f"x of {path} has values that are not finite")
    scaled = values.astype(np.float64) / takes.scale
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + takes.zero_point
    return np.asarray(np.clip(rounded, -128, 127), np.int8)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "()"
