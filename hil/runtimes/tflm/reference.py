"""What TFLM must compute: LiteRT's reference kernels, but for dense layers and clipping.

LiteRT 2.3 requantises the sums of FULLY_CONNECTED in double arithmetic. TFLM (like TFLite before) does it in integers,
with two roundings, so their results differ by one now and then, and that spreads. Its RELU6 leaves the scale as it is.
All other kernels agree bit for bit. So the network is cut at these: what lies between them runs in LiteRT, they are
computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hil.model.load import parse_model
from hil.model.network import Activation, DType, Model, Op, OpKind
from hil.model.quantise import activation_range, quantize_multiplier
from hil.model.reference import Int8Array, Reference
from hil.model.tflite.container import Container
from hil.runtimes.tflm.extract import extract
from hil.runtimes.tflm.network import Network

Int64Array = NDArray[np.int64]


class Stage(Protocol):
    """A part of the network: reads and writes `values`, int8 arrays by tensor of the file."""

    def run(self, values: dict[int, Int8Array]) -> None:
        """Fill in the tensors that this part makes."""
        ...


class TflmReference:
    """One network, as TFLM must compute it. Not safe for use by several threads at once."""

    def __init__(self, network: Network) -> None:
        self._container = network.container
        self._stages = tuple(_stages(network))

    def run(self, inputs: Sequence[Int8Array]) -> list[Int8Array]:
        """Outputs for inputs of the shapes of the network's."""
        values = dict(zip(self._container.inputs, inputs, strict=True))
        for stage in self._stages:
            stage.run(values)
        return [values[tensor] for tensor in self._container.outputs]


def _stages(network: Network) -> list[Stage]:
    container = network.container
    imported = {op.index: op for op in network.model.ops}
    stages: list[Stage] = []
    run: list[int] = []
    for operator in container.operators:
        op = imported.get(operator.index)
        own = None if op is None else _own(network.model, op, operator.inputs, operator.outputs)
        if own is None:
            run.append(operator.index)
            continue
        if run:
            stages.append(_part(network, run))
        run = []
        stages.append(own)
    return [*stages, _part(network, run)] if run else stages


def _own(model: Model, op: Op, inputs: Sequence[int], outputs: Sequence[int]) -> Stage | None:
    """The stage of an operator that TFLM computes otherwise than LiteRT."""
    if op.kind is OpKind.FULLY_CONNECTED:
        return _dense(model, op, inputs[0], outputs[0])
    if op.kind is OpKind.RELU6:
        source, result = model.tensors[op.inputs[0]].quant, model.tensors[op.outputs[0]].quant
        if source != result:
            return _Clipped(inputs[0], outputs[0], *activation_range(Activation.RELU6, source))
    return None


@dataclass(frozen=True, slots=True)
class _Clipped:
    """A RELU6 whose output is quantised otherwise than its input, which TFLM's kernel does not look at."""

    source: int
    result: int
    low: int
    high: int

    def run(self, values: dict[int, Int8Array]) -> None:
        values[self.result] = np.clip(values[self.source], np.int8(self.low), np.int8(self.high))


@dataclass(frozen=True, slots=True)
class _Part:
    """Operators that LiteRT runs. `inputs` and `outputs` are tensors of the whole file, in the part's order."""

    reference: Reference
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def run(self, values: dict[int, Int8Array]) -> None:
        found = self.reference.run([values[tensor] for tensor in self.inputs])
        values |= dict(zip(self.outputs, found, strict=True))


def _part(network: Network, run: Sequence[int]) -> _Part:
    container = network.container
    inside = [container.operators[index] for index in run]
    made = {tensor for operator in inside for tensor in operator.outputs}
    read_outside = {
        tensor for operator in container.operators if operator.index not in run for tensor in operator.inputs
    } | set(container.outputs)
    inputs = dict.fromkeys(
        tensor
        for operator in inside
        for tensor in operator.inputs
        if tensor >= 0 and tensor not in made and _is_activation(container, tensor)
    )
    outputs = [tensor for tensor in made if tensor in read_outside]
    data = extract(network.flatbuffer, run, list(inputs), outputs)
    reference = Reference(data, parse_model(data, network.model_name))
    return _Part(reference, tuple(inputs), tuple(outputs))


def _is_activation(container: Container, tensor: int) -> bool:
    found = container.tensors[tensor]
    return found.data is None and not found.is_variable


@dataclass(frozen=True, slots=True)
class _Dense:
    """A dense layer in integers. `weights` (M, N); the others have one entry a row, or one for all. `wide`: activations
    have 16 bits."""

    source: int
    result: int
    shape: tuple[int, ...]
    weights: Int64Array
    bias: Int64Array
    input_zero_point: int
    output_zero_point: int
    significands: Int64Array
    shifts: Int64Array
    low: int
    high: int
    wide: bool

    def run(self, values: dict[int, Int8Array]) -> None:
        element = np.int16 if self.wide else np.int8
        given = values[self.source].reshape(-1).view(element).reshape(-1, self.weights.shape[1])
        sums = (given.astype(np.int64) - self.input_zero_point) @ self.weights.T + self.bias
        scaled = (requantised_wide if self.wide else requantised)(sums, self.significands, self.shifts)
        clamped = np.clip(scaled + self.output_zero_point, self.low, self.high)
        values[self.result] = clamped.astype(element).reshape(self.shape).view(np.int8)


def _dense(model: Model, op: Op, source: int, result: int) -> _Dense:
    given, weights, *rest = (None if index < 0 else model.tensors[index] for index in op.inputs)
    output = model.tensors[op.outputs[0]]
    assert given is not None
    assert weights is not None
    assert weights.data is not None
    bias = rest[0] if rest else None
    product = (
        [given.quant.scale * scale for scale in weights.quant.scales]
        if weights.quant.per_channel
        else [float(np.float32(given.quant.scale) * np.float32(weights.quant.scale))]  # TFLM: a product of floats
    )
    multipliers = [quantize_multiplier(scale / output.quant.scale) for scale in product]
    low, high = activation_range(op.params.activation, output.quant, 16 if given.dtype is DType.INT16 else 8)  # type: ignore[union-attr]
    return _Dense(
        source=source,
        result=result,
        shape=output.shape,
        weights=np.frombuffer(weights.data, np.int8).reshape(weights.shape).astype(np.int64),
        bias=np.array([0] if bias is None else np.frombuffer(bias.data or b"", bias.dtype.value), np.int64),
        input_zero_point=given.quant.zero_point,
        output_zero_point=output.quant.zero_point,
        significands=np.array([item.significand for item in multipliers], np.int64),
        shifts=np.array([item.shift for item in multipliers], np.int64),
        low=low,
        high=high,
        wide=given.dtype is DType.INT16,
    )


def requantised(sums: Int64Array, significands: Int64Array, shifts: Int64Array) -> Int64Array:
    """sums * significand / 2**31 * 2**shift in fixed point: doubling high product, then a shift, both rounding."""
    left, right = np.maximum(shifts, 0), np.maximum(-shifts, 0)
    high = ((sums << left) * significands + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return np.asarray((high >> right) + ((high & mask) > threshold), np.int64)


def requantised_wide(sums: Int64Array, significands: Int64Array, shifts: Int64Array) -> Int64Array:
    """The same for sums of 64 bits: a significand of 16 bits, and one rounding."""
    reduced = np.where(significands < 0x7FFF0000, (significands + (1 << 15)) >> 16, 0x7FFF)
    right = 15 - shifts
    return np.asarray((sums * reduced + (np.int64(1) << (right - 1))) >> right, np.int64)
