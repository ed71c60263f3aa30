"""The export of a search: its choice, its plan, its files, its verdict, its resume; without QEMU and TensorFlow."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.cli.graphs import describe_file
from hil.codegen.plan import Plan
from hil.errors import BudgetError, CheckFailed, ModelError, StoreError, UsageError
from hil.search.bounds import BoundOptions, limits_of
from hil.search.drift import drift_text, outside_of
from hil.search.finals import FinalsRequest, plan_finals
from hil.search.front import front_of
from hil.search.request import ExportOptions, Request
from hil.search.result import Finalist, MeasuredFigures, read_search_result
from hil.search.run import Callbacks, Found, failure_of, search
from hil.search.training import TrainingRequest
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.cost.estimate import works_of
from munas.cost.kernels import Work
from munas.cost.resources import Assessor, Resources
from munas.search.metrics import Metric
from munas.search.objective import Bounds
from munas.search.store import SearchStore
from munas.search.study import SearchSettings
from munas.search.trial import Trained, Trial, TrialResult
from tests.network_trainer import INPUT_SHAPE, NUM_CLASSES
from tests.search_stub import StubHarness, stub_calibration, stub_dataset, stub_training

pytestmark = pytest.mark.slow  # whole searches, each of them seconds

HARD = Bounds({Metric.RAM: 64_000, Metric.FLASH: 64_000})
BOUNDS = Bounds({Metric.ERROR: 0.1, Metric.RAM: 64_000, Metric.FLASH: 64_000})
CLASSES = 10


def trial_result(index: int, error: float, ram: int, flash: int, macs: int = 1000) -> TrialResult:
    architecture = random_cnn(np.random.default_rng(index))
    resources = Resources(macs, flash - 10_000, -1, ram, flash, flash - 9_000)
    trained = Trained(architecture, error, error, 1, False, (), b"", b"", 100.0)
    return TrialResult(Trial(index, architecture, 0.0, 7, None, "random"), "ok", trained, resources, "", 1.0, 1.0)


def failed(index: int) -> TrialResult:
    return replace(trial_result(index, 0.5, 9000, 20_000), status="failed", trained=None, message="crashed")


# -- the choice --


def test_the_front_leaves_out_what_is_beaten_or_does_not_fit() -> None:
    found = [
        trial_result(0, 0.10, 20_000, 30_000),
        trial_result(1, 0.11, 21_000, 31_000),  # beaten by 0
        trial_result(2, 0.12, 9_000, 30_000),
        trial_result(3, 0.01, 70_000, 30_000),  # does not fit
        failed(4),
    ]
    front = front_of(found, BOUNDS, HARD, 5, CLASSES)
    assert front.indices == (0, 2)
    assert [item.trial.index for item in front.chosen] == [0, 2]


def test_lowest_error_first_then_spread() -> None:
    found = [trial_result(n, 0.05 + 0.001 * n, 40_000 - 100 * n, 40_000 - 100 * n) for n in range(20)]
    far = trial_result(99, 0.075, 8_000, 20_000)
    front = front_of([*found, far], BOUNDS, HARD, 4, CLASSES)
    assert [item.trial.index for item in front.chosen[:3]] == [0, 1, 99]
    assert len(front.chosen) == 4
    assert len(front_of([*found, far], BOUNDS, HARD, 100, CLASSES).chosen) == 21


def test_networks_that_nobody_would_deploy_are_not_trained_again() -> None:
    front = front_of(
        [trial_result(0, 0.08, 9_000, 30_000), trial_result(1, 0.8, 5_000, 15_000)], BOUNDS, HARD, 5, CLASSES
    )
    assert front.indices == (0, 1)
    assert [item.trial.index for item in front.chosen] == [0]


def test_networks_that_all_but_guess_are_not_trained_again() -> None:
    """Of two classes; and where nothing is much better than guessing, what is best is kept."""
    found = [trial_result(n, error, 9_000 - n, 30_000 - n) for n, error in enumerate((0.30, 0.39, 0.41, 0.50))]
    assert [item.trial.index for item in front_of(found, BOUNDS, HARD, 5, 2).chosen] == [0, 1]
    assert [item.trial.index for item in front_of(found, BOUNDS, HARD, 5, 10).chosen] == [0, 1, 2, 3]
    assert [item.trial.index for item in front_of(found[3:], BOUNDS, HARD, 5, 2).chosen] == [3]
    loose = Bounds({**BOUNDS.values, Metric.ERROR: 0.42})
    assert [item.trial.index for item in front_of(found, loose, HARD, 5, 2).chosen] == [0, 1, 2]


def test_a_bound_that_is_not_hard_is_preferred() -> None:
    bounds = Bounds({Metric.ERROR: 0.1, Metric.MACS: 500})
    found = [trial_result(0, 0.02, 9_000, 30_000, macs=900), trial_result(1, 0.09, 9_000, 30_000, macs=400)]
    assert [item.trial.index for item in front_of(found, bounds, HARD, 5, CLASSES).chosen] == [1]
    assert [item.trial.index for item in front_of(found[:1], bounds, HARD, 5, CLASSES).chosen] == [0]


def test_nothing_that_fits_is_an_empty_choice() -> None:
    assert front_of([failed(0), trial_result(1, 0.1, 70_000, 1)], BOUNDS, HARD, 5, CLASSES).chosen == ()


# -- the plan --


class Costs:
    """A hundred seconds a training at full effort."""

    def training(self, trial_result: TrialResult, effort: float) -> float:
        return 100.0 * effort

    def test(self, resources: Resources) -> float:
        return 10.0


CHOSEN = [trial_result(index, 0.1, 9_000, 20_000) for index in range(4)]


def plan(seconds: float | None, least: float = 0.1) -> Any:
    return plan_finals(CHOSEN, FinalsRequest((0, 1, 2), 1.0, least, seconds, 2), Costs())


def test_without_a_limit_everything_is_trained_as_asked() -> None:
    made = plan(None)
    assert (made.finalists, made.seeds, made.effort, made.note) == ((0, 1, 2, 3), (0, 1, 2), 1.0, "")
    assert plan(10_000) == made


def test_the_effort_is_lowered_until_it_fits() -> None:
    made = plan(400)
    assert made.finalists == (0, 1, 2, 3)
    assert made.seeds == (0, 1, 2)
    # 12 trainings on two workers, four networks to measure, one to test; a little is kept back
    assert 0.75 * 400 < 600 * made.effort + 34 <= 0.85 * 400
    assert "to end in time" in made.note


def test_then_networks_are_left_out_and_then_seeds() -> None:
    made = plan(120, least=0.2)
    assert made.effort == 0.3  # rather than four networks that are hardly trained
    assert len(made.finalists) == 2
    shorter = plan(80, least=0.2)
    assert 0.2 <= shorter.effort < 0.3
    assert (shorter.finalists, len(shorter.seeds)) == ((0, 1), 2)
    shortest = plan(60, least=0.01)
    assert 0.1 <= shortest.effort < 0.2
    assert (shortest.finalists, len(shortest.seeds)) == ((0, 1), 2)
    rushed = plan(43, least=0.01)  # two networks would have two hundredths each
    assert (rushed.finalists, len(rushed.seeds)) == ((0,), 2)
    assert rushed.effort == 0.1
    assert plan(0) == replace(plan(0), finalists=(0,), seeds=(0,), effort=0.1)


# -- the whole of it --


def truth(plan: Plan, latency: float = 1.0, ram: int = 0, flash: int = 0) -> tuple[float, int, int]:
    """What the calibration says of a plan, with an error."""
    known = stub_calibration()
    works: list[Work] = [step.work for step in plan.steps]
    return (
        known.latency.predict(works).latency * latency,
        known.memory.ram(plan.arena_bytes) + ram,
        plan.weights_bytes + plan.table_bytes + known.memory.flash_base + flash,
    )


@dataclass(frozen=True)
class World:
    """One search in a folder; `run` runs it."""

    folder: Path
    journal: Path

    def request(self, **changes: Any) -> Request:
        board, known = load_board("nucleo-f746zg"), stub_calibration()
        bound_options = changes.pop("bound_options", BoundOptions(error=0.5))
        limits = limits_of(bound_options, "digits", board, known)
        request = TrainingRequest(stub_dataset(), self.folder, 0.2)
        settings = SearchSettings(
            "digits", limits.bounds, limits.hard, population=6, sample=3, trials=12, effort=0.2,
            sparsity=(0.0, 0.5), workers=1, time_limit_s=60.0, memory_limit_bytes=2 << 30,
        )  # fmt: skip
        request = Request(
            board=board, calibration=known, dataset=stub_dataset(), limits=limits,
            assessor=Assessor(known.memory, known, INPUT_SHAPE, NUM_CLASSES, proxies=True),
            settings=settings, training=stub_training(request, self.journal),
            export=ExportOptions(front=2, seeds=2), folder=self.folder, command="munas-hil search",
        )  # fmt: skip
        return replace(request, **changes)

    def run(self, harness: StubHarness | None = None, **changes: Any) -> Found:
        return search(self.request(**changes), harness or StubHarness(truth), Callbacks(None, None, lambda text: None))

    def trainings(self) -> set[str]:
        return {path.name for path in self.journal.iterdir()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "journal").mkdir()
    return World(tmp_path / "run", tmp_path / "journal")


def test_everything_is_handed_over(world: World) -> None:
    found = world.run()
    assert found.failure == ""
    result = found.result
    assert read_search_result(world.folder) == result
    assert (result.ok, result.failed, len(result.points)) == (12, 0, 12)
    assert 1 <= len(result.finalists) <= 2
    assert result.winner == min(result.finalists, key=lambda item: item.mean_error).index
    for finalist in result.finalists:
        folder = world.folder / finalist.folder
        assert {path.name for path in folder.iterdir()} == {
            "model.tflite", "architecture.json", "firmware", "measurement.json",
        }  # fmt: skip
        assert (folder / "firmware" / "model.c").is_file()
        (figures,) = describe_file(folder / "architecture.json", "deployed")
        assert figures["macs"] == finalist.predicted.macs
        about, data = json.loads((folder / "architecture.json").read_text()), world.request().dataset
        assert (about["dataset_sha256"], about["classes"]) == (data.sha256, list(data.classes))
        assert (about["input_scale"], about["input_offset"]) == (list(data.scale), list(data.offset))
        (measurement,) = json.loads((folder / "measurement.json").read_text())
        assert finalist.measured is not None
        assert measurement["sha256"] == finalist.measured.sha256
        assert [seed for seed, _ in finalist.seed_errors] == [0, 1]
        assert finalist.chosen_seed == min(finalist.seed_errors, key=lambda item: item[1])[0]
        assert finalist.mean_error == pytest.approx(sum(error for _, error in finalist.seed_errors) / 2)
        assert (finalist.test_accuracy, finalist.outside) == (0.9, ())


def test_the_same_command_does_nothing_twice(world: World) -> None:
    harness = StubHarness(truth)
    first = world.run(harness).result
    done, measured = world.trainings(), list(harness.measured)
    for path in world.journal.iterdir():
        path.unlink()
    second = world.run(harness).result
    assert world.trainings() == set()
    assert harness.measured == measured
    assert (second.finalists, second.winner, second.points) == (first.finalists, first.winner, first.points)
    assert len(done) == 12 + 2 * len(first.finalists)


def test_it_goes_on_after_an_interruption_at_each_stage(world: World) -> None:
    with pytest.raises(KeyboardInterrupt):
        world.run(StubHarness(truth, fails=KeyboardInterrupt()))  # type: ignore[arg-type]
    trained = world.trainings()
    found = world.run()
    assert found.failure == ""
    assert world.trainings() == trained


def test_more_trials_make_another_hand_over(world: World) -> None:
    world.run()
    request = world.request()
    found = world.run(settings=replace(request.settings, trials=30))
    assert len(found.result.points) == 30
    folders = {path.name for path in (world.folder / "networks").iterdir()}
    assert folders == {Path(finalist.folder).name for finalist in found.result.finalists}


@pytest.mark.parametrize(
    ("wrong", "drift", "text"),
    [
        ({"ram": 4}, "ram", "bytes were predicted"),
        ({"flash": 1}, "flash", "bytes were predicted"),
        ({"latency": 1.06}, "latency", "is outside"),
        ({"latency": 0.94}, "latency", "is outside"),
    ],
)
def test_drift_fails_and_everything_is_written(world: World, wrong: dict[str, Any], drift: str, text: str) -> None:
    found = world.run(StubHarness(lambda plan: truth(plan, **wrong)))
    assert all(finalist.outside == (drift,) for finalist in found.result.finalists)
    assert "calibrate again" in found.failure
    assert drift in found.failure
    assert read_search_result(world.folder) == found.result
    assert found.result.winner is not None


def test_predictions_above_the_measurement_are_no_drift(world: World) -> None:
    assert world.run(StubHarness(lambda plan: truth(plan, ram=-200, flash=-100, latency=0.99))).failure == ""


def test_outputs_that_differ_fail_and_cannot_win(world: World) -> None:
    found = world.run(StubHarness(truth, mismatched=1))
    assert found.result.winner is None
    assert "outputs differ" in found.failure
    assert "no verified network" in found.failure


def test_a_network_that_does_not_link_fails(world: World) -> None:
    found = world.run(StubHarness(truth, fails=BudgetError("too large by 12 bytes", {"FLASH": 12})))
    assert "was not verified: too large by 12 bytes" in found.failure
    assert all(finalist.measured is None for finalist in found.result.finalists)
    assert not list(world.folder.glob("networks/*/measurement.json"))


def test_a_network_that_cannot_be_computed_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("operator 3 (CONV_2D): its sums can overflow 32 bits")

    monkeypatch.setattr(StubHarness, "deploy", refuse)
    found = world.run()
    assert "was not verified: operator 3" in found.failure
    assert found.result.winner is None
    assert (world.folder / found.result.finalists[0].folder / "model.tflite").is_file()


def test_an_error_above_the_users_bound_fails(world: World) -> None:
    assert "above --max-error 1.00%" in world.run(bound_options=BoundOptions(error=0.01)).failure


def test_a_measured_latency_above_its_bound_cannot_win(world: World) -> None:
    request = world.request()
    slowest = Bounds({**request.limits.bounds.values, Metric.LATENCY: 1e12})
    limits = replace(request.limits, bounds=slowest)
    settings = replace(request.settings, bounds=slowest)
    found = world.run(StubHarness(lambda plan: truth(plan, latency=1e9)), limits=limits, settings=settings)
    assert found.result.winner is None


def test_nothing_inside_the_budget_is_a_failed_check(world: World) -> None:
    request = world.request()
    nothing = replace(request.limits, hard=Bounds({Metric.RAM: 1, Metric.FLASH: 1}))
    with pytest.raises(CheckFailed, match="none of 12 trials fits"):
        world.run(limits=nothing)


def test_another_searchs_store_is_refused(world: World) -> None:
    world.run()
    request = world.request()
    with pytest.raises(UsageError, match=r"holds another search.*seed 0 there, 1 here"):
        world.run(settings=replace(request.settings, seed=1))
    known = replace(stub_calibration(), samples=101)
    with pytest.raises(UsageError, match="calibration"):
        world.run(calibration=known)


def test_a_failed_seed_is_told_and_the_others_count(world: World) -> None:
    request = world.request()
    trainer = replace(request.training.trainer, broken=(1,))  # type: ignore[type-var]
    found = world.run(training=replace(request.training, trainer=trainer))
    assert all([seed for seed, _ in finalist.seed_errors] == [0] for finalist in found.result.finalists)
    assert any("seed 1: training failed" in note for note in found.result.notes)


def hopeless(world: World, *seeds: int) -> Found:
    request = world.request()
    trainer = replace(request.training.trainer, hopeless=seeds)  # type: ignore[type-var]
    return world.run(training=replace(request.training, trainer=trainer))


def test_a_network_that_collapsed_with_every_seed_is_told_and_replaced_by_the_trials_own(world: World) -> None:
    found = hopeless(world, 0, 1)
    points = {item.index: item for item in found.result.points}
    with SearchStore(world.folder / "search.sqlite") as store:
        for finalist in found.result.finalists:
            own = store.trained(finalist.index)
            assert own is not None
            assert finalist.mean_error == finalist.error == points[finalist.index].error == own.error
            assert [seed for seed, _ in finalist.collapsed] == [0, 1]
            assert (world.folder / finalist.folder / "model.tflite").read_bytes() == own.tflite
    assert any("re-training collapsed to 90.00% (seed 0), 90.00% (seed 1)" in note for note in found.result.notes)
    assert any("its own network, of that one training, is exported" in note for note in found.result.notes)
    assert found.failure == ""


def test_a_seed_that_collapsed_is_told_and_not_chosen(world: World) -> None:
    found = hopeless(world, 0)
    assert {finalist.chosen_seed for finalist in found.result.finalists} == {1}
    assert {finalist.collapsed for finalist in found.result.finalists} == {((0, 0.9),)}
    assert any("re-training collapsed to 90.00% (seed 0); the trial had" in note for note in found.result.notes)
    assert not any("its own network" in note for note in found.result.notes)


def test_a_collapsed_winner_fails_the_command(world: World) -> None:
    result = world.run().result
    best = next(item for item in result.finalists if item.index == result.winner)
    limits = world.request().limits
    broken = [replace(best, collapsed=((best.chosen_seed, best.mean_error),))]
    assert "collapsed when it was trained again" in failure_of(limits, broken, best.index, 0.95)
    assert failure_of(limits, [best], best.index, 0.95) == ""
    assert "has learnt nothing" in failure_of(limits, [best], best.index, 0.95, guessed=best.mean_error)


def test_trained_networks_cost_what_the_device_will_execute() -> None:
    """The stub's truth and the assessor agree, or the tests above would prove nothing."""
    known, architecture = stub_calibration(), random_cnn(np.random.default_rng(5))
    graph = build_graph(architecture, INPUT_SHAPE, NUM_CLASSES)
    found = Assessor(known.memory, known, INPUT_SHAPE, NUM_CLASSES).assess(architecture)
    assert found.latency is not None
    assert math.isclose(found.latency, known.latency.predict(works_of(graph)).latency)


