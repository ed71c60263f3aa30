"""A .tflite, as a file or as bytes, to a `Model`; see `hil.model.network` for what such a model promises."""

from __future__ import annotations

from pathlib import Path

from hil.model.network import Model
from hil.model.tflite.files import read_model_file
from hil.model.tflite.importer import import_model


def load_model(path: Path) -> Model:
    """Read and check a .tflite file; the model is named after the file. Raises ModelError, also when unreadable."""
    return parse_model(read_model_file(path), path.stem)


def parse_model(data: bytes, name: str) -> Model:
    """Check the bytes of a .tflite and import them. Raises ModelError that names the operator and its index.

    Time and memory are bounded by len(data) and the limits in hil/model/tflite/limits.py, whatever the bytes are.
    """
    return import_model(data, name)
