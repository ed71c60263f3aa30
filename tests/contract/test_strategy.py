"""What the search relies on in every strategy."""

from __future__ import annotations

import numpy as np
import pytest

from munas.arch.space import Architecture, MlpArchitecture
from munas.search.evolve import MAX_SEED, Space, Strategy
from munas.search.strategies import STRATEGIES, StrategySettings
from munas.search.trial import Task, Trial, TrialResult
from tests.stub_trainer import ASSESSOR, BOUNDS, trained

SPARSITY = (0.1, 0.6)


def evaluate(trial: Trial) -> TrialResult:
    done = trained(Task(trial, (), 1.0))
    return TrialResult(trial, "ok", done, ASSESSOR.assess(done.architecture), "", 1.0, 1.0)


def fail(trial: Trial) -> TrialResult:
    return TrialResult(trial, "failed", None, None, "the worker died", 1.0, 1.0)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
class TestStrategy:
    """The contract."""

    def make(self, name: str, space: Space | None = None) -> Strategy:
        if name == "nsga2":
            pytest.importorskip("pymoo")
        return STRATEGIES[name](StrategySettings(space or Space(sparsity=SPARSITY), BOUNDS, population=10, sample=4))

    def run(self, strategy: Strategy, count: int, seed: int = 0, delay: int = 0) -> list[Trial]:
        """`delay` trials are under way at any time and come back youngest first; every seventh fails."""
        rng = np.random.default_rng(seed)
        asked: list[Trial] = []
        under_way: list[Trial] = []
        for index in range(count):
            asked.append(strategy.ask(rng, index))
            under_way.append(asked[-1])
            while len(under_way) > delay:
                trial = under_way.pop()
                strategy.tell(fail(trial) if trial.index % 7 == 3 else evaluate(trial))
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
        for trial in whole[:20]:
            assert strategy.ask(rng, trial.index) == trial
            strategy.tell(fail(trial) if trial.index % 7 == 3 else evaluate(trial))
        state = rng.bit_generator.state
        resumed, other = self.make(name), np.random.default_rng(99)
        for trial in whole[:20]:
            resumed.tell(fail(trial) if trial.index % 7 == 3 else evaluate(trial))
        other.bit_generator.state = state
        assert [resumed.ask(other, 20)] == [whole[20]]

    def test_trials_are_complete(self, name: str) -> None:
        trials = self.run(self.make(name), 60)
        assert [trial.index for trial in trials] == list(range(60))
        assert len({trial.seed for trial in trials}) > 50
        for trial in trials:
            assert isinstance(trial.architecture, Architecture)
            assert 0 <= trial.seed <= MAX_SEED
            assert SPARSITY[0] <= trial.sparsity <= SPARSITY[1]
            assert trial.parent is None or 0 <= trial.parent < trial.index
            assert (trial.parent is None) == (trial.change == "random")
            assert trial.change

    def test_without_pruning_sparsity_is_nothing(self, name: str) -> None:
        assert {trial.sparsity for trial in self.run(self.make(name, Space()), 30)} == {0.0}

    def test_the_mlp_space_is_closed(self, name: str) -> None:
        trials = self.run(self.make(name, Space(mlp=True)), 40)
        assert all(isinstance(trial.architecture, MlpArchitecture) for trial in trials)

    @pytest.mark.parametrize("delay", [1, 5, 30])
    def test_trials_may_come_back_out_of_order(self, name: str, delay: int) -> None:
        assert len(self.run(self.make(name), 60, delay=delay)) == 60

    def test_nothing_but_failures_is_no_end(self, name: str) -> None:
        strategy, rng = self.make(name), np.random.default_rng(0)
        for index in range(30):
            trial = strategy.ask(rng, index)
            assert trial.parent is None
            strategy.tell(fail(trial))
