"""Labelled data from a stranger's .npz: arrays ``x`` (inputs) and ``y`` (classes), checked before a byte is believed.

Nothing is unpickled, and nothing is decompressed before the headers have said how large it will be.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hil.errors import UsageError
from hil.files import opened_regular
from hil.model.network import DType
from munas.files import FOREIGN_ARRAYS
from munas.tflite.quantise import Whole, quantised, real_range, saturated

MAX_FILE_BYTES = 4 << 30
MAX_ARRAY_BYTES = 2 << 30  # decompressed
MAX_INPUTS = 10_000_000
MAX_SATURATED = 0.01  # of all values: more are no outliers, but another scale
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class Dataset:
    """`inputs` is int8 (N, bytes), as the network takes them; `labels` int64 (N,); `sha256` is that of the file."""

    inputs: NDArray[np.int8]
    labels: NDArray[np.int64]
    sha256: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Takes:
    """What a network takes: `shape` and `edge` are those of the file's input; scale, zero point and type of its core's,
    which is int8 or int16."""

    shape: tuple[int, ...]
    edge: DType
    scale: float
    zero_point: int
    dtype: DType = DType.INT8

    @property
    def whole(self) -> Whole:
        """numpy's type of the core's input."""
        return np.int16 if self.dtype is DType.INT16 else np.int8

    @property
    def elements(self) -> int:
        """Values of one input."""
        return prod(self.shape)


def load_dataset(path: Path, takes: Takes, classes: int, limit: int | None = None) -> Dataset:
    """The first `limit` labelled inputs of the .npz at `path` for a network with the input `takes`.

    ``x`` is (N, ...) of the input's shape, but for dimensions of one. int8 (int16) is taken as the network's core takes
    it, uint8 where the network itself takes uint8; floats are quantised with the network's scale and zero point. ``y``
    holds N class numbers below `classes`. Raises UsageError, also where much of the data is beyond the input's range.
    """
    if classes < 2:
        raise UsageError(f"the network has {classes} output: there are no classes whose accuracy could be measured")
    try:
        with opened_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise UsageError(f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            archive = zipfile.ZipFile(file)
            x, y = _array(archive, "x", path), _array(archive, "y", path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except FOREIGN_ARRAYS as error:
        raise UsageError(f"{path} is not a sound .npz file: {' '.join(str(error).split())[:200]}") from error
    x = _with_batch(x, y, takes)
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
        found = npy.read_array(stream, allow_pickle=False)
    return np.asarray(found, found.dtype.newbyteorder("="))  # numbers are taken, whichever byte of them is first


def _header(stream: IO[bytes], name: str, path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise UsageError(f"array {name!r} of {path} has the unknown format {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers by Python 2, which are read all the same
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


def _with_batch(x: NDArray[Any], y: NDArray[Any], takes: Takes) -> NDArray[Any]:
    """A single input may come without a dimension for inputs."""
    return x[None] if y.size == 1 and len(x) != 1 and _ones_dropped(x.shape) == _ones_dropped(takes.shape) else x


def _inputs(x: NDArray[Any], takes: Takes, path: Path) -> NDArray[np.int8]:
    _check_shape(x.shape[1:], takes, path)
    flat = x.reshape(len(x), takes.elements)
    if flat.dtype == takes.whole:
        return np.ascontiguousarray(flat).view(np.int8)
    if flat.dtype == np.uint8 and takes.edge is DType.UINT8:
        return np.ascontiguousarray(flat ^ np.uint8(128)).view(np.int8)
    if flat.dtype.kind != "f":
        own = "uint8, int8 and floats are" if takes.edge is DType.UINT8 else f"{takes.dtype} and floats are"
        raise UsageError(
            f"x of {path} is {x.dtype}; {own} taken: {takes.dtype} as the network's input is quantised,"
            " floats as it was trained"
        )
    parts = np.array_split(flat, max(1, flat.nbytes >> 26))  # bounds the memory that it takes
    _check_range(parts, takes, path)
    found = np.concatenate([quantised(part, takes.scale, takes.zero_point, takes.whole) for part in parts])
    return found.view(np.int8)


def _ones_dropped(shape: Sequence[int]) -> tuple[int, ...]:
    """A dimension of one says nothing of where a value lies."""
    return tuple(length for length in shape if length != 1)


def _check_shape(shape: Sequence[int], takes: Takes, path: Path) -> None:
    wanted = takes.shape[1:] if len(takes.shape) > 1 else takes.shape
    if _ones_dropped(shape) == _ones_dropped(wanted):
        return
    hint = ""
    if len(wanted) == 3 and _ones_dropped(shape) == _ones_dropped((wanted[2], *wanted[:2])):
        hint = "; it has the channels first: x.transpose(0, 2, 3, 1) puts them last"
    elif prod(shape) == prod(wanted):
        hint = f"; if its values lie in that order, x.reshape(-1, {', '.join(map(str, wanted))}) says so"
    raise UsageError(f"x of {path} has inputs of shape {_shape(shape)}; the network takes {_shape(wanted)}{hint}")


def _check_range(parts: Sequence[NDArray[Any]], takes: Takes, path: Path) -> None:
    """Raise where values are not finite, or more of them are beyond the input's range than a few outliers."""
    with np.errstate(over="ignore"):
        if not all(np.isfinite(part.astype(np.float32)).all() for part in parts):
            raise UsageError(f"x of {path} has values that are not finite")
    beyond = sum(saturated(part, takes.scale, takes.zero_point, takes.whole) for part in parts)
    share = beyond / sum(part.size for part in parts)
    if share > MAX_SATURATED:
        least, most = min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)
        low, high = real_range(takes.scale, takes.zero_point, takes.whole)
        raise UsageError(
            f"x of {path} has values from {least:g} to {most:g}, but the network takes {low:.4g} to {high:.4g}:"
            f" {share:.1%} of them would be saturated; scale them as they were when it was trained"
        )


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "()"
