"""Data sets of the user's own: an .npz of arrays, or a folder with a folder for each class.

Arrays are ``x_train``, ``y_train`` and, where there are, ``x_val`` and ``x_test`` with theirs, by these names or by
those of `_PARTS` and `_KINDS`. A folder has class folders, or ``train`` and perhaps ``val`` and ``test`` with class
folders in each; what is in them are pictures of one size, or recordings for the MFCC front end. Parts that are not
there are split off, stratified and seeded. Whatever is wrong is one DatasetError that names it.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data.loader import Labelled, Parts, Sources
from munas.data.mfcc import COEFFICIENTS, STEPS, mfcc
from munas.data.recordings import clips
from munas.data.scaling import chunks, moments, standardise
from munas.data.speech_commands import standardise_coefficients
from munas.data.split import TEST_SHARE, VALIDATION_SHARE, stratified
from munas.data.streams import read_all
from munas.errors import DatasetError
from munas.files import FOREIGN_ARRAYS, opened_regular

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
RECORDINGS = (".wav",)
MAX_SIDE = 1024
MAX_CHANNELS = 16
MAX_CLASSES = 1000
MAX_NAME = 255
MAX_BYTES = 4 << 30
"""Of all inputs together, which are read into memory once."""

MAX_FILES = 1_000_000
MAX_FILE_BYTES = 64 << 20
_MAX_PIXELS = 1 << 24  # of one picture, before its size is compared
_MAX_SCALE = 1e30  # 32-bit floats end at 3e38
_MOST_APART = 10  # deviations of the training part: between its mean and another part's, or between their deviations
_MAX_LABEL = 2.0**24  # of labels in floats: up to here 32 bits hold every whole number
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")

_PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_KINDS = (
    ("x", "y"),
    ("images", "labels"),
    ("inputs", "labels"),
    ("data", "target"),
    ("data", "labels"),
    ("x", "labels"),
)
_CLASSES = ("classes", "class_names", "names")


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """What was read: the parts, the classes' names, and what the device needs besides the scaling."""

    parts: Parts
    classes: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.parts.train[0].shape[1:]
        return int(height), int(width), int(channels)


def is_own(name: str) -> bool:
    """Whether `name` is that of a file or folder, rather than of a data set that we know."""
    return name.endswith(".npz") or os.sep in name or (os.path.isdir(name) and name != "")


def own_name(name: str) -> str:
    """What an own data set is called in files and reports: by its file or folder, with plain characters only."""
    path = Path(name)
    stem = path.stem if path.suffix == ".npz" else path.absolute().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:60] or "own"


def find(path: Path) -> Sources:
    """The file, or the files of the class folders, in a fixed order."""
    if path.is_file():
        if path.suffix != ".npz":
            raise DatasetError(f"{path} is neither an .npz file nor a folder of class folders")
        return Sources(path.parent, (path,))
    if not path.is_dir():
        raise DatasetError(f"there is no data set {path}: name an .npz file, or a folder of class folders")
    files = tuple(file for _, folder in _part_folders(path) for _, inside in _class_folders(folder) for file in inside)
    if len(files) > MAX_FILES:
        raise DatasetError(f"{path} has {len(files)} files, more than {MAX_FILES}")
    return Sources(path, files)


def read(sources: Sources) -> Own:
    """All of it, checked."""
    if len(sources.files) == 1 and sources.files[0].suffix == ".npz":
        return _from_arrays(sources.files[0])
    return _from_folders(sources.root)


# ------------------------------------------------------------------------------------------------ arrays


def _from_arrays(path: Path) -> Own:
    arrays = _loaded(path)
    parts, names = {}, [*arrays]
    for part, words in _PARTS.items():
        found = _pair(arrays, words)
        if found is None and part == "train":
            found = next(((arrays[x], arrays[y]) for x, y in _KINDS if x in arrays and y in arrays), None)
        if found is not None:
            parts[part] = found
    if "train" not in parts:
        raise DatasetError(f"{path} has no arrays x_train and y_train (it has {', '.join(names) or 'none'})")
    labels = {part: _labels(values, f"{path}, labels of the {part} part") for part, (_, values) in parts.items()}
    classes = _same_classes(labels, str(path))
    named = next((arrays[name] for name in _CLASSES if name in arrays), None)
    made = {
        part: (_images(inputs, f"{path}, {part} part"), np.searchsorted(classes, labels[part]).astype(np.int64))
        for part, (inputs, _) in parts.items()
    }
    for part, (inputs, found_labels) in made.items():
        if len(inputs) != len(found_labels):
            raise DatasetError(f"{path}, {part} part: {len(inputs)} inputs and {len(found_labels)} labels")
    texts = tuple(map(str, classes.tolist()))
    if named is not None and named.ndim == 1 and len(named) == len(texts) and named.dtype.kind in "US":
        texts = tuple(map(str, named.tolist()))
    return _checked(made, texts, str(path), standardised=False)