def located(latency: float, ram: int = 100) -> Finalist:
    """A finalist predicted at 100 to 102 instructions, measured at `latency`."""
    predicted = Resources(1, 1, 1, 100, 100, 10, 101.0, 100.0, 102.0, "instructions")
    measured = MeasuredFigures(latency, "instructions", ram, 100, 100, 10, 8, 0, "0" * 64)
    outside = outside_of(predicted, measured)
    return Finalist(
        3, {}, (), ((0, 0.1),), 0, 0.1, 0.0, 0.9, predicted, measured, outside=outside, folder="networks/3",
        sparsity=0.0, message="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("latencies", "has_drifted"),
    [
        ((101, 101, 101), False),
        ((103, 101, 101, 101, 101), False),  # one in five is no surprise at 95 %
        ((103, 103, 101, 101, 101), False),
        ((103, 103, 99, 101, 101), True),
        ((103, 103), True),
        ((104.5, 101, 101, 101, 101), True),  # beyond its interval by more than that is wide
    ],
)
def test_latency_has_drifted_when_chance_does_not_explain_it(latencies: tuple[float, ...], has_drifted: bool) -> None:
    assert bool(drift_text([located(latency) for latency in latencies], 0.95)) == has_drifted


def test_memory_may_never_be_under() -> None:
    assert "ram 101 bytes, 100 were predicted" in drift_text([located(101, ram=101), located(101)], 0.95)


