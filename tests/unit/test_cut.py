"""The least bytes in use while a move runs: against all sets of moves that can have run before it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings

from munas.memory.cut import LeastBytes
from munas.memory.moves import Move, bits, collapse
from munas.memory.peak import best_schedule
from munas.memory.problem import Problem
from tests.unit.test_memory import fork_joins, problems


def used_by(problem: Problem, done: set[int], steps: Sequence[int]) -> int:
    """The most bytes in use while `steps` run one after the other after those that are done."""
    peak, done = 0, set(done)
    for index in steps:
        step = problem.steps[index]
        to_come = {t for n, other in enumerate(problem.steps) if n not in done and n != index for t in other.inputs}
        needed_later = to_come | set(problem.outputs)
        present = set(problem.inputs) | {problem.steps[other].output for other in done}
        live = present & (needed_later | set(step.inputs))
        in_place = any(tensor not in needed_later for tensor in step.in_place)
        used = sum(problem.sizes[tensor] for tensor in live) + step.scratch
        peak = max(peak, used + (0 if in_place else problem.sizes[step.output]))
        done.add(index)
    return peak


def least_over_sets(problem: Problem, moves: Sequence[Move], v: int) -> int:
    found = []
    for chosen in range(1 << len(moves)):
        needs = moves[v].needs
        for index in bits(chosen):
            needs |= moves[index].needs
        if not chosen >> v & 1 and not needs & ~chosen:
            done = {step for index in bits(chosen) for step in moves[index].steps}
            found.append(used_by(problem, done, moves[v].steps))
    return min(found)


def check(problem: Problem) -> None:
    moves = collapse(problem)
    least = LeastBytes(moves)
    found = [least.in_use(v) for v in range(len(moves))]
    assert [used for used, _ in found] == [least_over_sets(problem, moves, v) for v in range(len(moves))]
    for move, (used, chosen) in zip(moves, found, strict=True):
        done = {step for index in bits(chosen) for step in moves[index].steps}
        assert used_by(problem, done, move.steps) == used
    assert max(used for used, _ in found) <= best_schedule(problem).peak


@settings(max_examples=150, deadline=None)
@given(problems())
def test_equals_brute_force_over_all_sets_of_moves(problem: Problem) -> None:
    check(problem)


@settings(max_examples=100, deadline=None)
@given(fork_joins())
def test_equals_brute_force_for_branches(problem: Problem) -> None:
    check(problem)
