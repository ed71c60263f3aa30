"""TFLM's own build for x86, the Python package `tflite-micro` (extra [tflm]): the judge of operators that LiteRT
computes otherwise and reference.py does not. Its kernels are TFLM's portable ones, which CMSIS-NN's equal."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from hil.errors import ModelError
from hil.model.network import OpKind
from hil.model.reference import Int8Array
from hil.runtimes.tflm.network import Network

OTHERWISE = frozenset({OpKind.UNIDIRECTIONAL_SEQUENCE_LSTM})
"""Operators that TFLM computes otherwise than LiteRT. Their sums and functions are rounded in other places."""
_ARENA_SHARE = 4  # of ours on a microcontroller: pointers are twice as long, kernels keep more
_ARENA_LEAST = 1 << 20


def is_judge_of(network: Network) -> bool:
    """Whether the network has to be held against the package, and it is installed."""
    is_wanted = any(operator.kind in OTHERWISE for operator in network.container.operators)
    return is_wanted and importlib.util.find_spec("tflite_micro") is not None


class PackageReference:
    """One network in the package."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, inputs: Sequence[Int8Array]) -> list[Int8Array]:
        """Outputs for inputs of the network's sizes; states begin anew. Raises ModelError where TFLM refuses it."""
        from tflite_micro import runtime  # an extra

        network = self._network
        size = _ARENA_LEAST + _ARENA_SHARE * network.arena_bytes
        try:
            interpreter: Any = runtime.Interpreter.from_bytes(network.flatbuffer, arena_size=size)
            for index, values in enumerate(inputs):
                wanted = interpreter.get_input_details(index)
                shaped = values.reshape(-1).view(wanted["dtype"]).reshape(wanted["shape"])
                interpreter.set_input(shaped, index)
            interpreter.invoke()
            found = [interpreter.get_output(index) for index in range(len(network.outputs))]
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"TFLM's own build for x86 does not run it: {error}", network.model_name) from error
        return [np.array(values).reshape(-1).view(np.int8) for values in found]
