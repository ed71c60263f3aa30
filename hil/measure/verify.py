"""Accuracy on the device: a labelled set goes through the firmware, and every output is compared with the host's.

Each input's outputs are stored as they come (hil.jobs.store), so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hil.errors import (
    DeviceBusy,
    DeviceLost,
    DeviceMissing,
    InfrastructureError,
    ModelError,
    ReferenceDied,
    StoreError,
    ToolMissing,
    UsageError,
)
from hil.files import FOREIGN
from hil.jobs.store import Result, Run, Store
from hil.measure.dataset import Dataset, Takes, load_dataset
from hil.measure.harness import Harness, Running
from hil.measure.measurement import Identity
from hil.runtimes.base import Deployment

SHOWN = 20  # indices of differing inputs in the report
ATTEMPTS = 3  # boots in a row that may fail without an input done in between
_HOPELESS = (StoreError, ToolMissing, DeviceBusy, DeviceLost, DeviceMissing)  # no use in trying again


class Progress(Protocol):
    """Told about every input."""

    def start(self, total: int, resumed: int) -> None: ...

    def advance(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify: the .tflite `model` (bytes) called `name`, the .npz at `data`, the results' `store` file."""

    model: bytes
    name: str
    data: Path
    store: Path
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """Over all `inputs`: `device_correct` and `host_correct` classes (LiteRT int8).

    `mismatched` are the inputs whose device output differs in any bit from what the runtime's kernels must compute,
    `litert_mismatched` those where it differs from LiteRT's reference kernels (other than 0 for TFLM's dense layers).
    """

    model: str
    sha256: str
    data_sha256: str
    identity: Identity
    inputs: int
    resumed: int
    device_correct: int
    host_correct: int
    mismatched: tuple[int, ...]
    litert_mismatched: tuple[int, ...]

    @property
    def device_accuracy(self) -> float:
        """Fraction of inputs whose class the device found."""
        return self.device_correct / self.inputs

    @property
    def host_accuracy(self) -> float:
        """Fraction of inputs whose class LiteRT found with the int8 model."""
        return self.host_correct / self.inputs

    def to_json(self) -> dict[str, Any]:
        """The document of `verify --json`."""
        return {
            "model": self.model, "sha256": self.sha256, "data_sha256": self.data_sha256, "board": self.identity.board,
            "runtime": self.identity.runtime, "via": self.identity.via, "simulated": self.identity.simulated,
            "inputs": self.inputs, "resumed": self.resumed,
            "device": {"correct": self.device_correct, "accuracy": self.device_accuracy},
            "host": {"correct": self.host_correct, "accuracy": self.host_accuracy},
            "outputs": {
                "checked": self.inputs, "mismatched": len(self.mismatched),
                "litert_mismatched": len(self.litert_mismatched), "first_mismatched": list(self.mismatched[:SHOWN]),
            },
            "identity": asdict(self.identity),
        }  # fmt: skip


def verify(harness: Harness, request: Request, progress: Progress) -> Verification:
    """Stream the data set to the device. Raises HilError; what is stored by then is kept."""
    plan = harness.deploy(request.model, request.name)
    model = plan.imported
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UsageError(
            f"{request.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; a labelled set has one "
            "of each. measure compares all outputs on random and extreme inputs"
        )
    if plan.input.is_wide or plan.output.is_wide:
        raise UsageError(
            f"{request.name} has inputs or outputs of 16 bits; a labelled set is only streamed to int8 ones"
        )
    source = model.tensors[model.inputs[0]]
    takes = Takes(source.shape, model.edges.inputs[0].dtype, source.quant.scale, source.quant.zero_point)
    data = load_dataset(request.data, takes, plan.output.size, request.limit)
    sha256 = hashlib.sha256(request.model).hexdigest()
    run = Run("verify", asdict(harness.identity), 0, {"model": sha256, "data": data.sha256})
    request.store.parent.mkdir(parents=True, exist_ok=True)
    with Store(request.store) as store:
        run_id = store.run_id(run)
        done = store.samples(run_id)
        todo = [index for index in range(len(data)) if index not in done]
        resumed = len(data) - len(todo)
        progress.start(len(data), resumed)
        try:
            _stream_all(harness, request, plan, data, todo, lambda result: store.insert(run_id, result), progress)
        finally:
            progress.stop()
        records = {result.sample: result.record for result in store.results(run_id) if result.sample < len(data)}
    return _judged(request.name, sha256, harness.identity, data, records, resumed, plan.output.size)


class _Keep(Protocol):
    def __call__(self, result: Result, /) -> bool: ...


def _stream_all(
    harness: Harness, request: Request, plan: Deployment, data: Dataset, todo: list[int], keep: _Keep,
    progress: Progress,
) -> None:  # fmt: skip
    """Go through `todo`. When the link, the emulator or the board fails the device is booted anew, a few times."""
    failures = 0
    while todo:
        try:
            with harness.running(request.model, request.name, plan) as running:
                while todo:
                    keep(_verified(running, data, todo[0]))
                    del todo[0]
                    failures = 0
                    progress.advance()
        except _HOPELESS:
            raise
        except InfrastructureError:
            failures += 1
            if failures == ATTEMPTS:
                raise


def _verified(running: Running, data: Dataset, index: int) -> Result:
    values = data.inputs[index]
    try:
        litert = running.litert.run([values])[0].tobytes()
    except ReferenceDied as error:
        raise ModelError(f"{error}; it did so on input {index} of the data, which has no right answer then") from error
    running.device.upload(values.tobytes())
    _, output = running.device.answer()
    wanted = litert if running.own is None else running.own.run([values])[0].tobytes()
    record = {"device": output.hex(), "host": litert.hex(), "same": output == wanted}
    return Result(index, "ok", record=record)


def _judged(
    name: str, sha256: str, identity: Identity, data: Dataset, records: Mapping[int, Mapping[str, Any]], resumed: int,
    output_bytes: int,
) -> Verification:  # fmt: skip
    try:
        device, host = (
            np.stack([_output(records[index][side], output_bytes) for index in range(len(data))])
            for side in ("device", "host")
        )
        same = np.array([bool(records[index]["same"]) for index in range(len(data))])
    except FOREIGN as error:
        raise StoreError(f"the store holds a record that is not one of verify: {error}; name another one") from error
    return Verification(
        model=name, sha256=sha256, data_sha256=data.sha256, identity=identity, inputs=len(data), resumed=resumed,
        device_correct=int((device.argmax(axis=1) == data.labels).sum()),
        host_correct=int((host.argmax(axis=1) == data.labels).sum()),
        mismatched=_indices(~same),
        litert_mismatched=_indices((device != host).any(axis=1)),
    )  # fmt: skip


def _output(text: str, size: int) -> NDArray[np.int8]:
    values = np.frombuffer(bytes.fromhex(text), np.int8)
    if len(values) != size:
        raise ValueError(f"an output of {len(values)} bytes")
    return values


def _indices(flags: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(flags))
