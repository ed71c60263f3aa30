"""The surrogate: what it sees in a network, what it learns, and the trials that are chosen by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from munas.arch.graph import build_graph
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType, random_cnn, random_mlp
from munas.search.evolve import RandomSearch, Space
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, meets
from munas.search.proposals import Proposer, Ranking
from munas.search.surrogate import FIGURES, Record, Surrogate, figures_of, narrowest
from munas.search.trial import Task, Trial, TrialResult
from tests.stub_trainer import ASSESSOR, trained

SHAPE, CLASSES = ASSESSOR.input_shape, ASSESSOR.num_classes


def result(trial: Trial, error: float, stopped: bool = False) -> TrialResult:
    done = replace(trained(Task(trial, (), 1.0)), error=error, stopped=stopped)
    return TrialResult(trial, "ok", done, None, "", 1.0, 1.0)


def trials(count: int, seed: int = 0) -> list[Trial]:
    rng, search = np.random.default_rng(seed), RandomSearch(Space(sparsity=(0.1, 0.5)))
    return [search.ask(rng, index) for index in range(count)]


def test_a_bottleneck_is_on_the_widest_way() -> None:
    conv, thin = Layer(LayerType.CONV, 3, 8, 1, relu=True), Layer(LayerType.POINTWISE, filters=2)
    beside = Block((thin, replace(thin, filters=8)), is_branch=True)
    main = (Block((conv,)), Block((replace(conv, filters=6),)))
    graph = build_graph(Architecture((*main, beside), None, (DenseLayer(12),)), (8, 8, 1), 10)
    assert narrowest(graph) == 12
    choked = build_graph(
        Architecture((*main, Block((replace(conv, filters=1),))), None, (DenseLayer(40),)), (7, 7, 1), 10
    )
    assert narrowest(choked) == 1


@pytest.mark.parametrize("seed", range(10))
def test_figures_are_finite_for_every_network(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for architecture in (random_cnn(rng), random_mlp(rng)):
        found = figures_of(build_graph(architecture, (28, 28, 1), 10), 0.4)
        assert found.shape == (len(FIGURES),)
        assert np.isfinite(found).all()


def test_a_choked_network_has_no_prospects_before_the_first_trial() -> None:
    conv = Layer(LayerType.CONV, 3, 8, 1, batch_norm=True, relu=True)
    open_way = Architecture((Block((conv,)),), None, (DenseLayer(20),))
    choked = Architecture((Block((replace(conv, filters=1, kernel=7),)),) * 4, None, (DenseLayer(20),))
    surrogate = Surrogate((28, 28, 1), 10)
    errors = [surrogate.predict(Trial(0, item, 0.0, 0, None, "random")) for item in (open_way, choked)]
    assert errors[0] < errors[1]


def test_it_learns_what_the_trials_show() -> None:
    """Errors that follow the number of hidden dense layers, of which the prior thinks little."""
    surrogate, seen = Surrogate(SHAPE, CLASSES), trials(60)

    def truth(trial: Trial) -> float:
        assert isinstance(trial.architecture, Architecture)
        return 0.1 + 0.2 * len(trial.architecture.dense)

    for trial in seen:
        surrogate.tell(result(trial, truth(trial)))
    later = Record()
    for trial in trials(30, seed=1):
        later.add(surrogate.predict(trial), truth(trial))
    found = later.rank_correlation()
    assert found is not None
    assert found > 0.8
    assert len(surrogate.record) == len(seen)


def test_failures_teach_nothing_and_stopped_trials_are_no_test() -> None:
    surrogate, (first, second) = Surrogate(SHAPE, CLASSES), trials(2)
    before = surrogate.predict(second)
    surrogate.tell(TrialResult(first, "failed", None, None, "the worker died", 1.0, 1.0))
    assert surrogate.predict(second) == before
    surrogate.tell(result(first, 0.9, stopped=True))
    assert surrogate.predict(second) != before
    assert len(surrogate.record) == 0


def test_rank_correlation() -> None:
    record = Record()
    assert record.rank_correlation() is None
    for predicted, found in ((0.1, 0.2), (0.2, 0.3), (0.3, 0.35), (0.4, 0.9)):
        record.add(predicted, found)
    assert record.rank_correlation() == pytest.approx(1.0)
    record.add(0.5, 0.1)
    assert record.rank_correlation() == pytest.approx(0.0)
    alike = Record()
    for _ in range(4):
        alike.add(0.5, 0.5)
    assert alike.rank_correlation() is None


def test_drawn_weights_scatter_less_the_more_is_known() -> None:
    surrogate, rng = Surrogate(SHAPE, CLASSES), np.random.default_rng(1)
    before = np.std([surrogate.drawn(rng) for _ in range(50)], axis=0)
    for trial in trials(30):
        surrogate.tell(result(trial, 0.2))
    after = np.std([surrogate.drawn(rng) for _ in range(50)], axis=0)
    assert (after[1:] < 1.2 * before[1:]).all()
    assert after.sum() < 0.7 * before.sum()
    one, two = (surrogate.drawn(np.random.default_rng(2)) for _ in range(2))
    assert (one == two).all()
    assert surrogate.predict(trials(1)[0]) != surrogate.predict(trials(1)[0], one)


def test_a_child_is_expected_to_be_like_its_parent() -> None:
    surrogate, (parent, other) = Surrogate(SHAPE, CLASSES), trials(2)
    child = replace(other, index=2, parent=parent.index)
    alone = surrogate.predict(child)
    surrogate.tell(result(parent, 0.9))
    stranger = replace(child, parent=None)
    assert surrogate.predict(child) > surrogate.predict(stranger)
    better = Surrogate(SHAPE, CLASSES)
    better.tell(result(parent, 0.001))
    assert better.predict(child) < min(alone, better.predict(stranger))


def test_no_network_is_trained_twice() -> None:
    """A child by a morph that changes nothing of the network, such as a branch's last filters, is none."""
    conv = Layer(LayerType.CONV, 3, 4, 1, relu=True)
    branch = Block((replace(conv, filters=9),), is_branch=True)
    architecture = Architecture((Block((conv,)), branch), None, (DenseLayer(12),))
    same = replace(architecture, blocks=(architecture.blocks[0], Block((replace(conv, filters=14),), is_branch=True)))
    other = replace(architecture, dense=(DenseLayer(13),))
    asked = iter([architecture, same, same, other])

    class Listed:
        def ask(self, rng: np.random.Generator, index: int) -> Trial:
            return Trial(index, next(asked, same), 0.0, 0, None, "child")

        def tell(self, trial_result: TrialResult) -> None:
            raise NotImplementedError

    proposer = Proposer(Listed(), ASSESSOR, None, np.random.default_rng(0))
    assert [proposer.propose(index).architecture for index in range(2)] == [architecture, other]
    assert proposer.propose(2).architecture == same  # there is nothing else
    resumed = Proposer(Listed(), ASSESSOR, None, np.random.default_rng(0))
    resumed.drawn(Trial(0, other, 0.0, 0, None, "random"))
    assert resumed.propose(1).architecture == same


