"""The core's tensors while operators are imported: renumbering, order of computation, totals."""

from __future__ import annotations

import math

from hil.errors import ModelError
from hil.model.network import DType, Quantization, Tensor
from hil.model.tflite import limits, schema
from hil.model.tflite.container import Container, RawOperator, RawTensor
from hil.model.tflite.quantisation import activation_quantization, constant_quantization


class CoreTensors:
    """Gives operators their tensors, in file order; refuses what is read before it is written, or written twice."""

    def __init__(self, container: Container) -> None:
        self._raw = container.tensors
        self._constant_bytes_left = 65536 + limits.CONSTANT_REUSE * container.size_bytes
        self._tensors: list[Tensor] = []
        self._index_of: dict[int, int] = {}
        self._work = 0

    def raw(self, operator: RawOperator, position: int) -> RawTensor:
        """Input `position` of an operator as the file states it. Raises ModelError when it is absent."""
        index = operator.inputs[position] if position < len(operator.inputs) else -1
        if index < 0:
            raise operator.refuse(f"input {position} is missing")
        return self._raw[index]

    def add_input(self, index: int) -> None:
        """Register an input of the core."""
        raw = self._raw[index]
        if raw.data is not None or index in self._index_of:
            raise ModelError("an input of the model is a constant, or is given twice")
        if len(raw.scales) != 1:
            raise ModelError("an int8 input of the model has no scale; only quantised networks are supported")
        self._check_shape(raw, "an input of the model")
        scale, zero_point = raw.scales[0], raw.zero_points[0]
        if not limits.MIN_ACTIVATION_SCALE <= scale <= limits.MAX_ACTIVATION_SCALE or not -128 <= zero_point <= 127:
            raise ModelError(f"an input of the model has scale {scale:g} and zero point {zero_point}: not usable")
        self._append(index, DType.INT8, Quantization(raw.scales, raw.zero_points), None)

    def source(self, operator: RawOperator, position: int = 0) -> Tensor:
        """Input `position` as an int8 activation that has been computed. Raises ModelError."""
        raw = self.raw(operator, position)
        index = operator.inputs[position]
        if schema.DTYPES.get(raw.type) is not DType.INT8:
            raise operator.refuse(
                f"input {position} is {schema.type_name(raw.type)}; only int8 networks are supported: "
                "quantise the model with full-integer quantisation"
            )
        if raw.data is not None:
            raise operator.refuse(f"input {position} is a constant; supported: activations")
        if index not in self._index_of:
            raise operator.refuse(f"input {position} has not been computed when the operator runs")
        return self._tensors[self._index_of[index]]

    def output(self, operator: RawOperator) -> tuple[RawTensor, Quantization]:
        """The output as an int8 activation not yet computed, with its quantisation. Raises ModelError."""
        index = operator.outputs[0]
        raw = self._raw[index]
        if schema.DTYPES.get(raw.type) is not DType.INT8:
            raise operator.refuse(f"its output is {schema.type_name(raw.type)}; supported: int8")
        if raw.data is not None or index in self._index_of:
            raise operator.refuse("its output is a constant, an input, or computed twice")
        self._check_shape(raw, f"the output of operator {operator.index} ({operator.kind})")
        return raw, activation_quantization(raw, operator, "its output")

    def add_output(self, operator: RawOperator) -> int:
        """Register the output of an operator that has been checked; returns its index in the core."""
        _, quantization = self.output(operator)
        return self._append(operator.outputs[0], DType.INT8, quantization, None)

    def weights(self, operator: RawOperator, axis: int, rank: int) -> Tensor:
        """Input 1 as int8 weights with data, quantised per tensor or along `axis`. Raises ModelError."""
        raw = self.raw(operator, 1)
        if schema.DTYPES.get(raw.type) is not DType.INT8:
            raise operator.refuse(f"its weights are {schema.type_name(raw.type)}; supported: int8")
        if raw.data is None or len(raw.shape) != rank or min(raw.shape) < 1:
            raise operator.refuse(f"its weights have to be a constant of {rank} dimensions")
        if max(raw.shape) > limits.MAX_DIMENSION:
            raise operator.refuse(f"its weights have a dimension over {limits.MAX_DIMENSION}")
        return self._constant(operator, 1, DType.INT8, constant_quantization(raw, operator, "its weights", axis))

    def bias(self, operator: RawOperator, channels: int) -> Tensor | None:
        """Input 2 as int32 bias of (channels,), None when absent. Raises ModelError."""
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return None
        raw = self.raw(operator, 2)
        if schema.DTYPES.get(raw.type) is not DType.INT32:
            raise operator.refuse(f"its bias is {schema.type_name(raw.type)}; supported: int32")
        if raw.data is None or raw.elements != channels or not raw.shape:
            raise operator.refuse(f"its bias has shape {list(raw.shape)}; needed: a constant of {channels} elements")
        if len(raw.scales) not in (1, channels):
            raise operator.refuse(f"its bias has {len(raw.scales)} scales; supported: 1 or {channels}")
        # The axis of a bias is not looked at by anybody, and old converters wrote that of the weights.
        flat = RawTensor(raw.name, (channels,), raw.type, raw.data, raw.scales, raw.zero_points, 0)
        # A dead channel has weights of the smallest scale that there is; times the input's it is 0, or not normal.
        quantization = constant_quantization(flat, operator, "its bias", 0, least=0.0)
        return self._constant(operator, 2, DType.INT32, quantization)

    def integers(self, operator: RawOperator, position: int, limit: int) -> tuple[int, ...]:
        """Input `position` as constant int32 or int64 values, at most `limit` of them. Raises ModelError."""
        raw = self.raw(operator, position)
        width = {2: 4, schema.INT64: 8}.get(raw.type)
        if width is None or raw.data is None or raw.elements > limit:
            raise operator.refuse(f"input {position} has to be a constant of at most {limit} integers")
        data = bytes(raw.data)
        return tuple(int.from_bytes(data[at : at + width], "little", signed=True) for at in range(0, len(data), width))

    def count_work(self, operator: RawOperator, amount: int) -> None:
        """Add multiply-accumulates or moved elements to the total. Raises ModelError when it is beyond all use."""
        self._work += amount
        if self._work > limits.MAX_WORK:
            raise operator.refuse(f"the network needs over {limits.MAX_WORK:,} operations; too many for any Cortex-M")

    def activation(self, index: int) -> int:
        """Core index of a tensor of the file that has been registered."""
        return self._index_of[index]

    def check_totals(self) -> None:
        """Refuse networks whose activations together are beyond all use."""
        total = sum(tensor.size_bytes for tensor in self._tensors if tensor.data is None)
        if total > limits.MAX_TOTAL_ACTIVATION_BYTES:
            raise ModelError(
                f"the activations take {total} bytes in all; supported: {limits.MAX_TOTAL_ACTIVATION_BYTES}"
            )

    def finished(self) -> tuple[Tensor, ...]:
        """All tensors of the core."""
        return tuple(self._tensors)

    def _check_shape(self, raw: RawTensor, what: str) -> None:
        shape = raw.shape
        if not 1 <= len(shape) <= limits.MAX_RANK or shape[0] != 1 or min(shape) < 1:
            raise ModelError(f"{what} has shape {list(shape)}; supported: 1 to {limits.MAX_RANK} dimensions, batch 1")
        if max(shape) > limits.MAX_DIMENSION or math.prod(shape) > limits.MAX_ACTIVATION_BYTES:
            raise ModelError(f"{what} has shape {list(shape)}, which is too large")

    def _constant(self, operator: RawOperator, position: int, dtype: DType, quantization: Quantization) -> Tensor:
        """The constant at an input, registered once however many operators read it."""
        index = operator.inputs[position]
        data = self._raw[index].data
        assert data is not None
        self._constant_bytes_left -= len(data)
        if self._constant_bytes_left < 0:  # many tensors may share one buffer, and each is copied and summed up
            raise operator.refuse("the same bytes of the file are used as weights over and over")
        if index not in self._index_of:
            self._append(index, dtype, quantization, bytes(data))
        tensor = self._tensors[self._index_of[index]]
        if (tensor.dtype, tensor.quantization) != (dtype, quantization):
            raise operator.refuse(f"input {position} is used by another operator in another way")
        return tensor

    def _append(self, index: int, dtype: DType, quantization: Quantization, data: bytes | None) -> int:
        raw, number = self._raw[index], len(self._tensors)
        shape = (raw.elements,) if dtype is DType.INT32 else raw.shape
        self._tensors.append(Tensor(number, shape, dtype, quantization, data, raw.name))
        self._index_of[index] = number
        return number