def _loaded(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz by lower-case name, none of them pickled."""
    try:
        with opened_regular(path) as file, zipfile.ZipFile(file) as archive:
            whole = sum(item.file_size for item in archive.infolist())
            if whole > MAX_BYTES:
                raise DatasetError(f"{path} unpacks to {whole} bytes, more than {MAX_BYTES}")
            names = [item.filename for item in archive.infolist() if item.filename.endswith(".npy")]
            return {name.removesuffix(".npy").lower(): _array(archive, name, path) for name in names}
    except DatasetError:
        raise
    except (OSError, *FOREIGN_ARRAYS) as error:
        raise DatasetError(f"{path} is no readable .npz file: {_short(error)}") from error


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    with archive.open(name) as stream:
        try:
            found: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            if found.dtype.kind == "U":
                "".join(found.ravel().tolist()).encode()  # text of numbers that are no characters
        except FOREIGN_ARRAYS as error:
            raise DatasetError(f"{path}, array {name}: {_short(error)}") from error
    return found


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _pair(arrays: Mapping[str, NDArray[Any]], words: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    for word in words:
        for x, y in _KINDS:
            for names in ((f"{x}_{word}", f"{y}_{word}"), (f"{word}_{x}", f"{word}_{y}")):
                if all(name in arrays for name in names):
                    return arrays[names[0]], arrays[names[1]]
    return None


def _labels(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Labels (N,) of whole numbers or text."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DatasetError(f"{where} are an array of {_extents(values)}; there must be one label for each input")
    if values.dtype.kind == "f" and (np.abs(values) <= _MAX_LABEL).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iubU":
        raise DatasetError(f"{where} are {values.dtype.name}, neither whole numbers nor text")
    return values


def _images(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Inputs (N, H, W, C), uint8 or float32."""
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4:
        raise DatasetError(f"{where}: an array of {_extents(values)} instead of (N, height, width[, channels])")
    if values.dtype.kind in "iub" and values.dtype != np.uint8 and values.size:
        low, high = int(values.min()), int(values.max())
        values = values.astype(np.uint8 if low >= 0 and high <= 255 else np.float32)
    if values.dtype.kind == "f":
        sound = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not sound.all():
            raise DatasetError(
                f"{where}: input {int(np.argmin(sound))} has values that are not finite (NaN or infinite)"
            )
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise DatasetError(f"{where}: values that 32-bit floats cannot hold")
    if values.dtype not in (np.uint8, np.float32):
        raise DatasetError(f"{where}: inputs of {values.dtype.name} are neither numbers of 0 to 255 nor floats")
    return values


def _extents(values: NDArray[Any]) -> str:
    return "x".join(map(str, values.shape)) or "one value"


# ------------------------------------------------------------------------------------------------ folders


def _from_folders(root: Path) -> Own:
    found = {part: _class_folders(folder) for part, folder in _part_folders(root)}
    classes = _same_names({part: [name for name, _ in folders] for part, folders in found.items()}, root)
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
    return _checked(parts, classes, str(root), standardised=kinds == {True})


def _part_folders(root: Path) -> list[tuple[str, Path]]:
    """(part, folder of its class folders): the root itself where it has no ``train``."""
    inside = {path.name.lower(): path for path in _folders(root)}
    parts = [(part, inside[word]) for part, words in _PARTS.items() for word in words if word in inside]
    if not any(part == "train" for part, _ in parts):
        return [("train", root)]
    others = sorted(set(inside) - {folder.name.lower() for _, folder in parts})
    if others:
        raise DatasetError(f"{root} has a folder train, and {others[0]} beside it, which is no part of a data set")
    if len({part for part, _ in parts}) < len(parts):
        raise DatasetError(f"{root} has two folders for one part: {', '.join(folder.name for _, folder in parts)}")
    return parts


def _class_folders(folder: Path) -> list[tuple[str, list[Path]]]:
    """(class, its files), both sorted."""
    found = []
    for path in _folders(folder):
        files = [file for file in _entries(path) if file.suffix.lower() in PICTURES + RECORDINGS and file.is_file()]
        if not files:
            raise DatasetError(f"{path} has no pictures ({', '.join(PICTURES)}) and no recordings (.wav)")
        found.append((path.name, files))
    if len(found) < 2:
        raise DatasetError(f"{folder} has {len(found)} class folders; a data set has two or more")
    return found


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir()]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "_")))
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error


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
            values = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"), np.uint8)
    except DatasetError:
        raise
    except Exception as error:  # decoders raise what they like for a damaged file
        raise DatasetError(f"{file} is no readable picture: {' '.join(str(error).split())[:200]}") from error
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


# ------------------------------------------------------------------------------------------------ both


def _same_classes(labels: Mapping[str, NDArray[Any]], where: str) -> NDArray[Any]:
    """The classes of all parts, ascending."""
    kinds = {values.dtype.kind == "U" for values in labels.values()}
    if len(kinds) > 1:
        raise DatasetError(f"{where}: labels are text in one part and numbers in another")
    found = {part: np.unique(values) for part, values in labels.items()}
    _same_names({part: list(map(str, values.tolist())) for part, values in found.items()}, where)
    return found["train"]