@pytest.mark.slow
def test_some_trials_are_drawn_anew() -> None:
    parent = trials(1)[0]

    class Children:
        def ask(self, rng: np.random.Generator, index: int) -> Trial:
            return Space().child(rng, index, parent)

        def tell(self, trial_result: TrialResult) -> None:
            raise NotImplementedError

    ranking = Ranking(Surrogate(SHAPE, CLASSES), Bounds({Metric.ERROR: 0.01}), 2, Space())
    proposer = Proposer(Children(), ASSESSOR, None, np.random.default_rng(0), ranking=ranking)
    parents = [proposer.propose(index).parent for index in range(6)]
    assert parents == [None, 0, 0, None, 0, 0]


@pytest.mark.slow
def test_what_is_taken_is_improved_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Bounds({Metric.RAM: 6_000, Metric.FLASH: 24_000})
    judge = Surrogate(SHAPE, CLASSES)

    def error(first: int) -> float:
        monkeypatch.setattr("munas.search.proposals.FIRST_MORPHS", first)
        ranking = Ranking(Surrogate(SHAPE, CLASSES), Bounds({Metric.ERROR: 0.001}), 2, Space())
        proposer = Proposer(RandomSearch(Space()), ASSESSOR, budget, np.random.default_rng(0), ranking=ranking)
        found = [proposer.propose(index) for index in range(6)]
        assert all(meets(features(None, ASSESSOR.assess(trial.architecture)), budget) for trial in found)
        return float(np.mean([judge.predict(trial) for trial in found]))

    assert error(60) < 0.8 * error(0)


def test_the_error_alone_never_rules_out_what_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at first because the rest takes long: with it and without it the same networks are proposed."""
    bounds = Bounds({Metric.ERROR: 0.05, Metric.RAM: 6_000, Metric.MACS: 40_000})  # which of them is worst, changes
    budget = Bounds({Metric.RAM: 6_000})

    def proposed() -> list[Trial]:
        ranking = Ranking(Surrogate(SHAPE, CLASSES), bounds, 3, Space())
        proposer = Proposer(RandomSearch(Space()), ASSESSOR, budget, np.random.default_rng(5), ranking=ranking)
        return [proposer.propose(index) for index in range(4)]

    with_it = proposed()
    plain = Proposer._prospects
    monkeypatch.setattr(
        Proposer, "_prospects", lambda self, trial, ranking, view, *_: plain(self, trial, ranking, view)
    )
    assert proposed() == with_it


def test_of_several_proposals_the_most_promising_is_taken() -> None:
    budget = Bounds({Metric.RAM: 64_000, Metric.FLASH: 64_000})

    def proposed(pool: int) -> list[Trial]:
        ranking = Ranking(Surrogate(SHAPE, CLASSES), Bounds({Metric.ERROR: 0.01}), pool, Space(mlp=True))
        proposer = Proposer(RandomSearch(Space(mlp=True)), ASSESSOR, budget, np.random.default_rng(3), ranking=ranking)
        found = [proposer.propose(index) for index in range(4)]
        assert [trial.index for trial in found] == list(range(4))
        for trial in found:
            assert meets(features(None, ASSESSOR.assess(trial.architecture)), budget)
        return found

    judge = Surrogate(SHAPE, CLASSES)
    one, five = (np.mean([judge.predict(trial) for trial in proposed(pool)]) for pool in (1, 5))
    assert five < one
