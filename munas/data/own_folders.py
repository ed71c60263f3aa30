"""Folders of class folders as a data set: pictures of one size, or recordings for the MFCC front end; in ``train``, and
perhaps ``val`` and ``test``, or without parts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data.loader import Labelled
from munas.data.mfcc import COEFFICIENTS, STEPS, mfcc
from munas.data.own_checks import (
    MAX_BYTES,
    PARTS,
    Own,
    checked,
    counted,
    same_names,
    short,
    some,
)
from munas.data.recordings import clips
from munas.data.streams import read_all
from munas.errors import DatasetError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
RECORDINGS = (".wav",)
MAX_FILES = 1_000_000
MAX_FILE_BYTES = 64 << 20
_MAX_PIXELS = 1 << 24  # of one picture, before its size is compared
_NO_PICTURE = "is no picture that can be read (damaged, or not a picture)"
_WIDE_MODES = ("I", "F")  # of Pillow; it makes 8 bits of these by cutting off what is above 255
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")


def files_of(root: Path) -> tuple[Path, ...]:
    """All pictures or recordings, in a fixed order."""
    files = tuple(file for _, folder in _part_folders(root) for _, inside in _class_folders(folder) for file in inside)
    if len(files) > MAX_FILES:
        raise DatasetError(f"{root} has {len(files)} files, more than {MAX_FILES}")
    return files


def from_folders(root: Path) -> Own:
    """All of it, checked."""
    found = {part: _class_folders(folder) for part, folder in _part_folders(root)}
    classes = same_names({part: [name for name, _ in folders] for part, folders in found.items()}, root)
    kinds = {file.suffix.lower() in RECORDINGS for folders in found.values() for _, files in folders for file in files}
    if len(kinds) > 1:
        raise DatasetError(f"{root} has pictures and recordings; a data set is of one kind")
    load: Callable[[Sequence[Path]], NDArray[Any]] = _coefficients if kinds == {True} else _Pictures().load
    parts: dict[str, Labelled] = {}
    for part, folders in found.items():
        files = [file for _, inside in folders for file in inside]
        labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(inside) for _, inside in folders])
        parts[part] = (load(files), labels)
    channels = {inputs.shape[-1] for inputs, _ in parts.values()}
    if len(channels) > 1:  # a part that is grey all through, and another that is not
        parts = {part: (_coloured(inputs), labels) for part, (inputs, labels) in parts.items()}
    return checked(parts, classes, str(root), standardised=kinds == {True})


def _part_folders(root: Path) -> list[tuple[str, Path]]:
    """(part, folder of its class folders): the root itself where it has no ``train``."""
    folders = _folders(root)
    parts = [(part, folder) for part, words in PARTS.items() for folder in folders if folder.name.lower() in words]
    names = ", ".join(folder.name for _, folder in parts)
    if not any(part == "train" for part, _ in parts):
        if parts and (len(parts) == len(folders) or any(_folders(folder) for _, folder in parts)):
            raise DatasetError(f"{root} has no folder train beside {names}")
        return [("train", root)]
    others = sorted({folder.name for folder in folders} - {folder.name for _, folder in parts})
    if others:
        raise DatasetError(f"{root} has a folder train, and {others[0]} beside it, which is no part of a data set")
    if len({part for part, _ in parts}) < len(parts):
        raise DatasetError(f"{root} has two folders for one part: {names}")
    return parts


def _class_folders(folder: Path) -> list[tuple[str, list[Path]]]:
    """(class, its files), both sorted."""
    found = []
    for path in _folders(folder):
        entries = _entries(path)
        files = [file for file in entries if _is_example(file)]
        if not files:
            raise DatasetError(
                f"{path} has no pictures ({', '.join(PICTURES)}) and no recordings (.wav){_but(entries, path)}"
            )
        found.append((path.name, files))
    if len(found) < 2:
        but = _but([entry for entry in _entries(folder) if entry.name not in dict(found)], folder)
        raise DatasetError(f"{folder} has {counted(len(found), 'class folder')}{but}; a data set has two or more")
    return found


def _is_example(path: Path) -> bool:
    return path.suffix.lower() in PICTURES + RECORDINGS and not path.name.startswith("_") and path.is_file()


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if not entry.name.startswith("_") and entry.is_dir()]


def _entries(path: Path) -> list[Path]:
    """All that is in a folder and not hidden."""
    try:
        found = (entry for entry in path.iterdir() if not entry.name.startswith("."))
        return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error


def _but(entries: Sequence[Path], root: Path) -> str:
    return f", but {_numbers(entries, root)}" if entries else ""


def _numbers(entries: Sequence[Path], root: Path) -> str:
    """How many folders and files `entries` are, and which."""
    folders = sum(entry.is_dir() for entry in entries)
    numbers = ((folders, "folder"), (len(entries) - folders, "file"))
    names = some([str(entry.relative_to(root)) for entry in entries])
    return f"{' and '.join(counted(number, noun) for number, noun in numbers if number)} ({names})"


class _Pictures:
    """Reads pictures that must all have the size of the first."""

    def __init__(self) -> None:
        self._first: tuple[Path, tuple[int, int]] | None = None

    def load(self, files: Sequence[Path]) -> NDArray[np.uint8]:
        """(N, H, W, C): one channel where all are grey."""
        pictures = list(self._decoded(files))
        if any(picture.shape[2] == 3 for picture in pictures):
            pictures = [_coloured(picture) for picture in pictures]
        return np.stack(pictures)

    def _decoded(self, files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
        try:
            from PIL import Image
        except ImportError as error:
            raise DatasetError("pictures need Pillow to be read (pip install pillow)") from error
        total = 0
        for file in files:
            picture = _picture(Image, file)
            size = picture.shape[:2]
            if self._first is None:
                self._first = (file, size)
            first, expected = self._first
            if size != expected:
                raise DatasetError(
                    f"{file} is {size[1]}x{size[0]} pixels, and {first} is {expected[1]}x{expected[0]}: all pictures"
                    " must have one size"
                )
            total += picture.size
            if total > MAX_BYTES:
                raise DatasetError(f"the pictures up to {file} take more than {MAX_BYTES} bytes")
            yield picture


def _picture(image_module: Any, file: Path) -> NDArray[np.uint8]:
    """(H, W, 1) where the picture is grey, or (H, W, 3)."""
    try:
        with image_module.open(io.BytesIO(read_all(file, MAX_FILE_BYTES)), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise DatasetError(f"{file} is {image.width}x{image.height} pixels, which no network here can take")
            if image.mode.startswith(_WIDE_MODES):
                raise DatasetError(
                    f"{file} has grey values of more than 8 bits (Pillow's mode {image.mode}); convert it to 8 bits,"
                    " all pictures alike"
                )
            values = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"), np.uint8)
    except DatasetError:
        raise
    except image_module.UnidentifiedImageError as error:  # whose text is the address of our buffer
        raise DatasetError(f"{file} {_NO_PICTURE}; {', '.join(_FORMATS)} can be read") from error
    except Exception as error:  # decoders raise what they like for a damaged file
        raise DatasetError(f"{file} {_NO_PICTURE}: {short(error)}") from error
    return values[..., np.newaxis] if values.ndim == 2 else values


def _coloured(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.shape[-1] == 3 else np.repeat(values, 3, axis=-1)


def _coefficients(files: Sequence[Path]) -> NDArray[np.float32]:
    """MFCC of the first second of each recording, (N, 49, 40, 1)."""
    found = np.empty((len(files), STEPS, COEFFICIENTS, 1), np.float32)
    filled = 0
    for batch in clips(files):
        found[filled : filled + len(batch), ..., 0] = mfcc(batch)
        filled += len(batch)
    return found


def entries_left_out(root: Path) -> str:
    """The files and folders that are no part of the data set, counted and named; or nothing."""
    files = files_of(root)
    classes = {file.parent for file in files}
    folders = {root, *classes, *(folder.parent for folder in classes)}
    used = folders.union(files)
    beside = [entry for folder in sorted(folders) for entry in _entries(folder) if entry not in used]
    return _numbers(beside, root) if beside else ""
