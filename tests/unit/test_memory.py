"""Peak memory: exact against brute force on random graphs, fast on random networks of the search space."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from munas.arch.footprint import peak_memory, problem_of
from munas.arch.graph import build_graph
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType, random_cnn
from munas.memory import peak
from munas.memory.peak import best_schedule
from munas.memory.problem import Problem, Step, order_peak

DATA_SETS = (((28, 28, 1), 10), ((32, 32, 3), 10), ((49, 40, 1), 12), ((48, 48, 3), 62), ((64, 64, 3), 10))


def topological_orders(problem: Problem) -> Iterator[tuple[int, ...]]:
    def extend(order: tuple[int, ...], available: frozenset[int]) -> Iterator[tuple[int, ...]]:
        if len(order) == len(problem.steps):
            yield order
        for index, step in enumerate(problem.steps):
            if index not in order and available.issuperset(step.inputs):
                yield from extend((*order, index), available | {step.output})

    yield from extend((), frozenset(problem.inputs))


def least_peak_over_sets(problem: Problem) -> int:
    """Smallest peak by way of all sets of steps that can have run: exact as well, and good for a dozen steps."""
    count = len(problem.steps)
    producer = {step.output: index for index, step in enumerate(problem.steps)}
    readers = [sum(1 << index for index in indices) for indices in problem.consumers()]
    best = {0: sum(problem.sizes[tensor] for tensor in problem.inputs)}
    for done in range(1 << count):
        if done not in best:
            continue
        there = [t for t in (*problem.inputs, *producer) if t not in producer or done >> producer[t] & 1]
        used = sum(problem.sizes[t] for t in there if t in problem.outputs or readers[t] & ~done)
        for index, step in enumerate(problem.steps):
            after = done | 1 << index
            if after == done or not set(step.inputs) <= set(there):
                continue
            in_place = any(t not in problem.outputs and not readers[t] & ~after for t in step.in_place)
            peak = max(best[done], used + step.scratch + (0 if in_place else problem.sizes[step.output]))
            best[after] = min(peak, best.get(after, peak))
    return best[(1 << count) - 1]


def simulated_peak(problem: Problem, order: tuple[int, ...]) -> int:
    """The peak by the definition of it, written without regard to speed and independent of `walk`."""
    peak = sum(problem.sizes[tensor] for tensor in problem.inputs)
    for time_, index in enumerate(order):
        step = problem.steps[index]
        later = [problem.steps[other] for other in order[time_ + 1 :]]
        needed_later = {tensor for other in later for tensor in other.inputs} | set(problem.outputs)
        present = set(problem.inputs) | {problem.steps[other].output for other in order[:time_]}
        live = present & (needed_later | set(step.inputs))
        in_place = any(tensor not in needed_later for tensor in step.in_place)
        used = sum(problem.sizes[tensor] for tensor in live) + step.scratch
        peak = max(peak, used + (0 if in_place else problem.sizes[step.output]))
    return peak


@st.composite
def problems(draw: st.DrawFn, max_steps: int = 7, spread: int = 12) -> Problem:
    """Random DAGs: several inputs and outputs, unread tensors, scratch, in-place candidates of equal size."""
    inputs = draw(st.integers(1, 2))
    sizes = [draw(st.integers(0, spread)) for _ in range(inputs)]
    steps = []
    for _ in range(draw(st.integers(1, max_steps))):
        available = range(len(sizes))
        reads = draw(st.lists(st.sampled_from(available), min_size=1, max_size=3))
        size = sizes[reads[0]] if draw(st.booleans()) else draw(st.integers(0, spread))
        candidates = [tensor for tensor in dict.fromkeys(reads) if sizes[tensor] == size]
        in_place = tuple(tensor for tensor in candidates if draw(st.booleans()))
        scratch = draw(st.sampled_from((0, 0, 0, 1, 5)))
        steps.append(Step(tuple(reads), len(sizes), scratch, in_place))
        sizes.append(size)
    produced = range(inputs, len(sizes))
    outputs = draw(st.lists(st.sampled_from(produced), min_size=1, max_size=2, unique=True))
    return Problem(tuple(sizes), tuple(draw(st.permutations(steps))), tuple(range(inputs)), tuple(outputs))


@st.composite
def fork_joins(draw: st.DrawFn) -> Problem:
    """What the search space is made of: chains beside each other that share an input and are added up, twice."""
    sizes, steps = [draw(st.integers(0, 20))], list[Step]()
    source = 0
    for _ in range(draw(st.integers(1, 2))):
        ends = []
        joined = draw(st.integers(1, 6))
        for _ in range(draw(st.integers(1, 4))):
            if len(steps) > 8:
                break
            tensor = source
            length = draw(st.integers(1, 3))
            for place in range(length):
                steps.append(Step((tensor,), len(sizes), draw(st.sampled_from((0, 0, 3)))))
                sizes.append(joined - draw(st.integers(0, 1)) if place == length - 1 else draw(st.integers(1, 30)))
                tensor = len(sizes) - 1
            ends.append(tensor)
        for number, other in enumerate(ends[1:], 1):
            terms = (ends[0] if number == 1 else len(sizes) - 1, other)
            steps.append(Step(terms, len(sizes), 0, tuple(term for term in terms if sizes[term] == joined)))
            sizes.append(joined)
        source = len(sizes) - 1
    return Problem(tuple(sizes), tuple(steps), (0,), (source,))


class TestExactness:
    @pytest.fixture(autouse=True, params=["whole", "cut", "plain"])
    def _parts(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """All that makes it fast; the cut from the first state on; the search alone."""
        if request.param != "whole":
            monkeypatch.setattr(peak, "_as_given", lambda problem: None)
            monkeypatch.setattr(peak, "_STATES_BEFORE_CUT", 1 if request.param == "cut" else 10**9)

    @staticmethod
    def check(problem: Problem, peak: int) -> None:
        schedule = best_schedule(problem)
        assert schedule.exact
        assert schedule.peak == peak
        assert simulated_peak(problem, schedule.order) == order_peak(problem, schedule.order) == peak

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(problems())
    def test_equals_brute_force_over_all_orders(self, problem: Problem) -> None:
        self.check(problem, min(simulated_peak(problem, order) for order in topological_orders(problem)))

    @pytest.mark.slow
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(problems(max_steps=12))
    def test_equals_least_peak_over_sets_of_steps(self, problem: Problem) -> None:
        self.check(problem, least_peak_over_sets(problem))

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(fork_joins())
    def test_equals_least_peak_over_sets_of_steps_for_branches(self, problem: Problem) -> None:
        self.check(problem, least_peak_over_sets(problem))


class TestBehaviour:
    def test_order_matters(self) -> None:
        # Branches of 10 and 100 bytes that shrink to 1 and 8: the narrow one first leaves 1 byte beside the wide one.
        steps = (Step((0,), 1), Step((0,), 2), Step((2,), 3), Step((1,), 4), Step((3, 4), 5))
        problem = Problem((5, 10, 100, 8, 1, 1), steps, (0,), (5,))
        assert order_peak(problem, (0, 1, 2, 3, 4)) == 5 + 10 + 100 + 8 - 5
        assert best_schedule(problem).peak == 1 + 100 + 8

    def test_in_place_output_is_free_only_for_the_last_reader(self) -> None:
        add = Step((1, 2), 3, in_place=(1,))
        steps = (Step((0,), 1), Step((0,), 2), add, Step((1, 3), 4))
        assert best_schedule(Problem((0, 8, 2, 8, 1), steps, (0,), (4,))).peak == 8 + 2 + 8
        assert best_schedule(Problem((0, 8, 2, 8, 1), (*steps[:3], Step((3,), 4)), (0,), (4,))).peak == 8 + 2

    def test_a_network_output_is_never_taken_over(self) -> None:
        steps = (Step((0,), 1), Step((1,), 2, in_place=(1,)))
        assert best_schedule(Problem((0, 8, 8), steps, (0,), (1, 2))).peak == 16

    def test_scratch_counts_while_its_step_runs(self) -> None:
        steps = (Step((0,), 1, scratch=50), Step((1,), 2))
        assert best_schedule(Problem((10, 10, 30), steps, (0,), (2,))).peak == 70

    def test_unread_input_counts_before_the_first_step(self) -> None:
        assert best_schedule(Problem((10, 90, 20), (Step((0,), 2),), (0, 1), (2,))).peak == 100
        assert best_schedule(Problem((10, 90, 200), (Step((0,), 2),), (0, 1), (2,))).peak == 210

    def test_gives_up_with_a_valid_order(self) -> None:
        problem = problem_of(build_graph(random_cnn(np.random.default_rng(10)), (32, 32, 3), 10), count_input=True)
        schedule = best_schedule(problem, max_trials=1)
        assert not schedule.exact
        assert schedule.peak == order_peak(problem, schedule.order) >= best_schedule(problem).peak

    def test_long_chains_of_additions_need_no_recursion(self) -> None:
        steps = tuple(Step((index, max(0, index - 1)), index + 1, in_place=(index,)) for index in range(2000))
        assert best_schedule(Problem((4,) * 2001, steps, (0,), (2000,))).peak == 12

    def test_cycle(self) -> None:
        with pytest.raises(ValueError, match="cycle"):
            best_schedule(Problem((1, 1, 1), (Step((0, 2), 1), Step((1,), 2)), (0,), (2,)))


class TestProblem:
    @pytest.mark.parametrize(
        ("steps", "inputs", "outputs", "message"),
        [
            ((Step((5,), 1),), (0,), (1,), "tensor 5 is read but never produced"),
            ((Step((0,), 1),), (0,), (2,), "tensor 2 is read but never produced"),
            ((Step((0,), 1), Step((0,), 1)), (0,), (1,), "exists already"),
            ((Step((0,), 0),), (0,), (0,), "exists already"),
            ((Step((0,), 3),), (0,), (3,), "no size"),
            ((Step((0,), 1, in_place=(2,)),), (0,), (1,), "does not read"),
            ((Step((0,), 1, scratch=-1),), (0,), (1,), "negative"),
            ((Step((0,), 1),), (0, 0), (1,), "twice"),
        ],
    )
    def test_inconsistent(
        self, steps: tuple[Step, ...], inputs: tuple[int, ...], outputs: tuple[int, ...], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Problem((4, 4, 4), steps, inputs, outputs)

    @pytest.mark.parametrize("order", [(0,), (0, 0), (1, 0), (0, 1, 2)])
    def test_invalid_order(self, order: tuple[int, ...]) -> None:
        problem = Problem((1, 1, 1), (Step((0,), 1), Step((1,), 2)), (0,), (2,))
        with pytest.raises(ValueError, match=r"order|before"):
            order_peak(problem, order)


class TestProblemOfGraph:
    def test_alignment_and_scratch(self) -> None:
        graph = build_graph(random_cnn(np.random.default_rng(3)), (29, 31, 3), 10)
        problem = problem_of(graph, count_input=True, align=8, scratch=lambda op: op.kernel + 1)
        assert all(size % 8 == 0 for size in problem.sizes)
        assert problem.sizes[0] == 2704
        assert {step.scratch for step in problem.steps} == {8}
        assert len(problem.steps) == len(graph.operators)

    def test_the_input_is_live_once_in_deployed_mode_and_once_a_reader_in_paper_mode(self) -> None:
        # Two branches beside the main block, so that three operators read the input.
        block = Block((Layer(LayerType.POINTWISE, filters=2),))
        branch = Block(block.layers, is_branch=True)
        architecture = Architecture((block, branch, branch), None, (DenseLayer(10),))
        graphs = [build_graph(architecture, (10, 10, 5), 10, mode) for mode in ("deployed", "paper")]
        # In deployed mode the first two are added before the third one runs.
        assert [peak_memory(graph, count_input=True) for graph in graphs] == [500 + 2 * 200, 3 * 500 + 200]
        assert [peak_memory(graph) for graph in graphs] == [2 * 200, 3 * 200]


def solve_times(count: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    times = []
    for index in range(count):
        graph = build_graph(random_cnn(rng), *DATA_SETS[index % len(DATA_SETS)])
        for count_input in (False, True):
            start = time.process_time()
            schedule = best_schedule(problem_of(graph, count_input=count_input))
            times.append(time.process_time() - start)
            assert schedule.exact
    return times


def check_times(times: list[float]) -> None:
    assert np.percentile(times, 99) < 0.020
    assert max(times) < 1


def test_random_networks_are_solved_in_milliseconds() -> None:
    check_times(solve_times(500, seed=1))


@pytest.mark.slow
def test_ten_thousand_random_networks_are_solved_in_milliseconds() -> None:
    check_times(solve_times(10_000, seed=2))
