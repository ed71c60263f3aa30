"""What a teacher says of the training images: computed once, kept in the cache, shared by all trials."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.cache import CacheError, cache_dir, digest, filled_folder
from munas.data import Dataset
from munas.errors import SearchError
from munas.training.parameters import Floats
from munas.training.quantise import scaled

_FORMAT = "soft labels 1"
_FILE = "soft.npy"
_BATCH = 500


def soft_labels(teacher: Path, dataset: Dataset, cache: Path | None = None) -> Floats:
    """The teacher's probabilities for the un-augmented training images: a read-only memory map (N, classes), or (N, 1).

    `teacher` is a .keras file (loaded in safe mode: no code of the file's is run) of a model that takes what the
    trials take, and gives probabilities or logits, one for two classes. Raises SearchError where it is no such
    model.
    """
    try:
        sha256 = hashlib.sha256(teacher.read_bytes()).hexdigest()
    except OSError as error:
        raise SearchError(f"cannot read the teacher {teacher}: {error.strerror}") from error
    key = digest([_FORMAT, sha256, dataset.name, dataset.sha256])

    def fill(folder: Path) -> None:
        np.save(folder / _FILE, _probabilities(_loaded(teacher, dataset), teacher, dataset))

    try:
        folder = filled_folder((cache or cache_dir()) / "teachers" / key, fill)
    except CacheError as error:
        raise SearchError(str(error)) from error
    labels: Floats = np.load(folder / _FILE, mmap_mode="r")
    return labels


def _loaded(teacher: Path, dataset: Dataset) -> Any:
    """The teacher's model, of the shapes that the data set asks for."""
    import keras

    from munas.training.backend import no_warnings

    try:
        with no_warnings():
            model = keras.saving.load_model(teacher, compile=False, safe_mode=True)
        takes, gives = tuple(model.input_shape), tuple(model.output_shape)
    except Exception as error:  # Keras raises what it likes for a file that is not one
        reason = " ".join(str(error).split())[:300]
        raise SearchError(f"the teacher {teacher} is no .keras model that can be loaded: {reason}") from error
    outputs = 1 if dataset.num_classes == 2 else dataset.num_classes
    if takes[1:] != tuple(dataset.input_shape) or gives[1:] != (outputs,):
        raise SearchError(
            f"the teacher {teacher} maps {takes[1:]} to {gives[1:]}; "
            f"{dataset.name} needs {dataset.input_shape} to ({outputs},)"
        )
    return model


def _probabilities(model: Any, teacher: Path, dataset: Dataset) -> Floats:
    from munas.training.backend import no_warnings

    raw, parts = dataset.train.inputs, []
    for start in range(0, len(raw), _BATCH):
        inputs = scaled(raw[start : start + _BATCH], dataset.scale, dataset.offset)
        with no_warnings():
            outputs = model(inputs, training=False)
        parts.append(outputs.numpy().astype(np.float64))
    return _as_probabilities(np.concatenate(parts), teacher)


def _as_probabilities(outputs: NDArray[np.float64], teacher: Path) -> Floats:
    """(N, classes or 1) out of a model's outputs, which are logits unless they can be probabilities."""
    if not np.isfinite(outputs).all():
        raise SearchError(f"the teacher {teacher} gives outputs that are not finite")
    inside = bool((outputs >= 0).all() and (outputs <= 1).all())
    if outputs.shape[1] == 1:
        return (outputs if inside else 1 / (1 + np.exp(-outputs))).astype(np.float32)
    if inside and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
        return outputs.astype(np.float32)
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
