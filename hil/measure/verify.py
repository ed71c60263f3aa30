"""Accuracy on the device: a labelled set goes through the firmware, and every output is compared with the host's.

Each input's outputs are stored as they come (hil.jobs.store), so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from hil.jobs.supervise import Execution, supervised
from hil.measure.dataset import Dataset, Takes, load_dataset
from hil.measure.harness import Harness, Running, refuse_float
from hil.measure.measurement import Identity
from hil.measure.workers import HarnessFactory, NodeHarnessFactory, workers_of
from hil.model.network import Tensor
from hil.runtimes.base import Deployment

SHOWN = 20  # indices of differing inputs in the report
MAX_PART = 256  # inputs that are done again when a worker or the command dies
PARTS_EACH = 4  # for each worker, so that all of them end at about the same time
ATTEMPTS = 3  # boots in a row that may fail without an input done in between
_log = logging.getLogger("hil.measure")
_HOPELESS = (StoreError, ToolMissing, DeviceBusy, DeviceLost, DeviceMissing)  # no use in trying again


class Progress(Protocol):
    """Told about every input."""

    def start(self, total: int, resumed: int) -> None:
        """Before the first input; `resumed` of `total` were done before."""
        ...

    def advance(self) -> None:
        """An input is done."""
        ...

    def stop(self) -> None:
        """Called at every kind of end."""
        ...


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


def verify(
    harness: Harness, request: Request, progress: Progress, workers: int | None = 1, cluster: str | None = None
) -> Verification:
    """Stream the data set to the device, or parts of it to several, on the Ray `cluster` if there is one.

    Raises HilError; what is stored by then is kept: each input that was done, or each part.
    """
    plan = harness.deploy(request.model, request.name)
    model = plan.imported
    refuse_float(plan, request.name)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UsageError(
            f"{request.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; a labelled set has one "
            "of each. measure compares all outputs on random and extreme inputs"
        )
    source, result = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    takes = Takes(source.shape, model.edges.inputs[0].dtype, source.quant.scale, source.quant.zero_point, source.dtype)
    data = load_dataset(request.data, takes, result.elements, request.limit)
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
            factory, execution = workers_of(harness.board, harness.options, cluster, workers)
            if cluster is None and min(execution.workers, len(todo)) < 2:
                results = _streamed(harness, request, plan, data, todo)
            else:
                results = _shared_out(factory, execution, request, data, todo)
            for item in results:
                store.insert(run_id, item)
                progress.advance()
        finally:
            progress.stop()
        records = {result.sample: result.record for result in store.results(run_id) if result.sample < len(data)}
    return _judged(request.name, sha256, harness.identity, data, records, resumed, result)


def _streamed(
    harness: Harness, request: Request, plan: Deployment, data: Dataset, todo: Sequence[int]
) -> Iterator[Result]:
    """Go through `todo`. When the link, the emulator or the board fails the device is booted anew, a few times."""
    left, failures = deque(todo), 0
    while left:
        try:
            with harness.running(request.model, request.name, plan) as running:
                while left:
                    result = _verified(running, data, left[0])
                    left.popleft()
                    failures = 0
                    yield result
        except _HOPELESS:
            raise
        except InfrastructureError:
            failures += 1
            if failures == ATTEMPTS:
                raise


@dataclass(frozen=True, slots=True)
class _Parts:
    """Makes, inside a worker, what verifies part `n` of the inputs."""

    factory: HarnessFactory | NodeHarnessFactory
    model: bytes
    name: str
    data: Dataset
    parts: tuple[tuple[int, ...], ...]

    def __call__(self) -> Callable[[int], list[Result]]:
        harness = self.factory.harness()
        plan = harness.deploy(self.model, self.name)

        def verified(number: int) -> list[Result]:
            with harness.running(self.model, self.name, plan) as running:
                return [_verified(running, self.data, index) for index in self.parts[number]]

        return verified

    def without(self, device: str) -> _Parts | None:
        """See `hil.jobs.supervise.UsesDevices`."""
        others = self.factory.without(device)
        return None if others is None else replace(self, factory=others)


def _shared_out(
    factory: HarnessFactory | NodeHarnessFactory, execution: Execution, request: Request, data: Dataset,
    todo: Sequence[int],
) -> Iterator[Result]:  # fmt: skip
    """Go through `todo` by parts, each of which boots a device of its own."""
    size = min(MAX_PART, -(-len(todo) // (PARTS_EACH * execution.workers)))
    parts = tuple(tuple(todo[start : start + size]) for start in range(0, len(todo), size))
    jobs = _Parts(factory, request.model, request.name, data, parts)
    with contextlib.closing(
        supervised(range(len(parts)), jobs, replace(execution, preload=(__name__,)), _log.warning)
    ) as outcomes:
        for outcome in outcomes:
            if outcome.failure:
                raise outcome.cause or outcome.error or InfrastructureError(outcome.failure)
            yield from outcome.value


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
    result: Tensor,
) -> Verification:  # fmt: skip
    try:
        device, host = (
            np.stack([_output(records[index][side], result) for index in range(len(data))])
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


def _output(text: str, result: Tensor) -> NDArray[Any]:
    data = bytes.fromhex(text)
    if len(data) != result.size_bytes:
        raise ValueError(f"an output of {len(data)} bytes")
    return np.frombuffer(data, result.dtype.value)


def _indices(flags: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(flags))
