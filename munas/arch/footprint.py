"""Activation memory of an operator graph: its schedule problem, its smallest peak, and what describes a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from munas.arch.graph import Graph, Operator, operator_notation
from munas.memory.peak import best_schedule
from munas.memory.problem import Problem, Step, order_peak


def problem_of(
    graph: Graph, *, count_input: bool = False, align: int = 1, scratch: Callable[[Operator], int] | None = None
) -> Problem:
    """The scheduling problem of a graph: tensor 0 is the network's input, tensor i + 1 the output of operator i.

    One byte an element, rounded up to `align`; `scratch` gives an operator's scratch bytes, rounded up likewise.
    Without `count_input` the input takes no memory. In paper mode each operator that reads the input has a copy
    of its own, live from the start to that operator, because the authors' figures count it so (tensors n + 1...).
    """
    input_bytes = _round_up(math.prod(graph.input_shape), align) if count_input else 0
    sizes = [input_bytes, *[_round_up(op.out_elements, align) for op in graph.operators]]
    steps, inputs = [], [0]
    input_is_read = False
    for index, op in enumerate(graph.operators):
        reads_input = op.inputs[0] < 0 or min(op.inputs) < 0
        copy = 0
        if reads_input and input_is_read and graph.mode == "paper":
            copy = len(sizes)
            sizes.append(input_bytes)
            inputs.append(copy)
        input_is_read |= reads_input
        steps.append(
            Step(
                tuple([copy if producer < 0 else producer + 1 for producer in op.inputs]),
                index + 1,
                0 if scratch is None else _round_up(scratch(op), align),
                tuple([copy if producer < 0 else producer + 1 for producer in op.in_place_inputs]),
            )
        )
    return Problem(tuple(sizes), tuple(steps), tuple(inputs), (len(graph.operators),))


def _round_up(size: int, align: int) -> int:
    return -(-size // align) * align


def peak_memory(graph: Graph, count_input: bool = False) -> int:
    """Smallest possible peak of activation memory in bytes, at one byte an element."""
    return best_schedule(problem_of(graph, count_input=count_input)).peak


def describe(graph: Graph) -> dict[str, Any]:
    """What `munas-hil graph --json` prints of a network.

    `order` names the operators in an order whose peak is `peak_memory`; its peak with the input counted is
    `peak_memory_with_input` wherever the best order for the one was found to be best for the other.
    """
    without, counted = problem_of(graph), problem_of(graph, count_input=True)
    best, best_counted = best_schedule(without), best_schedule(counted)
    serves_both = order_peak(without, best_counted.order) == best.peak
    order = best_counted.order if serves_both else best.order
    return {
        "macs": graph.macs,
        "model_size": graph.model_size,
        "peak_memory": best.peak,
        "peak_memory_with_input": best_counted.peak,
        "order": [graph.operators[index].name for index in order],
        "operators": [operator_notation(graph, op) for op in graph.operators],
    }
