"""Peak activation memory over all operator orders, solved exactly.

The µNAS authors recurse over sets of live tensors (arXiv 1910.05110) and can take seconds on a network with many
branches. Here a state is the set of moves made so far, as a bit mask, and the search is best-first on the peak.

The live bytes are a submodular function of that set: a move never adds more to a larger set than to a smaller one. So a
move that raises neither the peak nor the live bytes can be made at once, without trying any other: it makes whatever
follows no worse. States that every order passes through split the search into independent parts.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from munas.moves import LowerBound, bits, collapse
from munas.problem import Problem, Schedule, Step, order_peak

if TYPE_CHECKING:
    from munas.graph import Graph, Operator

__all__ = ["Problem", "Schedule", "Step", "best_schedule", "order_peak", "peak_memory", "problem_of"]

MAX_TRIALS = 1_000_000
"""Moves tried before a schedule is completed greedily: seconds. µNAS networks need 300,000 at the very most."""

_STATES_BEFORE_BOUND = 40
"""The lower bound costs more than it saves on the many problems that are solved after a few states."""

_MOVES_WITH_BOUND = 128
"""The bound is cubic in the moves. µNAS networks have at most 60 of them."""

_GREEDY_CHOICES = 64


def best_schedule(problem: Problem, max_trials: int = MAX_TRIALS) -> Schedule:
    """An order with the smallest possible peak, over all topological orders.

    The peak is the maximum over the steps of live bytes + output (nothing if taken over in place) + scratch. Past
    `max_trials` tried moves the order is the best one at hand and `exact` is False. Raises ValueError for a cycle.
    """
    return _Search(problem, max_trials).run()


class _State(NamedTuple):
    """A set of moves made; ordered by what the search should look at first."""

    peak: int
    to_do: int
    live_bytes: int
    done: int
    ready: int
    live: int
    """Mask of the moves whose output is live."""
    before: int
    """The set of moves that this state was reached from."""
    move: int
    bounded: bool
    """Whether `peak` includes the lower bound on what is to come."""


class _Search:
    def __init__(self, problem: Problem, max_trials: int) -> None:
        self.problem, self.trials_left = problem, max_trials
        self.moves = collapse(problem)
        count = len(self.moves)
        self.all_done = (1 << count) - 1
        self.readers = [0] * count
        for index, move in enumerate(self.moves):
            for source in bits(move.needs):
                self.readers[source] |= 1 << index
        needs = [move.needs for move in self.moves]
        self.followers = [[(1 << later, needs[later]) for later in bits(mask)] for mask in self.readers]
        self.sources = [[(1 << source, self.readers[source]) for source in bits(mask)] for mask in needs]
        self.passes = self._passes()
        self.reached: dict[int, tuple[int, int]] = {}  # set of moves -> (the set before, the move between)

    def _passes(self) -> set[int]:
        """Sets of moves that every order passes through: all before a move that is ordered against all others."""
        order: list[int] = []
        done, ready = 0, [index for index, move in enumerate(self.moves) if not move.needs]
        above = [0] * len(self.moves)
        while ready:
            index = ready.pop()
            order.append(index)
            done |= 1 << index
            for source in bits(self.moves[index].needs):
                above[index] |= above[source] | 1 << source
            ready += [later for later in bits(self.readers[index]) if not self.moves[later].needs & ~done]
        if done != self.all_done:
            raise ValueError("the steps depend on each other in a cycle")
        below = [0] * len(self.moves)
        for index in reversed(order):
            for later in bits(self.readers[index]):
                below[index] |= below[later] | 1 << later
        lonely = [i for i in range(len(self.moves)) if above[i] | below[i] | 1 << i == self.all_done]
        return {above[i] for i in lonely} | {above[i] | 1 << i for i in lonely}

    def _start(self) -> _State:
        sizes, problem = self.problem.sizes, self.problem
        read = {tensor for step in problem.steps for tensor in step.inputs}.union(problem.outputs)
        live_bytes = sum(sizes[tensor] for tensor in problem.inputs if tensor in read)
        peak = max(sum(sizes[tensor] for tensor in problem.inputs), *(move.least for move in self.moves), 0)
        ready = sum(1 << index for index, move in enumerate(self.moves) if not move.needs)
        return _State(peak, len(self.moves), live_bytes, 0, ready, 0, 0, -1, True)

    def run(self) -> Schedule:
        """Best-first search; states of equal peak depth first."""
        state = self._start()
        heap, seen, since_pass = [state], set[int](), 0
        bound: LowerBound | None = None
        while self.trials_left > 0:
            state = self._pop(heap, seen, bound)
            if state.done == self.all_done:
                return Schedule(state.peak, self._order(state.done))
            since_pass += 1
            if state.done in self.passes:
                heap.clear()
                seen.clear()
                since_pass = 0
            seen.add(state.done)
            for index in bits(state.ready):
                child = self._after(state, index)
                if child.done not in seen:
                    heapq.heappush(heap, child)
            if bound is None and since_pass >= _STATES_BEFORE_BOUND and len(self.moves) <= _MOVES_WITH_BOUND:
                bound = LowerBound(self.moves)
        return self._complete(state)

    def _pop(self, heap: list[_State], seen: set[int], bound: LowerBound | None) -> _State:
        """The best state not seen yet, after all moves that cost nothing.

        This and the bound are done here, not before the push, because most states pushed are never looked at.
        """
        while True:
            state = heapq.heappop(heap)
            if state.done in seen:
                continue
            if state.bounded:
                return state
            self.reached[state.done] = (state.before, state.move)
            settled = self._settle(state)
            peak = state.peak if bound is None else bound(settled.done, settled.live, state.peak)
            if peak > state.peak:
                heapq.heappush(heap, settled._replace(peak=peak, bounded=True))
            elif settled.done not in seen:
                return settled

    def _settle(self, state: _State) -> _State:
        """The state after all moves that raise neither its peak nor its live bytes."""
        untried = state.ready
        while untried:
            bit = untried & -untried
            after = self._after(state, bit.bit_length() - 1)
            untried ^= bit
            if after.peak == state.peak and after.live_bytes <= state.live_bytes:
                self.reached[after.done] = (after.before, after.move)
                state, untried = after, after.ready
        return state

    def _after(self, state: _State, index: int) -> _State:
        """The state after move `index`."""
        self.trials_left -= 1
        move, bit = self.moves[index], 1 << index
        done = state.done | bit
        to_do = ~done
        hill, live_bytes = move.hill, state.live_bytes + move.delta
        for readers in move.in_place:
            if not readers & to_do:
                hill = move.hill_in_place
        for readers, size in move.frees:
            if not readers & to_do:
                live_bytes -= size
        ready, live = state.ready ^ bit, state.live | bit
        for later, needs in self.followers[index]:
            if not needs & to_do:
                ready |= later
        for source, readers in self.sources[index]:
            if not readers & to_do:
                live ^= source
        peak = max(state.peak, state.live_bytes + hill)
        return _State(peak, state.to_do - 1, live_bytes, done, ready, live, state.done, index, False)

    def _order(self, done: int) -> tuple[int, ...]:
        """Steps on the way to a set of moves."""
        steps: list[int] = []
        while done:
            done, index = self.reached[done]
            steps += reversed(self.moves[index].steps)
        return tuple(reversed(steps))

    def _complete(self, state: _State) -> Schedule:
        """Finish greedily: of the first few moves that are ready, the one with the lowest peak."""
        order = list(self._order(state.done))
        while state.done != self.all_done:
            choices = itertools.islice(bits(state.ready), _GREEDY_CHOICES)
            state = min(self._after(state, index) for index in choices)
            order += self.moves[state.move].steps
        return Schedule(order_peak(self.problem, order), tuple(order), exact=False)


def problem_of(
    graph: Graph, *, count_input: bool = False, align: int = 1, scratch: Callable[[Operator], int] | None = None
) -> Problem:
    """The scheduling problem of a graph: tensor 0 is the network's input, tensor i + 1 the output of operator i.

    One byte an element, rounded up to `align`; `scratch` gives an operator's scratch bytes, rounded up likewise.
    Without `count_input` the input takes no memory. In reference mode each operator that reads the input has a copy
    of its own, live from the start to that operator, because the authors' figures count it so (tensors n + 1...).
    """
    input_bytes = _round_up(math.prod(graph.input_shape), align) if count_input else 0
    sizes = [input_bytes, *(_round_up(op.out_elements, align) for op in graph.operators)]
    steps, inputs = [], [0]
    input_is_read = False
    for index, op in enumerate(graph.operators):
        reads_input = min(op.inputs) < 0
        copy = 0
        if reads_input and input_is_read and graph.mode == "reference":
            copy = len(sizes)
            sizes.append(input_bytes)
            inputs.append(copy)
        input_is_read |= reads_input
        steps.append(
            Step(
                tuple(copy if producer < 0 else producer + 1 for producer in op.inputs),
                index + 1,
                0 if scratch is None else _round_up(scratch(op), align),
                tuple(copy if producer < 0 else producer + 1 for producer in op.in_place_inputs),
            )
        )
    return Problem(tuple(sizes), tuple(steps), tuple(inputs), (len(graph.operators),))


def _round_up(size: int, align: int) -> int:
    return -(-size // align) * align


def peak_memory(graph: Graph, count_input: bool = False) -> int:
    """Smallest possible peak of activation memory in bytes, at one byte an element."""
    return best_schedule(problem_of(graph, count_input=count_input)).peak
