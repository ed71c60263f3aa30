"""Part of a .tflite as a .tflite of its own: some of its operators, between tensors of one's choice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import flatbuffers

from hil.model.network import DType, Model, OpKind
from hil.model.tflite.container import RawOperator, read_container

_MEMORY_PLAN = b"OfflineMemoryAllocation"


def extract(data: bytes, operators: Collection[int], inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    """The operators with these numbers, in the file's order, and the tensors that they use; all numbers are the file's.

    `data` has to have been imported before (hil.model.load.parse_model). Signatures and metadata, which may hold
    a memory plan made for the whole file, are left out.
    """
    from ai_edge_litert import schema_py_generated as schema  # slow to import, and few files need it

    file: Any = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = file.subgraphs[0]
    graph.operators = [operator for index, operator in enumerate(graph.operators) if index in operators]
    if not any(read.index in operators and read.kind is OpKind.CALL_ONCE for read in read_container(data).operators):
        file.subgraphs = [graph]
    used = {*inputs, *outputs}
    for operator in graph.operators:
        lent = () if operator.intermediates is None else operator.intermediates
        used |= {int(index) for index in (*operator.inputs, *operator.outputs, *lent) if index >= 0}
    kept = sorted(used)
    number = {old: new for new, old in enumerate(kept)}
    graph.tensors = [graph.tensors[old] for old in kept]
    for operator in graph.operators:
        operator.inputs = [number.get(int(index), -1) for index in operator.inputs]
        operator.outputs = [number[int(index)] for index in operator.outputs]
        if operator.intermediates is not None:
            operator.intermediates = [number[int(index)] for index in operator.intermediates]
    graph.inputs, graph.outputs = ([number[index] for index in ports] for ports in (inputs, outputs))
    file.signatureDefs = file.metadata = None
    builder = flatbuffers.Builder(len(data) + 1024)
    builder.Finish(file.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def core_of(data: bytes, model: Model) -> bytes:
    """The int8 core of `data`, from which `model` was imported: itself when its inputs and outputs are int8.

    QUANTIZE and DEQUANTIZE between the core and float32 or uint8 inputs and outputs are the application's business on
    a microcontroller, and both runtimes are compared without them.
    """
    edges = (*model.edges.inputs, *model.edges.outputs)
    if all(edge.dtype is DType.INT8 for edge in edges) and _MEMORY_PLAN not in data:
        return data
    inputs, outputs = ([edge.core_tensor for edge in side] for side in (model.edges.inputs, model.edges.outputs))
    return extract(data, _inside(data, inputs, outputs), inputs, outputs)


def _inside(data: bytes, inputs: Sequence[int], outputs: Sequence[int]) -> set[int]:
    """Operators that `outputs` depend on, up to `inputs`."""
    container = read_container(data)
    operators = container.operators
    if container.others:  # states are written for nobody's output
        edges = {operator.index for operator in operators if _is_edge(operator, inputs, outputs)}
        return {operator.index for operator in operators} - edges
    makers = {tensor: operator for operator in operators for tensor in operator.outputs}
    found, wanted = set[int](), list(outputs)
    while wanted:
        tensor = wanted.pop()
        maker = makers.get(tensor)
        if tensor not in inputs and maker is not None and maker.index not in found:
            found.add(maker.index)
            wanted += maker.inputs
    return found


def _is_edge(operator: RawOperator, inputs: Sequence[int], outputs: Sequence[int]) -> bool:
    """Whether it makes an input of the core, or reads an output of it, in another type."""
    converts = operator.kind in (OpKind.QUANTIZE, OpKind.DEQUANTIZE)
    return converts and (operator.outputs[0] in inputs or operator.inputs[0] in outputs)
