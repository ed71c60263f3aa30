"""The fields of a layer's table, as all kinds of layers fill them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hil.codegen.fold import Node
from hil.codegen.layer import Arena, Layer, Value
from hil.errors import ModelError
from hil.model import quantise
from hil.model.network import Activation
from munas.cost.kernels import Work
from munas.cost.variants import SPECS

Fields = dict[str, Value]


def layer_of(work: Work, fields: Mapping[str, Value], **more: object) -> Layer:
    """The layer that runs the kernel of `work` on a table of `fields`."""
    spec = SPECS[work.variant]
    return Layer(spec.function, spec.struct, tuple(fields.items()), **more)  # type: ignore[arg-type]


def bounded(what: str, value: int, limit: int) -> int:
    """`value`. Raises ModelError when it does not fit a field whose largest value is `limit`."""
    if not 0 <= value <= limit:
        raise ModelError(f"{what} of {value} is beyond the kernels' limit of {limit}")
    return value


def pair(name: str, what: str, values: Sequence[int], limit: int) -> Fields:
    """A height and a width as two bounded fields."""
    return {f"{name}_{axis}": bounded(what, value, limit) for axis, value in zip("hw", values, strict=True)}


def quantised(node: Node, activation: Activation) -> Fields:
    """Zero point and activation range of a layer's output."""
    low, high = quantise.activation_range(activation, node.result.quant)
    return {"output_zero_point": node.result.quant.zero_point, "act_min": low, "act_max": high}


def multiplier(prefix: str, value: quantise.Multiplier) -> Fields:
    """A fixed-point multiplier as two fields."""
    return {f"{prefix}significand": value.significand, f"{prefix}shift": value.shift}


def source(node: Node, position: int = 0) -> Arena:
    """Where input `position` lies."""
    return Arena(node.inputs[position], node.offsets[position])


def in_place(node: Node) -> tuple[int, ...]:
    """Inputs whose memory the output may take over: those that are all of a storage of the output's size."""
    rows = zip(node.inputs, node.tensors, node.whole, strict=True)
    return tuple(
        dict.fromkeys(item for item, tensor, whole in rows if whole and tensor.size_bytes == node.result.size_bytes)
    )


def prefixed(prefix: str, fields: Mapping[str, Value]) -> Fields:
    """The fields of a struct within a struct."""
    return {f"{prefix}.{name}": value for name, value in fields.items()}
