"""Layouts: nothing that is live overlaps, the arena is as small as the peak wherever it can be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from munas.arch.footprint import problem_of
from munas.arch.graph import Kind, Operator, build_graph
from munas.arch.space import random_cnn
from munas.memory.layout import Layout, place, plan_memory
from munas.memory.peak import best_schedule
from munas.memory.problem import Problem, Step, order_peak

DATA_SETS = (((28, 28, 1), 10), ((32, 32, 3), 10), ((49, 40, 1), 12), ((48, 48, 3), 62), ((64, 64, 3), 10))


@st.composite
def problems(draw: st.DrawFn, max_steps: int = 9) -> Problem:
    sizes, steps = [draw(st.integers(0, 9))], list[Step]()
    for _ in range(draw(st.integers(1, max_steps))):
        reads = draw(st.lists(st.integers(max(0, len(sizes) - 4), len(sizes) - 1), min_size=1, max_size=2))
        size = sizes[reads[0]] if draw(st.booleans()) else draw(st.integers(0, 9))
        in_place = tuple(tensor for tensor in dict.fromkeys(reads) if sizes[tensor] >= size and draw(st.booleans()))
        steps.append(Step(tuple(reads), len(sizes), draw(st.sampled_from((0, 0, 2, 5))), in_place))
        sizes.append(size)
    outputs = {len(sizes) - 1, draw(st.integers(1, len(sizes) - 1))}
    return Problem(tuple(sizes), tuple(steps), (0,), tuple(outputs))


def lives(problem: Problem, order: tuple[int, ...]) -> dict[int, tuple[int, int]]:
    """First and last moment of each tensor, the i-th step being moment i."""
    end = len(order)
    born = dict.fromkeys(problem.inputs, -1) | {problem.steps[i].output: t for t, i in enumerate(order)}
    read = {tensor: t for t, index in enumerate(order) for tensor in problem.steps[index].inputs}
    return {t: (moment, end if t in problem.outputs else max(moment, read.get(t, -1))) for t, moment in born.items()}


def check(problem: Problem, order: tuple[int, ...], layout: Layout) -> None:
    """All that makes a layout safe, from the definition."""
    life = lives(problem, order)
    assert set(layout.offsets) == set(life)
    assert set(layout.scratch_offsets) == {i for i, step in enumerate(problem.steps) if step.scratch}
    position = {index: moment for moment, index in enumerate(order)}
    for index, source in layout.taken_over.items():
        output = problem.steps[index].output
        assert source in problem.steps[index].in_place
        assert source not in problem.outputs
        assert life[source][1] == position[index]
        assert problem.sizes[output] <= problem.sizes[source]
        assert layout.offsets[output] == layout.offsets[source]
    pairs_in_place = {(source, problem.steps[index].output) for index, source in layout.taken_over.items()}
    for moment in range(-1, len(order) + 1):
        live = [tensor for tensor, (born, dead) in life.items() if born <= moment <= dead]
        blocks = [(layout.offsets[t], layout.offsets[t] + problem.sizes[t], t) for t in live]
        if 0 <= moment < len(order) and order[moment] in layout.scratch_offsets:
            start = layout.scratch_offsets[order[moment]]
            blocks.append((start, start + problem.steps[order[moment]].scratch, -1))
        for (start, stop, tensor), (other_start, other_stop, other) in itertools.combinations(blocks, 2):
            if start == stop or other_start == other_stop:
                continue
            if not {(tensor, other), (other, tensor)} & pairs_in_place:
                assert stop <= other_start or other_stop <= start
        assert all(0 <= start <= stop <= layout.arena for start, stop, _ in blocks)
    assert layout.lower_bound == order_peak(problem, order) <= layout.arena


def smallest_arena(problem: Problem, order: tuple[int, ...]) -> int:
    """Over all ways to take buffers over, and all orders of placing buffers at the lowest free offset."""
    life = lives(problem, order)
    options: list[list[tuple[int, int | None]]] = []
    for moment, index in enumerate(order):
        step = problem.steps[index]
        usable = [t for t in step.in_place if life[t][1] == moment and t not in problem.outputs]
        options.append([(step.output, None), *((step.output, t) for t in dict.fromkeys(usable))])
    best = 10**9
    for choice in itertools.product(*options):
        root: dict[int, int] = {}
        spans: dict[int, tuple[int, int, int]] = {}
        for tensor in sorted(life, key=lambda t: life[t]):
            source = dict(choice).get(tensor)
            root[tensor] = tensor if source is None else root[source]
            born, dead = life[tensor]
            if root[tensor] == tensor:
                spans[tensor] = (born, dead, problem.sizes[tensor])
            else:
                spans[root[tensor]] = (spans[root[tensor]][0], dead, spans[root[tensor]][2])
        blocks = list(spans.values())
        blocks += [(t, t, problem.steps[i].scratch) for t, i in enumerate(order) if problem.steps[i].scratch]
        best = min(best, *(arena_of(placing) for placing in itertools.permutations(blocks)))
    return best


def arena_of(blocks: tuple[tuple[int, int, int], ...]) -> int:
    placed: list[tuple[int, int, int, int]] = []
    for born, dead, size in blocks:
        taken = sorted((low, high) for b, d, low, high in placed if b <= dead and born <= d)
        offset = 0
        for low, high in taken:
            if low - offset >= size:
                break
            offset = max(offset, high)
        placed.append((born, dead, offset, offset + size))
    return max(high for *_, high in placed)


@settings(max_examples=250, deadline=None)
@given(problems())
def test_layouts_are_safe(problem: Problem) -> None:
    schedule, layout = plan_memory(problem)
    check(problem, schedule.order, layout)
    assert order_peak(problem, schedule.order) == schedule.peak == best_schedule(problem).peak


@settings(max_examples=60, deadline=None)
@given(problems(max_steps=3))
def test_the_arena_is_tight_exactly_where_a_tight_layout_exists(problem: Problem) -> None:
    order = best_schedule(problem).order
    layout = place(problem, order)
    smallest = smallest_arena(problem, order)
    assert layout.arena >= smallest
    assert (layout.arena == layout.lower_bound) == (smallest == layout.lower_bound)


def problem_of_reads(sizes: tuple[int, ...], *reads: tuple[int, ...]) -> Problem:
    """Step i reads `reads[i]` and produces tensor i + 1; the last one is the output."""
    steps = tuple(Step(inputs, index + 1) for index, inputs in enumerate(reads))
    return Problem(sizes, steps, (0,), (len(reads),))


def test_search_finds_what_first_fit_misses() -> None:
    problem = problem_of_reads((6, 8, 6, 8, 5, 7), (0,), (0, 1), (2,), (0,), (2, 4))
    order = (0, 1, 2, 3, 4)
    layout = place(problem, order)
    check(problem, order, layout)
    assert layout.arena == layout.lower_bound == smallest_arena(problem, order) == 20


def test_smallest_arena_where_no_tight_layout_exists() -> None:
    problem = problem_of_reads((8, 8, 6, 1, 4, 9, 7), (0,), (0,), (0, 2), (2,), (3, 4), (5,))
    order = (0, 1, 2, 3, 4, 5)
    layout = place(problem, order)
    check(problem, order, layout)
    assert layout.lower_bound == 16
    assert layout.arena == smallest_arena(problem, order)


def test_another_optimal_order_is_taken_where_the_first_has_no_tight_layout() -> None:
    reads = ((0,), (0, 1), (0,), (1,), (0,), (3,), (3,), (3,))
    problem = problem_of_reads((3, 5, 5, 1, 5, 7, 6, 8, 4), *reads)
    first = (4, 0, 1, 2, 3, 5, 6, 7)
    assert order_peak(problem, first) == best_schedule(problem).peak == 13
    assert place(problem, first).arena == 14
    schedule, layout = plan_memory(problem)
    check(problem, schedule.order, layout)
    assert layout.arena == schedule.peak == 13


def test_taking_over_a_smaller_buffer_is_refused() -> None:
    problem = Problem((4, 2, 8), (Step((0,), 1), Step((1,), 2, in_place=(1,))), (0,), (2,))
    with pytest.raises(ValueError, match="smaller"):
        place(problem, (0, 1))


def scratch_bytes(op: Operator) -> int:
    """im2col buffers of the size that CMSIS-NN wants."""
    if op.kind is Kind.CONV:
        return 4 * op.kernel * op.kernel * op.in_shapes[0][-1]
    return 2 * op.kernel * op.kernel * op.out_shape[-1] if op.kind is Kind.DEPTHWISE else 0


def tight_share(count: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    tight = 0
    for index in range(count):
        graph = build_graph(random_cnn(rng), *DATA_SETS[index % len(DATA_SETS)])
        problem = problem_of(graph, count_input=True, align=4, scratch=scratch_bytes)
        schedule, layout = plan_memory(problem)
        check(problem, schedule.order, layout)
        assert all(offset % 4 == 0 for offset in (*layout.offsets.values(), *layout.scratch_offsets.values()))
        tight += layout.arena == schedule.peak
    return tight / count


def test_random_networks_have_tight_layouts() -> None:
    assert tight_share(150, seed=1) == 1


@pytest.mark.slow
def test_a_thousand_random_networks_have_tight_layouts() -> None:
    assert tight_share(1000, seed=2) >= 0.999
