"""What TFLM's resolver calls an operator, and the registration of its int8-only kernel where TFLM has one."""

from __future__ import annotations

from collections.abc import Mapping

from hil.errors import ModelError
from hil.model.network import OpKind
from hil.runtimes.tflm.headers import Registry

PLANNED = frozenset(
    {
        OpKind.CONV_2D, OpKind.DEPTHWISE_CONV_2D, OpKind.FULLY_CONNECTED, OpKind.MAX_POOL_2D, OpKind.AVERAGE_POOL_2D,
        OpKind.ADD, OpKind.PAD, OpKind.SOFTMAX, OpKind.RESHAPE, OpKind.MEAN, OpKind.RELU, OpKind.RELU6,
        OpKind.CONCATENATION, OpKind.QUANTIZE,
    }
)  # fmt: skip
"""Operators whose share of the arena the forecast knows."""

# Registrations that need no other header than the resolver's, pad.h apart.
_INT8: Mapping[str, str] = {
    OpKind.CONV_2D: "CONV_2D_INT8",
    OpKind.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D_INT8",
    OpKind.FULLY_CONNECTED: "FULLY_CONNECTED_INT8",
    OpKind.MAX_POOL_2D: "MAX_POOL_2D_INT8",
    OpKind.AVERAGE_POOL_2D: "AVERAGE_POOL_2D_INT8",
    OpKind.ADD: "ADD_INT8",
    OpKind.PAD: "PAD_INT8",
    OpKind.SOFTMAX: "SOFTMAX_INT8",
}
_RECENT = frozenset({OpKind.PAD})  # not in TFLM of 2023: only used where the installed headers have them
_HEADERS: Mapping[str, str] = {OpKind.PAD: "tensorflow/lite/micro/kernels/pad.h"}
_ABBREVIATIONS = {"2d": "2D", "3d": "3D", "Lstm": "LSTM"}
# Methods that are not named as the schema's operator in camel case is.
_IRREGULAR: Mapping[str, str] = {"CUMSUM": "AddCumSum", "PADV2": "AddPadV2"}


def method_of(operator: str) -> str:
    """What the resolver calls the schema's `operator`, by rule: ``MAX_POOL_2D`` is ``AddMaxPool2D``."""
    words = (word[:1].upper() + word[1:].lower() for word in operator.split("_"))
    regular = "Add" + "".join(_ABBREVIATIONS.get(word, word) for word in words)
    return _IRREGULAR.get(operator, regular)


def is_narrow(kind: str) -> bool:
    """Whether TFLM has a kernel of the operator that is for int8 only."""
    return kind in _INT8


def call_of(kind: str, installed: Registry | None, *, wide: bool) -> tuple[str, str]:
    """Method of the resolver for the operator, and its argument, which may be empty.

    `installed` is what the installed headers have; None when TFLM is not looked at. `wide`: kernels have to take more
    types than int8. Raises ModelError for an operator that TFLM does not register.
    """
    registration = f"Register_{_INT8[kind]}" if kind in _INT8 and not wide else ""
    if installed is None:
        known = bool(registration) and kind not in _RECENT
        return method_of(kind), f"tflite::{registration}()" if known else ""
    if kind not in installed.adders:
        raise ModelError(f"TensorFlow Lite Micro as it is installed does not register {kind}; use --runtime cmsis-nn")
    known = registration in installed.registrations
    return installed.adders[kind], f"tflite::{registration}()" if known else ""


def header_of(kind: str, argument: str) -> str:
    """The header that the registration `argument` (see `call_of`) needs besides the resolver's; empty for none."""
    return _HEADERS.get(kind, "") if argument else ""
