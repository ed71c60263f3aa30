"""What every data set of the user's own is held to, of arrays or folders: classes, sizes, numbers of examples, scale.

Parts that are not there are split off, stratified and seeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data.loader import Labelled, Parts
from munas.data.scaling import chunks, moments, standardise
from munas.data.speech_commands import standardise_coefficients
from munas.data.split import TEST_SHARE, VALIDATION_SHARE, stratified
from munas.errors import DatasetError

MAX_SIDE = 1024
MAX_CHANNELS = 16
MAX_CLASSES = 1000
MAX_NAME = 255
MAX_BYTES = 4 << 30
"""Of all inputs together, which are read into memory once."""

_LISTED = 6  # names, where there may be any number of them
_MAX_SCALE = 1e30  # 32-bit floats end at 3e38
_MOST_APART = 10  # deviations of the training part: between its mean and another part's, or between their deviations

PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the parts are called, the usual name first."""


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


def some(names: Sequence[str]) -> str:
    """A list of `names` that is not too long for a line."""
    return ", ".join(names[:_LISTED]) + (f", and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def counted(number: int, noun: str, nouns: str = "") -> str:
    """``1 example``, ``2 examples``."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def short(error: Exception) -> str:
    """Its text in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def same_names(names: Mapping[str, Sequence[str]], where: object) -> tuple[str, ...]:
    """The classes, which must be those of the training part in every part."""
    expected = names["train"]
    for part, found in names.items():
        odd = sorted(set(found) ^ set(expected))
        if odd:
            has, lacks = (part, "train") if odd[0] in found else ("train", part)
            raise DatasetError(f"{where}: class {odd[0]} is in the {has} part and not in the {lacks} part")
    return tuple(expected)


def checked(parts: dict[str, Labelled], classes: tuple[str, ...], where: str, *, standardised: bool) -> Own:
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
