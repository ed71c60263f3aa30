"""Trained weights -> full-int8 .tflite through TensorFlow's converter, and what an int8 network gets wrong.

The network goes into the converter with batch norm folded, a static batch of one and its weights as constants, which
takes a fifth of a second where a Keras model takes several. Inputs and outputs are int8. `int8_logits` and `int8_error`
need LiteRT only; TensorFlow is imported when something is converted.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.arch.channels import Weights
from munas.arch.graph import Graph
from munas.data import Examples
from munas.errors import TrainingError
from munas.tflite.quantise import quantised
from munas.training.equalise import channel_ranges, equalised
from munas.training.parameters import Floats, fold_batch_norm

REPRESENTATIVE = 300
"""Training images that the ranges of activations are taken from."""

_BATCH = 50  # more is slower: the activations of a batch should stay in the processor's cache


def to_int8(graph: Graph, weights: Weights, representative: Floats, *, equalise: bool = True) -> bytes:
    """The full-int8 .tflite of a network; the same arguments give the same bytes.

    Channels are equalised first, which leaves the float function as it is (`munas.training.equalise`).
    `representative` are inputs (N, H, W, C) as the network takes them: scaled, not augmented. Dense layers of several
    units have a scale a unit, as TensorFlow has it since 2.17. Raises TrainingError for weights that are not
    finite, and where the converter refuses.
    """
    from munas.training.backend import no_warnings, tf
    from munas.training.network import infer

    if not all(np.isfinite(values).all() for layer in weights for values in layer.values()):
        raise TrainingError("the network has weights that are not finite")
    folded = fold_batch_norm(graph, weights)
    if equalise:
        folded = equalised(graph, folded, channel_ranges(graph, folded, representative))
    layers = [{name: tf.constant(values) for name, values in layer.items()} for layer in folded]
    signature = [tf.TensorSpec((1, *graph.input_shape), tf.float32, name="input")]
    function = tf.function(lambda x: infer(graph, layers, x), input_signature=signature, autograph=False)
    concrete = function.get_concrete_function()
    try:
        with no_warnings(), _silence():
            converted: bytes = _converter(tf, concrete, representative).convert()
    except Exception as error:  # the converter raises what it likes
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"TensorFlow's converter refuses the network: {reason}") from error
    return converted


def _converter(tf: Any, function: Any, representative: Floats) -> Any:
    """The converter of a concrete function to int8 all through."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([values[None]] for values in representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What is written to standard error, by C++ too, is dropped: the converter and LiteRT report what they do there."""
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def int8_logits(tflite: bytes, inputs: Floats, *, reference: bool = False) -> NDArray[np.int8]:
    """Int8 outputs (N, classes or 1) for scaled inputs (N, H, W, C), on one thread.

    `reference` takes the plain kernels that the device equals bit for bit, one input at a time; the optimised ones,
    which differ from them by a step at times, are an order of magnitude faster. Raises TrainingError when LiteRT
    refuses the model.
    """
    try:
        return _run(_interpreter(tflite, reference), inputs, 1 if reference else _BATCH)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"LiteRT refuses the network: {' '.join(str(error).split())[:300]}") from error


def _interpreter(tflite: bytes, reference: bool) -> Any:
    """On one thread, ready for an input of batch one."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    with _silence():  # LiteRT reports its delegate when it allocates for the first time
        interpreter = Interpreter(model_content=tflite, num_threads=1, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: Any, inputs: Floats, batch: int) -> NDArray[np.int8]:
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = source["quantization"]
    values = quantised(inputs, scale, zero_point)
    outputs = []
    for start in range(0, len(inputs), batch):
        part = values[start : start + batch]
        if start == 0 or len(part) != batch:
            interpreter.resize_tensor_input(source["index"], part.shape, strict=False)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], part)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"]))
    return np.concatenate(outputs)


def int8_error(
    tflite: bytes, part: Examples, scale: Sequence[float], offset: Sequence[float], *, reference: bool = False
) -> float:
    """Share (0..1) of a part of a data set that an int8 network gets wrong; `scale` and `offset` are the data set's."""
    inputs = scaled(part.inputs, scale, offset)
    return float(np.mean(classes(tflite, inputs, reference=reference) != part.labels))


def classes(tflite: bytes, inputs: Floats, *, reference: bool = False) -> NDArray[np.int64]:
    """The class (N,) that an int8 network gives each scaled input; of equal outputs the first."""
    outputs: NDArray[Any] = int8_logits(tflite, inputs, reference=reference)
    if outputs.shape[1] > 1:
        return np.asarray(np.argmax(outputs, axis=1), np.int64)
    return np.asarray(outputs[:, 0] > _zero_point(tflite), np.int64)


def _zero_point(tflite: bytes) -> int:
    """The output's int8 value that stands for a logit of zero."""
    return int(_interpreter(tflite, True).get_output_details()[0]["quantization"][1])


def scaled(inputs: NDArray[Any], scale: Sequence[float], offset: Sequence[float]) -> Floats:
    """Raw inputs (..., C) of a data set as a network sees them, float32."""
    return inputs.astype(np.float32) * np.asarray(scale, np.float32) + np.asarray(offset, np.float32)
