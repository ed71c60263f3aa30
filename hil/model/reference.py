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

from hil.errors import ModelError
from hil.model.network import DType, Edge, Model, Tensor
from hil.model.tflite.repair import repaired
from hil.patterns import Pattern, verification_patterns

Int8Array = NDArray[np.int8]


class Reference:
    """One network in LiteRT. Not safe for use by several threads at once."""

    def __init__(self, data: bytes, model: Model) -> None:
        """Load the file that `model` was imported from: LiteRT never sees bytes that the importer has not checked.

        Raises ValueError for other bytes, and ModelError when LiteRT refuses the model.
        """
        if hashlib.sha256(data).hexdigest() != model.sha256:
            raise ValueError(f"these are not the bytes that {model.name} was imported from")
        from ai_edge_litert.interpreter import Interpreter, OpResolverType  # takes 0.1 s, and not everyone verifies

        self._model = model
        try:
            self._interpreter = Interpreter(
                model_content=repaired(data),
                num_threads=1,
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refused(model, error) from error

    def run(self, inputs: Sequence[Int8Array]) -> list[Int8Array]:
        """Outputs of the core for inputs of the core: int8 arrays of the shapes of Model.inputs and Model.outputs."""
        for edge, index, values in zip(self._model.edges.inputs, self._model.inputs, inputs, strict=True):
            tensor = self._model.tensors[index]
            self._interpreter.set_tensor(edge.file_tensor, _fed(edge, tensor, values))
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise _refused(self._model, error) from error
        return [np.array(self._interpreter.get_tensor(edge.core_tensor)) for edge in self._model.edges.outputs]


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
    return np.frombuffer(data, np.int8).reshape(tensor.shape)


def _fed(edge: Edge, tensor: Tensor, values: Int8Array) -> NDArray[Any]:
    """What the file's input must hold for the core to see exactly `values`."""
    if values.dtype != np.int8:
        raise ValueError(f"inputs are int8, not {values.dtype}")
    shaped = values.reshape(tensor.shape)
    if edge.dtype is DType.UINT8:
        return (shaped.astype(np.int16) + 128).astype(np.uint8)
    if edge.dtype is DType.FLOAT32:
        steps = shaped.astype(np.float32) - np.float32(tensor.quant.zero_point)
        return steps * np.float32(tensor.quant.scale)
    return shaped


def _refused(model: Model, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300]
    return ModelError(f"{model.name}: LiteRT's reference kernels refuse the model: {reason}")
