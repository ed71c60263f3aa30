"""What no network of the space can do without, on one data set and board: bounds below this cannot be met.

Every figure is a proven lower bound for all networks, pruned ones too, and is found on its own: no network need have
them all. Every network has a first layer, which reads the input, and dense layers at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from munas.arch.graph import Graph, Kind, Operator, build_graph
from munas.arch.space import (
    KERNEL_SIZES,
    AnyArchitecture,
    Architecture,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
)
from munas.cost.calibration import Latency
from munas.cost.estimate import table_bytes, weights_bytes
from munas.cost.kernels import Work, align, dense
from munas.cost.operators import work_of
from munas.cost.optimise import Optimise, specialised
from munas.cost.resources import Assessor, Resources

_MAX_STEPS = 100
"""More than any network has: 10 blocks of 3 layers with pre-pools, 10 extra 1x1 layers, 10 merges, a tail."""

_WIDTHS = (1, 2, 4)
"""Kernels take one, two or four channels together, and two may cost more than four; more channels cost more."""

_ROUNDING = 1e-12
"""Sums in another order differ by less than this part."""

_FAN_INS = (1, 2, 3, 4)
"""Likewise for products that are summed four at a time."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The operators of a first layer and their works."""

    operators: tuple[Operator, ...]
    works: tuple[Work, ...]


def floor(assessor: Assessor, *, mlp: bool = False) -> Resources:
    """Lower bounds on every figure of all CNNs (of all MLPs with `mlp`) that the assessor is for.

    They hold in both modes: the paper's graph rounds pooling up, so that it is never smaller than the deployed one.
    Raises ArchitectureError for an input that no network can have.
    """
    memory, calibration = assessor.memory, assessor.calibration
    graphs = [build_graph(smallest, assessor.input_shape, assessor.num_classes) for smallest in _smallest(mlp)]
    heads = [_head(graph, mlp, assessor.optimise) for graph in graphs]
    logits = graphs[0].output_shape[0]
    tail = specialised([dense(1, logits)] if mlp else [dense(1, 1), dense(1, logits)], assessor.optimise)
    fixed = weights_bytes(tail) + table_bytes(tail)
    weights = [weights_bytes(head.works) + table_bytes(head.works) + fixed for head in heads]
    code = [memory.code([tail[-1].variant, *(work.variant for work in head.works)]) for head in heads]
    latency = None
    if calibration is not None:
        latency = _latency(calibration.latency, heads, logits, mlp, assessor.optimise)
    return Resources(
        macs=min(sum(op.macs for op in head.operators) for head in heads) + sum(work.macs for work in tail),
        model_size=min(sum(op.weight_bytes for op in head.operators) for head in heads)
        + sum(work.macs + work.rows for work in tail),
        peak_memory=max(logits, min(head.operators[0].out_elements for head in heads)),
        ram=memory.least_ram(min(map(_arena, heads))),
        flash=min(map(sum, zip(weights, code, strict=True))),
        flash_weights=min(weights),
        latency=latency,
        latency_low=latency,
        latency_high=latency,
        unit="" if calibration is None else calibration.latency.unit,
    )


def _smallest(mlp: bool) -> Iterator[AnyArchitecture]:
    """One network for each first layer that there is, with the fewest channels."""
    if mlp:
        yield from (MlpArchitecture((units,)) for units in _WIDTHS)
        return
    kinds = [(LayerType.POINTWISE, 1, 1)]
    kinds += [(kind, k, s) for kind in (LayerType.CONV, LayerType.DEPTHWISE) for k in KERNEL_SIZES for s in (1, 2)]
    for (kind, kernel, stride), filters, pre_pool in itertools.product(kinds, _WIDTHS, (False, True)):
        layer = Layer(kind, kernel, 0 if kind is LayerType.DEPTHWISE else filters, stride, pre_pool=pre_pool)
        yield Architecture((Block((layer,)),), None, (DenseLayer(1),))


def _head(graph: Graph, mlp: bool, optimise: Optimise) -> _Head:
    operators = graph.operators[:1] if mlp else tuple(op for op in graph.operators if op.kind is not Kind.DENSE)
    return _Head(operators, specialised([work_of(operator) for operator in operators], optimise))


def _arena(head: _Head) -> int:
    """Arena while the first operator runs: the input is there, and what it writes."""
    first = head.operators[0]
    tensors = (*map(prod, first.in_shapes), first.out_elements)
    return sum(map(align, tensors)) + align(head.works[0].scratch_bytes)


def _latency(latency: Latency, heads: Sequence[_Head], logits: int, mlp: bool, optimise: Optimise) -> float:
    """Time of the fastest first layer and of dense layers with the fewest inputs; other steps take no time."""

    def layer(inputs: int, outputs: int) -> float:
        (work,) = specialised([dense(inputs, outputs)], optimise)
        return latency.layer(work)

    tail = min(layer(inputs, logits) for inputs in _FAN_INS)
    if not mlp:
        tail += min(layer(inputs, units) for inputs in _FAN_INS for units in _WIDTHS)
    first = min(sum(map(latency.layer, head.works)) for head in heads)
    # A fit may find that steps save time.
    steps = 3 - mlp if latency.per_step >= 0 else _MAX_STEPS
    return max(0.0, (latency.fixed + latency.per_step * steps + first + tail) * (1 - _ROUNDING))
