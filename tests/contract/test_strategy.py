"""What the search relies on in every strategy."""

from __future__ import annotations

import numpy as np
import pytest

from munas.arch.space import Architecture, MlpArchitecture
from munas.search.candidate import Candidate, Evaluation, Task
from munas.search.evolve import MAX_SEED, STRATEGIES, Space, Strategy, StrategySettings
from tests.stub_trainer import ASSESSOR, BOUNDS, trained

SPARSITY = (0.1, 0.6)


def evaluate(candidate: Candidate) -> Evaluation:
    done = trained(Task(candidate, (), 1.0))
    return Evaluation(candidate, "ok", done, ASSESSOR.assess(done.architecture), "", 1.0, 1.0)


def fail(candidate: Candidate) -> Evaluation:
    return Evaluation(candidate, "failed", None, None, "the worker died", 1.0, 1.0)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
class TestStrategy:
    """The contract."""

    def make(self, name: str, space: Space | None = None) -> Strategy:
        return STRATEGIES[name](StrategySettings(space or Space(sparsity=SPARSITY), BOUNDS, population=10, sample=4))

    def run(self, strategy: Strategy, count: int, seed: int = 0, delay: int = 0) -> list[Candidate]:
        """`delay` candidates are under way at any time and come back youngest first; every seventh fails."""
        rng = np.random.default_rng(seed)
        asked: list[Candidate] = []
        under_way: list[Candidate] = []
        for index in range(count):
            asked.append(strategy.ask(rng, index))
            under_way.append(asked[-1])
            while len(under_way) > delay:
                candidate = under_way.pop()
                strategy.tell(fail(candidate) if candidate.index % 7 == 3 else evaluate(candidate))
        return asked

    def test_a_seed_decides_everything(self, name: str) -> None:
        np.random.seed(1)  # the global generator must not matter
        first = self.run(self.make(name), 40, seed=5)
        np.random.seed(2)
        assert self.run(self.make(name), 40, seed=5) == first
        assert self.run(self.make(name), 40, seed=6) != first

    def test_a_state_of_the_generator_is_a_place_to_go_on_from(self, name: str) -> None:
        whole = self.run(self.make(name), 30)
        strategy, rng = self.make(name), np.random.default_rng(0)
        for candidate in whole[:20]:
            assert strategy.ask(rng, candidate.index) == candidate
            strategy.tell(fail(candidate) if candidate.index % 7 == 3 else evaluate(candidate))
        state = rng.bit_generator.state
        resumed, other = self.make(name), np.random.default_rng(99)
        for candidate in whole[:20]:
            resumed.tell(fail(candidate) if candidate.index % 7 == 3 else evaluate(candidate))
        other.bit_generator.state = state
        assert [resumed.ask(other, 20)] == [whole[20]]

    def test_candidates_are_complete(self, name: str) -> None:
        candidates = self.run(self.make(name), 60)
        assert [candidate.index for candidate in candidates] == list(range(60))
        assert len({candidate.seed for candidate in candidates}) > 50
        for candidate in candidates:
            assert isinstance(candidate.architecture, Architecture)
            assert 0 <= candidate.seed <= MAX_SEED
            assert SPARSITY[0] <= candidate.sparsity <= SPARSITY[1]
            assert candidate.parent is None or 0 <= candidate.parent < candidate.index
            assert (candidate.parent is None) == (candidate.change == "random")
            assert candidate.change

    def test_without_pruning_sparsity_is_nothing(self, name: str) -> None:
        assert {candidate.sparsity for candidate in self.run(self.make(name, Space()), 30)} == {0.0}

    def test_the_mlp_space_is_closed(self, name: str) -> None:
        candidates = self.run(self.make(name, Space(mlp=True)), 40)
        assert all(isinstance(candidate.architecture, MlpArchitecture) for candidate in candidates)

    @pytest.mark.parametrize("delay", [1, 5, 30])
    def test_evaluations_may_come_back_out_of_order(self, name: str, delay: int) -> None:
        assert len(self.run(self.make(name), 60, delay=delay)) == 60

    def test_nothing_but_failures_is_no_end(self, name: str) -> None:
        strategy, rng = self.make(name), np.random.default_rng(0)
        for index in range(30):
            candidate = strategy.ask(rng, index)
            assert candidate.parent is None
            strategy.tell(fail(candidate))