def _same_names(names: Mapping[str, Sequence[str]], where: object) -> tuple[str, ...]:
    """The classes, which must be those of the training part in every part."""
    expected = names["train"]
    for part, found in names.items():
        odd = sorted(set(found) ^ set(expected))
        if odd:
            has, lacks = (part, "train") if odd[0] in found else ("train", part)
            raise DatasetError(f"{where}: class {odd[0]} is in the {has} part and not in the {lacks} part")
    return tuple(expected)


def _checked(parts: dict[str, Labelled], classes: tuple[str, ...], where: str, *, standardised: bool) -> Own:
    """Sizes, numbers of classes and of examples; the missing parts split off; `standardised`: coefficients are."""
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DatasetError(f"{where} has {len(classes)} classes; a data set has 2 to {MAX_CLASSES}")
    if max(map(len, classes)) > MAX_NAME:
        raise DatasetError(f"{where} has a class whose name has more than {MAX_NAME} characters")
    shapes = {part: inputs.shape[1:] for part, (inputs, _) in parts.items()}
    kinds = {part: inputs.dtype.name for part, (inputs, _) in parts.items()}
    for part, shape in shapes.items():
        if shape != shapes["train"] or kinds[part] != kinds["train"]:
            raise DatasetError(
                f"{where}: inputs of the {part} part are {'x'.join(map(str, shape))} {kinds[part]}, and those of the"
                f" train part {'x'.join(map(str, shapes['train']))} {kinds['train']}"
            )
    height, width, channels = shapes["train"]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and 1 <= channels <= MAX_CHANNELS):
        raise DatasetError(
            f"{where}: inputs of {height}x{width}x{channels}; at most {MAX_SIDE}x{MAX_SIDE}x{MAX_CHANNELS} can be used"
        )
    for part, (_, labels) in parts.items():
        counts = np.bincount(labels, minlength=len(classes))
        least = 1 if part != "train" else 2 + ("test" not in parts and "validation" not in parts)
        if counts.min() < least:
            name, count = classes[int(counts.argmin())], int(counts.min())
            has = "one example" if count == 1 else f"{count} examples"
            raise DatasetError(
                f"{where}: class {name} has {has} in the {part} part; it needs {least} or more to be split"
            )
    whole = _split(parts)
    constants: dict[str, tuple[float, ...]] = {}
    train = whole["train"][0]
    measured = _varied(train, where)
    if standardised:
        mean, deviation = standardise_coefficients(whole)
        constants = {"mfcc_mean": tuple(mean.tolist()), "mfcc_deviation": tuple(deviation.tolist())}
    scale, offset = ((1.0,), (0.0,)) if standardised else standardise(*measured)
    if max(scale) > _MAX_SCALE or min(scale) < 1 / _MAX_SCALE:
        raise DatasetError(f"{where}: the inputs are too small or too large for 32-bit floats; scale them to about 1")
    for part in parts.keys() - {"train"}:
        _check_scale(whole[part][0], train, scale, offset, f"{where}: the {part} part")
    return Own(Parts(whole["train"], whole["validation"], whole["test"], scale, offset, constants), classes)


def _varied(train: NDArray[Any], where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The moments of the training inputs. Raises DatasetError for examples that no network can tell apart."""
    if all((chunk == train[0]).all() for chunk in chunks(train)):
        raise DatasetError(f"{where}: all inputs of the train part are the same; there is nothing to learn from them")
    mean, deviation = moments(train)
    if not deviation.any():
        raise DatasetError(
            f"{where}: the inputs of the train part, about {mean[0]:g}, vary by less than a millionth of that, which"
            " is lost in 32-bit floats; subtract their mean from them"
        )
    return mean, deviation


def _check_scale(
    inputs: NDArray[Any], train: NDArray[Any], scale: Sequence[float], offset: Sequence[float], which: str
) -> None:
    """Raise DatasetError where `inputs`, scaled as those of the training part are to mean 0 and deviation 1, are not
    near that. All channels are judged together: one may be quiet in a part."""
    mean, deviation = moments(inputs)
    shift, spread = (
        float(np.sqrt(np.square(values).mean())) for values in (mean * scale + offset, deviation * np.array(scale))
    )
    if shift > _MOST_APART or not 1 / _MOST_APART < spread < _MOST_APART:
        of_it, of_train = (f"{values.min():g} to {values.max():g}" for values in (inputs, train))
        raise DatasetError(
            f"{which} has values of {of_it}, which are scaled otherwise than those of the train part, {of_train}; scale"
            " all parts alike"
        )


def _split(parts: Mapping[str, Labelled]) -> dict[str, Labelled]:
    """All three parts: what is not there is taken from the training part."""
    whole = dict(parts)
    for part, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if part not in whole:
            inputs, labels = whole["train"]
            rest, held_out = stratified(labels, share)
            whole["train"] = (inputs[rest], labels[rest])
            whole[part] = (inputs[held_out], labels[held_out])
    return whole
