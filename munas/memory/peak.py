"""Peak activation memory over all operator orders, solved exactly.

The µNAS authors recurse over sets of live tensors (arXiv 1910.05110) and can take seconds on a network with many
branches. Here a state is the set of moves made so far, as a bit mask, and the search is best-first on the peak.

The live bytes are a submodular function of that set: a move never adds more to a larger set than to a smaller one. So a
move that raises neither the peak nor the live bytes can be made at once, without trying any other: it makes whatever
follows no worse. States that every order passes through split the search into independent parts. The least bytes that
a move can have in use, over all sets of moves that can run before it, are a minimum cut: no peak is lower, and the set
that the cut finds is a state worth heading for.
"""

from __future__ import annotations

import heapq
import itertools
from typing import NamedTuple

from munas.memory.cut import LeastBytes
from munas.memory.moves import bits, collapse
from munas.memory.problem import Problem, Schedule, order_peak

MAX_TRIALS = 1_000_000
"""Moves tried before a schedule is completed greedily: seconds. µNAS networks need some hundred, very few 20,000."""

_STATES_BEFORE_CUT = 4
"""States looked at before the neediest move's minimum cut, which costs as much as several. Most problems need few."""

_MOVES_WITH_CUT = 128
"""µNAS networks have at most 60 of them."""

_GREEDY_CHOICES = 64


def best_schedule(problem: Problem, max_trials: int = MAX_TRIALS) -> Schedule:
    """An order with the smallest possible peak, over all topological orders.

    The peak is the maximum over the steps of live bytes + output (nothing if taken over in place) + scratch. Past
    `max_trials` tried moves the order is the best one at hand and `exact` is False. Raises ValueError for a cycle.
    """
    return _as_given(problem) or _Search(problem, max_trials).run()


def _as_given(problem: Problem) -> Schedule | None:
    """The problem's own order where a single step explains its peak, as in half of the networks of the space."""
    sizes, steps = problem.sizes, problem.steps
    last: dict[int, int] = {}  # tensor -> the last step that reads it
    peak = sum([sizes[tensor] for tensor in problem.inputs])
    for index, step in enumerate(steps):
        read = 0
        for tensor in step.inputs if len(step.inputs) == 1 else dict.fromkeys(step.inputs):
            last[tensor] = index
            read += sizes[tensor]
        peak = max(peak, read + step.scratch + (0 if step.in_place else sizes[step.output]))
    last.update(dict.fromkeys(problem.outputs, len(steps)))
    produced = set(problem.inputs)
    live_bytes = sum([sizes[tensor] for tensor in problem.inputs if tensor in last])
    for index, step in enumerate(steps):
        dying = {tensor for tensor in step.inputs if last[tensor] == index}
        output = sizes[step.output] if dying.isdisjoint(step.in_place) else 0
        if live_bytes + step.scratch + output > peak or not produced.issuperset(step.inputs):
            return None
        produced.add(step.output)
        live_bytes += sizes[step.output] if step.output in last else 0
        for tensor in dying:
            live_bytes -= sizes[tensor]
    return Schedule(peak, tuple(range(len(steps))))


class _State(NamedTuple):
    """A set of moves made; ordered by what the search should look at first."""

    peak: int
    astray: int
    """Moves made that `_Search.waypoint` leaves out."""
    to_do: int
    live_bytes: int
    done: int
    ready: int
    before: int
    """The set of moves that this state was reached from."""
    move: int


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
        self.passes = self._passes()
        self.least_bytes: LeastBytes | None = None
        self.neediest = self.all_done  # masks of a move and of a set of moves after which it uses the least bytes
        self.waypoint = 0
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
        return _State(peak, 0, len(self.moves), live_bytes, 0, ready, 0, -1)

    def run(self) -> Schedule:
        """Best-first search; states of equal peak depth first."""
        state = self._settle(self._start())
        heap, seen, since_pass = list[_State](), set[int](), 0
        while self.trials_left > 0:
            if state.done == self.all_done:
                return Schedule(state.peak, self._order(state.done))
            since_pass += 1
            if state.done in self.passes:
                heap.clear()
                seen.clear()
                since_pass = 0
            seen.add(state.done)
            for index in bits(state.ready):
                if state.done | 1 << index not in seen:
                    heapq.heappush(heap, self._after(state, index, *self._bytes(state, index)))
            if since_pass == _STATES_BEFORE_CUT:
                heap = self._raised(heap, state.done)
            state = self._pop(heap, seen)
        return self._complete(state)

    def _raised(self, heap: list[_State], done: int) -> list[_State]:
        """The states with peaks that are no lower than what the neediest move to come will use in any order.

        Those on the way to the set of moves after which it uses no more come first from now on.
        """
        to_come = [index for index in range(len(self.moves)) if not done >> index & 1]
        if not to_come or len(self.moves) > _MOVES_WITH_CUT:
            return heap
        if self.least_bytes is None:
            self.least_bytes = LeastBytes(self.moves)
        neediest = max(to_come, key=lambda index: self.moves[index].least)
        floor, self.waypoint = self.least_bytes.in_use(neediest)
        self.neediest = 1 << neediest
        raised = []
        for state in heap:
            astray = 0 if state.done & self.neediest else (state.done & ~self.waypoint).bit_count()
            raised.append(state._replace(peak=max(state.peak, floor), astray=astray))
        heapq.heapify(raised)
        return raised

    def _pop(self, heap: list[_State], seen: set[int]) -> _State:
        """The best state not seen yet, after all moves that cost nothing.

        These are made here, not before the push, because most states pushed are never looked at.
        """
        while True:
            state = heapq.heappop(heap)
            if state.done in seen:
                continue
            self.reached[state.done] = (state.before, state.move)
            settled = self._settle(state)
            if settled.done not in seen:
                return settled

    def _settle(self, state: _State) -> _State:
        """The state after all moves that raise neither its peak nor its live bytes."""
        untried = state.ready
        while untried:
            bit = untried & -untried
            index = bit.bit_length() - 1
            untried ^= bit
            top, live_bytes = self._bytes(state, index)
            if top <= state.peak and live_bytes <= state.live_bytes:
                self.reached[state.done | bit] = (state.done, index)
                state = self._after(state, index, top, live_bytes)
                untried = state.ready
        return state

    def _bytes(self, state: _State, index: int) -> tuple[int, int]:
        """(bytes in use while move `index` runs, bytes live after it)."""
        self.trials_left -= 1
        move, to_do = self.moves[index], ~(state.done | 1 << index)
        hill, live_bytes = move.hill, state.live_bytes + move.delta
        for readers in move.in_place:
            if not readers & to_do:
                hill = move.hill_in_place
        for readers, size in move.frees:
            if not readers & to_do:
                live_bytes -= size
        return state.live_bytes + hill, live_bytes

    def _after(self, state: _State, index: int, top: int, live_bytes: int) -> _State:
        """The state after move `index`, of which `_bytes` gives the bytes."""
        bit = 1 << index
        done, ready = state.done | bit, state.ready ^ bit
        to_do = ~done
        for later, needs in self.followers[index]:
            if not needs & to_do:
                ready |= later
        peak = top if top > state.peak else state.peak
        astray = 0 if done & self.neediest else state.astray + (not bit & self.waypoint)
        return _State(peak, astray, state.to_do - 1, live_bytes, done, ready, state.done, index)

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
            state = min(self._after(state, index, *self._bytes(state, index)) for index in choices)
            order += self.moves[state.move].steps
        return Schedule(order_peak(self.problem, order), tuple(order), exact=False)
