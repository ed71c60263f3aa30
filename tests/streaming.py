"""A streaming network: a window of the last inputs in a resource variable, as converters write it."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from munas.tflite.file import Code, Options, TfliteFile, concat_options


def streaming_network(steps: int = 3, width: int = 4) -> bytes:
    """y = the last `steps` inputs; the variable holds all but the newest, zeros at first."""
    file = TfliteFile()
    kept = steps - 1
    x = file.activation("x", (1, 1, width), 0.1)
    held = file.activation("held", (1, kept, width), 0.1)
    window = file.activation("window", (1, steps, width), 0.1)
    rest = file.activation("rest", (1, kept, width), 0.1)
    y = file.activation("y", (1, steps, width), 0.05)
    file.operator(Code.CONCATENATION, [held, x], window, concat_options(1))
    begin, size = (file.constant("part", np.array(values, "<i4")) for values in ([0, 1, 0], [1, -1, -1]))
    file.operator(Code.SLICE, [window, begin, size], rest, Options(48))
    file.operator(Code.RELU, [window], y)
    return _with_variable(file.finish([x], [y]), held, rest, (1, kept, width))


def _with_variable(data: bytes, held: int, rest: int, shape: tuple[int, ...]) -> bytes:
    """The file with `held` read from a variable that `rest` is assigned to."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(data, 0)
    graph, operators = model.subgraphs[0], schema.BuiltinOperator
    kinds = ("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
    codes = {name: _code(schema, model, getattr(operators, name)) for name in kinds}
    handle = _tensor(schema, graph, "handle", (), schema.TensorType.RESOURCE, 0)
    name = schema.VarHandleOptionsT()
    name.sharedName = "window"
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    start = [
        _operator(schema, codes["CALL_ONCE"], [], [], once, schema.BuiltinOptions.CallOnceOptions),
        _operator(schema, codes["VAR_HANDLE"], [], [handle], name, schema.BuiltinOptions.VarHandleOptions),
        _operator(schema, codes["READ_VARIABLE"], [handle], [held]),
    ]
    end = [_operator(schema, codes["ASSIGN_VARIABLE"], [handle, rest], [])]
    graph.operators = [*start, *graph.operators, *end]
    model.subgraphs.append(_initial(schema, model, codes, name, shape))
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _initial(schema: Any, model: Any, codes: dict[str, int], name: Any, shape: tuple[int, ...]) -> Any:
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.name = [], [], [], b"init"
    zeros = schema.BufferT()
    zeros.data = np.zeros(int(np.prod(shape)), np.uint8)
    model.buffers.append(zeros)
    handle = _tensor(schema, graph, "handle", (), schema.TensorType.RESOURCE, 0)
    value = _tensor(schema, graph, "zeros", shape, schema.TensorType.INT8, len(model.buffers) - 1)
    graph.operators = [
        _operator(schema, codes["VAR_HANDLE"], [], [handle], name, schema.BuiltinOptions.VarHandleOptions),
        _operator(schema, codes["ASSIGN_VARIABLE"], [handle, value], []),
    ]
    return graph


def _code(schema: Any, model: Any, code: int) -> int:
    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, 127, 1
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


def _tensor(schema: Any, graph: Any, name: str, shape: tuple[int, ...], element: int, buffer: int) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), element, buffer
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(
    schema: Any, code: int, inputs: list[int], outputs: list[int], options: Any = None, union: int = 0
) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptions, operator.builtinOptionsType = options, union
    return operator
