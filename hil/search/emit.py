"""One network exported: its folder with model.tflite, architecture.json, firmware/ and measurement.json."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from hil.build.sources import Project
from hil.errors import BudgetError, InfrastructureError, ModelError, StoreError, TargetFaultError
from hil.files import FOREIGN, sweep, write_text
from hil.measure.harness import Measured
from hil.measure.measurement import Identity, Measurement, measurement_from_json
from hil.runtimes.base import Deployment
from hil.search.recalibrate import Verified
from munas.arch.graph import Shape
from munas.arch.space import AnyArchitecture, to_dict
from munas.scratch import replacing
from munas.search.store import SearchStore

NETWORKS = "networks"  # folder of all finalists, in the run folder
MODEL_FILE, ARCHITECTURE_FILE = "model.tflite", "architecture.json"
FIRMWARE_FOLDER, MEASUREMENT_FILE = "firmware", "measurement.json"


class ExportHarness(Protocol):
    """What measures and generates: `hil.measure.harness.Harness`."""

    @property
    def identity(self) -> Identity:
        """Of everything that it measures."""
        ...

    def deploy(self, data: bytes, name: str) -> Deployment:
        """See `Harness.deploy`."""
        ...

    def measure(self, data: bytes, name: str, deployed: Deployment | None = None) -> Measured:
        """See `Harness.measure`."""
        ...

    def generate(self, data: bytes, name: str, folder: Path, deployed: Deployment | None = None) -> Project:
        """See `Harness.generate`."""
        ...


@dataclass(frozen=True, slots=True)
class Network:
    """What is emitted: the .tflite of `architecture`, called `name`, in `folder`."""

    name: str
    architecture: AnyArchitecture
    input_shape: Shape
    num_classes: int
    tflite: bytes
    folder: Path

    @property
    def sha256(self) -> str:
        """Of the .tflite."""
        return hashlib.sha256(self.tflite).hexdigest()


def emit(network: Network, about: Mapping[str, Any]) -> None:
    """Write the network itself. `about` goes into architecture.json too. Each file is replaced in one step.

    Raises StoreError when the folder cannot be written.
    """
    try:
        network.folder.mkdir(parents=True, exist_ok=True)
        sweep(network.folder, MODEL_FILE, ARCHITECTURE_FILE, FIRMWARE_FOLDER, MEASUREMENT_FILE)
        _write_bytes(network.folder / MODEL_FILE, network.tflite)
    except OSError as error:
        raise _unwritable(network.folder, error) from error
    document = {
        "input_shape": list(network.input_shape), "num_classes": network.num_classes,
        "architecture": to_dict(network.architecture), **about,
    }  # fmt: skip
    write_text(network.folder / ARCHITECTURE_FILE, json.dumps(document, indent=2, allow_nan=False) + "\n")


def _generate(network: Network, harness: ExportHarness, plan: Deployment) -> None:
    """Write the firmware's folder, which is complete or not there."""
    scratch = network.folder / f".{FIRMWARE_FOLDER}-{uuid.uuid4().hex}"
    try:
        scratch.mkdir()
    except OSError as error:
        raise _unwritable(network.folder, error) from error
    try:
        harness.generate(network.tflite, network.name, scratch, plan)
        target = network.folder / FIRMWARE_FOLDER
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
    except OSError as error:
        raise _unwritable(network.folder, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def _unwritable(folder: Path, error: OSError) -> InfrastructureError:
    return StoreError(
        f"{folder} cannot be written: {error.strerror}; see to the folder and the disk, then run the same command again"
    )


def verified(network: Network, harness: ExportHarness, store: SearchStore) -> Verified | str:
    """The network with its firmware, measured on the device; or why it could not be: its sums do not fit 32 bits, it is
    too large, a kernel refuses it, its firmware faults.

    A measurement of the same bytes and identity that the store has is not made again. It is written beside the network.
    Raises InfrastructureError when the surroundings fail: the same command then goes on here.
    """
    try:
        plan = harness.deploy(network.tflite, network.name)
        _generate(network, harness, plan)
    except ModelError as error:
        return str(error)
    works = tuple(step.work for step in plan.steps)
    key = f"measurement:{network.sha256}"
    found = _stored(store.document(key), harness.identity)
    if found is None:
        try:
            measured = harness.measure(network.tflite, network.name, plan)
        except (BudgetError, ModelError, TargetFaultError) as error:
            (network.folder / MEASUREMENT_FILE).unlink(missing_ok=True)
            return str(error)
        found = measured.measurement, dict(measured.functions)
        store.put_document(key, {"measurement": found[0].to_json(), "functions": found[1]})
    measurement, functions = found
    text = json.dumps([measurement.to_json()], indent=2, allow_nan=False)
    write_text(network.folder / MEASUREMENT_FILE, text + "\n")
    return Verified(network.architecture, network.tflite, measurement, works, functions)


def _stored(document: Any, identity: Identity) -> tuple[Measurement, dict[str, int]] | None:
    if document is None:
        return None
    try:
        measurement = measurement_from_json(document["measurement"])
        functions = {str(name): int(size) for name, size in document["functions"].items()}
    except FOREIGN as error:
        raise StoreError(f"the search store holds a damaged measurement: {error}; name another folder") from error
    return (measurement, functions) if asdict(measurement.identity) == asdict(identity) else None


def prune_folders(folder: Path, keep: set[str]) -> None:
    """Remove the folders of networks that an earlier end of the search exported, and this one does not."""
    for path in folder.glob("[0-9]*"):
        if path.is_dir() and path.name.isdecimal() and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)
