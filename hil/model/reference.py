"""What a network must compute: LiteRT's reference kernels, seen at the boundary of the int8 core.

The device is compared bit for bit with them. `BUILTIN_REF` selects the plain C++ kernels, one thread is used, and all
tensors are preserved, so that outputs are read as the int8 tensors before a final DEQUANTIZE.

Measured with ai-edge-litert 2.3.0 on x86-64 (tests/unit/test_reference.py holds it to that):

- No delegate is applied. AUTO adds a DELEGATE node (XNNPACK) and answers differently; BUILTIN_WITHOUT_DEFAULT_DELEGATES
  runs optimised kernels, which differ again.
- CONV_2D and DEPTHWISE_CONV_2D round twice: saturating rounding doubling high multiply, then a rounding shift
  (gemmlowp; TFLITE_SINGLE_ROUNDING is off), with a multiplier for each channel from double arithmetic.
- FULLY_CONNECTED, per tensor and per channel, has no fixed-point multiplier at all: the int32 sum is multiplied in
  double by (double) input scale * weight scale / output scale and rounded half away from zero.
- Loading refuses what TFLite of 2019 accepted: an axis other than 0 on per-channel biases. `hil.model.tflite.repair`
  sets it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import ModelError, ReferenceDied
from hil.model.litert import Feed
from hil.model.network import DType, Edge, Model, Tensor
from hil.model.tflite.repair import repaired
from hil.model.worker import SHARED, Died, Refused, Worker
from hil.patterns import Pattern, verification_patterns

Int8Array = NDArray[np.int8]


class Reference:
    """One network in LiteRT, which runs in a process of its own (hil.model.worker): a network may end that."""

    def __init__(self, data: bytes, model: Model, worker: Worker = SHARED) -> None:
        """Load the file that `model` was imported from: LiteRT never sees bytes that the importer has not checked.

        Raises ValueError for other bytes, and ModelError when LiteRT refuses the model, or dies of it.
        """
        if hashlib.sha256(data).hexdigest() != model.sha256:
            raise ValueError(f"these are not the bytes that {model.name} was imported from")
        self._model, self._data, self._worker = model, repaired(data), worker
        self._load()

    def _load(self) -> None:
        try:
            self._worker.load(self, self._data)
        except (Refused, Died) as error:
            raise _refused(self._model, error) from error

    def run(self, inputs: Sequence[Int8Array]) -> list[Int8Array]:
        """Outputs of the core for inputs of the core: int8 arrays of the shapes of Model.inputs and Model.outputs.

        Raises ModelError when LiteRT refuses the inference; ReferenceDied when it dies of it.
        """
        edges = self._model.edges.outputs
        if self._model.states:
            self._load()  # a new interpreter has its states as they are at first
        try:
            found = self._worker.run(self, self._data, feeds(self._model, inputs), [edge.core_tensor for edge in edges])
        except (Refused, Died) as error:
            raise _refused(self._model, error) from error
        return [np.array(values) for values in found]


def feeds(model: Model, inputs: Sequence[Int8Array]) -> list[Feed]:
    """What the inputs of the file must hold for the core to see exactly `inputs`, one int8 array an input."""
    edges = zip(model.edges.inputs, model.inputs, inputs, strict=True)
    return [(edge.file_tensor, _fed(edge, model.tensors[index], values)) for edge, index, values in edges]


@dataclass(frozen=True, slots=True)
class VerificationInput:
    """One input to verify with: a pattern that the device makes itself, and its values, one array an input tensor."""

    pattern: Pattern
    values: tuple[Int8Array, ...]


def verification_inputs(model: Model, count: int, seed: int) -> list[VerificationInput]:
    """`count` inputs, random and extreme, shaped as Model.inputs; the same for the same seed."""
    return [
        VerificationInput(pattern, tuple(_patterned(model.tensors[index], pattern) for index in model.inputs))
        for pattern in verification_patterns(count, seed)
    ]


def _patterned(tensor: Tensor, pattern: Pattern) -> Int8Array:
    data = pattern.data(tensor.size_bytes, tensor.quant.zero_point)
    return np.frombuffer(data, tensor.dtype.value).reshape(tensor.shape)


def _fed(edge: Edge, tensor: Tensor, values: Int8Array) -> NDArray[Any]:
    """What the file's input must hold for the core to see exactly `values`."""
    if values.dtype != np.int8:
        raise ValueError(f"inputs are int8, or bytes of other types as int8, not {values.dtype}")
    shaped = values.reshape(-1).view(tensor.dtype.value).reshape(tensor.shape)
    if tensor.dtype is DType.FLOAT32:
        return shaped
    if edge.dtype is DType.UINT8:
        return (shaped.astype(np.int16) + 128).astype(np.uint8)
    if edge.dtype is DType.FLOAT32:
        steps = shaped.astype(np.float32) - np.float32(tensor.quant.zero_point)
        return steps * np.float32(tensor.quant.scale)
    return shaped


def _refused(model: Model, error: Refused | Died) -> ModelError:
    if isinstance(error, Died):
        return ReferenceDied(f"LiteRT's reference kernels cannot run the model: {error}", model.name)
    return ModelError(f"LiteRT's reference kernels refuse the model: {error}", model.name)
