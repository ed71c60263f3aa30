"""The work of a graph's operators, which a search estimates: those of `munas.arch.graph`, by `munas.cost.kernels`."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

from munas.cost.gathers import Window
from munas.cost.kernels import Work, add, conv, conv_scratch_bytes, dense, depthwise, pool

if TYPE_CHECKING:
    from munas.arch.graph import Operator


@lru_cache(maxsize=256)
def _window(kernel: tuple[int, int], stride: tuple[int, int]) -> Window:
    """A search has few windows and asks for them a thousand times a second."""
    return Window(kernel, stride)


def work_of(operator: Operator) -> Work:
    """Work of a graph's operator as it is deployed (no padding, dense layers quantised per channel)."""
    kind, out_shape = str(operator.kind), operator.out_shape
    if kind == "Dense":
        return dense(prod(operator.in_shapes[0]), prod(out_shape))
    if kind == "Add":
        return add(operator.in_shapes, out_shape)
    if kind == "Pool":
        if operator.pool is None or operator.pool_type is None:
            raise ValueError(f"pool {operator.name} has no window")
        return pool(operator.in_shapes[0], out_shape, _window(operator.pool, operator.pool), operator.pool_type)
    window = _window((operator.kernel, operator.kernel), (operator.stride, operator.stride))
    return (conv if kind == "Conv2D" else depthwise)(operator.in_shapes[0], out_shape, window)


def scratch_bytes(operator: Operator) -> int:
    """Scratch that the kernel of a graph's operator needs beside its tensors; what `problem_of` takes.

    That of `work_of` without the rest of it: a search and a calibration ask for it a thousand times a network.
    """
    channels = operator.in_shapes[0][-1]
    is_full = operator.kind == "Conv2D" or (operator.kind == "DWConv2D" and channels == 1)
    return conv_scratch_bytes(operator.kernel * operator.kernel * channels) if is_full else 0
