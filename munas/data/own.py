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
from contextlib import contextmanager
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
_LISTED = 6  # names, where there may be any number of them
_MAX_SCALE = 1e30  # 32-bit floats end at 3e38
_MOST_APART = 10  # deviations of the training part: between its mean and another part's, or between their deviations
_MAX_LABEL = 2.0**24  # of labels in floats: up to here 32 bits hold every whole number
_NO_PICTURE = "is no picture that can be read (damaged, or not a picture)"
_WIDE_MODES = ("I", "F")  # of Pillow; it makes 8 bits of these by cutting off what is above 255
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")

_PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_KINDS: Mapping[str, tuple[str, ...]] = {
    "inputs": ("x", "images", "inputs", "data"),
    "labels": ("y", "labels", "target"),
}
_CLASSES = ("classes", "class_names", "names")


def _names(part: str, kind: str) -> tuple[str, ...]:
    """What arrays of a kind of a part are called, the usual name first."""
    both = [name for word in _PARTS[part] for stem in _KINDS[kind] for name in (f"{stem}_{word}", f"{word}_{stem}")]
    return (*both, *_KINDS[kind]) if part == "train" else tuple(both)


_ROLES = {name: (part, kind) for part in _PARTS for kind in _KINDS for name in _names(part, kind)}


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


def some(names: Sequence[str]) -> str:
    """A list of `names` that is not too long for a line."""
    return ", ".join(names[:_LISTED]) + (f", and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def counted(number: int, noun: str, nouns: str = "") -> str:
    """``1 example``, ``2 examples``."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


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


def left_out(path: Path) -> str:
    """What is in a file or folder that `read` takes and is no part of the data set, counted and named; or nothing."""
    if path.is_file():
        with _archive(path) as archive:
            known = {f"{name}.npy" for name in (*_ROLES, *_CLASSES)}
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.lower() not in known]
        return f"{counted(len(names), 'array')} ({some(names)})" if names else ""
    files = find(path).files
    classes = {file.parent for file in files}
    folders = {path, *classes, *(folder.parent for folder in classes)}
    used = folders.union(files)
    beside = [entry for folder in sorted(folders) for entry in _entries(folder) if entry not in used]
    return _numbers(beside, path) if beside else ""


# ------------------------------------------------------------------------------------------------ arrays


def _from_arrays(path: Path) -> Own:
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
            known = ", ".join(word for words in _PARTS.values() for word in words)
            raise DatasetError(f"{path} has the array {name}, which is of no part that is known ({known})")
    classes = _same_classes(labels, str(path))
    made = {part: (inputs, np.searchsorted(classes, labels[part]).astype(np.int64)) for part, inputs in found.items()}
    return _checked(made, _class_names(arrays, classes, path), str(path), standardised=False)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz; whatever is wrong with it inside the block is a DatasetError."""
    try:
        with opened_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except DatasetError:
        raise
    except (OSError, *FOREIGN_ARRAYS) as error:
        raise DatasetError(f"{path} is no readable .npz file: {_short(error)}") from error


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
    return {part: {kind: arrays[given[part, kind]] for kind in _KINDS} for part in _PARTS if (part, "inputs") in given}


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
        raise DatasetError(f"{where}: {_short(error)}") from error
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
            raise DatasetError(f"{path}, array {name}: {_short(error)}") from error
    return found


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


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
    folders = _folders(root)
    parts = [(part, folder) for part, words in _PARTS.items() for folder in folders if folder.name.lower() in words]
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
        raise DatasetError(f"{file} {_NO_PICTURE}: {_short(error)}") from error
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
        raise DatasetError(
            f"{where} has {counted(len(classes), 'class', 'classes')}; a data set has 2 to {MAX_CLASSES}"
        )
    if max(map(len, classes)) > MAX_NAME:
        raise DatasetError(f"{where} has a class whose name has more than {MAX_NAME} characters")
    shapes = {part: inputs.shape[1:] for part, (inputs, _) in parts.items()}
    for part, shape in shapes.items():
        if shape != shapes["train"]:
            of_it, of_train = ("x".join(map(str, item)) for item in (shape, shapes["train"]))
            raise DatasetError(
                f"{where}: inputs of the {part} part are {of_it}, and those of the train part {of_train}"
            )
    height, width, channels = shapes["train"]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and 1 <= channels <= MAX_CHANNELS):
        turned = "; channels come last: (N, height, width, channels)" if height <= MAX_CHANNELS < channels else ""
        raise DatasetError(
            f"{where}: inputs of {height}x{width}x{channels}; at most {MAX_SIDE}x{MAX_SIDE}x{MAX_CHANNELS} can be used"
            f"{turned}"
        )
    for part, (_, labels) in parts.items():
        counts = np.bincount(labels, minlength=len(classes))
        least = 1 if part != "train" else 2 + ("test" not in parts and "validation" not in parts)
        if counts.min() < least:
            name, count = classes[int(counts.argmin())], int(counts.min())
            raise DatasetError(
                f"{where}: class {name} has {counted(count, 'example')} in the {part} part; it needs {least} or more to"
                " be split"
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
