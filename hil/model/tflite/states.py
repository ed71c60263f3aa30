"""Resource variables: the state of a streaming model, which lives from one inference to the next.

A model names its variables with VAR_HANDLE, reads them, and assigns what the next inference shall read. CALL_ONCE runs
another subgraph, which assigns their initial values, before the first inference.
"""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import ModelError
from hil.model.network import ConcatParams, Op, OpKind
from hil.model.tflite import schema
from hil.model.tflite.container import Container, RawOperator, RawTensor, Subgraph
from hil.model.tflite.tensors import CoreTensors

STATE_KINDS = (OpKind.CALL_ONCE, OpKind.VAR_HANDLE, OpKind.READ_VARIABLE, OpKind.ASSIGN_VARIABLE)


@dataclass(frozen=True, slots=True)
class Variables:
    """Names of variables by the tensor of their handle, and their initial values by name."""

    names: dict[int, str]
    initial: dict[str, bytes]


def read_variables(container: Container) -> Variables:
    """The variables of a file. Raises ModelError for initial values that have to be computed."""
    main = Subgraph(container.tensors, container.operators)
    initial: dict[str, bytes] = {}
    for operator in container.operators:
        if operator.kind is OpKind.CALL_ONCE:
            number = operator.options.int32(0) if operator.options is not None else 0
            if not 1 <= number < 1 + len(container.others):
                raise operator.refuse(f"subgraph {number} does not exist")
            initial |= _initial_values(container.others[number - 1])
    return Variables(_names(main), initial)


def _names(graph: Subgraph) -> dict[int, str]:
    names = {}
    for operator in graph.operators:
        if operator.kind is OpKind.VAR_HANDLE and len(operator.outputs) == 1:
            if operator.options is None:
                raise operator.refuse("it has no name")
            container, shared = (operator.options.text(slot, 256) for slot in (0, 1))
            names[operator.outputs[0]] = f"{container}/{shared}"
    return names


def _initial_values(graph: Subgraph) -> dict[str, bytes]:
    names, values = _names(graph), {}
    for operator in graph.operators:
        if operator.kind is OpKind.VAR_HANDLE:
            continue
        if operator.kind is not OpKind.ASSIGN_VARIABLE or len(operator.inputs) != 2:
            raise operator.refuse("the initial values of variables have to be constants")
        handle, value = operator.inputs
        raw = graph.tensors[value] if value >= 0 else None
        if handle not in names or raw is None or raw.data is None or raw.objection or raw.type != schema.INT8:
            raise operator.refuse("the initial values of variables have to be int8 constants")
        values[names[handle]] = bytes(raw.data)
    return values


class States:
    """Imports what operators do with variables; each variable is one tensor of the core."""

    def __init__(self, container: Container, tensors: CoreTensors) -> None:
        self._raw = container.tensors
        self._tensors = tensors
        self._variables = read_variables(container)
        self._tensor_of: dict[str, int] = {}
        self._assigned: set[str] = set()

    def import_operator(self, operator: RawOperator) -> Op | None:
        """ASSIGN_VARIABLE as a copy; the others are no work. Raises ModelError."""
        match operator.kind:
            case OpKind.READ_VARIABLE:
                self._read(operator)
            case OpKind.ASSIGN_VARIABLE:
                return self._assign(operator)
        return None

    def finished(self) -> tuple[tuple[int, bytes], ...]:
        """(tensor, initial value) of each variable in use. Raises ModelError for one that has none."""
        found = []
        for name, index in self._tensor_of.items():
            initial, tensor = self._variables.initial.get(name), self._tensors.core(index)
            if initial is None or len(initial) != tensor.size_bytes:
                raise ModelError(f"variable '{name[:64]}' has no initial value of {tensor.size_bytes} bytes")
            found.append((index, initial))
        return tuple(found)

    def _name(self, operator: RawOperator, inputs: int, outputs: int) -> str:
        if len(operator.inputs) != inputs or len(operator.outputs) != outputs:
            raise operator.refuse(f"it needs {inputs} inputs and {outputs} outputs")
        name = self._variables.names.get(operator.inputs[0])
        if name is None:
            raise operator.refuse("its variable has no handle")
        return name

    def _read(self, operator: RawOperator) -> None:
        name = self._name(operator, 1, 1)
        if name in self._assigned:
            raise operator.refuse("it reads a variable behind its assignment, which is not supported")
        raw, quantization = self._tensors.output(operator)
        if name not in self._tensor_of:
            self._tensor_of[name] = self._tensors.add_state(raw, quantization)
        self._check(operator, name, raw)
        self._tensors.name_state(operator.outputs[0], self._tensor_of[name])

    def _assign(self, operator: RawOperator) -> Op:
        name = self._name(operator, 2, 0)
        if name in self._assigned:
            raise operator.refuse("it assigns a variable twice")
        value = self._tensors.source(operator, 1)
        raw = self._raw[operator.inputs[1]]
        if name not in self._tensor_of:
            self._tensor_of[name] = self._tensors.add_state(raw, value.quant)
        self._check(operator, name, raw)
        self._assigned.add(name)
        state = self._tensor_of[name]
        if self._tensors.is_stale(value.index):
            raise operator.refuse("it assigns what another variable held before it was assigned")
        self._tensors.retire_state(state)
        self._tensors.count_work(operator, value.elements)
        return Op(operator.index, OpKind.ASSIGN_VARIABLE, (value.index,), (state,), ConcatParams(0))

    def _check(self, operator: RawOperator, name: str, raw: RawTensor) -> None:
        state = self._tensors.core(self._tensor_of[name])
        same = (state.quant.scale, state.quant.zero_point) == (raw.scales[0], raw.zero_points[0])
        if state.elements != raw.elements or not same:
            raise operator.refuse(f"variable '{name[:64]}' has another size, scale or zero point elsewhere")