# -- what a hostile tester found --


def test_what_a_kill_left_half_written_goes(world: World) -> None:
    world.run()
    (network, *_) = (world.folder / "networks").iterdir()
    (network / ".firmware-abc").mkdir()
    (network / ".firmware-abc" / "model.c").touch()
    for path in (network / ".model.tflite-abc", world.folder / ".search.json-abc"):
        path.touch()
    (network / ".mine").touch()
    world.run()
    assert [path.name for path in world.folder.rglob(".*")] == [".mine"]


def test_a_lowered_effort_is_never_none() -> None:
    made = plan_finals(CHOSEN, FinalsRequest((0,), 1.0, 1e-7, 0.0, 1), Costs())
    assert made.effort == 1e-7
    assert "at effort 1e-07 instead of 1" in made.note


def test_a_search_without_time_says_so(world: World) -> None:
    with pytest.raises(CheckFailed, match=r"no trial was finished in time.*--minutes"):
        world.run(settings=replace(world.request().settings, seconds=1e-9))


DAMAGED: list[tuple[str, Any]] = [
    ("search", {"wish": [12, None], "trials": "many", "stopped": "trials"}),
    ("search", {"wish": [12, None], "trials": 12}),
    ("elapsed_s", "soon"),
    ("elapsed_s", math.inf),
    ("elapsed_s", {"a": 1}),
    ("export", {"effort": math.nan}),
    ("export", {"finalists": [math.inf]}),
    ("export", {"seeds": 3}),
]
GENERATORS = ["{}", '{"bit_generator": "PCG64", "state": 3}', '{"bit_generator": "MT19937"}']


def test_damaged_documents_are_told(world: World) -> None:
    world.run()
    for key, damage in DAMAGED:
        with SearchStore(world.folder / "search.sqlite") as store:
            known = store.document(key)
            store.put_document(key, {**known, "plan": {**known["plan"], **damage}} if key == "export" else damage)
        with pytest.raises(StoreError, match="damaged"):
            world.run()
        with SearchStore(world.folder / "search.sqlite") as store:
            store.put_document(key, known)
    with contextlib.closing(sqlite3.connect(world.folder / "search.sqlite", isolation_level=None)) as database:
        for state in GENERATORS:
            database.execute("UPDATE state SET generator = ?", (state,))
            with pytest.raises(StoreError, match="damaged"):
                world.run()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_store_that_is_no_file_is_refused(world: World, make: Callable[[Path], None]) -> None:
    world.folder.mkdir()
    make(world.folder / "search.sqlite")
    with pytest.raises(UsageError, match=r"search\.sqlite is not a file"):
        world.run()
