"""The core's tensors while operators are imported: renumbering, order of computation, totals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from hil.errors import ModelError
from hil.model.network import DType, OpKind, Quantization, Tensor
from hil.model.tflite import limits, schema
from hil.model.tflite.container import Container, RawOperator, RawTensor
from hil.model.tflite.integers import IntArray
from hil.model.tflite.quantisation import activation_quantization, constant_quantization

VARIABLE = (
    "is a variable, state that lives from one inference to the next; supported: those of an LSTM or SVDF, and resource "
    "variables"
)


class CoreTensors:
    """Gives operators their tensors, in file order; refuses what is read before it is written, or written twice.

    float32 tensors between a DEQUANTIZE and a QUANTIZE are held as the int8 that they were dequantised from, as long as
    operators only move them.
    """

    def __init__(self, container: Container, integers: dict[int, IntArray]) -> None:
        self._raw = list(container.tensors)
        self.restated: dict[int, tuple[int, ...]] = {}
        self._takes_constants = False
        self._integers = integers
        self._constant_bytes_left = 65536 + limits.CONSTANT_REUSE * container.size_bytes
        self._tensors: list[Tensor] = []
        self._index_of: dict[int, int] = {}
        self._floats: set[int] = set()
        self._unsigned: set[int] = set()
        self._stale: set[int] = set()
        self._owned: dict[int, tuple[int, bytes]] = {}
        self._work = 0

    def raw(self, operator: RawOperator, position: int) -> RawTensor:
        """Input `position` of an operator as the file states it. Raises ModelError when it is absent or unusable."""
        index = operator.inputs[position] if position < len(operator.inputs) else -1
        if index < 0:
            raise operator.refuse(f"input {position} is missing")
        return _plain(operator, self._raw[index], f"input {position}")

    def core(self, index: int) -> Tensor:
        """A tensor of the core by its index there."""
        return self._tensors[index]

    def has(self, operator: RawOperator, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(operator.inputs) and operator.inputs[position] >= 0

    def add_input(self, index: int, *, is_unsigned: bool = False) -> None:
        """Register an input of the core; one that is uint8 in the file is held less 128."""
        raw = self._raw[index]
        if raw.data is not None or index in self._index_of:
            raise ModelError("an input of the model is a constant, or is given twice")
        if len(raw.scales) != 1:
            raise ModelError("an int8 input of the model has no scale; only quantised networks are supported")
        self._check_shape(raw, f"input '{raw.name}' of the model")
        scale, zero_point = raw.scales[0], raw.zero_points[0] - (128 if is_unsigned else 0)
        if not limits.MIN_ACTIVATION_SCALE <= scale <= limits.MAX_ACTIVATION_SCALE or not -128 <= zero_point <= 127:
            raise ModelError(f"an input of the model has scale {scale:g} and zero point {zero_point}: not usable")
        if is_unsigned:
            self._unsigned.add(index)
        dtype = DType.INT16 if raw.type == schema.INT16 else DType.INT8
        if dtype is DType.INT16 and zero_point:
            raise ModelError(f"an input of the model is int16 with the zero point {zero_point}; supported: 0")
        self._append(index, dtype, Quantization(raw.scales, (zero_point,)), None)

    def source(self, operator: RawOperator, position: int = 0, *, allow_float: bool = False) -> Tensor:
        """Input `position` as an int8 activation that has been computed. Raises ModelError.

        `allow_float` takes a dequantised one as well, as the int8 that it was.
        """
        raw = self.raw(operator, position)
        index = operator.inputs[position]
        if raw.data is not None and not self._takes_constants:
            raise operator.refuse(
                f"input {position} is a constant; supported: activations; convert the model with batch size 1, so that "
                "the converter computes what follows from constants"
            )
        if raw.data is not None:
            return self.operand(operator, position)
        if not (allow_float and index in self._floats) and index not in self._unsigned:
            _expect_int8(operator, raw, f"input {position}")
        if index not in self._index_of:
            raise operator.refuse(f"input {position} has not been computed when the operator runs")
        if self._index_of[index] in self._stale:
            raise operator.refuse(
                f"input {position} is a variable that has been assigned by now, which is not supported"
            )
        return self._tensors[self._index_of[index]]

    def is_float(self, operator: RawOperator, position: int = 0) -> bool:
        """Whether input `position` is float32 in the file, and held as int8 here."""
        return operator.inputs[position] in self._floats

    def operand(self, operator: RawOperator, position: int) -> Tensor:
        """Input `position` as an int8 activation or a constant with one scale and zero point. Raises ModelError."""
        raw = self.raw(operator, position)
        if raw.data is None:
            return self.source(operator, position)
        _expect_int8(operator, raw, f"input {position}")
        self._check_shape(raw, f"input {position} of operator {operator.index} ({operator.name})")
        dtype = DType.INT16 if raw.type == schema.INT16 else DType.INT8
        return self._constant(operator, position, dtype, activation_quantization(raw, operator, f"input {position}"))

    def output(self, operator: RawOperator, position: int = 0) -> tuple[RawTensor, Quantization]:
        """Output `position` as an int8 activation not yet computed, with its quantisation. Raises ModelError."""
        raw = self._new_output(operator, position)
        if schema.DTYPES.get(raw.type) is DType.FLOAT32 and self._moves_float(operator):
            return raw, self._tensors[self._index_of[self._float_source(operator)]].quant
        _expect_int8(operator, raw, "its output")
        return raw, activation_quantization(raw, operator, "its output")

    def restate(self, operator: RawOperator, position: int, shape: tuple[int, ...]) -> bool:
        """Give an output whose dimensions are open the shape that LiteRT will give it; False where they are not."""
        index = operator.outputs[position]
        if self._raw[index].is_open:
            self._raw[index] = replace(self._raw[index], shape=shape)
            self.restated[index] = shape
        return self._raw[index].is_open

    def float_output(self, operator: RawOperator, position: int = 0) -> RawTensor:
        """Output `position` as a float32 tensor not yet computed. Raises ModelError."""
        raw = self._new_output(operator, position)
        if schema.DTYPES.get(raw.type) is not DType.FLOAT32:
            raise operator.refuse(f"its output is {schema.type_name(raw.type)}; supported: float32")
        return raw

    def add_output(self, operator: RawOperator, position: int, source: Tensor | None) -> int:
        """Register output `position` of an operator that has been checked; returns its index in the core.

        `source` is given for a float32 output, which has its quantisation.
        """
        index = operator.outputs[position]
        if source is not None:
            self._floats.add(index)
            return self._append(index, source.dtype, source.quant, None)
        raw, quantization = self.output(operator, position)
        return self._append(index, DType.INT16 if raw.type == schema.INT16 else DType.INT8, quantization, None)

    @contextmanager
    def of_constants(self) -> Iterator[None]:
        """Inside, constants are taken where activations are wanted."""
        self._takes_constants = True
        try:
            yield
        finally:
            self._takes_constants = False

    def set_constant(self, operator: RawOperator, position: int, data: bytes) -> None:
        """Take output `position`, which has been checked, for a constant."""
        index = operator.outputs[position]
        self._raw[index] = replace(self._raw[index], data=memoryview(data))

    def add_state(self, raw: RawTensor, quantization: Quantization, dtype: DType = DType.INT8) -> int:
        """Register a tensor that lives from one inference to the next; returns its index in the core."""
        number = len(self._tensors)
        self._tensors.append(Tensor(number, raw.shape, dtype, quantization, None, raw.name))
        return number

    def own_state(self, operator: RawOperator, position: int, dtype: DType, elements: int) -> Tensor:
        """Input `position` as a variable tensor of this operator alone. Of 16 bits it has no zero point.

        Raises ModelError.
        """
        index = operator.inputs[position] if position < len(operator.inputs) else -1
        raw = self._raw[index] if index >= 0 else None
        if raw is None or not raw.is_variable or raw.objection or raw.data is not None:
            raise operator.refuse(f"input {position} has to be a variable tensor")
        if schema.DTYPES.get(raw.type) is not dtype or raw.elements != elements:
            raise operator.refuse(
                f"its state is {schema.type_name(raw.type)} of {raw.elements} elements; needed: {dtype} of {elements}"
            )
        if index in self._owned or index in self._index_of:
            raise operator.refuse("its state belongs to another operator as well, which is not supported")
        self._check_shape(raw, f"the state of operator {operator.index} ({operator.name})")
        quantization = activation_quantization(raw, operator, "its state")
        if dtype is DType.INT16 and quantization.zero_point:
            raise operator.refuse(f"its state has the zero point {quantization.zero_point}; supported: 0")
        number = self.add_state(raw, quantization, dtype)
        width = dtype.size_bytes
        self._owned[index] = number, (quantization.zero_point & 0xFF).to_bytes(1, "little") * (width * elements)
        return self._tensors[number]

    @property
    def owned_states(self) -> tuple[tuple[int, bytes], ...]:
        """(tensor of the core, what it holds at first) of states that belong to one operator: the real zero."""
        return tuple(self._owned.values())

    def is_owned(self, index: int) -> bool:
        """Whether a tensor of the file is such a state."""
        return index in self._owned

    def intermediate(self, operator: RawOperator, position: int) -> Quantization:
        """The quantisation that an operator's intermediate tensor states. Raises ModelError."""
        raw = self._raw[operator.intermediates[position]]
        return activation_quantization(
            _plain(operator, raw, "an intermediate tensor"), operator, "its intermediate tensor"
        )

    def name_state(self, index: int, state: int) -> None:
        """Take a tensor of the file for a state."""
        self._index_of[index] = state

    def retire_state(self, state: int) -> None:
        """Refuse reading of a state from now on: it has been assigned."""
        self._stale.add(state)

    def is_stale(self, index: int) -> bool:
        """Whether a tensor of the core is a state that has been assigned."""
        return index in self._stale

    def alias(self, operator: RawOperator, source: Tensor) -> None:
        """Take the operator's float32 output for the int8 tensor that it dequantises."""
        self.float_output(operator)
        self._index_of[operator.outputs[0]] = source.index
        self._floats.add(operator.outputs[0])

    def weights(self, operator: RawOperator, axis: int, rank: int, position: int = 1, least: float = 0.0) -> Tensor:
        """Input `position` as int8 weights with data, quantised per tensor or along `axis`. Raises ModelError.

        Scales below `least` are refused.
        """
        raw = self.raw(operator, position)
        if raw.type not in (schema.INT8, schema.INT4):
            raise operator.refuse(f"its weights are {schema.type_name(raw.type)}; supported: int8, int4")
        if raw.data is None or len(raw.shape) != rank or min(raw.shape) < 1:
            raise operator.refuse(f"its weights have to be a constant of {rank} dimensions")
        return self._constant(
            operator, position, DType.INT8, constant_quantization(raw, operator, "its weights", axis, least)
        )

    def wide_weights(self, operator: RawOperator, position: int, rank: int) -> Tensor:
        """Input `position` as int16 weights with data and one scale. Raises ModelError."""
        raw = self.raw(operator, position)
        if raw.type != schema.INT16 or raw.data is None or len(raw.shape) != rank or min(raw.shape) < 1:
            raise operator.refuse(f"input {position} has to be a constant of int16 with {rank} dimensions")
        quantization = constant_quantization(raw, operator, "its weights", 0)
        if quantization.per_channel:
            raise operator.refuse("its weights in time have several scales; supported: one")
        return self._constant(operator, position, DType.INT16, quantization)

    def bias(self, operator: RawOperator, channels: int, position: int = 2) -> Tensor | None:
        """Input `position` as int32 bias of (channels,), None when absent. Raises ModelError.

        With activations of 16 bits it has 64.
        """
        if not self.has(operator, position):
            return None
        raw = self.raw(operator, position)
        dtype = DType.INT64 if self.is_wide(operator) else DType.INT32
        if schema.BIASES.get(raw.type) is not dtype:
            raise operator.refuse(f"its bias is {schema.type_name(raw.type)}; supported: {dtype}")
        if raw.data is None or raw.elements != channels or not raw.shape:
            raise operator.refuse(f"its bias has shape {list(raw.shape)}; needed: a constant of {channels} elements")
        if len(raw.scales) not in (1, channels):
            raise operator.refuse(f"its bias has {len(raw.scales)} scales; supported: 1 or {channels}")
        # The axis of a bias is not looked at by anybody, and old converters wrote that of the weights.
        flat = RawTensor(raw.name, (channels,), raw.type, raw.data, raw.scales, raw.zero_points, 0)
        quantization = constant_quantization(flat, operator, "its bias", 0, -math.inf)  # LiteRT does not look at it
        return self._constant(operator, position, dtype, quantization)

    def check_widths(self, operator: RawOperator) -> None:
        """Refuse an operator that may have int16 where its tensors are of several widths, or have zero points then."""
        if operator.kind not in schema.WIDE_KINDS or not operator.inputs or not operator.outputs:
            return
        has_weights = operator.kind in (OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D, OpKind.FULLY_CONNECTED)
        inputs = operator.inputs[:1] if has_weights else operator.inputs
        raws = [self._raw[index] for index in (*inputs, *operator.outputs) if index >= 0]
        raws = [raw for raw in raws if raw.type in (schema.INT8, schema.INT16)]  # others are shapes, axes and the like
        types = [raw.type for raw in raws]
        if schema.INT16 not in types or operator.kind is OpKind.QUANTIZE:
            return
        to_16 = operator.kind is OpKind.SOFTMAX and types == [schema.INT8, schema.INT16]
        if set(types) != {schema.INT16} and not to_16:
            raise operator.refuse("one of its tensors is int16, another is not, which is not supported")
        if not to_16 and operator.kind is not OpKind.RESHAPE and any(any(raw.zero_points) for raw in raws):
            raise operator.refuse("a tensor of int16 has a zero point other than 0")

    def is_wide(self, operator: RawOperator) -> bool:
        """Whether the operator makes int16."""
        return bool(operator.outputs) and self._raw[operator.outputs[0]].type == schema.INT16

    def derived(
        self, shape: tuple[int, ...], quantization: Quantization, data: bytes, name: str, dtype: DType = DType.INT8
    ) -> Tensor:
        """Register a constant that the importer has made of others."""
        tensor = Tensor(len(self._tensors), shape, dtype, quantization, data, name)
        self._tensors.append(tensor)
        return tensor

    def between(self, shape: tuple[int, ...], quantization: Quantization, name: str) -> Tensor:
        """Register an int8 activation that the file does not have, between operators that the importer makes."""
        tensor = Tensor(len(self._tensors), shape, DType.INT8, quantization, None, name)
        self._tensors.append(tensor)
        return tensor

    def integers(self, operator: RawOperator, position: int, limit: int) -> tuple[int, ...]:
        """Input `position` as constant int32 or int64 values, at most `limit` of them. Raises ModelError."""
        return tuple(self.integer_array(operator, position, limit).reshape(-1).tolist())

    def integer_array(self, operator: RawOperator, position: int, limit: int) -> IntArray:
        """Input `position` as a constant int32 or int64 array of at most `limit` elements. Raises ModelError."""
        self.raw(operator, position)
        found = self._integers.get(operator.inputs[position])
        if found is None:
            raise operator.refuse(
                f"input {position} has to be a constant of integers; where it follows from an open dimension, convert "
                "the model with batch size 1"
            )
        if found.size > limit:
            raise operator.refuse(f"input {position} has {found.size} integers; at most {limit} are supported")
        return found

    def count_work(self, operator: RawOperator, amount: int) -> None:
        """Add multiply-accumulates or moved elements to the total. Raises ModelError when it is beyond all use."""
        self._work += amount
        if self._work > limits.MAX_WORK:
            raise operator.refuse(f"the network needs over {limits.MAX_WORK:,} operations; too many for any Cortex-M")

    def activation(self, index: int) -> int | None:
        """Core index of a tensor of the file that has been registered."""
        return self._index_of.get(index)

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

    def _new_output(self, operator: RawOperator, position: int) -> RawTensor:
        if position >= len(operator.outputs):
            raise operator.refuse(f"it has {len(operator.outputs)} outputs")
        index = operator.outputs[position]
        raw = _plain(operator, self._raw[index], "its output")
        if raw.data is not None or index in self._index_of:
            raise operator.refuse("its output is a constant, an input, or computed twice")
        self._check_shape(raw, f"the output of operator {operator.index} ({operator.name})")
        return raw

    def _float_source(self, operator: RawOperator) -> int:
        return next((index for index in operator.inputs if index in self._floats), -1)

    def _moves_float(self, operator: RawOperator) -> bool:
        return self._float_source(operator) >= 0

    def _check_shape(self, raw: RawTensor, what: str) -> None:
        if min(raw.shape, default=1) < 1:
            raise ModelError(f"{what} has shape {list(raw.shape)}; supported: dimensions of 1 or more")
        if math.prod(raw.shape) > limits.MAX_ACTIVATION_BYTES:
            raise ModelError(f"{what} has shape {list(raw.shape)}, which is too large")

    def _constant(self, operator: RawOperator, position: int, dtype: DType, quantization: Quantization) -> Tensor:
        """The constant at an input, registered once however many operators read it."""
        index = operator.inputs[position]
        raw = self._raw[index]
        assert raw.data is not None
        data = _expanded(raw) if raw.type == schema.INT4 else bytes(raw.data)
        self._constant_bytes_left -= len(raw.data)
        if self._constant_bytes_left < 0:  # many tensors may share one buffer, and each is copied and summed up
            raise operator.refuse("the same bytes of the file are used as weights over and over")
        if index not in self._index_of:
            self._append(index, dtype, quantization, data)
        tensor = self._tensors[self._index_of[index]]
        if (tensor.dtype, tensor.quantization) != (dtype, quantization):
            raise operator.refuse(f"input {position} is used by another operator in another way")
        return tensor

    def _append(self, index: int, dtype: DType, quantization: Quantization, data: bytes | None) -> int:
        raw, number = self._raw[index], len(self._tensors)
        shape = (raw.elements,) if dtype in (DType.INT32, DType.INT64) else raw.shape
        self._tensors.append(Tensor(number, shape, dtype, quantization, data, raw.name))
        self._index_of[index] = number
        return number


def _plain(operator: RawOperator, raw: RawTensor, what: str) -> RawTensor:
    if raw.objection:
        raise operator.refuse(f"{what} ('{raw.name}') {raw.objection}")
    if raw.is_variable:
        raise operator.refuse(f"{what} ('{raw.name}') {VARIABLE}")
    return raw


def _expect_int8(operator: RawOperator, raw: RawTensor, what: str) -> None:
    """Refuse other types, but for int16 where the operator may have it."""
    if schema.DTYPES.get(raw.type) is DType.INT8 or (raw.type == schema.INT16 and operator.kind in schema.WIDE_KINDS):
        return
    advice = schema.TYPE_ADVICE.get(raw.type, "only int8 activations are supported")
    raise operator.refuse(f"{what} is {schema.type_name(raw.type)}; {advice}")


def _expanded(raw: RawTensor) -> bytes:
    """int4 weights, two a byte with the first one in the lower half, as int8."""
    assert raw.data is not None
    packed = np.frombuffer(raw.data, np.uint8)
    halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[: raw.elements].astype(np.int8)
    return bytes((halves - ((halves & 8) << 1)).astype(np.int8).tobytes())
