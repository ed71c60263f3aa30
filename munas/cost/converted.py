"""The graph as TensorFlow's converter leaves it, which is what the device runs."""

from __future__ import annotations

from dataclasses import replace

from munas.arch.graph import INPUT, Graph, Kind, Operator


def as_converted(graph: Graph) -> Graph:
    """A deployed graph with equal pools merged, such as the pre-pools of branches that read the same input.

    The converter computes a common subexpression once; only pools, which have no weights, can be one. The graph itself
    where there is nothing to merge.
    """
    pools = [(op.inputs, op.pool, op.pool_type) for op in graph.operators if op.kind is Kind.POOL]
    if len(set(pools)) == len(pools):  # the search asks a thousand times a second
        return graph
    seen: dict[tuple[object, ...], int] = {}
    index_of = {INPUT: INPUT}
    operators: list[Operator] = []
    for index, operator in enumerate(graph.operators):
        inputs = tuple(index_of[producer] for producer in operator.inputs)
        if operator.kind is Kind.POOL:
            key = (inputs, operator.pool, operator.pool_type)
            if key in seen:
                index_of[index] = seen[key]
                continue
            seen[key] = len(operators)
        index_of[index] = len(operators)
        operators.append(operator if inputs == operator.inputs else replace(operator, inputs=inputs))
    return graph if len(operators) == len(graph.operators) else replace(graph, operators=tuple(operators))
